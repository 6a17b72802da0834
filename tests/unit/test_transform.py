"""Transforms of a change, one by one, against plain NumPy; every parameter at a value that matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal, pair, simulate, weight

from neurosim.factor import post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import (
    Adam,
    Chain,
    Clip,
    Heterosynaptic,
    Momentum,
    Normalised,
    Rate,
    Scale,
    Schedule,
    WeightDecay,
    flatten,
    optimizer,
)
from neurosim.types import ConfigurationError

STEPS, P, Q = 6, 3, 5
START = normal(P, Q)


def changed(*transforms, bias=None, replicas=None):
    """Weights after each step with the change x y^T, and the changes themselves."""
    hebb = (Component((Term(post("rate"), pre("rate")),)),)
    rule = ThreeFactorRule(hebb, transforms=transforms, bias_transforms=bias)
    net = pair(Q, P, weight=START, bias=0.5, port="feedback", rule=rule)
    x, y = normal(STEPS, 1, Q), normal(STEPS, 1, P)
    probes = (Probe("wire", "weight"), Probe("wire", "bias"))
    _, _, recording = simulate(net, Phase("p", STEPS, {"input": x, "output": y}), probes, replicas=replicas)
    return recording["wire.weight"], recording["wire.bias"], y[:, 0, :, None] * x[:, 0, None]


def adam(g, m, v, count, beta1, beta2, epsilon):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    return m / (1 - beta1 ** (count + 1)) / (np.sqrt(v / (1 - beta2 ** (count + 1))) + epsilon), m, v


EXPECTED = {
    "rate": (Rate(0.3), lambda g, w, k, m: (0.3 * g, m)),
    "rate per synapse": (Rate(np.abs(START)), lambda g, w, k, m: (np.abs(START) * g, m)),
    "scale": (Scale(-0.3), lambda g, w, k, m: (-0.3 * g, m)),
    "scale per synapse": (Scale(START), lambda g, w, k, m: (START * g, m)),
    "schedule": (Schedule(4), lambda g, w, k, m: ((1 - min(k / 4, 1)) * g, m)),
    "schedule to 0.2": (Schedule(3, 0.2), lambda g, w, k, m: ((1 - 0.8 * min(k / 3, 1)) * g, m)),
    "heavyball": (Momentum(0.7), lambda g, w, k, m: (0.7 * m + g,) * 2),
    "ema": (Momentum(0.7, "ema"), lambda g, w, k, m: (0.7 * m + 0.3 * g,) * 2),
    "nesterov": (Momentum(0.7, nesterov=True), lambda g, w, k, m: (g + 0.7 * (0.7 * m + g), 0.7 * m + g)),
    "weight decay": (WeightDecay(0.2), lambda g, w, k, m: (g - 0.2 * w, m)),
    "clip": (Clip(0.4), lambda g, w, k, m: (np.clip(g, -0.4, 0.4), m)),
    "max of all": (Normalised(), lambda g, w, k, m: (g / np.abs(g).max(), m)),
    "max of a row": (
        Normalised("row", epsilon=0.1),
        lambda g, w, k, m: (g / (np.abs(g).max(1, keepdims=True) + 0.1), m),
    ),
    "norm of a row": (Normalised("row", "norm"), lambda g, w, k, m: (g / np.linalg.norm(g, axis=1, keepdims=True), m)),
    "chain": (Chain((Rate(2.0), Chain((Clip(0.5),)))), lambda g, w, k, m: (np.clip(2 * g, -0.5, 0.5), m)),
}


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("name", EXPECTED)
def test_pointwise_and_rows(name, replicas):
    transform, reference = EXPECTED[name]
    bias = (Rate(0.0),) if name.endswith("per synapse") else None
    weights, _, changes = changed(transform, bias=bias, replicas=replicas)
    w, memory = START, np.zeros_like(START)
    for k, g in enumerate(changes):
        step, memory = reference(g, w, k, memory)
        w = w + step
        for row in weights[k] if replicas else [weights[k]]:
            np.testing.assert_allclose(row, w, rtol=0, atol=1e-12)


def test_adam_and_its_bias_with_other_transforms():
    weights, biases, changes = changed(Adam(0.8, 0.95, 1e-3), WeightDecay(0.1), Rate(0.01), bias=(Rate(0.5),))
    w, m, v = START, 0.0, 0.0
    for k, g in enumerate(changes):
        step, m, v = adam(g, m, v, k, 0.8, 0.95, 1e-3)
        w = w + 0.01 * (step - 0.1 * w)
        np.testing.assert_allclose(weights[k], w, rtol=0, atol=1e-13)
    np.testing.assert_allclose(biases, 0.5 + 0.5 * normal(STEPS, 1, P)[:, 0].cumsum(0), rtol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_the_bias_has_its_own_memory(name):
    """A bias goes through the same chain as a weight from a constant 1."""
    _, biases, _ = changed(*optimizer(name, 0.1, beta1=0.6, beta2=0.7, weight_decay=0.3))
    b, m, v = np.full(P, 0.5), 0.0, 0.0
    for k, g in enumerate(normal(STEPS, 1, P)[:, 0]):
        if name == "momentum":
            step = m = 0.6 * m + g
        else:
            step, m, v = adam(g, m, v, k, 0.6, 0.7, 1e-8)
        b = b + 0.1 * (step - (0.3 * b if name == "adamw" else 0.0))
        np.testing.assert_allclose(biases[k], b, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("alpha", "block"), [(0.5, 2), (-0.2, 4), (0.9, 5), (0.3, 8), (0.5, 1)])
def test_heterosynaptic_is_the_linear_solve(alpha, block):
    weights, biases, changes = changed(Heterosynaptic(alpha, block))
    w = START
    for k, g in enumerate(changes):
        g = g.copy()
        for first in range(0, Q, block):
            n = min(block, Q - first)
            h = (1 - alpha) * np.eye(n) + alpha
            g[:, first : first + n] = np.linalg.solve(h, g[:, first : first + n].T).T
        w = w + g
        np.testing.assert_allclose(weights[k], w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(biases, 0.5 + normal(STEPS, 1, P)[:, 0].cumsum(0), rtol=1e-12)


ERRORS = {
    "rate": (lambda: Rate(-0.1), "lr is -0.1; it must be a finite number >= 0"),
    "scale": (lambda: Scale(np.array([1.0, np.inf])), "by of Scale is "),
    "rates": (lambda: Rate(np.array([0.1, np.nan])), "lr is "),
    "total": (lambda: Schedule(0), "total of Schedule \\(updates\\) is 0"),
    "beta": (lambda: Momentum(1.0), "beta of Momentum is 1.0; it must be in \\[0, 1\\)"),
    "kind": (lambda: Momentum(kind="polyak"), "kind of Momentum is 'polyak'; allowed: heavyball, ema"),
    "beta1": (lambda: Adam(beta1=-0.1), "beta1 of Adam is -0.1"),
    "beta2": (lambda: Adam(beta2=1.0), "beta2 of Adam is 1.0"),
    "epsilon": (lambda: Adam(epsilon=0.0), "epsilon of Adam is 0.0"),
    "decay": (lambda: WeightDecay(-1.0), "decay of WeightDecay is -1.0"),
    "limit": (lambda: Clip(0.0), "limit of Clip is 0.0"),
    "over": (lambda: Normalised("column"), "over of Normalised is 'column'; allowed: all, row"),
    "by": (lambda: Normalised("row", "mean"), "by of Normalised is 'mean'; allowed: max, norm"),
    "norm of all": (lambda: Normalised("all", "norm"), "Normalised by 'norm' works over 'row'"),
    "block": (lambda: Heterosynaptic(0.1, 0), "block of Heterosynaptic is 0; it must be a whole number of at least 1"),
    "block float": (lambda: Heterosynaptic(0.1, 2.5), "block of Heterosynaptic is 2.5"),
    "alpha 1": (
        lambda: Heterosynaptic(1.0, 3),
        "alpha of Heterosynaptic is 1.0; it must be in \\(-0.5, 1\\) for block 3",
    ),
    "grouping": (
        lambda: Heterosynaptic(0.1, 3, "column"),
        "grouping of Heterosynaptic is 'column'; allowed: row, permuted, flat",
    ),
    "normalise": (
        lambda: Heterosynaptic(0.1, 3, normalise="max"),
        "normalise of Heterosynaptic is 'max'; allowed: none, trace, norm",
    ),
    "alpha low": (lambda: Heterosynaptic(-0.5, 3), "alpha of Heterosynaptic is -0.5"),
    "optimizer": (lambda: optimizer("lion", 0.1), "optimizer is 'lion'; allowed: none, momentum, adam, adamw"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    make, sentence = ERRORS[name]
    with pytest.raises(ConfigurationError, match=sentence):
        make()


def test_chains_and_optimizers():
    assert flatten((Rate(1.0), Chain((Clip(1.0), Chain((Rate(2.0),)))))) == (Rate(1.0), Clip(1.0), Rate(2.0))
    assert optimizer("none", 0.1, weight_decay=9.0) == (Rate(0.1),)
    assert optimizer("momentum", 0.1, beta1=0.5) == (Momentum(0.5), Rate(0.1))
    assert optimizer("adam", 0.1, beta1=0.5, beta2=0.6, epsilon=1e-3, weight_decay=9.0) == (
        Adam(0.5, 0.6, 1e-3),
        Rate(0.1),
    )
    assert optimizer("adamw", 0.1, weight_decay=0.2) == (Adam(0.9, 0.999), WeightDecay(0.2), Rate(0.1))


def test_parts_with_the_same_chain_do_not_mix():
    """Two projections whose changes go through one array keep their own weights, memories and sizes."""
    hebb = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), transforms=(Adam(), Rate(0.1)))
    together = Network(
        tuple(Population(name, size, Relay()) for name, size in (("a", 3), ("b", 2), ("c", 4))),
        (
            Projection("a", "b", normal(2, 3), delay=0, bias=True, rule=hebb, name="x"),
            Projection("b", "c", normal(4, 2), delay=0, bias=True, rule=hebb, name="y"),
        ),
    )
    other = replace(hebb, transforms=(Rate(1.0), Adam(), Rate(0.1)))  # the same numbers, a chain of its own
    apart = together.with_projections(lambda p: replace(p, rule=other) if p.name == "y" else p)
    phase = Phase("p", 4, {"a": normal(4, 2, 3)})
    first, second = (simulate(net, phase, batch=2, replicas=2)[1] for net in (together, apart))
    for name in ("x", "y"):
        for part in ("weight", "bias"):
            np.testing.assert_allclose(weight(first, name, part), weight(second, name, part), rtol=0, atol=1e-14)
