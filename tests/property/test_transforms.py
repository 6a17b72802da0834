"""Properties of transforms, constraints and laterals: linear solves, PyTorch's optimisers and autograd."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import pair, simulate, weight

from neurosim.connectivity import Conv2d, EdgeList
from neurosim.constraint import Dale, RowNorm
from neurosim.factor import post, pre
from neurosim.lateral import KWinners, LayerNorm, Softmax
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Adam, Heterosynaptic, Momentum, Rate, WeightDecay

SMALL = settings(max_examples=15, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)
HEBB = (Component((Term(post("rate"), pre("rate")),)),)
LAYOUTS = ("dense", "sparse", "delayed", "convolution")


def layout(kind, generator):
    """(pre shape, post shape, wire options, rows): `rows` lists, neuron by neuron, the weight's flat indices in input
    order.
    """
    if kind == "convolution":
        shape = (3, 2, 2, 2)
        return (
            (2, 3, 3),
            (3, 2, 2),
            {"connectivity": Conv2d(2), "weight": generator.standard_normal(shape)},
            np.arange(24).reshape(3, 8),
        )
    posts, pres = (int(n) for n in generator.integers(1, 9, 2))
    if kind == "sparse":
        chosen = np.flatnonzero(generator.random(posts * pres) < 0.6)
        order = generator.permutation(len(chosen))
        i, j = np.divmod(chosen[order], pres)
        rows = [[int(k) for k in np.argsort(order) if i[k] == row] for row in range(posts)]
        return pres, posts, {"connectivity": EdgeList(i, j), "weight": generator.standard_normal(len(chosen))}, rows
    wire = {"weight": generator.standard_normal((posts, pres))}
    if kind == "delayed":
        wire["delay"] = np.zeros((posts, pres))
    return pres, posts, wire, np.arange(posts * pres).reshape(posts, pres)


def update(kind, generator, replicas=2, **options):
    """(flat weights [R, E] before, the plain change, and after the rule with `options`)."""
    before, after, wire, rows = layout(kind, generator)
    x = generator.standard_normal((1, replicas, 3, int(np.prod(before))))
    y = generator.standard_normal((1, replicas, 3, int(np.prod(after))))

    def run(**extra):
        net = pair(before, after, port="feedback", rule=ThreeFactorRule(HEBB, **extra), **wire)
        _, state, _ = simulate(net, Phase("p", 1, {"input": x, "output": y}), batch=3, replicas=replicas)
        return weight(state).reshape(replicas, -1)

    start = np.repeat(np.reshape(wire["weight"], (1, -1)), replicas, 0)
    return start, run() - start, run(**options), rows


@SMALL
@given(seed=seeds, kind=st.sampled_from(LAYOUTS), block=st.integers(1, 10), place=st.floats(0.05, 0.95))
def test_heterosynaptic_is_a_linear_solve(seed, kind, block, place):
    """For any block and legal alpha: H^-1 g on blocks of consecutive inputs of one neuron, never across two."""
    lowest = -1 / (block - 1) if block > 1 else -2.0
    alpha = lowest + place * (1 - lowest)
    start, change, after, rows = update(kind, np.random.default_rng(seed), transforms=(Heterosynaptic(alpha, block),))
    expected = change.copy()
    for row in rows:
        for first in range(0, len(row), block):
            part = np.asarray(row[first : first + block])
            h = (1 - alpha) * np.eye(len(part)) + alpha
            expected[:, part] = np.linalg.solve(h, change[:, part].T).T
    scale = max(1.0, np.abs(expected).max()) if expected.size else 1.0
    np.testing.assert_allclose(after - start, expected, rtol=0, atol=1e-11 * scale)


@SMALL
@given(seed=seeds, kind=st.sampled_from(LAYOUTS), order=st.sampled_from([1, 2]), norm=st.floats(0.1, 10.0))
def test_row_norm(seed, kind, order, norm):
    start, change, after, rows = update(kind, np.random.default_rng(seed), constraints=(RowNorm(norm, order),))
    for row in rows:
        if len(row):
            wanted = start[:, row] + change[:, row]
            wanted = norm * wanted / np.linalg.norm(wanted, order, axis=1, keepdims=True)
            np.testing.assert_allclose(after[:, row], wanted, rtol=1e-11)


@SMALL
@given(seed=seeds, kind=st.sampled_from(["dense", "sparse", "delayed"]))
def test_dale_per_pre_neuron(seed, kind):
    generator = np.random.default_rng(seed)
    before, _, wire, _ = layout(kind, np.random.default_rng(seed))
    signs = generator.choice([-1, 1], before)
    _, _, after, _ = update(kind, np.random.default_rng(seed), constraints=(Dale(signs),))
    start, change, _, _ = update(kind, np.random.default_rng(seed))
    pres = (
        np.asarray(wire["connectivity"].pre)
        if kind == "sparse"
        else np.tile(np.arange(before), wire["weight"].shape[0])
    )
    own = signs[pres]
    np.testing.assert_array_equal(after, own * np.maximum(own * (start + change), 0))


def trained(transforms, gradients, start):
    """Weights after each step with G = -gradient."""
    x = np.ones((len(gradients), 1, 1))
    net = pair(1, len(start), weight=start[:, None], port="feedback", rule=ThreeFactorRule(HEBB, transforms=transforms))
    phase = Phase("p", len(gradients), {"input": x, "output": -gradients[:, None]})
    return simulate(net, phase, (Probe("wire", "weight"),))[2]["wire.weight"][..., 0]


def in_torch(make, gradients, start):
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer, rows = make([parameter]), []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        rows.append(parameter.detach().numpy().copy())
    return np.stack(rows)


unit = st.floats(0.0, 0.99)


@SMALL
@given(
    seed=seeds,
    lr=st.floats(1e-4, 0.5),
    beta1=unit,
    beta2=unit,
    decay=st.floats(0.0, 1.0),
    epsilon=st.floats(1e-8, 1e-2),
)
def test_adamw_is_torchs(seed, lr, beta1, beta2, decay, epsilon):
    generator = np.random.default_rng(seed)
    gradients, start = generator.standard_normal((8, 5)), generator.standard_normal(5)
    ours = trained((Adam(beta1, beta2, epsilon), WeightDecay(decay), Rate(lr)), gradients, start)
    options = {"lr": lr, "betas": (beta1, beta2), "eps": epsilon}
    theirs = in_torch(lambda p: torch.optim.AdamW(p, weight_decay=decay, **options), gradients, start)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    ours = trained((WeightDecay(decay), Adam(beta1, beta2, epsilon), Rate(lr)), gradients, start)  # L2 before
    theirs = in_torch(lambda p: torch.optim.Adam(p, weight_decay=decay, **options), gradients, start)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


@SMALL
@given(seed=seeds, lr=st.floats(1e-4, 0.5), beta=unit, nesterov=st.booleans(), decay=st.floats(0.0, 1.0))
def test_momentum_is_torchs(seed, lr, beta, nesterov, decay):
    generator = np.random.default_rng(seed)
    gradients, start = generator.standard_normal((8, 5)), generator.standard_normal(5)
    ours = trained((WeightDecay(decay), Momentum(beta, nesterov=nesterov), Rate(lr)), gradients, start)
    options = {"lr": lr, "momentum": beta, "nesterov": nesterov and beta > 0, "weight_decay": decay}
    theirs = in_torch(lambda p: torch.optim.SGD(p, **options), gradients, start)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


laterals = st.one_of(
    st.builds(LayerNorm, st.floats(1e-6, 1.0)),
    st.builds(Softmax, st.floats(0.2, 5.0)),
    st.builds(KWinners, st.integers(1, 4)),
)


@SMALL
@given(seed=seeds, lateral=laterals)
def test_pullbacks_are_autograds(seed, lateral):
    generator = np.random.default_rng(seed)
    x, g = (torch.tensor(values) for values in generator.standard_normal((2, 3, 2, 6)))
    x.requires_grad_()
    y = lateral.step(x)
    (expected,) = torch.autograd.grad(y, x, g)
    np.testing.assert_allclose(lateral.pullback(x, y, g).detach(), expected, rtol=0, atol=1e-11)
