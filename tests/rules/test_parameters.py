"""Every hyper-parameter of every rule, at another value, changes what is learned: one table, complete by assertion."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from plain import LAYERS, described, shown, train
from schemes import schemes

from neurosim.adapter import Mean
from neurosim.rules.backprop import Backprop
from neurosim.rules.bcm import BCM
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.bptt import BPTT
from neurosim.rules.delta import Delta
from neurosim.rules.direct_feedback_alignment import DirectFeedbackAlignment
from neurosim.rules.eprop import EProp
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.hebbnet import HebbNet
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.inhibitory_stdp import InhibitorySTDP
from neurosim.rules.kolen_pollack import KolenPollack
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.oja import Oja
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.rules.shuffled import Shuffled
from neurosim.rules.sign_symmetric import SignSymmetric
from neurosim.rules.softhebb import SoftHebb
from neurosim.rules.stdp import STDP
from neurosim.rules.triplet_stdp import TripletSTDP
from neurosim.scheme import Composed

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)], [shown(3)]]
LAYER = LAYERS[2:]


class With:
    """Another value of a parameter that matters only beside other settings, or on another kind of network."""

    def __init__(self, value: Any, kind: str = "spiking", **beside: Any):
        self.value, self.kind, self.beside = value, kind, beside


OPTIMIZER: dict[str, Any] = {
    "lr": 0.02,
    "optimizer": "momentum",
    "beta1": 0.5,
    "beta2": 0.5,
    "weight_decay": 0.1,
}
TIMING: dict[str, Any] = {"when": "sample", "accumulate": "mean", "tau_trace": 3.0, "loss": "mse", "layers": LAYER}

PAIRS: dict[str, Any] = {
    "A_plus": 0.2,
    "A_minus": 0.1,
    "tau_plus": 3.0,
    "tau_minus": 3.0,
    "mu_plus": 1.0,
    "mu_minus": 1.0,
    "w_min": -0.2,
    "w_max": 0.2,
    "pairing": "nearest",
    "read_pre": "before",
    "read_post": "after",
    "reduce": "sum",
    "output": "none",
    "lr_output": 0.1,
    "layers": LAYERS[1:],
}
UNTAUGHT: dict[str, Any] = {
    "lr": 0.1,
    "tau_trace": 3.0,
    "when": "step",
    "accumulate": "sum",
    "reduce": "sequential",
    "output": "same",
    "lr_output": 0.1,
    "layers": LAYERS[:1],
}

# rule -> (base settings on the spiking network, other values)
TABLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "Delta": (Delta(lr=0.01, when="phase"), {**OPTIMIZER, **TIMING, "layers": LAYERS[:1]}),
    "Backprop": (Backprop(lr=0.01, accumulate="sum"), {**OPTIMIZER, **TIMING}),
    "BioHSIC": (
        BioHSIC(window=3, lr=0.01, when="phase"),
        {
            **OPTIMIZER,
            **TIMING,
            "window": With(3, memory="buffer", window=2),
            "form": "published",
            "memory": "buffer",
            "gamma": 2.0,
            "sigma_x": 1.0,
            "sigma_y": 1.0,
            "sigma_z": 0.5,
            "lr_output": 0.05,
        },
    ),
    "BPTT": (
        BPTT(lr=0.01),
        {**OPTIMIZER, "surrogate": "atan", "loss": "mse", "decoder": Mean(1), "layers": LAYER},
    ),
    "FeedbackAlignment": (FeedbackAlignment(lr=0.01, accumulate="sum"), {**OPTIMIZER, **TIMING, "scale": 0.5}),
    "DirectFeedbackAlignment": (
        DirectFeedbackAlignment(lr=0.01, accumulate="sum"),
        {**OPTIMIZER, **TIMING, "scale": 0.5},
    ),
    "SignSymmetric": (
        SignSymmetric(lr=0.01, accumulate="sum"),
        {**OPTIMIZER, **TIMING, "size": "random", "scale": 0.5},
    ),
    "KolenPollack": (
        KolenPollack(lr=0.01, accumulate="sum"),
        {**OPTIMIZER, **TIMING, "scale": 0.5, "decay": 0.1},
    ),
    "EProp": (
        EProp(lr=0.01),
        {
            **OPTIMIZER,
            **{name: value for name, value in TIMING.items() if name != "tau_trace"},
            "feedback": With("symmetric", layers=LAYERS[1:]),
            "scale": 0.5,
            "decay": With(0.1, layers=LAYERS[1:], feedback="adaptive"),
            "filtered": False,
        },
    ),
    "STDP": (STDP(A_plus=0.1, A_minus=0.02, w_min=-0.5, w_max=0.5), PAIRS),
    "TripletSTDP": (
        TripletSTDP(A2_plus=0.1, A3_plus=0.1, A2_minus=0.02, A3_minus=0.02, w_min=-0.5, w_max=0.5),
        {
            **{name: PAIRS[name] for name in PAIRS if not name.startswith(("A_", "mu_"))},
            "A2_plus": 0.2,
            "A3_plus": 0.2,
            "A2_minus": 0.1,
            "A3_minus": 0.1,
            "tau_x": 3.0,
            "tau_y": 3.0,
        },
    ),
    "InhibitorySTDP": (
        InhibitorySTDP(lr=0.1, w_max=0.5),
        {
            **{name: PAIRS[name] for name in ("read_pre", "read_post", "reduce", "output", "lr_output", "layers")},
            "lr": 0.2,
            "rho_0": 20.0,
            "tau": 5.0,
            "w_max": 0.2,
            "negative": False,
        },
    ),
    "RewardSTDP": (
        RewardSTDP(lr=0.1, reward="task", w_min=-0.5, w_max=0.5),
        {
            **{name: value for name, value in PAIRS.items() if name not in ("mu_plus", "mu_minus", "read_post")},
            "read_post": "before",
            "tau_e": 2.0,
            "lr": 0.2,
            "reward": "reward",
            "tau_reward": 5.0,
        },
    ),
    "SoftHebb": (
        SoftHebb(),
        {
            "lr": 0.1,
            "temperature": 0.2,
            "competition": "hard",
            "rate_power": 1.0,
            "updates": 5,
            "when": "step",
            "accumulate": "sum",
            "output": "none",
            "lr_output": 0.1,
            "layers": LAYERS[:1],
        },
    ),
    "KrotovHopfield": (
        KrotovHopfield(),
        {
            "lr": 0.1,
            "p": 3.0,
            "k": 3,
            "delta": 0.1,
            "updates": 5,
            "every": With(2, updates=5),
            "when": "step",
            "accumulate": "sum",
            "output": "none",
            "lr_output": 0.1,
            "layers": LAYERS[:1],
        },
    ),
    "Hebb": (
        Hebb(lr=0.01),
        {**UNTAUGHT, "anti": True, "centred": True, "clamp": With(True, output="same"), "row_norm": 1.0},
    ),
    "Oja": (Oja(lr=0.01), {**UNTAUGHT, "form": With("subspace", "leaky")}),
    "BCM": (BCM(lr=0.5, tau=20.0), {**UNTAUGHT, "tau": 5.0, "z_0": 0.5, "power": 2.0, "decay": 0.5}),
    "HebbNet": (HebbNet(lr=0.01), {**UNTAUGHT, "percent": 20.0, "by": "size"}),
    "Heterosynaptic": (Heterosynaptic(0.5, 2), {"alpha": -0.2, "block": 3, "layers": LAYER}),
    "Shuffled": (Shuffled(), {"layers": LAYERS[:1]}),
}
AFTER_ANOTHER = {"Heterosynaptic", "Shuffled"}
CASES = [(rule, parameter) for rule, (_, others) in TABLE.items() for parameter in others]


def learned(scheme, kind="spiking"):
    whole = Composed((Backprop(lr=0.1, optimizer="none"), scheme)) if type(scheme).__name__ in AFTER_ANOTHER else scheme
    _, state = train(whole(described(kind)), TRIALS, signals={"reward": np.ones((3, 1))})
    return np.concatenate([state.learned[part][name].numpy().ravel() for part in ("weight", "bias") for name in LAYERS])


def test_the_table_is_whole():
    assert len(CASES) > 30
    assert {name: {field.name for field in fields(scheme)} for name, scheme in schemes().items()} == {
        name: set(others) for name, (_, others) in TABLE.items()
    }
    assert {name: type(base) for name, (base, _) in TABLE.items()} == schemes()


@pytest.mark.parametrize(("rule", "parameter"), CASES)
def test_another_value_changes_the_result(rule, parameter):
    base, others = TABLE[rule]
    other = others[parameter] if isinstance(others[parameter], With) else With(others[parameter])
    base = replace(base, **other.beside)
    assert getattr(base, parameter) != other.value
    before, after = (learned(one, other.kind) for one in (base, replace(base, **{parameter: other.value})))
    assert np.isfinite(before).all()
    assert np.isfinite(after).all()
    assert np.abs(before - after).max() > 1e-7


@pytest.mark.parametrize("rule", TABLE)
def test_the_same_settings_give_the_same_result(rule):
    base = TABLE[rule][0]
    np.testing.assert_array_equal(learned(base), learned(replace(base)))
