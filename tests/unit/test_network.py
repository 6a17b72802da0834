# ruff: noqa: E501 - the tables below have one case a line
"""Descriptions: defaults, lookups, the forward path, and one clear sentence for everything that does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.connectivity import AveragePool, Conv2d, Dense, MaxPool, OneToOne
from neurosim.factor import post, pre
from neurosim.lateral import LayerNorm, Pullback, Softmax
from neurosim.network import Layered, Network, Population, Projection, lateral_source
from neurosim.neuron import LIF, GatedRelay, LeakyRate, PoissonSource, Relay, StepSource
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.types import ConfigurationError
from neurosim.wiring import with_error

RULE = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),))
A, B = Population("a", 3, Relay()), Population("b", 4, Relay())


def net(*projections, populations=(A, B)):
    return Network(populations, projections)


ERRORS = {
    "population name": (lambda: Population("a.b", 3, Relay()), "a population is named 'a.b'; a name has letters"),
    "no name": (lambda: Population("", 3, Relay()), "a population is named ''"),
    "projection name": (lambda: Projection("a", "b", name="x/y"), "a projection is named 'x/y'"),
    "size 0": (lambda: Population("a", 0, Relay()), "population 'a' has size 0; it must be positive whole numbers"),
    "size float": (lambda: Population("a", (2, 2.5), Relay()), "has size \\(2, 2.5\\)"),
    "initial": (lambda: Population("a", 3, LIF(), initial={"w": 1}), "starts w, but its neuron's states are: v, refractory"),
    "initial none": (lambda: Population("a", 3, Relay(), initial={"v": 1}), "states are: none"),
    "tie word": (lambda: Projection("a", "b", tied=("x", "same")), "is tied by 'same'; allowed: transpose, sign"),
    "tie and rule": (lambda: Projection("a", "b", tied=("x", "sign"), rule=RULE), "so it cannot have a rule of its own"),
    "rule type": (lambda: Projection("a", "b", rule="hebb"), "the rule of projection 'a_b' is a str; allowed: a Three"),
    "rule on pool": (lambda: Projection("a", "b", connectivity=AveragePool(2), rule=RULE), "pools with fixed weights"),
    "two populations": (lambda: net(populations=(A, A)), "two populations are named 'a'; names must differ"),
    "two projections": (lambda: net(Projection("a", "b"), Projection("a", "b")), "two projections are named 'a_b'"),
    "no pre": (lambda: net(Projection("c", "b")), "no population 'c'; the network has: a, b"),
    "no post": (lambda: net(Projection("a", "c")), "no population 'c'"),
    "port": (lambda: net(Projection("a", "b", port="apical")), "ends at port 'apical'; 'b' has: basal, feedback"),
    "no port": (
        lambda: net(Projection("a", "s"), populations=(A, Population("s", 1, StepSource()))),
        "ends at 's', whose neuron has no port",
    ),
    "output": (lambda: net(Projection("a", "b", output="spike")), "sends 'spike'; 'a' has: rate, slope, basal, feedback"),
    "one to one": (lambda: net(Projection("a", "b", connectivity=OneToOne())), "is one-to-one, but joins 3 with 4"),
    "conv of flat": (lambda: net(Projection("a", "b", connectivity=Conv2d(1))), "needs a pre population of shape"),
    "conv shape": (
        lambda: net(
            Projection("i", "j", connectivity=Conv2d(2)),
            populations=(Population("i", (1, 4, 4), Relay()), Population("j", (2, 4, 4), Relay())),
        ),
        "gives shape \\(2, 3, 3\\), but 'j' has shape \\(2, 4, 4\\)",
    ),
    "conv to flat": (
        lambda: net(
            Projection("i", "b", connectivity=Conv2d(2)), populations=(Population("i", (1, 4, 4), Relay()), B)
        ),
        "gives shape \\(4, 3, 3\\), but 'b' has shape \\(4,\\)",
    ),
    "kernel": (
        lambda: net(
            Projection("i", "j", connectivity=Conv2d(5)),
            populations=(Population("i", (1, 4, 4), Relay()), Population("j", (1, 1, 1), Relay())),
        ),
        "a kernel of 5 does not fit into \\(4, 4\\) with padding 0",
    ),
    "pool shape": (
        lambda: net(
            Projection("i", "j", connectivity=MaxPool(2)),
            populations=(Population("i", (1, 4, 4), Relay()), Population("j", (1, 4, 4), Relay())),
        ),
        "pooling by 2 takes \\(C, H, W\\)",
    ),
    "max and sum": (
        lambda: net(
            Projection("i", "j", connectivity=MaxPool(2)),
            Projection("b", "j"),
            populations=(Population("i", (1, 4, 4), Relay()), Population("j", (1, 2, 2), Relay()), B),
        ),
        "takes the maximum of projection 'i_j', so 'b_j', which adds, cannot end there too",
    ),
    "tie to nothing": (lambda: net(Projection("a", "b", tied=("x", "sign"))), "no projection 'x'; the network has: a_b"),
    "tie to a tie": (
        lambda: net(
            Projection("a", "b", name="x"),
            Projection("b", "a", tied=("x", "transpose"), name="y"),
            Projection("a", "b", tied=("y", "transpose"), name="z"),
        ),
        "'z' is tied to 'y', which is tied itself",
    ),
    "pull back of nothing": (
        lambda: net(populations=(A, Population("e", 3, Relay(), Pullback("z")))), "no population 'z'"),
    "pull back size": (
        lambda: net(populations=(A, Population("e", 4, Relay(), Pullback("a")))),
        "'e' pulls back through 'a', but their shapes are \\(4,\\) and \\(3,\\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    make, sentence = ERRORS[name]
    with pytest.raises(ConfigurationError, match=sentence):
        make()


def test_defaults():
    wire = Projection("a", "b", port="feedback")
    network = net(Projection("a", "b"), wire, Projection("b", "a", output="slope"))
    assert [p.name for p in network.projections] == ["a_b", "a_b_feedback", "b_a"]
    assert network.port(network.projection("a_b")) == "basal"
    assert [network.is_driving(p) for p in network.projections] == [True, False, True]
    assert [network.sent(p) for p in network.projections] == ["rate", "rate", "slope"]
    assert (network["a"].units, network["a"].shape, network["a"].axon) == (3, (3,), "rate")
    assert Population("i", (2, 3, 4), LIF()).units == 24
    assert Population("i", np.int64(2), LIF()).shape == (2,)
    assert Population("i", 1, GatedRelay()).fields() == ("rate", "slope", "basal", "gate", "feedback")
    assert Population("p", 1, PoissonSource()).fields() == ("spike", "basal")
    assert lateral_source(Population("e", 3, Relay(), Pullback("a"))) == "a"
    assert lateral_source(Population("e", 3, Relay(), LayerNorm())) is None


def test_forward_is_the_driving_path_in_order():
    hidden = tuple(Population(name, 3, LeakyRate()) for name in ("input", "one", "two", "output", "aside"))
    wires = (("two", "output"), ("one", "two"), ("input", "one"), ("one", "aside"), ("two", "two"))
    network = Network(hidden, tuple(Projection(pre, post) for pre, post in wires))
    assert [p.name for p in network.forward()] == ["input_one", "one_two", "two_two", "two_output"]
    taught = with_error(network)
    assert taught.forward() == network.forward()
    assert not taught.is_driving(taught.projection("error_output_feedback"))
    assert isinstance(taught["prediction"].lateral, Softmax)
    assert with_error(network, "mse")["prediction"].lateral is None


def test_what_leads_back_from_the_output_is_not_forward():
    """A controller: output -> controller -> hidden; a connection of the output with itself is on the way."""
    populations = tuple(Population(name, 3, LeakyRate()) for name in ("input", "hidden", "output", "controller"))
    wires = (("input", "hidden"), ("hidden", "output"), ("output", "controller"), ("controller", "hidden"))
    network = Network(populations, tuple(Projection(pre, post) for pre, post in (*wires, ("output", "output"))))
    assert [p.name for p in network.forward()] == ["input_hidden", "hidden_output", "output_output"]


def test_parts_that_are_there_are_left_alone():
    network = with_error(Layered(LeakyRate(), LeakyRate(), (3,))(2, 2))
    again = with_error(network, "mse")
    assert again.populations == network.populations
    assert again.projections == network.projections
    with pytest.raises(ConfigurationError, match="loss is 'hinge'; allowed: cross_entropy, mse"):
        with_error(network, "hinge")


def test_layered():
    network = Layered(LIF(), LeakyRate(), (5, 4), lateral=LayerNorm(), weight=0.5, output_weight=0.1, bias=False, port="current",
                      delay=None)(7, 2)  # fmt: skip
    assert [(p.name, p.units) for p in network.populations] == [
        ("input", 7),
        ("hidden0", 5),
        ("hidden1", 4),
        ("output", 2),
    ]
    assert [(p.name, p.weight, p.port, p.bias, p.delay) for p in network.projections] == [
        ("input_hidden0", 0.5, "current", False, None),
        ("hidden0_hidden1", 0.5, "current", False, None),
        ("hidden1_output", 0.1, None, False, None),
    ]
    assert [p.lateral for p in network.populations] == [None, LayerNorm(), LayerNorm(), None]
    assert [p.name for p in Layered(LIF(), LeakyRate(), ())(3, 2).projections] == ["input_output"]


@pytest.mark.parametrize(("neuron", "shown"), [("LIF", "'LIF'"), (LIF, "the class LIF"), (None, "None")])
def test_a_neuron_is_an_object(neuron, shown):
    with pytest.raises(ConfigurationError, match=f"the neuron of population 'a' is {shown}; it must be an object"):
        Population("a", 3, neuron)


@pytest.mark.parametrize(("connectivity", "shown"), [("dense", "'dense'"), (Dense, "the class Dense")])
def test_a_connectivity_is_an_object(connectivity, shown):
    with pytest.raises(ConfigurationError, match=f"the connectivity of projection 'a_b' is {shown}; it must be"):
        Projection("a", "b", connectivity=connectivity)
