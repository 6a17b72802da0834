"""Every hyper-parameter of every rule, at another value, changes what is learned: one table, complete by assertion."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from plain import LAYERS, described, shown, train
from schemes import schemes

from neurosim.adapter import Mean
from neurosim.rules.abcd import ABCD
from neurosim.rules.anti_hebb import AntiHebb
from neurosim.rules.backprop import Backprop
from neurosim.rules.bcm import BCM
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.bptt import BPTT
from neurosim.rules.deep_feedback_control import DeepFeedbackControl
from neurosim.rules.delta import Delta
from neurosim.rules.diehl_cook import DiehlCook
from neurosim.rules.direct_feedback_alignment import DirectFeedbackAlignment
from neurosim.rules.dopamine_stdp import DopamineSTDP
from neurosim.rules.eprop import EProp
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.force import Force
from neurosim.rules.hebb import Hebb
from neurosim.rules.hebbnet import HebbNet
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.inhibitory_stdp import InhibitorySTDP
from neurosim.rules.kolen_pollack import KolenPollack
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.least_mean_squares import LeastMeanSquares
from neurosim.rules.memory_reservoir import MemoryReservoir
from neurosim.rules.node_perturbation import NodePerturbation
from neurosim.rules.oja import Oja
from neurosim.rules.reward_modulated_hebb import RewardModulatedHebb
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.rules.shuffled import Shuffled
from neurosim.rules.sign_symmetric import SignSymmetric
from neurosim.rules.softhebb import SoftHebb
from neurosim.rules.stdp import STDP
from neurosim.rules.triplet_stdp import TripletSTDP
from neurosim.rules.weight_perturbation import WeightPerturbation
from neurosim.scheme import Composed

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)], [shown(3)]]
LAYER = LAYERS[2:]


class With:
    """Another value of a parameter that matters only beside other settings, or on another kind of network."""

    def __init__(self, value: Any, kind: str | None = None, **beside: Any):
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

PERTURBATION: dict[str, Any] = {
    **OPTIMIZER,
    **{name: value for name, value in TIMING.items() if name in ("loss", "layers")},
    "sd": 0.5,
    "tau_loss": 5.0,
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
            "reservoir": With(MemoryReservoir(size=20, lr=0.1), memory="reservoir", window=2, lr=0.1),
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
    "DeepFeedbackControl": (
        DeepFeedbackControl(lr=0.01),
        {
            **OPTIMIZER,
            "accumulate": "last",
            "loss": "mse",
            "stepsize": None,
            "control_steps": 5,
            "tau_control": 3.0,
            "leak": 0.5,
            "proportional": 0.2,
            "leak_of": "control",
            "delay": None,
            "tau_apical": 2.0,
            "scale": 0.5,
            "sleep_steps": 5,
            "sigma": 0.1,
            "tau_noise": 5.0,
            "sleep_leak": 0.1,
            "sleep_proportional": 1.0,
            "lr_feedback": 0.1,
            "decay_feedback": 0.5,
            "layers": LAYER,
        },
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
            "c_reg": 1e4,
            "f_target": With(50.0, c_reg=1e4),
            "t_reg": With(30.0, c_reg=1e4),
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
    "DopamineSTDP": (
        DopamineSTDP(lr=0.1, w_min=-0.5, w_max=0.5),
        {
            **{name: value for name, value in PAIRS.items() if name not in ("mu_plus", "mu_minus", "read_post")},
            "read_post": "before",
            "tau_e": 2.0,
            "tau_d": 2.0,
            "lr": 0.2,
            "reward": "driven",
            "tau_reward": 5.0,
        },
    ),
    "LeastMeanSquares": (
        LeastMeanSquares(lr=0.01),
        {"lr": 0.02, "tau_trace": 3.0, "loss": "cross_entropy", "layers": LAYERS[:1]},
    ),
    "Force": (Force(), {"alpha": 3.0, "every": 2, "tau_trace": 3.0, "loss": "cross_entropy", "layers": LAYERS[:1]}),
    "RewardModulatedHebb": (
        RewardModulatedHebb(lr=0.1, success="graded"),
        {
            "lr": 0.2,
            "half": 2.0,
            "success": "binary",
            "exploration": 1.0,
            "tau_mean": 20.0,
            "tau_trace": 3.0,
            "loss": "cross_entropy",
            "layers": LAYERS[:1],
        },
    ),
    "WeightPerturbation": (WeightPerturbation(lr=0.01), PERTURBATION),
    "NodePerturbation": (
        NodePerturbation(lr=0.01),
        {**PERTURBATION, "where": With("after", "leaky"), "share": "deviation", "tau_trace": 3.0},
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
    "DiehlCook": (
        DiehlCook(norm=2.0, theta_plus=0.01),
        {
            "lr": 0.3,
            "x_target": 0.1,
            "tau_plus": 3.0,
            "mu": 0.5,
            "w_max": 0.6,
            "norm": 3.0,
            "theta_plus": 0.1,
            "theta_decay": 0.5,
            "lateral": "none",
            "inhibition": 0.5,
            "when": "sample",
            "reduce": "mean",
            "output": "none",
            "lr_output": 0.1,
            "layers": LAYERS[:1],
        },
    ),
    "Hebb": (
        Hebb(lr=0.01),
        {**UNTAUGHT, "centred": True, "clamp": With(True, output="same"), "row_norm": 1.0},
    ),
    "AntiHebb": (
        AntiHebb(lr=0.01),
        {**UNTAUGHT, "centred": True, "clamp": With(True, output="same"), "row_norm": 1.0},
    ),
    "Oja": (Oja(lr=0.01), {**UNTAUGHT, "form": With("subspace", "leaky")}),
    "BCM": (BCM(lr=0.5, tau=20.0), {**UNTAUGHT, "tau": 5.0, "z_0": 0.5, "power": 2.0, "decay": 0.5}),
    "HebbNet": (HebbNet(lr=0.01), {**UNTAUGHT, "percent": 20.0, "by": "size"}),
    "ABCD": (
        ABCD(A=0.5),
        {
            "A": 1.0,
            "B": 0.1,
            "C": 0.1,
            "D": 0.1,
            "eta": 0.1,
            "D_out": 0.1,
            "per": "neuron",
            "share": With("max", "convolution"),
            "share_of": With("term", "convolution", share="max", B=1.0),
            "normalise": "none",
            "reward": "task",
            "tau_reward": With(5.0, reward="task"),
            **{name: UNTAUGHT[name] for name in UNTAUGHT if name != "lr"},
        },
    ),
    "Heterosynaptic": (
        Heterosynaptic(0.5, 2),
        {
            "alpha": -0.2,
            "block": 3,
            "grouping": With("flat", block=3),
            "normalise": "norm",
            "seed": With(1, grouping="permuted"),
            "layers": LAYER,
        },
    ),
    "Shuffled": (Shuffled(), {"layers": LAYERS[:1]}),
}
AFTER_ANOTHER = {"Heterosynaptic", "Shuffled"}
ON_RATES = {"DeepFeedbackControl"}  # they refuse spikes
CASES = [(rule, parameter) for rule, (_, others) in TABLE.items() for parameter in others]


def learned(scheme, kind=None):
    kind = kind or ("leaky" if type(scheme).__name__ in ON_RATES else "spiking")
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
