"""e-prop 1 against the authors' own code (Graz) and against NEST, forward pass, eligibilities, gradients and losses.

Graz: gradients are sums over the batch, ours are means; their learning signal has no factor 1 - kappa and their filter
of the eligibility has it. NEST: no synapse from a neuron to itself; an update acts when the next spike arrives, which
changes nothing that is compared here; its Adam adds epsilon before the correction of the second moment; t_ref counts
the step of the spike; in the classification the loss is that of the last 150 of 2250 steps and the gradient is divided
by 150. Both: b_t = rho b_{t-1} + z_{t-1} and the reset one step late, as `DelayedResetLIF` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.network import Network, Population, Projection
from neurosim.neuron import DelayedResetLIF, LeakyRate, SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.eprop import EProp
from neurosim.scheme import change_rules
from neurosim.surrogate import Triangular
from neurosim.transform import Rate
from neurosim.vocabulary import power, sqrt
from neurosim.wiring import TARGET

DT = 1.0
PROBES = (Probe("output", "rate"), Probe("cells", "spike"))


def network(arrays: dict[str, Any], cells: Any, tau_out: float) -> Network:
    n, inputs = arrays["W_in"].shape
    return Network(
        (
            Population("input", inputs, SpikeRelay()),
            Population("cells", n, cells),
            Population("output", len(arrays["W_out"]), LeakyRate(tau_out, "linear")),
        ),
        (
            Projection("input", "cells", arrays["W_in"].astype(float), delay=0),
            Projection("cells", "cells", arrays["W_rec"].astype(float), name="recurrent"),
            Projection("cells", "output", arrays["W_out"].astype(float), delay=0, name="readout"),
        ),
    )


def of_case(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    return {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}


# ---- the authors' code -----------------------------------------------------------------------------------------------


def graz(case: int, filtered: bool) -> tuple[dict[str, Any], dict[str, Any], Any, dict[str, Any]]:
    """(arrays, parameters, recording, minus our change of the weights) of one batch."""
    everything, meta = golden("eprop_igi")
    one = meta["cases"][case]
    arrays = of_case(everything, one["name"])
    cells = DelayedResetLIF(
        tau_mem=one["tau_v"],
        tau_theta=one["tau_a"],
        beta=arrays["beta"],
        v_th=one["thr"],
        t_ref=one["n_ref"] - DT,
        surrogate=Triangular(one["damp"], one["thr"]),
    )
    scheme = EProp(lr=float(one["Bt"]), optimizer="none", loss="mse", feedback="symmetric", filtered=filtered)
    simulator = compile(scheme(network(arrays, cells, one["tau_out"])), DT, dtype="float64")
    start = simulator.init(one["Bt"])
    drive = {"input": in_time(arrays["x"]), TARGET: in_time(arrays["target"])}
    probes = (*PROBES, Probe("cells", "v"), Probe("cells", "theta"), Probe("cells", "feedback"))
    if np.any(arrays["beta"]):
        probes = (*probes, Probe("recurrent", "eligibility"))
    state, recording = simulator.run(start, Phase("train", one["T"], drive), probes)
    down = {name: (weight - state.learned["weight"][name])[0] for name, weight in start.learned["weight"].items()}
    return arrays, one, recording, down


def in_time(values: Any) -> Any:
    """[B, T, n] -> [T, B, n]"""
    return np.ascontiguousarray(values.swapaxes(0, 1)).astype(float)


def close(ours: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("case", [0, 1])
def test_the_authors_forward_pass(case):
    arrays, one, recording, _ = graz(case, filtered=True)
    np.testing.assert_array_equal(recording["cells.spike"], in_time(arrays["z"]))
    assert arrays["z"].sum() > 100
    kappa = np.exp(-DT / one["tau_out"])
    for field, key, scale in (
        ("cells.v", "v", 1.0),
        ("output.rate", "y", 1.0),
        ("cells.feedback", "learning_signal", kappa - 1),
    ):
        close(recording[field], scale * in_time(arrays[key]))
    np.testing.assert_allclose(recording["cells.theta"], in_time(arrays["b"]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [0, 1])
def test_the_authors_gradients(case):
    arrays, one, _, down = graz(case, filtered=True)
    off = ~np.eye(one["n"], dtype=bool)
    close(down["input_cells"], arrays["gW_in"])
    close(down["recurrent"][off], arrays["gW_rec"][off])


@pytest.mark.parametrize("case", [0, 1])
def test_the_authors_gradients_without_the_filter(case):
    arrays, one, recording, down = graz(case, filtered=False)
    off = ~np.eye(one["n"], dtype=bool)
    close(down["recurrent"][off] / (1 - np.exp(-DT / one["tau_out"])), arrays["gW_rec_unfiltered"][off])
    if case == 1:  # the last component is kept, and so can be recorded, because the first one is a memory
        close(recording["recurrent.eligibility"][:, 0][:, off], arrays["elig_rec_unfiltered_b0"][:, off])


# ---- NEST ------------------------------------------------------------------------------------------------------------


def epsilon_first(change: Any, weight: Any, count: Any, first: Any, second: Any) -> Any:
    first, second = 0.9 * first + 0.1 * change, 0.999 * second + 0.001 * change * change
    scale = power(1.0 - power(0.999, count + 1.0), 0.5) / (1.0 - power(0.9, count + 1.0))
    return scale * first / (sqrt(second) + 1e-8), first, second


@dataclass(frozen=True)
class EpsilonFirst:
    """Adam (0.9, 0.999) with 1e-8 added to the root of the moment as it is, before its bias is corrected."""

    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("first", "second")
    step = staticmethod(epsilon_first)

    def constants(self) -> tuple[Any, ...]:
        return ()


def nest(arrays: dict[str, Any], scheme: EProp, cells: Any, tau_out: float, before: Any, lr: float) -> Network:
    """The taught network; the transforms are `before` and a rate, which is 0 where NEST has no synapse."""
    taught = scheme(network(arrays, cells, tau_out))
    taught = taught.with_projections(
        lambda p: replace(p, weight=arrays["B_feedback"].astype(float)) if p.name == "eprop_cells" else p
    )
    others = 1.0 - np.eye(len(arrays["W_rec"]))
    return change_rules(
        taught,
        lambda p, rule: replace(rule, transforms=(*before, Rate(lr * others if p.name == "recurrent" else lr))),
    )


def hat(of: dict[str, Any]) -> Triangular:
    height, width = of["surrogate_gradient_height"], of["surrogate_gradient_width"]
    return Triangular(height * width, width)


def spikes(packed: Any, inputs: int) -> Any:
    return np.unpackbits(packed, axis=1)[:, None, :inputs].astype(float)


def test_nest_regression():
    """100 recurrent neurons, mean squared error, the rate regularisation: five iterations of gradient descent."""
    everything, meta = golden("eprop_nest")
    one, arrays = meta["reg"], of_case(everything, "reg")
    of = one["rec"]
    cells = DelayedResetLIF(tau_mem=of["tau_m"], v_th=of["V_th"], arrival="filtered", surrogate=hat(of))
    scheme = EProp(loss="mse", c_reg=of["c_reg"], f_target=of["f_target"], t_reg=float(one["T"]))
    net = nest(arrays, scheme, cells, one["out"]["tau_m"], (), one["optimizer"]["eta"])
    simulator = compile(net, DT, dtype="float64")
    state = simulator.init(1)
    drive = {"input": spikes(arrays["in_spikes"], one["n_in"]), TARGET: arrays["target"][:, None]}
    count = 0.0
    for iteration in range(one["n_iter"]):
        state, recording = simulator.run(simulator.fresh(state), Phase("train", one["T"], drive), PROBES)
        y = recording["output.rate"][:, 0]
        np.testing.assert_allclose(y, arrays["readout"][iteration], rtol=0, atol=1e-6)  # stored in float32
        loss = 0.5 * ((y - arrays["target"]) ** 2).sum()
        np.testing.assert_allclose(loss, arrays["loss"][iteration], rtol=1e-8)
        count += recording["cells.spike"].sum()
    assert count == len(arrays["rec_spike_time"])


def test_nest_classification():
    """Evidence accumulation, 50 neurons with and 50 without adaptation, cross-entropy, Adam: two of five sequences."""
    everything, meta = golden("eprop_nest")
    one, arrays = meta["cls"], of_case(everything, "cls")
    of, steps = one["ad"], one["steps"]
    cells = DelayedResetLIF(
        tau_mem=of["tau_m"],
        tau_theta=of["adapt_tau"],
        beta=np.repeat([0.0, of["adapt_beta"]], [one["n_reg"], one["n_ad"]]),
        v_th=of["V_th"],
        t_ref=of["t_ref"] - DT,
        surrogate=hat(of),
    )
    scheme = EProp(when="sample", c_reg=of["c_reg"], f_target=of["f_target"], t_reg=float(steps["sequence"]))
    before = Rate(1.0 / steps["learning_window"]), EpsilonFirst()
    simulator = compile(
        nest(arrays, scheme, cells, one["out"]["tau_m"], before, one["optimizer"]["eta"]), DT, dtype="float64"
    )
    state, inputs = simulator.init(1), spikes(arrays["in_spikes"], one["n_in"])
    listening = steps["sequence"] - steps["recall"]
    for index, cue in enumerate(arrays["target_cues"][:2]):
        shown = inputs[index * steps["sequence"] : (index + 1) * steps["sequence"]]
        label = np.broadcast_to(np.eye(one["n_out"])[cue], (steps["recall"], 1, one["n_out"]))
        trial = (
            Phase("cues", listening, {"input": shown[:listening]}, silent=("target_error", "prediction_error")),
            Phase("recall", steps["recall"], {"input": shown[listening:], TARGET: label.copy()}),
        )
        state, recording = simulator.run(simulator.fresh(state), trial, PROBES)
        y = recording["output.rate"][listening:, 0]
        loss = (np.log(np.exp(y).sum(1)) - y[:, cue]).mean()
        np.testing.assert_allclose(loss, arrays["loss"][index], rtol=1e-8)
    assert recording["cells.spike"].sum() > 1000
