"""What competitive and sparse rules are made of: laterals with their Jacobians, transforms, transfers, the constant
end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal, pair, simulate, weight, with_rule

from neurosim.connectivity import Conv2d, Dense, EdgeList, OneToOne
from neurosim.factor import Apply, One, Trace, post, pre
from neurosim.lateral import Centred, Ranked, SignedSoftmax, Triangle
from neurosim.network import Projection
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, Term, ThreeFactorRule
from neurosim.transform import LessPast, NormRate, Rate, Schedule, Sparsify
from neurosim.types import ConfigurationError
from neurosim.vocabulary import abs, power

X = np.array([[0.3, -1.2, 2.0, 0.7], [1.0, 1.0, 0.2, -3.0]])


def softmax(x, temperature):
    raised = np.exp(x / temperature)
    return raised / raised.sum(-1, keepdims=True)


LATERALS = {
    "centred": (Centred(), X - X.mean(-1, keepdims=True)),
    "signed": (SignedSoftmax(0.5), softmax(X, 0.5) * np.array([[-1, -1, 1, -1], [1, -1, -1, -1]])),
    "ranked": (Ranked(3, 0.4), np.array([[-0.4, 0, 1, 0], [1, 0, -0.4, 0]])),
    "hard": (Ranked(), np.array([[0, 0, 1, 0], [1, 0, 0, 0]])),
    "triangle": (Triangle(1.4), np.maximum(X - X.mean(-1, keepdims=True), 0) ** 1.4),
    "line": (Triangle(), np.maximum(X - X.mean(-1, keepdims=True), 0)),
    "root": (Triangle(0.7), np.maximum(X - X.mean(-1, keepdims=True), 0) ** 0.7),
}


@pytest.mark.parametrize("name", LATERALS)
def test_step(name):
    """A tie (second row) goes to the lower index."""
    lateral, expected = LATERALS[name]
    np.testing.assert_allclose(lateral.step(torch.from_numpy(X)).numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", LATERALS)
def test_pullback_is_the_transposed_jacobian(name):
    lateral = LATERALS[name][0]
    x, g = torch.from_numpy(X[:1]).requires_grad_(), torch.from_numpy(normal(1, 4))
    y = lateral.step(x)
    expected = torch.autograd.grad(y, x, g)[0] if y.requires_grad else torch.zeros_like(x)
    ours = lateral.pullback(x.detach(), y.detach(), g)
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=0, atol=1e-14)
    assert torch.isfinite(ours).all()


def test_rank_beyond_the_population():
    with pytest.raises(ConfigurationError, match="k of Ranked is 5, but the population has 4 units"):
        Ranked(5, 0.1).step(torch.from_numpy(X))


# ---- transforms: one Hebbian change of several steps on every connectivity


P, Q, R = 3, 4, 2
POST, PRE = [0, 0, 1, 2, 2], [0, 3, 1, 2, 0]
KINDS = {
    "dense": (Dense(), (P, Q), 4, 3),
    "sparse": (EdgeList(POST, PRE), (5,), 4, 3),
    "one to one": (OneToOne(), (4,), 4, 4),
    "convolution": (Conv2d(2), (2, 1, 2, 2), (1, 3, 3), (2, 2, 2)),
}


def trained(kind, *transforms, steps=4, bias=False):
    """Start weight, changes before the transforms and weights after each step: [R, ...], [steps, R, ...], the same."""
    connectivity, shape, inputs, outputs = KINDS[kind]
    start = normal(R, *shape, seed=5)
    net = pair(inputs, outputs, weight=start, connectivity=connectivity, port="feedback", bias=bias)
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), transforms=transforms)
    drive = {
        name: normal(steps, 1, int(np.prod(size)), seed=9) for name, size in (("input", inputs), ("output", outputs))
    }
    results = []
    for chosen in (replace(rule, transforms=(Rate(1.0),)), rule):
        _, _, recording = simulate(
            with_rule(net, chosen), Phase("p", steps, drive), (Probe("wire", "weight"),), replicas=R
        )
        results.append(recording["wire.weight"].reshape(steps, R, *shape))
    raw = np.diff(np.concatenate((start[None], results[0])), axis=0)
    return start, raw, results[1]


def rows(kind, w):
    """[R, neurons, inputs] of a weight, masked where there is no synapse."""
    if kind != "sparse":
        return w.reshape(R, {"one to one": 4, "convolution": 2}.get(kind, P), -1)
    full = np.zeros((R, P, Q))
    full[:, POST, PRE] = w
    return full


def back(kind, values, shape):
    return values[:, POST, PRE] if kind == "sparse" else values.reshape(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_norm_rate(kind):
    start, raw, ours = trained(kind, NormRate(0.7, norm=1.5, epsilon=0.01), Rate(0.3))
    w = start
    for step, change in enumerate(raw):
        norm = np.sqrt((rows(kind, w) ** 2).sum(-1, keepdims=True)) * np.ones_like(rows(kind, w))
        w = w + 0.3 * change * (np.abs(back(kind, norm, w.shape) - 1.5) + 0.01) ** 0.7
        np.testing.assert_allclose(ours[step], w, rtol=0, atol=1e-13)


@pytest.mark.parametrize("by", ["value", "size"])
@pytest.mark.parametrize("percent", [0.0, 40.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_sparsify(kind, percent, by):
    start, raw, ours = trained(kind, Sparsify(percent, by))
    w = start
    for step, change in enumerate(raw):
        for replica in range(R):
            compared = np.abs(change[replica]) if by == "size" else change[replica]
            threshold = np.sort(compared.ravel())[round(percent / 100 * (compared.size - 1))]
            w[replica] += np.where(compared >= threshold, change[replica], 0.0)
        np.testing.assert_allclose(ours[step], w, rtol=0, atol=1e-13)


def test_sparsify_counts_the_edges_of_each_replica():
    """Replicas of a random wiring differ in size; each has a percentile of its own."""
    net = pair(6, 5, weight=0.0, connectivity=EdgeList([0, 1, 2], [0, 1, 2]), port="feedback")
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), transforms=(Sparsify(100.0),))
    drive = {"input": normal(1, R, 1, 6), "output": normal(1, R, 1, 5)}
    _, state, _ = simulate(with_rule(net, rule), Phase("p", 1, drive), replicas=R)
    change = drive["input"][0, :, 0, :3] * drive["output"][0, :, 0, :3]
    np.testing.assert_allclose(
        weight(state).reshape(R, 3), np.where(change == change.max(-1, keepdims=True), change, 0)
    )


def test_less_past():
    start, raw, ours = trained("dense", LessPast(0.2), Rate(0.5))
    w = start
    for step, change in enumerate(raw):
        w = w + 0.5 * (0.2 * change - (raw[:step].mean(0) if step else 0.0))
        np.testing.assert_allclose(ours[step], w, rtol=0, atol=1e-13)


def test_schedule_in_stairs():
    start, raw, ours = trained("dense", Schedule(5, end=0.2, every=2), steps=8)
    w = start
    for step, change in enumerate(raw):
        w = w + (1 - 0.8 * min(step // 2 * 2 / 5, 1.0)) * change
        np.testing.assert_allclose(ours[step], w, rtol=0, atol=1e-13)


# ---- constants of functions, transfer, the constant end of a padded convolution


def affine(x, a, b):
    return a * x + b


def squared(w, sign):
    return sign * w * power(abs(w), 1.0)


def test_functions_with_constants():
    """The same function with other numbers is another factor, gain or decay."""
    term = Term(Apply(affine, (post("rate"),), (2.0, 0.5)), pre("rate"), OfWeight(affine, (3.0, -1.0)))
    start, x, y = normal(3, 4), normal(1, 1, 4, seed=1), normal(1, 1, 3, seed=2)
    net = with_rule(pair(4, 3, weight=start, port="feedback"), ThreeFactorRule((Component((term,)),)))
    _, state, _ = simulate(net, Phase("p", 1, {"input": x, "output": y}))
    expected = start + np.outer(2 * y + 0.5, x) * (3 * start - 1)
    np.testing.assert_allclose(weight(state)[0], expected, rtol=0, atol=1e-14)
    assert term != replace(term, gain=OfWeight(affine, (3.0, 1.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_transfer(kind):
    """A synapse delivers transfer(w) pre; the rule goes on seeing w."""
    connectivity, shape, inputs, outputs = KINDS[kind]
    start = normal(*shape)
    net = pair(inputs, outputs, weight=start, connectivity=connectivity, transfer=OfWeight(squared, (-2.0,)))
    plain = pair(inputs, outputs, weight=-2 * start * np.abs(start), connectivity=connectivity)
    x = {"input": normal(3, 1, int(np.prod(inputs)))}
    ours, theirs = (
        simulate(one, Phase("p", 3, x), (Probe("output", "rate"),))[2]["output.rate"] for one in (net, plain)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)
    decay = ThreeFactorRule((Component((Term(One("post"), One("pre"), OfWeight(affine, (1.0, 0.0))),)),), share="mean")
    _, state, _ = simulate(with_rule(net, decay), Phase("p", 1, {"input": x["input"][:1]}))
    np.testing.assert_allclose(weight(state).reshape(shape), 2 * start, rtol=0, atol=1e-13)


def test_a_tied_projection_has_no_transfer():
    with pytest.raises(ConfigurationError, match="it cannot have a transfer of its own"):
        Projection("a", "b", tied=("c", "transpose"), transfer=OfWeight(squared, (1.0,)))


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("memory", [None, 5.0])
def test_the_constant_is_not_padded(padding, memory):
    """A term with the constant 1 at the pre end reaches a synapse from every position, also where it hangs over the
    edge."""
    size = 4 + 2 * padding - 2
    net = pair(
        (2, 4, 4), (3, size, size), weight=normal(3, 2, 3, 3), connectivity=Conv2d(3, padding=padding), port="feedback"
    )
    rule = ThreeFactorRule((Component((Term(post("rate"), One("pre")),), tau=memory),))
    y = normal(1, 2, 3 * size * size)
    _, state, _ = simulate(with_rule(net, rule), Phase("p", 1, {"input": normal(1, 2, 32), "output": y}), batch=2)
    change = y.reshape(2, 3, -1).sum(-1).mean(0)
    expected = normal(3, 2, 3, 3) + change[:, None, None, None]
    np.testing.assert_allclose(weight(state)[0], expected, rtol=0, atol=1e-13)


def test_a_trace_of_activity_is_padded():
    """Unlike the constant, what arrives is 0 beyond the edge."""
    net = pair((1, 2, 2), (1, 2, 2), weight=np.zeros((1, 1, 3, 3)), connectivity=Conv2d(3, padding=1), port="feedback")
    rule = ThreeFactorRule((Component((Term(One("post"), Trace(pre("rate"), 5.0)),)),))
    _, state, _ = simulate(with_rule(net, rule), Phase("p", 1, {"input": np.ones((1, 1, 4))}))
    np.testing.assert_array_equal(weight(state)[0, 0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
