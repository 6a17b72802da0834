"""dw_ij = lr m_i slope_i pre_j, m brought down by the transposes, is gradient descent on the loss of each step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plain import LAYERS, REPLICAS, Optimizer, agree, described, error, learn, outer, plain, shown, train

from neurosim.adapter import Last
from neurosim.rule import GradientRule
from neurosim.rules.backprop import Backprop
from neurosim.rules.bptt import BPTT
from neurosim.transform import Rate

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)]]


def backward(loss):
    """delta_l = J_l^T (W_l+1^T delta_l+1) slope_l, with the error at the top."""

    def change(net, step, y):
        delta = error(step.output, y, loss) * step.slopes[-1]
        changes = [outer(delta, step, 2)]
        for layer in (1, 0):
            delta = net.pull_back(step, layer, delta @ net.weights[layer + 1])
            changes.insert(0, outer(delta, step, layer))
        return changes

    return change


def check(scheme, kind, norm=False, taught=LAYERS):
    start, state = train(scheme(described(kind, norm)), TRIALS)
    for replica in range(REPLICAS):
        net = plain(kind, start, replica, norm=norm, tau_trace=scheme.tau_trace)
        optimizer = Optimizer(scheme.optimizer, scheme.lr, scheme.beta1, scheme.beta2, scheme.weight_decay)

        def change(net, step, y):
            changes = backward(scheme.loss)(net, step, y)
            return [one if name in taught else None for one, name in zip(changes, LAYERS, strict=True)]

        learn(net, TRIALS, change, [optimizer] * 3, scheme.when, scheme.accumulate)
        agree(state, replica, net, start, taught)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    ("kind", "norm"), [("static", False), ("static", True), ("leaky", False), ("leaky", True), ("spiking", False)]
)
def test_equation(kind, norm, loss):
    check(Backprop(lr=0.1, optimizer="none", loss=loss), kind, norm)


@pytest.mark.parametrize("when", ["step", "phase", "sample"])
@pytest.mark.parametrize("accumulate", ["sum", "mean", "last"])
def test_when_and_accumulate(when, accumulate):
    check(Backprop(lr=0.1, optimizer="none", when=when, accumulate=accumulate), "leaky")


def test_optimizer_and_trace():
    scheme = Backprop(lr=0.01, optimizer="adamw", beta1=0.7, beta2=0.8, weight_decay=0.3, tau_trace=5.0)
    check(scheme, "spiking")


@pytest.mark.parametrize("taught", [LAYERS[:1], LAYERS[1:2], (LAYERS[0], LAYERS[2]), LAYERS[2:]])
def test_a_part_of_the_layers(taught):
    """The error reaches a lower layer also past one that does not learn."""
    check(Backprop(lr=0.1, optimizer="none", layers=taught), "static", norm=True, taught=taught)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("norm", [False, True])
def test_is_the_automatic_gradient_on_static_networks(norm, loss):
    network, trials = described("static", norm), [[shown(k, steps=1)] for k in range(3)]
    _, wired = train(Backprop(lr=0.1, optimizer="none", loss=loss)(network), trials)
    _, automatic = train(BPTT(lr=0.1, optimizer="none", loss=loss)(network), trials)
    for part in ("weight", "bias"):
        for name in LAYERS:
            ours, theirs = (state.learned[part][name].numpy() for state in (wired, automatic))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-15 * max(1.0, np.abs(theirs).max()))


def test_is_the_gradient_without_time_on_leaky_networks():
    """Of the last step's loss, where the graph is cut between steps."""
    network = described("leaky", norm=True)
    rule = GradientRule(Last(), through_time=False, transforms=(Rate(0.1),))
    cut = network.with_projections(lambda p: replace(p, rule=rule) if p.name in LAYERS else p)
    trials = [[shown(0)], [shown(1)]]
    _, automatic = train(cut, trials)
    _, wired = train(Backprop(lr=0.1, optimizer="none", accumulate="last")(network), trials)
    _, through_time = train(replace_all(cut, replace(rule, through_time=True)), trials)
    for name in LAYERS:
        ours, theirs, other = (s.learned["weight"][name].numpy() for s in (wired, automatic, through_time))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)
        assert np.abs(ours - other).max() > 1e-4


def replace_all(network, rule):
    return network.with_projections(lambda p: replace(p, rule=rule) if p.rule is not None else p)


def test_is_marked_non_local():
    assert not Backprop.local
    assert not BPTT.local
