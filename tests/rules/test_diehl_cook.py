"""Diehl and Cook's layer (2015) in plain NumPy, step by step: inhibition, thresholds, STDP, normalised weights."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, raster, simulate
from plain import described

from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.diehl_cook import NOBODY, DiehlCook, assigned_classes, dead_units, voted
from neurosim.types import ConfigurationError

B, Q, P, T, DT, TAU_MEM, V_TH = 3, 6, 4, 12, 1.0, 8.0, 0.1
START = 0.5 + 0.3 * np.abs(normal(P, Q))
BASE = {"lr": 0.1, "theta_plus": 0.02, "theta_decay": 0.01, "norm": 3.0, "inhibition": 2.0, "output": "none"}
PROBES = (Probe("cells", "spike"), Probe("wire", "weight"))


def layer(scheme, start=START, posts=P, pres=Q, v_th=V_TH):
    """input -> cells -> output; the scheme teaches the first projection `wire`."""
    populations = (
        Population("input", pres, SpikeRelay()),
        Population("cells", posts, LIF(TAU_MEM, v_th, arrival="filtered")),
        Population("output", 2, LeakyRate()),
    )
    wires = (
        Projection("input", "cells", start, delay=0, bias=True, name="wire"),
        Projection("cells", "output", 0.1, delay=0, name="readout"),
    )
    return scheme(Network(populations, wires))


def room(rule, w):
    return (np.maximum(rule.w_max - w, 0) / rule.w_max) ** rule.mu


def learned(rule, change, w):
    """The weights after one update with the summed `change`."""
    w = np.clip(w + rule.lr * change, 0, rule.w_max)
    return w * rule.norm / w.sum(1, keepdims=True)


def by_hand(rule, samples):
    """Spikes [T, B, P] of all samples, weights [P, Q] and thresholds [P] at the end."""
    leak, decay = np.exp(-DT / TAU_MEM), np.exp(-DT / rule.tau_plus)
    w, theta, spikes = START.copy(), np.zeros(P), []
    v, x, fired = np.zeros((B, P)), np.zeros((B, Q)), np.zeros((B, P))
    for sample in samples:
        gathered = 0.0
        for now in sample:
            inhibition = rule.inhibition * (fired.sum(1, keepdims=True) - fired) * (rule.lateral != "none")
            v = leak * v + (1 - leak) * (now @ w.T - inhibition)
            fired = (v >= V_TH + theta).astype(float)
            v = np.where(fired > 0, 0.0, v)
            x = decay * x + now
            changes = fired[:, :, None] * (x - rule.x_target)[:, None] * room(rule, w)
            change, steps = (
                (changes.mean(0), fired.mean(0)) if rule.reduce == "mean" else (changes.sum(0), fired.sum(0))
            )
            if rule.reduce == "sequential":
                for row in changes:
                    w = learned(rule, row, w)
                for row in fired:
                    theta = theta + rule.theta_plus * row - rule.theta_decay * theta
            else:
                theta = theta + rule.theta_plus * steps - rule.theta_decay * theta
            if rule.when == "step" and rule.reduce != "sequential":
                w = learned(rule, change, w)
            gathered = gathered + change
            spikes.append(fired)
        if rule.when == "sample":
            w = learned(rule, gathered, w)
    return np.array(spikes), w, theta


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lateral": "direct"},
        {"lateral": "none"},
        {"mu": 0.0},
        {"mu": 0.4, "w_max": 2.0},
        {"x_target": 2.0},
        {"tau_plus": 3.0, "lr": 0.5},
        {"when": "sample"},
        {"reduce": "mean"},
        {"reduce": "sequential"},
        {"inhibition": 0.2, "theta_decay": 0.2},
    ],
    ids=str,
)
def test_equation(options):
    """Inputs and units fire in the same steps: the trace has the spike of the step, inhibition comes one step later."""
    rule = DiehlCook(**{**BASE, **options})
    samples = [raster(T, B, Q, seed=seed) for seed in (1, 2)]
    phases = [Phase(f"sample {index}", T, {"input": one}) for index, one in enumerate(samples)]
    network = layer(rule)
    if rule.when == "sample":
        _, state, first = simulate(network, phases[0], PROBES, batch=B, dt=DT)
        _, state, second = simulate(network, phases[1], PROBES, batch=B, dt=DT, state=state)
        spikes = np.concatenate([first["cells.spike"], second["cells.spike"]])
    else:
        _, state, recording = simulate(network, phases, PROBES, batch=B, dt=DT)
        spikes = recording["cells.spike"]
    expected, w, theta = by_hand(rule, samples)
    coincident = np.concatenate(samples).any(-1) & expected.any(-1)
    assert coincident.any()
    assert 4 < expected.sum() < 0.8 * expected.size
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(state.learned["weight"]["wire"][0].numpy(), w, rtol=0, atol=1e-13)
    np.testing.assert_allclose(state.learned["bias"]["threshold_cells"][0].numpy(), theta, rtol=0, atol=1e-14)
    assert np.abs(w - START * rule.norm / START.sum(1, keepdims=True)).max() > 0.01
    assert not state.learned["bias"]["wire"].any()
    assert not state.learned["weight"]["threshold_cells"].any()


def test_thresholds_outlive_the_sample_and_rest_in_tests():
    """They are learned: a fresh state keeps them, and a phase without learning leaves them."""
    simulator, state, _ = simulate(layer(DiehlCook(**BASE)), Phase("p", T, {"input": raster(T, B, Q)}), batch=B)
    theta = state.learned["bias"]["threshold_cells"]
    assert bool((theta > 0).any())
    tested, _ = simulator.run(simulator.fresh(state, 2), Phase("q", T, {"input": np.ones((T, 2, Q))}, learn=False))
    np.testing.assert_array_equal(tested.learned["bias"]["threshold_cells"], theta)


GROUPS, EACH = 3, 5


def shown(steps, samples, seed):
    """Spikes [T, B, GROUPS * EACH]: in each sample one group of inputs is active; which one, [B]."""
    y = np.arange(samples) % GROUPS
    active = np.repeat(np.eye(GROUPS)[y], EACH, 1)
    return raster(steps, samples, GROUPS * EACH, probability=0.5, seed=seed) * active, y


def specialised(lateral, seed, units=6):
    """Spike counts of an independent set, and its classes, after 60 presentations of three groups of inputs."""
    scheme = DiehlCook(lateral=lateral, norm=5.0, theta_plus=0.005, inhibition=20.0, x_target=1.0, output="none")
    start = 0.4 + 0.2 * np.random.default_rng(seed).random((units, GROUPS * EACH))
    network = layer(scheme, start, units, GROUPS * EACH, v_th=0.3)
    simulator, state, _ = simulate(network, Phase("p", 1, {}), batch=1)
    for presentation in range(60):
        x, _ = shown(20, GROUPS, presentation)
        state, _ = simulator.run(simulator.fresh(state, GROUPS), Phase("train", 20, {"input": x}))
    x, y = shown(20, 30, 1000)
    _, recording = simulator.run(simulator.fresh(state, 30), Phase("test", 20, {"input": x}, learn=False), PROBES[:1])
    return recording["cells.spike"].sum(0), y


def test_units_share_the_inputs_among_them():
    """Each group finds units of its own, over four starts; what a unit stands for is read from other samples."""
    for seed in range(4):
        counts, y = specialised("interneurons", seed)
        assigned = assigned_classes(counts[:15], y[:15], GROUPS)
        assert set(range(GROUPS)) <= set(assigned.tolist())
        assert (voted(counts[15:], assigned, GROUPS) == y[15:]).all()


def test_classes_by_hand():
    counts = np.array([[4, 0, 0, 1], [2, 0, 1, 1], [0, 0, 5, 1]])
    assert dead_units(counts).tolist() == [1]
    assert dead_units(np.array([[0, 1, 0], [0, 0, 3]])).tolist() == [0]  # one spike is enough to be alive
    assigned = assigned_classes(counts, np.array([0, 0, 2]), 4)
    assert assigned.tolist() == [0, NOBODY, 2, 0]  # class 1 and 3 have no sample; a tie goes to the lower class
    assert voted(counts, assigned, 4).tolist() == [0, 0, 2]
    assert voted(np.array([[2, 9, 1, 0]]), np.array([0, NOBODY, 2, 2]), 3).tolist() == [0]  # means: 2 and 0.5
    assert voted(np.zeros((1, 2)), np.array([1, 1]), 3).tolist() == [1]  # no unit stands for class 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lateral": "all"}, "lateral is 'all'; allowed: interneurons, direct, none"),
        ({"inhibition": -1.0}, "inhibition is -1.0"),
        ({"norm": 0.0}, "norm of RowNorm is 0.0"),
        ({"theta_plus": -0.1}, "theta_plus is -0.1"),
        ({"theta_decay": 1.5}, "theta_decay is 1.5; it is the part lost per update, at most 1"),
        ({"mu": -1.0}, "mu is -1.0"),
        ({"w_max": 0.0}, "w_max is 0.0"),
        ({"x_target": -0.1}, "x_target is -0.1"),
        ({"tau_plus": 0.0}, "tau_plus is 0.0"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DiehlCook(**options)(described("spiking"))


def test_rate_neurons_do_not_spike():
    with pytest.raises(ConfigurationError, match="has LeakyRate neurons, but diehl_cook lets spikes of LIF neurons"):
        DiehlCook()(described("leaky"))
