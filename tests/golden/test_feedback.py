"""Backprop and the feedback-alignment family against the layers of BioTorch and of the authors' Kolen-Pollack code.

Two steps of plain descent on a multilayer perceptron (6 - 5 - 4 - 3, tanh or ReLU, linear output), squared error and
cross-entropy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.backends.learning import task_loss
from neurosim.network import Layered, Network
from neurosim.neuron import StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.backprop import Backprop
from neurosim.rules.direct_feedback_alignment import DirectFeedbackAlignment
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.kolen_pollack import KolenPollack
from neurosim.rules.sign_symmetric import SignSymmetric

ARRAYS, META = golden("feedback")
LAYERS = ("input_hidden0", "hidden0_hidden1", "hidden1_output")
SETTINGS: dict[str, Any] = {"lr": META["lr"], "optimizer": "none"}
SCHEMES = {
    "bp": Backprop(**SETTINGS),
    "fa": FeedbackAlignment(**SETTINGS),
    "dfa": DirectFeedbackAlignment(**SETTINGS),
    "usf": SignSymmetric(**SETTINGS),
    "frsf": SignSymmetric(size="random", **SETTINGS),
    "kp": KolenPollack(decay=1 - META["kp_decay"], **SETTINGS),
}
BACK = {f"back_{LAYERS[layer]}": ARRAYS[f"B_fa{layer}"].T for layer in (1, 2)}
FEEDBACK = {
    "fa": BACK,
    "frsf": BACK,
    "kp": BACK,
    "dfa": {f"direct_hidden{layer - 1}": ARRAYS[f"B_dfa{layer}"].T for layer in (1, 2)},
}


def start_from(network: Network, rule: str) -> Network:
    """The network with the forward and feedback weights of the file."""
    forward = {name: (ARRAYS[f"W{k}"], ARRAYS[f"b{k}"]) for k, name in enumerate(LAYERS)}
    back = FEEDBACK.get(rule, {})
    assert set(back) <= {p.name for p in network.projections}

    def given(p: Any) -> Any:
        if p.name in forward:
            return replace(p, weight=forward[p.name][0], bias=forward[p.name][1])
        return replace(p, weight=back[p.name]) if p.name in back else p

    return network.with_projections(given)


def near(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("rule", SCHEMES)
@pytest.mark.parametrize("loss", ["mse", "ce"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_two_steps(activation: str, loss: str, rule: str) -> None:
    inputs, *hidden, outputs = META["S"]
    word = {"mse": "mse", "ce": "cross_entropy"}[loss]
    layered = Layered(StaticRate(activation), StaticRate("linear"), tuple(hidden))
    network = start_from(replace(SCHEMES[rule], loss=word)(layered(inputs, outputs)), rule)
    simulator = compile(network, 1.0, dtype="float64")
    state, prefix = simulator.init(META["B"]), f"{activation}.{loss}.{rule}"
    for step in range(2):
        x, y = ARRAYS["x"][step], ARRAYS["target"][step]
        phase = Phase("train", 1, {"input": Held(x), "target": Held(y)})
        before = state
        state, recording = simulator.run(state, phase, (Probe("output", "rate"),))
        value = task_loss(*(simulator.zero.new_tensor(v) for v in (recording["output.rate"][0], y)), word)  # type: ignore[attr-defined]
        near(value.mean(), ARRAYS[f"{prefix}.loss{step}"])
        for layer, name in enumerate(LAYERS):
            for part, letter in (("weight", "W"), ("bias", "b")):
                new, old = (s.learned[part][name][0].numpy() for s in (state, before))
                near(new, ARRAYS[f"{prefix}.{letter}{layer}_s{step + 1}"])
                decay = META["kp_decay"] if rule == "kp" else 1.0
                near((decay * old - new) / META["lr"], ARRAYS[f"{prefix}.g{letter}{layer}_s{step + 1}"])
            if rule == "kp" and layer:
                near(state.learned["weight"][f"back_{name}"][0].numpy().T, ARRAYS[f"{prefix}.B{layer}_s{step + 1}"])


def test_the_rules_differ() -> None:
    """Each one gives the lowest layer another change, so no test passes with another's wiring."""
    changes = [ARRAYS[f"tanh.mse.{rule}.gW0_s1"] for rule in SCHEMES if rule != "kp"]  # kp starts as fa
    for k, one in enumerate(changes):
        for other in changes[:k]:
            assert np.abs(one - other).max() > 1e-3
