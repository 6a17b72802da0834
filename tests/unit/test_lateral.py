"""Vector steps over a population, alone and inside a network, flat and over the channels of a shaped one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import normal, simulate

from neurosim.connectivity import OneToOne
from neurosim.factor import One, post
from neurosim.lateral import KWinners, LayerNorm, LogSoftmax, Pullback, Softmax
from neurosim.modulator import Broadcast, Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.types import ConfigurationError


def layer_norm(x, epsilon):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def softmax(x, temperature):
    e = np.exp(x / temperature)
    return e / e.sum(-1, keepdims=True)


def winners(x, k):
    threshold = np.sort(x, -1)[..., -k, None]
    return np.where((x >= threshold) & (x > 0), x, 0.0)


STEPS = {
    "layer norm": (LayerNorm(0.3), lambda x: layer_norm(x, 0.3)),
    "softmax": (Softmax(0.5), lambda x: softmax(x, 0.5)),
    "log softmax": (LogSoftmax(), lambda x: np.log(softmax(x, 1.0))),
    "winners": (KWinners(2), lambda x: winners(x, 2)),
}


@pytest.mark.parametrize("shape", [5, (5, 2, 3)])
@pytest.mark.parametrize("name", STEPS)
def test_in_a_network(name, shape):
    """The lateral changes what leaves by the axon, and nothing else; a shaped population position by position."""
    lateral, reference = STEPS[name]
    units = int(np.prod(shape))
    net = Network(
        (Population("a", shape, Relay(), lateral), Population("b", units, Relay())),
        (Projection("a", "b", connectivity=OneToOne(), delay=0),),
    )
    x = normal(3, 2, units)
    probes = (Probe("a", "rate"), Probe("b", "rate"), Probe("a", "slope"))
    _, _, recording = simulate(net, Phase("p", 3, {"a": x}), probes, batch=2)
    channels = x if units == 5 else x.reshape(3, 2, 5, 6).swapaxes(-1, -2)
    expected = reference(channels)
    expected = expected if units == 5 else expected.swapaxes(-1, -2).reshape(3, 2, -1)
    np.testing.assert_allclose(recording["a.rate"], expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(recording["b.rate"], recording["a.rate"])
    np.testing.assert_array_equal(recording["a.slope"], 1.0)


@pytest.mark.parametrize("shape", [5, (5, 2, 3)])
@pytest.mark.parametrize("name", STEPS)
def test_a_modulator_of_the_output_passes_through(name, shape):
    """Feedback is pulled back, by the rule and by an error population with `Pullback`; a broadcast signal is not."""
    lateral, units = STEPS[name][0], int(np.prod(shape))
    constant = (Component((Term(One("post"), One("pre")),)),)
    rules = (ThreeFactorRule(constant, Feedback(post("feedback"))), ThreeFactorRule(constant, Broadcast("reward")))
    net = Network(
        (Population("a", shape, Relay(), lateral), Population("e", shape, Relay(), Pullback("a"))),
        tuple(Projection("a", "a", 0.0, OneToOne(), name=f"r{k}", rule=rule) for k, rule in enumerate(rules)),
    )
    x, g = normal(1, 2, units), normal(1, 2, units, seed=1)
    phase = Phase("p", 1, {"a": x, "a.feedback": g, "e": g}, {"reward": np.array([[2.0], [3.0]])})
    probes = (Probe("r0", "modulator"), Probe("r1", "modulator"), Probe("e", "rate"))
    _, _, recording = simulate(net, phase, probes, batch=2)
    leaf = torch.tensor(x[0].reshape(2, 5, -1).swapaxes(-1, -2).copy(), requires_grad=True)
    (expected,) = torch.autograd.grad(
        lateral.step(leaf), leaf, torch.tensor(g[0].reshape(2, 5, -1).swapaxes(-1, -2).copy())
    )
    expected = expected.transpose(-1, -2).reshape(2, -1)
    np.testing.assert_allclose(recording["r0.modulator"][0], expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(recording["e.rate"][0], expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(recording["r1.modulator"][0], np.repeat([[2.0], [3.0]], units, 1))


def test_pull_back_through_nothing_is_a_relay():
    net = Network((Population("a", 3, Relay()), Population("e", 3, Relay(), Pullback("a"))), ())
    _, _, recording = simulate(net, Phase("p", 1, {"e": normal(1, 1, 3)}), (Probe("e", "rate"),))
    np.testing.assert_array_equal(recording["e.rate"], normal(1, 1, 3))


def test_ties_and_losers():
    x = torch.tensor([[1.0, 3.0, 3.0, 3.0], [-1.0, -2.0, 0.0, -3.0]])
    assert KWinners(2).step(x).tolist() == [[0, 3, 3, 0], [0, 0, 0, 0]]
    assert KWinners(2).pullback(x, x, torch.ones_like(x)).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LayerNorm(0.0), "epsilon of LayerNorm is 0.0"),
        (lambda: Softmax(-1.0), "temperature of Softmax is -1.0"),
        (lambda: KWinners(0), "k of KWinners is 0"),
        (lambda: KWinners(4).step(torch.ones(3)), "k of KWinners is 4, but the population has 3 units"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
