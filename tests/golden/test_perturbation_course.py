"""Weight and node perturbation, backprop, feedback alignment and Kolen-Pollack against Neuromatch's course.

One update on a batch of 5, a 7 - 6 - 3 perceptron with a sigmoid (or ReLU) in both layers, biases as last columns, the
course's own noise. Its loss is the sum of squares, ours half of it; its backprop family adds up over the batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from load import golden

from neurosim.backends import compile
from neurosim.backends.learning import Learning
from neurosim.backends.reference import Context
from neurosim.network import Layered
from neurosim.neuron import StaticRate
from neurosim.phase import Held, Phase, staged
from neurosim.recorder import Probe
from neurosim.rules.backprop import Backprop
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.kolen_pollack import KolenPollack
from neurosim.rules.node_perturbation import NodePerturbation
from neurosim.rules.weight_perturbation import WeightPerturbation

ARRAYS = {key.removeprefix("nma."): value for key, value in golden("feedback")[0].items() if key.startswith("nma.")}
LAYERS = {"input_hidden0": "h", "hidden0_output": "y"}
SD, ETA, BATCH = float(ARRAYS["noise_sd"]), float(ARRAYS["eta"]), 5
PLAIN: dict[str, Any] = {"lr": 1.0, "optimizer": "none", "loss": "mse"}


def update(scheme: Any, activation: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one trial with the course's weights changes, bias as last column; and what was recorded in it."""
    layered = Layered(StaticRate(activation), StaticRate(activation), (6,))(7, 3)
    given = {name: ARRAYS[f"W_{letter}"] for name, letter in LAYERS.items()}

    def start(p: Any) -> Any:
        if p.name in given:
            return replace(p, weight=given[p.name][:, :-1], bias=given[p.name][:, -1])
        return replace(p, weight=ARRAYS["B"]) if p.name == "back_hidden0_output" and p.tied is None else p

    network = scheme(layered).with_projections(start)
    simulator = compile(network, 1.0, dtype="float64")
    before = simulator.init(BATCH)
    shown = Phase("p", 1, {"input": Held(ARRAYS["x"]), "target": Held(ARRAYS["target"])})
    probes = Probe("hidden0", "rate"), Probe("output", "rate")
    after, recording = simulator.run(before, tuple(staged(stage, shown) for stage in network.trial), probes)
    changes = {}
    for name, rows in zip(LAYERS, (6, 3), strict=True):
        moved = [(after.learned[part][name] - before.learned[part][name])[0] for part in ("weight", "bias")]
        changes[name] = np.concatenate([part.reshape(rows, -1) for part in moved], -1)
    if "back_hidden0_output" in after.learned["weight"]:
        changes["back"] = after.learned["weight"]["back_hidden0_output"][0].numpy()
    return changes, recording


def near(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.abs(theirs).max())


@pytest.mark.parametrize("activation", ["sigmoid", "ReLU"])
def test_weight_perturbation(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(self: Learning, synapses: Any, context: Context) -> dict[str, torch.Tensor]:
        if synapses.name not in LAYERS or not context.phase.noise:
            return {}
        given = torch.from_numpy(ARRAYS[f"wp_noise_{LAYERS[synapses.name]}"])[None]
        return {"weight": given[..., :-1], "bias": given[..., -1]}

    monkeypatch.setattr(Learning, "perturbation", noise)
    changes, recording = update(WeightPerturbation(**PLAIN, sd=SD), activation.lower())
    near(recording["hidden0.rate"][0], ARRAYS[f"{activation}.hidden"])
    near(recording["output.rate"][0], ARRAYS[f"{activation}.output"])
    for name, letter in LAYERS.items():
        near(2 * changes[name], ARRAYS[f"{activation}.wp.dW_{letter}"])


@pytest.mark.parametrize("activation", ["sigmoid", "ReLU"])
def test_node_perturbation(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The course adds the noise behind the non-linearity, and its output layer takes what the hidden noise does to it
    for its own."""
    given = {"hidden0": ARRAYS["np_noise_hidden"], "output": ARRAYS["np_noise_output"]}

    def noise(self: Context, name: str, step: int) -> tuple[torch.Tensor, ...]:
        if name not in given:
            return ()
        return (torch.from_numpy(given[name])[None] / SD * float(self.phase.noise),)

    monkeypatch.setattr(Context, "noise", noise)
    scheme = NodePerturbation(**PLAIN, sd=SD, where="after", share="deviation")
    changes, _ = update(scheme, activation.lower())
    for name, letter in LAYERS.items():
        near(2 * changes[name], ARRAYS[f"{activation}.np.dW_{letter}"])
    own, _ = update(replace(scheme, share="noise"), activation.lower())
    near(2 * own["input_hidden0"], ARRAYS[f"{activation}.np.dW_h"])  # nothing is below it: its own noise is all
    assert np.abs(2 * own["hidden0_output"] - ARRAYS[f"{activation}.np.dW_y"]).max() > 1e-3


@pytest.mark.parametrize("rule", ["bp", "fa", "kp"])
def test_the_backprop_family(rule: str) -> None:
    """Sigmoid only: the course's ReLU has a slope of 1 above 1, not above 0. Kolen-Pollack decays the output weights
    and the feedback, not the hidden weights, and its change of the output weights is before eta."""
    kinds = {"bp": Backprop(**PLAIN), "fa": FeedbackAlignment(**PLAIN), "kp": KolenPollack(**PLAIN, decay=0.0)}
    changes, _ = update(kinds[rule], "sigmoid")
    decay = 0.1 if rule == "kp" else 0.0
    near(BATCH * changes["input_hidden0"], ARRAYS[f"sigmoid.{rule}.dW_h"])
    near(BATCH * changes["hidden0_output"] - decay * ARRAYS["W_y"], ARRAYS[f"sigmoid.{rule}.dW_y"])
    if rule == "kp":
        learned = replace(kinds["kp"], lr=ETA * BATCH, decay=ETA * decay)
        near(update(learned, "sigmoid")[0]["back"], ARRAYS["sigmoid.kp.B_after"])
