"""Shared weights: a convolution that learns, against the same layer unrolled into a dense matrix by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from nets import normal, simulate, weight, with_rule

from neurosim.connectivity import AveragePool, Conv2d, MaxPool
from neurosim.constraint import Bounds, Dale, RowNorm
from neurosim.factor import Trace, post, pre
from neurosim.modulator import Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.transform import Heterosynaptic, Normalised, Rate
from neurosim.types import ConfigurationError

T, B, R = 6, 3, 2
SETTINGS = [(3, 1, 0), (3, 1, 1), (2, 2, 0), (3, 2, 1)]  # kernel, stride, padding
PRE = (2, 5, 6)  # channels, height, width
OUT = 3


def conv(kernel, stride, padding):
    connectivity = Conv2d(kernel, stride, padding)
    return connectivity, connectivity.output_shape(PRE, OUT)


def unrolled(shape, kernel, stride, padding):
    """Index arrays (post, pre, entry): every synapse of the dense layer and the kernel entry it shares."""
    synapses = []
    _, rows, columns = shape
    for o, y, x in np.ndindex(*shape):
        for c, i, j in np.ndindex(PRE[0], kernel, kernel):
            row, column = y * stride + i - padding, x * stride + j - padding
            if 0 <= row < PRE[1] and 0 <= column < PRE[2]:
                entry = np.ravel_multi_index((o, c, i, j), (OUT, PRE[0], kernel, kernel))
                synapses.append(((o * rows + y) * columns + x, (c * PRE[1] + row) * PRE[2] + column, entry))
    return np.array(synapses).T


def network(setting, rule=None, port="feedback", **wire):
    connectivity, shape = conv(*setting)
    return Network(
        (Population("input", PRE, Relay()), Population("output", shape, Relay())),
        (Projection("input", "output", connectivity=connectivity, port=port, delay=0, name="wire", rule=rule, **wire),),
    ), shape


@pytest.mark.parametrize("setting", SETTINGS)
def test_delivers_like_the_unrolled_layer(setting):
    kernels, bias = normal(R, OUT, PRE[0], setting[0], setting[0]), normal(R, OUT)
    net, shape = network(setting, port="basal", weight=kernels, bias=bias)
    x = normal(T, B, int(np.prod(PRE)))
    _, _, recording = simulate(net, Phase("p", T, {"input": x}), (Probe("output", "rate"),), batch=B, replicas=R)
    posts, pres, entries = unrolled(shape, *setting)
    for r in range(R):
        dense = np.zeros((int(np.prod(shape)), x.shape[-1]))
        dense[posts, pres] = kernels[r].ravel()[entries]
        expected = x @ dense.T + bias[r].repeat(shape[1] * shape[2])
        np.testing.assert_allclose(recording["output.rate"][:, r], expected, rtol=0, atol=1e-12)


def shared(values, entries, size, how, positions):
    """Join the changes of synapses that share a kernel entry; positions in the padding count as zero."""
    result = np.zeros(size)
    for entry in range(size):
        own = values[entries == entry]
        own = np.concatenate([own, np.zeros(positions - len(own))])
        result[entry] = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}.get(
            how, lambda v: np.sort(v)[(len(v) - 1) // 2]
        )(own)
    return result


@pytest.mark.parametrize("memory", [None, 3.0])
@pytest.mark.parametrize("how", ["sum", "mean", "max", "min", "median"])
@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[3]])
def test_learns_like_the_unrolled_layer(setting, how, memory):
    """m e with a pre trace, with and without memory, joined over positions, then the mean over the batch."""
    component = Component((Term(post("rate"), Trace(pre("rate"), 5.0)),), tau=memory)
    rule = ThreeFactorRule((component,), Feedback(post("rate")), share=how, transforms=(Rate(0.1),), reduce="mean")
    size = (OUT, PRE[0], setting[0], setting[0])
    net, shape = network(setting, rule, weight=normal(*size), bias=True)
    x, y = normal(T, R, B, int(np.prod(PRE))), normal(T, R, B, int(np.prod(shape)))
    _, state, _ = simulate(net, Phase("p", T, {"input": x, "output": y}), batch=B, replicas=R)
    posts, pres, entries = unrolled(shape, *setting)
    positions, decay = shape[1] * shape[2], np.exp(-1 / memory) if memory else 0.0
    w, b = np.repeat(normal(*size).reshape(1, -1), R, 0), np.zeros((R, OUT))
    for r, k in itertools.product(range(R), range(B)):
        trace, one, e, e_bias = np.zeros(x.shape[-1]), 0.0, 0.0, 0.0
        for t in range(T):
            trace, one = np.exp(-0.2) * trace + x[t, r, k], np.exp(-0.2) * one + 1
            e = decay * e + y[t, r, k][posts] * trace[pres]
            e_bias = decay * e_bias + y[t, r, k] * one
            w[r] += 0.1 / B * shared(y[t, r, k][posts] * e, entries, w.shape[1], how, positions)
            per_channel = np.repeat(np.arange(OUT), positions)
            b[r] += 0.1 / B * shared(y[t, r, k] * e_bias, per_channel, OUT, how, positions)
    np.testing.assert_allclose(weight(state).reshape(R, -1), w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weight(state, part="bias"), b, rtol=0, atol=1e-12)


def test_eligibility_is_kept_per_position():
    setting = SETTINGS[0]
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),), tau=5.0),))
    net, shape = network(setting, rule, weight=0.0)
    phase = Phase("p", 2, {"input": normal(2, B, 60), "output": normal(2, B, int(np.prod(shape)))})
    _, _, recording = simulate(
        net, (Phase("rest", 1, learn=False), phase), (Probe("wire", "eligibility"),), batch=B, replicas=R
    )
    assert recording["wire.eligibility"].shape == (3, R, B, OUT, shape[1] * shape[2], PRE[0] * 9)
    assert not recording["wire.eligibility"][0].any()
    assert recording["wire.eligibility"][1].any()


def twice(w):
    return 2.0 * w


def test_gains_of_a_convolution():
    """Oja's term w y^2 and a coefficient per kernel entry."""
    setting, size = SETTINGS[1], (OUT, PRE[0], 3, 3)
    terms = (
        Term(post("rate"), pre("rate"), PerSynapse(normal(*size))),
        Term(post("rate"), pre("rate"), OfWeight(twice)),
    )
    start, updates = normal(*size, seed=1), []
    for share in ("sum", "mean"):
        net, shape = network(setting, ThreeFactorRule((Component(terms),), share=share), weight=start)
        x, y = normal(1, B, 60), normal(1, B, int(np.prod(shape)))
        _, state, _ = simulate(net, Phase("p", 1, {"input": x, "output": y}), batch=B)
        updates.append(weight(state)[0] - start)
    posts, pres, entries = unrolled(shape, *setting)
    product = (y[0][:, posts] * x[0][:, pres]).mean(0)
    total = np.bincount(entries, product).reshape(size) * (normal(*size) + 2 * start)
    np.testing.assert_allclose(updates[0], total, rtol=0, atol=1e-12)
    np.testing.assert_allclose(updates[1], total / (shape[1] * shape[2]), rtol=0, atol=1e-12)


def test_rows_of_a_convolution_are_its_output_channels():
    setting, size = SETTINGS[0], (OUT, PRE[0], 3, 3)
    start, hebb = normal(*size), (Component((Term(post("rate"), pre("rate")),)),)
    _, shape = network(setting)
    x, y = normal(1, B, 60), normal(1, B, int(np.prod(shape)))

    def change(**options):
        net, _ = network(setting, weight=start)
        net = with_rule(net, ThreeFactorRule(hebb, **options))
        return weight(simulate(net, Phase("p", 1, {"input": x, "output": y}), batch=B)[1])[0]

    g = change() - start
    rows, w = g.reshape(OUT, -1), (start + g).reshape(OUT, -1)
    by_norm = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(
        change(transforms=(Normalised("row", "norm"),)) - start, by_norm.reshape(size), atol=1e-12
    )
    coupled = rows.copy()
    for first in range(0, 18, 4):
        n = min(4, 18 - first)
        h = 0.7 * np.eye(n) + 0.3
        coupled[:, first : first + n] = np.linalg.solve(h, rows[:, first : first + n].T).T
    np.testing.assert_allclose(change(transforms=(Heterosynaptic(0.3, 4),)) - start, coupled.reshape(size), atol=1e-12)
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    np.testing.assert_allclose(change(constraints=(RowNorm(),)), unit.reshape(size), atol=1e-12)
    np.testing.assert_array_equal(change(constraints=(Dale(-1),)), np.minimum(start + g, 0))
    np.testing.assert_array_equal(change(constraints=(Bounds(-0.1, 0.1),)), np.clip(start + g, -0.1, 0.1))
    with pytest.raises(ConfigurationError, match="a sign per pre neuron cannot be kept"):
        change(constraints=(Dale(np.ones(60)),))


@pytest.mark.parametrize("pool", [AveragePool(2), MaxPool(2)])
def test_pools(pool):
    net = Network(
        (Population("input", PRE, Relay()), Population("output", (2, 2, 3), Relay())),
        (Projection("input", "output", connectivity=pool, delay=0),),
    )
    x = normal(T, R, B, 60) - 3.0  # all negative: a maximum that starts at 0 would show
    _, _, recording = simulate(net, Phase("p", T, {"input": x}), (Probe("output", "rate"),), batch=B, replicas=R)
    windows = x.reshape(T, R, B, *PRE)[..., :4, :].reshape(T, R, B, 2, 2, 2, 3, 2)
    expected = windows.mean((5, 7)) if isinstance(pool, AveragePool) else windows.max((5, 7))
    np.testing.assert_allclose(recording["output.rate"], expected.reshape(T, R, B, -1), rtol=0, atol=1e-14)
