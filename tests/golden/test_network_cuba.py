"""A recurrent network of 400 CUBA neurons against Brian2: three kinds of delay, 300 ms, the raster spike for spike.

Alignment: Brian2 raises ge or gi at the end of step k + d (d = 0 without delay); our projections arrive at the start of
a step, so our delay is d + 1 steps. Strict threshold: nextafter. Brian2's refractory time counts the spike's own step.
"""

from __future__ import annotations

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.connectivity import EdgeList
from neurosim.network import Network, Population, Projection
from neurosim.neuron import CubaLIF
from neurosim.phase import Phase
from neurosim.recorder import Probe

ARRAYS, META = golden("network_cuba")
DT, STEPS = 0.1, 3000
EXTRA = {  # steps of Brian2's delay
    "nodelay": np.zeros(len(ARRAYS["pre"]), int),
    "uniform": np.full(len(ARRAYS["pre"]), round(META["uniform_delay_ms"] / DT)),
    "hetero": ARRAYS["delay_steps"],
}


def network(kind: str) -> Network:
    neuron = CubaLIF(
        tau_mem=META["taum"], tau_syn_exc=META["taue"], tau_syn_inh=META["taui"], v_reset=META["Vr"], v_rest=META["EL"],
        v_th=float(np.nextafter(META["Vt"], np.inf)), t_ref=META["tref"] - DT,
    )  # fmt: skip
    excitatory = ARRAYS["pre"] < META["NE"]
    projections = []
    for port, chosen in (("basal", excitatory), ("inhibitory", ~excitatory)):
        edges = EdgeList(ARRAYS["post"][chosen], ARRAYS["pre"][chosen])
        delay = (EXTRA[kind][chosen] + 1) * DT
        delay = delay if kind == "hetero" else float(delay[0])
        projections.append(Projection("cells", "cells", ARRAYS["w"][chosen], edges, port=port, delay=delay, name=port))
    return Network((Population("cells", META["N"], neuron, initial={"v": ARRAYS["v0"]}),), tuple(projections))


@pytest.mark.parametrize("kind", EXTRA)
def test_raster_and_states(kind: str) -> None:
    simulator = compile(network(kind), DT, dtype="float64")
    chosen = (0, 1, META["NE"])
    probes = [Probe("cells", "spike"), *(Probe("cells", field, 10, chosen) for field in ("v", "i_exc", "i_inh"))]
    probes += [Probe("cells", port, units=chosen) for port in ("basal", "inhibitory")]
    _, recording = simulator.run(simulator.init(1), Phase("p", STEPS), probes)
    step, neuron = np.nonzero(recording["cells.spike"][:, 0])
    np.testing.assert_array_equal(step, ARRAYS[f"{kind}.spike_step"])
    np.testing.assert_array_equal(neuron, ARRAYS[f"{kind}.spike_neuron"])
    theirs = ARRAYS[f"{kind}.state_rec"]
    np.testing.assert_allclose(recording["cells.v"][:, 0], theirs[0], rtol=0, atol=1e-9)
    for field, port, expected in (("i_exc", "basal", theirs[1]), ("i_inh", "inhibitory", theirs[2])):
        next_step = recording[f"cells.{port}"][1::10, 0]  # what Brian2 has added already at the end of the step
        np.testing.assert_allclose(recording[f"cells.{field}"][:, 0] + next_step, expected, rtol=0, atol=1e-9)
