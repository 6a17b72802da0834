"""Gradient rules: backpropagation through time against torch autograd written out by hand, and against wired
backprop.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal, raster, simulate, weight
from test_core_feedback import taught

from neurosim.connectivity import Conv2d, Dense, FixedProbability
from neurosim.factor import post, pre
from neurosim.lateral import LayerNorm
from neurosim.network import Layered, Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, Relay, SpikeRelay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, GradientRule, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.surrogate import ATan, FastSigmoid
from neurosim.transform import Rate

T, B, R = 12, 3, 2


def mean_over_time(recorded, dt):
    return recorded.mean(0)


def gradient(loss="cross_entropy", **options):
    return GradientRule(mean_over_time, loss, transforms=(Rate(1.0),), **options)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (1 + ctx.slope * x.abs()) ** 2, None


def lif_loss(weights, x, label, leak, loss, cut=False):
    """Recurrent LIF (reset to zero, detached) and a leaky readout, in plain torch: loss of the time-averaged output."""
    w_in, b_in, w_rec, w_out = weights
    v, z, y, rows = torch.zeros(B, 5), torch.zeros(B, 5), torch.zeros(B, 2), []
    for t in range(T):
        if cut:
            v, z, y = v.detach(), z.detach(), y.detach()
        free = leak * v + x[t] @ w_in.T + b_in + z @ w_rec.T
        z = Spike.apply(free - 1.0, 25.0)
        v = torch.where(z.detach() > 0.5, torch.zeros_like(free), free)
        y = leak * y + (1 - leak) * (z @ w_out.T)
        rows.append(y)
    value = torch.stack(rows).mean(0)
    if loss == "cross_entropy":
        return -(label * torch.log_softmax(value, -1)).sum(-1).mean()
    return 0.5 * ((value - label) ** 2).sum(-1).mean()


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_bptt_is_autograd(loss, through_time):
    x, label = raster(T, R, B, 4), np.eye(2)[[0, 1, 1]]
    parts = [0.8 * normal(R, 5, 4), 0.2 * normal(R, 5), 0.5 * normal(R, 5, 5), normal(R, 2, 5)]
    rule = gradient(loss, through_time=through_time)
    net = Network(
        (
            Population("input", 4, SpikeRelay()),
            Population("cells", 5, LIF(tau_mem=10.0, surrogate=FastSigmoid(25.0))),
            Population("output", 2, LeakyRate(10.0, "linear")),
        ),
        (
            Projection("input", "cells", parts[0], delay=0, bias=parts[1], rule=rule, name="in"),
            Projection("cells", "cells", parts[2], rule=rule, name="rec"),
            Projection("cells", "output", parts[3], delay=0, rule=rule, name="out"),
        ),
    )
    phase = Phase("p", T, {"input": x}, {"label": label})
    _, state, _ = simulate(net, phase, batch=B, replicas=R)
    ours = [weight(state, "in"), weight(state, "in", "bias"), weight(state, "rec"), weight(state, "out")]
    for r in range(R):
        leaves = [torch.tensor(part[r], requires_grad=True) for part in parts]
        value = lif_loss(leaves, torch.tensor(x[:, r]), torch.tensor(label), np.exp(-0.1), loss, not through_time)
        slopes = torch.autograd.grad(value, leaves)
        for own, start, slope in zip(ours, parts, slopes, strict=True):
            assert slope.abs().max() > 1e-5
            np.testing.assert_allclose(own[r] - start[r], -slope.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_equals_wired_backprop_on_a_static_network(loss, norm):
    wired = taught((6, 5), "tanh", norm, loss)
    make = Layered(StaticRate("tanh"), StaticRate("linear"), (6, 5), lateral=LayerNorm() if norm else None)
    plain = make(4, 3)
    names = tuple(p.name for p in plain.forward())
    baseline = attach(plain, names, lambda _: gradient(loss))
    x, y = normal(B, 4), np.eye(3)
    _, first, _ = simulate(wired, Phase("p", 1, {"input": Held(x), "target": Held(y)}), batch=B, replicas=R, seed=1)
    _, second, _ = simulate(baseline, Phase("p", 1, {"input": Held(x)}, {"label": y}), batch=B, replicas=R, seed=1)
    for name in names:
        for part in ("weight", "bias"):
            np.testing.assert_allclose(weight(first, name, part), weight(second, name, part), rtol=0, atol=1e-12)


@pytest.mark.parametrize("connectivity", [Dense(), FixedProbability(0.7), Conv2d(2)])
def test_gradient_of_every_connectivity_is_the_difference_quotient(connectivity):
    shapes = ((1, 3, 3), (2, 2, 2)) if isinstance(connectivity, Conv2d) else (4, 5)
    start = normal(2, 1, 2, 2) if isinstance(connectivity, Conv2d) else normal(5, 4)
    net = Network(
        (Population("input", shapes[0], Relay()), Population("output", shapes[1], StaticRate("tanh"))),
        (Projection("input", "output", start, connectivity, delay=0, name="wire", rule=gradient("mse")),),
    )
    x, y = normal(B, int(np.prod(shapes[0]))), normal(B, int(np.prod(shapes[1])))
    phase = Phase("p", 2, {"input": Held(x)}, {"label": y})
    simulator, state, _ = simulate(net, phase, batch=B)
    before = simulator.init(B)
    change = weight(state) - weight(before)

    def loss(values):
        shifted = {**before.learned, "weight": {"wire": torch.tensor(values)}}
        moment = simulator.init(B, shifted)
        rows = simulator.run(moment, replace(phase, learn=False), (Probe("output", "rate"),))[1]
        return 0.5 * ((rows["output.rate"].mean(0) - y) ** 2).sum(-1).mean()

    base = weight(before)
    for index in np.ndindex(base.shape):
        step = np.zeros_like(base)
        step[index] = 1e-5
        quotient = (loss(base + step) - loss(base - step)) / 2e-5
        np.testing.assert_allclose(change[index], -quotient, rtol=0, atol=1e-8)


def test_a_local_rule_beside_a_gradient_rule_keeps_no_graph():
    hebb = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),), tau=5.0),), transforms=(Rate(0.1),))
    net = Layered(StaticRate("tanh"), StaticRate("linear"), (5,))(4, 3)
    net = net.with_projections(lambda p: replace(p, rule=hebb if p.post == "output" else gradient()))
    phase = Phase("p", 3, {"input": Held(normal(B, 4))}, {"label": np.eye(3)})
    simulator, state, _ = simulate(net, phase, batch=B)
    again, _ = simulator.run(state, phase)

    def tensors(tree):
        if isinstance(tree, torch.Tensor):
            yield tree
        elif isinstance(tree, dict | tuple):
            for part in tree.values() if isinstance(tree, dict) else tree:
                yield from tensors(part)

    for value in (*tensors(again.learned), *tensors(again.activity)):
        assert not value.requires_grad


def test_nothing_to_learn_from():
    """A silenced path to the output: no gradient, no change, no error."""
    net = Network(
        (Population("input", 4, Relay()), Population("output", 3, StaticRate("linear"))),
        (Projection("input", "output", delay=0, name="wire", rule=gradient()),),
    )
    phase = Phase("p", 1, {"input": Held(normal(B, 4))}, {"label": np.eye(3)}, silent=("wire",))
    _, state, _ = simulate(net, phase, batch=B)
    np.testing.assert_array_equal(weight(state), 1.0)


def test_surrogates_matter():
    """Another surrogate, another gradient: the neuron's own one is used."""
    results = []
    for surrogate in (FastSigmoid(25.0), ATan()):
        net = Network(
            (Population("input", 4, SpikeRelay()), Population("output", 3, LIF(surrogate=surrogate))),
            (Projection("input", "output", 0.8 * normal(3, 4), delay=0, name="wire", rule=gradient()),),
        )
        phase = Phase("p", 5, {"input": raster(5, B, 4)}, {"label": np.eye(3)})
        results.append(weight(simulate(net, phase, batch=B)[1]))
    assert np.abs(results[0] - results[1]).max() > 1e-6
