"""Error wiring and how schemes compose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from nets import normal, simulate

from neurosim.connectivity import AveragePool
from neurosim.factor import post, pre
from neurosim.network import Layered, Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, Relay, StaticRate
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import Composed, PerLayer, attach, change_rules, chosen, split
from neurosim.transform import Rate
from neurosim.types import ConfigurationError
from neurosim.wiring import with_error


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_error_is_minus_the_gradient_of_the_loss(loss):
    network = with_error(Layered(StaticRate(), StaticRate("linear"), ())(4, 3), loss)
    x, y = normal(2, 5, 4), np.abs(normal(2, 5, 3))
    probes = (Probe("output", "rate"), Probe("output", "feedback"), Probe("error", "rate"))
    _, _, recording = simulate(network, Phase("p", 2, {"input": x, "target": y}), probes, batch=5)
    a = recording["output.rate"]
    prediction = np.exp(a) / np.exp(a).sum(-1, keepdims=True) if loss == "cross_entropy" else a
    np.testing.assert_allclose(recording["output.feedback"], y - prediction, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(recording["output.feedback"], recording["error.rate"])


def test_the_error_of_another_field():
    network = with_error(Layered(LIF(), LIF(v_th=99.0), ())(4, 3), "mse", output="v")
    probes = (Probe("output", "v"), Probe("output", "feedback"))
    _, _, recording = simulate(network, Phase("p", 2, {"input": normal(2, 1, 4)}), probes)
    assert recording["output.v"].any()
    np.testing.assert_array_equal(recording["output.feedback"], -recording["output.v"])


@dataclass(frozen=True)
class Named:
    """A scheme that puts a rule of this name on its layers."""

    name: str
    layers: tuple[str, ...] | None = None

    def __call__(self, network):
        rule = ThreeFactorRule(
            (Component((Term(post("rate"), pre("rate")),)),), transforms=(Rate(0.1),), name=self.name
        )
        return attach(network, tuple(p.name for p in chosen(network, self.layers)), lambda _: rule)


@dataclass(frozen=True)
class Whole:
    def __call__(self, network):
        return network


def names(network):
    return [p.rule.name if p.rule else None for p in network.projections]


NETWORK = Layered(LeakyRate(), LeakyRate(), (4, 3))(2, 2)


def test_compose_and_layers():
    assert names(Composed((Named("a"), Named("b", ("input_hidden0",))))(NETWORK)) == ["b", "a", "a"]
    assert names(PerLayer((Named("a"), Named("b")))(NETWORK)) == ["a", "a", "b"]
    assert names(PerLayer((Named("a"), Named("b"), Named("c")))(NETWORK)) == ["a", "b", "c"]
    nested = PerLayer((Composed((Named("a"), Named("d"))), Named("b")))
    assert names(nested(NETWORK)) == ["d", "d", "b"]
    hidden, output = split(NETWORK, None)
    assert [p.name for p in hidden] == ["input_hidden0", "hidden0_hidden1"]
    assert [p.name for p in output] == ["hidden1_output"]
    slower = change_rules(Named("a")(NETWORK), lambda p, rule: replace(rule, name=p.post))
    assert names(slower) == ["hidden0", "hidden1", "output"]


def test_pools_are_not_taught():
    shaped = Network(
        (
            Population("input", (1, 4, 4), Relay()),
            Population("pool", (1, 2, 2), Relay()),
            Population("output", 2, Relay()),
        ),
        (Projection("input", "pool", connectivity=AveragePool(2), delay=0), Projection("pool", "output", delay=0)),
    )
    assert names(Named("a")(shaped)) == [None, "a"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: chosen(NETWORK, ("hidden",)), "layers names 'hidden'; the forward projections are: input_hidden0"),
        (lambda: chosen(replace(NETWORK, output="input"), None), "no driving path leads from 'input' to 'input'"),
        (lambda: change_rules(NETWORK, lambda p, rule: rule), "there is no three-factor rule to change"),
        (lambda: PerLayer((Named("a"),))(NETWORK), "layered has 1 rules for 3 projections"),
        (lambda: PerLayer((Whole(), Named("a")))(NETWORK), "Whole teaches the whole network"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
