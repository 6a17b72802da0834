"""e-prop 1 against automatic differentiation with the recurrent and reset paths cut (LIF and adaptive LIF)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.network import Network, Population, Projection
from neurosim.neuron import DelayedResetLIF, LeakyRate, SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.eprop import EProp
from neurosim.surrogate import Triangular
from neurosim.wiring import TARGET


def network(arrays, one):
    """Our readout multiplies its input by 1 - kappa, theirs does not: its weights are 1 / (1 - kappa) times theirs."""
    name, gain = one["name"], 1.0 - np.exp(-one["dt"] / one["tau_out"])
    cells = DelayedResetLIF(
        tau_mem=one["tau_m"],
        tau_theta=one["tau_a"],
        beta=arrays[f"{name}.beta"],
        v_th=one["v_th"],
        surrogate=Triangular(one["gamma"], one["v_th"]),
    )
    return Network(
        (
            Population("input", one["ni"], SpikeRelay()),
            Population("cells", one["n"], cells),
            Population("output", one["no"], LeakyRate(one["tau_out"], "linear")),
        ),
        (
            Projection("input", "cells", arrays[f"{name}.W_in"], delay=0),
            Projection("cells", "cells", arrays[f"{name}.W_rec"], name="recurrent"),
            Projection(
                "cells",
                "output",
                arrays[f"{name}.W_out"] / gain,
                delay=0,
                bias=arrays[f"{name}.b_out"] / gain,
                name="readout",
            ),
        ),
    ), gain


@pytest.mark.parametrize("feedback", ["symmetric", "random"])
@pytest.mark.parametrize("case", [0, 1])
def test_gradients(case, feedback):
    """One plain update with rate 1 at the end of the phase is minus the gradient."""
    arrays, meta = golden("eprop")
    one = meta["cases"][case]
    name, T, B = one["name"], one["T"], one["Bt"]
    described, gain = network(arrays, one)
    taught = EProp(lr=1.0, optimizer="none", loss="mse", feedback=feedback)(described)
    numbers = {"eprop_cells": arrays[f"{name}.B_random"] / gain}
    taught = taught.with_projections(lambda p: with_weight(p, numbers))
    simulator = compile(taught, one["dt"], dtype="float64")
    start = simulator.init(B)
    drive = {"input": arrays[f"{name}.x"].astype(float), TARGET: arrays[f"{name}.target"]}
    probes = (Probe("cells", "spike"), Probe("cells", "v"), Probe("cells", "theta"), Probe("output", "rate"))
    state, recording = simulator.run(start, Phase("train", T, drive), probes)

    np.testing.assert_array_equal(recording["cells.spike"], arrays[f"{name}.z"])
    assert arrays[f"{name}.z"].sum() > 50
    for field, key in (("cells.v", "v"), ("cells.theta", "a"), ("output.rate", "y")):
        close(recording[field], arrays[f"{name}.{key}"])
    wrong = recording["output.rate"] - arrays[f"{name}.target"]
    np.testing.assert_allclose(0.5 * (wrong**2).sum() / B, arrays[f"{name}.loss"], rtol=1e-10)
    kind = {"symmetric": "sym", "random": "random"}[feedback]
    expected = {
        "input_cells": arrays[f"{name}.{kind}.gW_in"],
        "recurrent": arrays[f"{name}.{kind}.gW_rec"],
        "readout": gain * arrays[f"{name}.gW_out"],
    }
    for layer, gradient in expected.items():
        close(start.learned["weight"][layer][0] - state.learned["weight"][layer][0], gradient)
    close(start.learned["bias"]["readout"][0] - state.learned["bias"]["readout"][0], gain * arrays[f"{name}.gb_out"])


def with_weight(projection, numbers):
    return replace(projection, weight=numbers[projection.name]) if projection.name in numbers else projection


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("case", [0, 1])
def test_what_is_left_out_matters(case):
    """The full gradient differs: the comparison above can tell."""
    arrays, meta = golden("eprop")
    name = meta["cases"][case]["name"]
    for key in ("gW_in", "gW_rec"):
        eprop, full = arrays[f"{name}.sym.{key}"], arrays[f"{name}.bptt_full.{key}"]
        assert np.abs(eprop - full).max() > 0.01 * np.abs(full).max()
