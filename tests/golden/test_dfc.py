"""Deep feedback control against the authors' code: trajectories of 199 steps, and the updates from them.

Time is in units of the controller's (tau_control = 1, tau_mem = ratio). Row 0 of the file is the feed-forward state, to
which the stage "free" settles here; row k is our k-th step under control. `alpha` leaks the control, not the integral.
The updates of the file are gradients, -2 times ours. Without instant transmission the file multiplies what a layer adds
with what the layer below sends at the same time, we with what has arrived: there the file's numbers are formed from our
recording, and our own update from what arrived. The file's last step also moves both rates to the drive of that time.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.network import Layered, Network
from neurosim.neuron import LeakyRate
from neurosim.phase import Held, Phase, staged
from neurosim.recorder import Probe
from neurosim.rules.deep_feedback_control import DeepFeedbackControl

ARRAYS, META = golden("dfc")
CASES = {case["name"]: case for case in META["cases"]}
LAYERS = ("input_hidden0", "hidden0_hidden1", "hidden1_output")
POPULATIONS = ("hidden0", "hidden1", "output")
FIELDS = ("v", "v_basal", "v_apical", "prediction_error", "rate")
SETTLE, ROWS = 1500, META["T"]


def network(case: dict[str, Any], accumulate: str) -> Network:
    """The network of a case with the file's weights."""
    strong = case["loss"] == "cross_entropy"
    scheme = DeepFeedbackControl(
        lr=1.0,
        optimizer="none",
        accumulate=accumulate,
        loss=case["loss"],
        stepsize=None if strong else case["lam"],
        control_steps=ROWS - 1,
        tau_control=1.0,
        leak=case["alpha"],
        proportional=case["k_p"],
        leak_of="control",
        delay=0.0 if case["pro"] else None,
        tau_apical=max(case["tau_fb"], 0.0),
        sleep_steps=0,
    )
    _, *hidden, _ = META["sizes"]
    units = (LeakyRate(case["ratio"], word, "euler") for word in ("tanh", "linear"))
    layered = Layered(*units, hidden=tuple(hidden), delay=0.0 if case["inst"] else None)
    numbers = {name: (ARRAYS[f"W{k}"], ARRAYS[f"b{k}"]) for k, name in enumerate(LAYERS)}
    back = {f"control_{name}_apical": ARRAYS[f"Q{k}"] for k, name in enumerate(POPULATIONS[:-1])}

    def given(p: Any) -> Any:
        if p.name in numbers:
            return replace(p, weight=numbers[p.name][0], bias=numbers[p.name][1])
        return replace(p, weight=back[p.name]) if p.name in back else p

    return scheme(layered(META["sizes"][0], META["sizes"][-1])).with_projections(given)


@cache
def run(name: str, accumulate: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(free output, recording under control, changes by (part, projection))."""
    case = CASES[name]
    net = network(case, accumulate)
    target = ARRAYS["target_ce" if case["loss"] == "cross_entropy" else "target_mse"]
    phase = Phase("train", SETTLE, {"input": Held(ARRAYS["x"]), "target": Held(target)})
    free, control = (staged(stage, replace(phase, steps=stage.steps or SETTLE)) for stage in net.trial)
    simulator = compile(net, case["dt"], dtype="float64")
    settled, before = simulator.run(simulator.init(len(target)), free, (Probe("output", "rate"),))
    probes = [Probe(population, field) for population in POPULATIONS for field in FIELDS]
    state, recording = simulator.run(settled, control, (Probe("control", "rate"), *probes))
    changes = {
        (part, layer): (state.learned[part][layer] - settled.learned[part][layer])[0].numpy()
        for part in ("weight", "bias")
        for layer in LAYERS
    }
    return before["output.rate"][-1], dict(recording), changes


def near(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("name", CASES)
def test_trajectories(name: str) -> None:
    settled, recording, _ = run(name, "mean")
    near(settled, ARRAYS[f"{name}.r_ff_out"])
    near(recording["control.rate"], ARRAYS[f"{name}.u"][1:])
    near(recording["output.rate"], ARRAYS[f"{name}.r_out"][1:])
    rows = ARRAYS[f"{name}.steps"][1:] - 1
    for layer, population in enumerate(POPULATIONS):
        for field, letter in (("v", "v"), ("v_basal", "vff"), ("v_apical", "vfb")):
            near(recording[f"{population}.{field}"][rows], ARRAYS[f"{name}.{letter}{layer}"][1:])
    assert np.abs(ARRAYS[f"{name}.u"]).max() > 1e-3


def drives(name: str) -> list[Any]:
    """What each layer gets from the one below in the same step, `[T, B, N]`."""
    recording = run(name, "mean")[1]
    held = np.broadcast_to(ARRAYS["x"], (ROWS - 1, *ARRAYS["x"].shape))
    return [held, recording["hidden0.rate"], recording["hidden1.rate"]]


def difference(recording: dict[str, Any], population: str) -> Any:
    """v - v_basal."""
    return recording[f"{population}.v"] - recording[f"{population}.v_basal"]


@pytest.mark.parametrize(("accumulate", "letters"), [("mean", "cont"), ("last", "ss")])
@pytest.mark.parametrize("name", CASES)
def test_updates(name: str, accumulate: str, letters: str) -> None:
    """`cont` is the mean over 200 rows, of which row 0 is 0; `ss` is the last."""
    _, recording, changes = run(name, accumulate)
    count = ROWS if accumulate == "mean" else 1
    for layer, (projection, population) in enumerate(zip(LAYERS, POPULATIONS, strict=True)):
        below, added = drives(name)[layer], recording[f"{population}.prediction_error"]
        theirs = [ARRAYS[f"{name}.{letters}.g{letter}{layer}"] for letter in "Wb"]
        if CASES[name]["inst"]:
            scale = -2.0 * ((ROWS - 1) / ROWS if accumulate == "mean" else 1.0)
            near(scale * changes["weight", projection], theirs[0])
            near(scale * changes["bias", projection], theirs[1])
        else:
            if accumulate == "last":
                drive, delta = below @ ARRAYS[f"W{layer}"].T + ARRAYS[f"b{layer}"], difference(recording, population)
                added = np.tanh(drive + delta) - np.tanh(drive) if layer < 2 else delta
            kept = slice(None) if accumulate == "mean" else slice(-1, None)
            formed = np.einsum("tbi,tbj->ij", added[kept], below[kept]) / count / len(below[0])
            near(-2.0 * formed, theirs[0])
            near(-2.0 * added[kept].sum((0, 1)) / count / len(below[0]), theirs[1])


@pytest.mark.parametrize("accumulate", ["mean", "last"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["inst"]])
def test_our_update_multiplies_with_what_has_arrived(name: str, accumulate: str) -> None:
    _, recording, changes = run(name, accumulate)
    for layer, (projection, population) in enumerate(zip(LAYERS, POPULATIONS, strict=True)):
        below, added = drives(name)[layer][:-1], recording[f"{population}.prediction_error"][1:]
        kept = slice(None) if accumulate == "mean" else slice(-1, None)
        formed = np.einsum("tbi,tbj->ij", added[kept], below[kept]) / len(below[0])
        if accumulate == "mean":  # in the first step what arrives is the free rate
            formed = formed + _first_step(name, layer, population)
            formed = formed / (ROWS - 1)
        near(changes["weight", projection], formed)


def _first_step(name: str, layer: int, population: str) -> Any:
    free = [ARRAYS["x"]]
    for k in range(layer):
        free.append(np.tanh(free[-1] @ ARRAYS[f"W{k}"].T + ARRAYS[f"b{k}"]))
    added = run(name, "mean")[1][f"{population}.prediction_error"][0]
    return added.T @ free[-1] / len(added)


def test_the_steady_state_is_the_analytic_one() -> None:
    """The file's (J Q + alpha 1)^-1 delta with J at the feed-forward point; its steps are not small, so loosely."""
    name = "b"
    u, expected = ARRAYS[f"{name}.u"][-1], ARRAYS[f"{name}.u_ndi"]
    ours = run(name, "mean")[1]["control.rate"][-1]
    near(ours, u)
    assert np.linalg.norm(ours - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["loss"] == "mse"])
def test_our_oracle_of_the_steady_state_is_theirs(name: str) -> None:
    """u = (J Q + alpha 1)^-1 delta as tests/rules/test_deep_feedback_control.py has it, and the update from it: every
    layer adds Q u to its drive by the controlled layer below.
    """
    w, b, q = ([ARRAYS[f"{letter}{k}"] for k in range(3)] for letter in "WbQ")
    below = [ARRAYS["x"]]
    for k in range(2):
        below.append(np.tanh(below[-1] @ w[k].T + b[k]))
    free = below[2] @ w[2].T + b[2]
    upper = w[2] * (1 - below[2][:, None] ** 2)
    j = np.concatenate(
        [upper @ w[1] * (1 - below[1][:, None] ** 2), upper, np.broadcast_to(np.eye(3), (len(free), 3, 3))], -1
    )
    leaky = j @ np.concatenate(q) + CASES[name]["alpha"] * np.eye(3)
    u = np.linalg.solve(leaky, (ARRAYS[f"{name}.output_target"] - free)[..., None])[..., 0]
    near(u, ARRAYS[f"{name}.u_ndi"])
    rate = ARRAYS["x"]
    for k in range(3):
        drive, added = rate @ w[k].T + b[k], u @ q[k].T
        near(added, ARRAYS[f"{name}.dv_ndi{k}"])
        sent = [np.tanh(v) if k < 2 else v for v in (drive, drive + added)]
        near(-2.0 * (sent[1] - sent[0]).T @ rate / len(rate), ARRAYS[f"{name}.ndi.gW{k}"])
        near(-2.0 * (sent[1] - sent[0]).mean(0), ARRAYS[f"{name}.ndi.gb{k}"])
        rate = sent[1]
