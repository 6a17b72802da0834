"""e <- d e + A_plus S_i x_j - A_minus y_i S_j, dw = lr (r - mean r) e in plain NumPy, on what the network did
(Florian 2007)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal, raster
from plain import DT, LAYERS, described, error

from neurosim.backends import compile
from neurosim.lateral import LayerNorm
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.types import ConfigurationError

B, STEPS, TRIALS = 2, 6, 5
LABEL = np.eye(3)[[0, 2]]


def run(scheme, norm=False):
    """What was sent, the rewards that a signal would bring, and the first weight [P, Q] before and after each step."""
    network = scheme(described("spiking"))
    if norm:
        network = replace(
            network,
            populations=tuple(
                replace(p, lateral=LayerNorm()) if p.name == "hidden0" else p for p in network.populations
            ),
        )
    simulator = compile(network, DT, seed=3, dtype="float64")
    state = simulator.init(B)
    start = state.learned["weight"][LAYERS[0]][0].numpy().copy()
    probes = (Probe("input", "rate"), Probe("hidden0", "spike"), Probe("output", "rate"), Probe(LAYERS[0], "weight"))
    x = raster(TRIALS, STEPS, B, 4, probability=0.5)
    x[2, 3] = 1  # everything arrives at once
    rewards, rows = normal(TRIALS, B, 1), []
    for trial in range(TRIALS):
        drive = {"input": 2 * x[trial], **({"target": np.tile(LABEL, (STEPS, 1, 1))} if network.has("target") else {})}
        signals = {"reward": rewards[trial]}
        state, recording = simulator.run(state, Phase("p", STEPS, drive, signals), probes)
        rows.append([recording[probe.key] for probe in probes])
    sent, spikes, output, weights = (np.array(column) for column in zip(*rows, strict=True))
    return sent, spikes, output, rewards, [start, *weights.reshape(-1, *weights.shape[2:])]


def centred(scheme, output, rewards):
    """r - mean r, [trials, steps, B, 1]."""
    result, mean = np.zeros((TRIALS, STEPS, B, 1)), np.zeros((B, 1))
    for trial, step in np.ndindex(TRIALS, STEPS):
        if scheme.reward == "task":
            prediction = LABEL - error(output[trial, step], LABEL, "cross_entropy")
            r = (prediction * LABEL).sum(-1, keepdims=True)
            decay = np.exp(-DT / scheme.tau_reward) if scheme.tau_reward else 0.0
            result[trial, step] = r - (decay * mean if scheme.tau_reward else 0.0)
            mean = decay * mean + (1 - decay) * r
        else:
            result[trial, step] = rewards[trial] - mean
            if step == STEPS - 1 and scheme.tau_reward:
                mean = mean + (rewards[trial] - mean) / scheme.tau_reward
    return result


def by_hand(scheme, sent, spikes, m, start):
    """Weights [steps, P, Q]."""
    decay = [0.0 if tau is None else np.exp(-DT / tau) for tau in (scheme.tau_plus, scheme.tau_minus, scheme.tau_e)]
    x, y, e, w, rows = np.zeros((B, 4)), np.zeros((B, 6)), np.zeros((B, 6, 4)), start, []
    for trial, step in np.ndindex(TRIALS, STEPS):
        s_pre, s_post = sent[trial, step], spikes[trial, step]
        old_x, old_y = decay[0] * x, decay[1] * y
        x, y = old_x + s_pre, old_y + s_post
        read_x, read_y = (x if scheme.read_pre == "after" else old_x), (y if scheme.read_post == "after" else old_y)
        pairs = scheme.A_plus * np.einsum("bi,bj->bij", s_post, read_x) - scheme.A_minus * np.einsum(
            "bi,bj->bij", read_y, s_pre
        )
        e = decay[2] * e + pairs
        change = (m[trial, step][..., None] * e).sum(0) / (B if scheme.reduce == "mean" else 1)
        w = np.clip(w + scheme.lr * change, scheme.w_min, scheme.w_max)
        rows.append(w)
    return rows


BASE = {
    "A_plus": 1.0,
    "A_minus": 0.7,
    "tau_plus": 3.0,
    "tau_minus": 5.0,
    "tau_e": 8.0,
    "lr": 0.05,
    "w_min": -1.0,
    "w_max": 1.0,
}
OPTIONS = [
    {},
    {"tau_e": None},
    {"tau_reward": 2.0},
    {"reward": "task"},
    {"reward": "task", "tau_reward": 10.0},
    {"reduce": "sum", "read_pre": "before"},
    {"read_post": "before", "w_max": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equation(options):
    scheme = RewardSTDP(**{**BASE, **options})
    sent, spikes, output, rewards, weights = run(scheme)
    assert spikes.sum() > 20
    expected = by_hand(scheme, sent, spikes, centred(scheme, output, rewards), weights[0])
    assert np.abs(expected[-1] - weights[0]).max() > 0.02
    np.testing.assert_allclose(weights[1:], expected, rtol=0, atol=1e-13)


def test_reward_does_not_pass_through_a_layer_norm():
    """Reward says nothing about the output, so the norm's Jacobian (which would cancel it) does not apply."""
    weights = run(RewardSTDP(**{**BASE, "reward": "task"}), norm=True)[-1]
    assert np.abs(weights[-1] - weights[1]).max() > 0.01  # (the first step clips)


def test_without_reward_nothing_is_learned_and_its_lack_is_named():
    network = RewardSTDP(reward="dopamine")(described("spiking"))
    simulator = compile(network, DT, seed=3, dtype="float64")
    state = simulator.init(1)
    after, _ = simulator.run(state, Phase("p", 5, signals={"dopamine": np.zeros((1, 1))}))
    assert (after.learned["weight"][LAYERS[0]] == state.learned["weight"][LAYERS[0]].clamp(0, 1)).all()
    with pytest.raises(ConfigurationError, match="a rule reads the signal 'dopamine', but phase 'p' carries: reward"):
        simulator.run(state, Phase("p", 5, signals={"reward": np.zeros((1, 1))}))


def test_bad_parameters():
    for options, message in (
        ({"tau_reward": -1.0}, "tau of Broadcast"),
        ({"tau_reward": -1.0, "reward": "task"}, "tau_reward is -1.0"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            RewardSTDP(**options)(described("spiking"))
