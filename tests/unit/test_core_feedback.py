"""Feedback with zero delay: gradients by wiring alone, against the gradient written out in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nets import normal, simulate, weight

from neurosim.connectivity import Dense, OneToOne
from neurosim.factor import post, pre
from neurosim.lateral import LayerNorm, Pullback
from neurosim.modulator import Feedback
from neurosim.network import Layered, Network, Population, Projection
from neurosim.neuron import GatedRelay, LeakyRate, Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import ConfigurationError
from neurosim.wiring import with_error

EPSILON = 1e-6
RULE = ThreeFactorRule(
    (Component((Term(post("slope"), pre("rate")),)),), Feedback(post("feedback")), transforms=(Rate(1.0),)
)


def taught(hidden, activation, norm, loss, feedback=None):
    """A layered network whose error travels down by projections; `feedback` [N_pre, N_post] per layer, or tied."""
    make = Layered(StaticRate(activation), StaticRate("linear"), hidden, lateral=LayerNorm(EPSILON) if norm else None)
    network = with_error(make(4, 3), loss)
    forward, source = network.forward(), "error"
    for layer, projection in reversed(list(enumerate(forward[1:]))):
        below, size = projection.pre, network[projection.pre].units
        wire = {"tied": (projection.name, "transpose")} if feedback is None else {"weight": feedback[layer]}
        relay, gated = f"{below}_error", f"{below}_gated"
        network = network.with_parts(
            (
                Population(relay, size, Relay(), Pullback(below) if norm else None),
                Population(gated, size, GatedRelay()),
            ),
            (
                Projection(source, below, port="feedback", delay=0, **wire),
                Projection(source, relay, delay=0, **wire),
                Projection(relay, gated, 1.0, OneToOne(), delay=0),
                Projection(below, gated, 1.0, OneToOne(), port="gate", output="slope", delay=0),
            ),
        )
        source = gated
    return attach(network, tuple(p.name for p in forward), lambda _: RULE)


def expected(weights, biases, x, y, activation, norm, loss, feedback=None):
    """Minus the gradient of the mean loss with respect to every weight and bias; `feedback` replaces transposes."""
    inputs, slopes, scales = [x], [], []
    for w, b in zip(weights, biases, strict=True):
        a = inputs[-1] @ w.T + b
        if len(slopes) == len(weights) - 1:
            break
        h, slope = (np.tanh(a), 1 - np.tanh(a) ** 2) if activation == "tanh" else (np.maximum(a, 0), (a > 0) * 1.0)
        scale = 1 / np.sqrt(h.var(-1, keepdims=True) + EPSILON)
        inputs.append((h - h.mean(-1, keepdims=True)) * scale if norm else h)
        slopes.append(slope)
        scales.append(scale)
    softmax = np.exp(a) / np.exp(a).sum(-1, keepdims=True)
    delta = y - (softmax if loss == "cross_entropy" else a)
    changes = []
    for layer in reversed(range(len(weights))):
        changes.append((delta.T @ inputs[layer] / len(x), delta.mean(0)))
        if layer:
            g = delta @ (weights[layer] if feedback is None else feedback[layer - 1].T)
            if norm:
                h = inputs[layer]
                g = (g - g.mean(-1, keepdims=True) - h * (g * h).mean(-1, keepdims=True)) * scales[layer - 1]
            delta = g * slopes[layer - 1]
    return changes[::-1]


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize(("activation", "loss"), [("tanh", "cross_entropy"), ("relu", "mse")])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("hidden", [(5,), (6, 5)])
def test_is_the_gradient(hidden, norm, activation, loss, random, replicas):
    sizes = (4, *hidden, 3)
    matrices = [normal(*pair) for pair in itertools.pairwise(sizes[1:])] if random else None
    network = taught(hidden, activation, norm, loss, matrices)
    x, y = normal(7, 4), np.eye(3)[np.arange(7) % 3]
    names = [p.name for p in network.forward()]
    phase = Phase("train", 1, {"input": Held(x), "target": Held(y)})
    simulator, state, _ = simulate(network, phase, batch=7, replicas=replicas, seed=3)
    start = simulator.init(7)
    for replica in range(replicas or 1):
        before = [(weight(start, n)[replica], weight(start, n, "bias")[replica]) for n in names]
        changes = expected(*zip(*before, strict=True), x, y, activation, norm, loss, matrices)
        for name, (w, b), (dw, db) in zip(names, before, changes, strict=True):
            assert np.abs(dw).max() > 1e-4
            np.testing.assert_allclose(weight(state, name)[replica] - w, dw, rtol=0, atol=1e-12)
            np.testing.assert_allclose(weight(state, name, "bias")[replica] - b, db, rtol=0, atol=1e-12)


def test_tied_by_sign_takes_the_size_from_its_own_weight():
    forward, size = normal(3, 2), np.abs(normal(2, 3)) + 0.1
    network = Network(
        (Population("a", 2, Relay()), Population("b", 3, Relay()), Population("back", 2, Relay())),
        (
            Projection("a", "b", forward, delay=0, name="there"),
            Projection("b", "back", -size, delay=0, tied=("there", "sign")),
        ),
    )
    simulator, state, _ = simulate(network, Phase("p", 1, {"b": np.ones((1, 1, 3))}))
    recording = simulator.run(state, Phase("p", 1, {"b": np.ones((1, 1, 3))}), (Probe("back", "rate"),))[1]
    np.testing.assert_allclose(recording["back.rate"][0, 0], (size * np.sign(forward.T)).sum(1), atol=1e-15)


def test_one_to_one_tie_follows_the_source():
    network = Network(
        (Population("a", 2, Relay()), Population("b", 2, Relay()), Population("back", 2, Relay())),
        (
            Projection("a", "b", np.array([2.0, 3.0]), OneToOne(), delay=0, name="there"),
            Projection("b", "back", connectivity=OneToOne(), delay=0, tied=("there", "transpose")),
        ),
    )
    _, _, recording = simulate(network, Phase("p", 1, {"b": np.ones((1, 1, 2))}), (Probe("back", "rate"),))
    np.testing.assert_array_equal(recording["back.rate"][0, 0], [2.0, 3.0])


def test_a_driving_cycle_without_delay_is_named():
    populations = tuple(Population(name, 2, LeakyRate()) for name in ("a", "b", "c", "d"))
    wires = (("d", "a"), ("a", "b"), ("b", "c"), ("c", "a"))
    projections = tuple(Projection(pre, post, connectivity=Dense(), delay=0) for pre, post in wires)
    with pytest.raises(
        ConfigurationError, match=r"zero delay form a cycle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)"
    ):
        simulate(Network(populations, projections), Phase("p", 1))


def test_a_teaching_cycle_without_delay_closes_none():
    """Feedback to a teaching port is no cycle: the neuron does not read it."""
    populations = (Population("a", 2, LeakyRate()), Population("b", 2, LeakyRate()))
    projections = (Projection("a", "b", delay=0), Projection("b", "a", 0.5, delay=0, port="feedback"))
    _, _, recording = simulate(
        Network(populations, projections),
        Phase("p", 1, {"a": np.ones((1, 1, 2))}),
        (Probe("a", "feedback"), Probe("b", "rate")),
    )
    np.testing.assert_allclose(recording["a.feedback"], 0.5 * recording["b.rate"].sum(-1, keepdims=True).repeat(2, -1))


def test_a_teaching_port_is_sent_on_in_the_same_step():
    """a -> b.feedback -> c.feedback, listed in the wrong order."""
    populations = tuple(Population(name, 1, Relay()) for name in ("a", "b", "c"))
    projections = (
        Projection("b", "c", 3.0, OneToOne(), port="feedback", output="feedback", delay=0),
        Projection("a", "b", 2.0, OneToOne(), port="feedback", delay=0),
    )
    _, _, recording = simulate(
        Network(populations, projections), Phase("p", 1, {"a": np.ones((1, 1, 1))}), (Probe("c", "feedback"),)
    )
    assert recording["c.feedback"].item() == 6.0
