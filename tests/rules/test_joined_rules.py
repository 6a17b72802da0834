"""Rules that work together: kernels without a teacher under a head with one, a readout, and coupled synapses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal
from test_generic import HOME, made, moved, trained
from test_table import TABLE

from neurosim.backends import compile
from neurosim.connectivity import AveragePool, Conv2d, MaxPool
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.random import Normal
from neurosim.recorder import Probe
from neurosim.rule import ThreeFactorRule
from neurosim.rules.backprop import Backprop
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.softhebb import SoftHebb
from neurosim.scheme import PerLayer
from neurosim.transform import Heterosynaptic as Coupling
from neurosim.types import ConfigurationError

CLASSES, SIDE, SHOWN, REPLICAS, PRESENTATIONS = 3, 6, 12, 3, 80
SOFTHEBB, KROTOV = SoftHebb(lr=0.1), KrotovHopfield(lr=0.1)
ALIGNED, BACKPROP = (scheme(lr=0.03, optimizer="adam") for scheme in (FeedbackAlignment, Backprop))


def convolutional(pool):
    """1 x 6 x 6 - 4 x 6 x 6 - pooled 4 x 3 x 3 - 8 - 3."""
    parts = (
        Population("input", (1, SIDE, SIDE), Relay()),
        Population("maps", (4, SIDE, SIDE), StaticRate("relu")),
        Population("pooled", (4, SIDE // 2, SIDE // 2), Relay()),
        Population("hidden", 8, StaticRate("tanh")),
        Population("output", CLASSES, StaticRate("linear")),
    )
    wires = (
        Projection("input", "maps", Normal(0.0, 1.0), Conv2d(3, padding=1), delay=0, name="kernels"),
        Projection("maps", "pooled", connectivity=pool(2), delay=0, name="pool"),
        Projection("pooled", "hidden", Normal(0.0, 0.3), delay=0, bias=True, name="dense"),
        Projection("hidden", "output", Normal(0.0, 0.1), delay=0, bias=True, name="readout"),
    )
    return Network(parts, wires)


def dense():
    """36 - 10 - 3."""
    parts = (
        Population("input", SIDE**2, Relay()),
        Population("hidden", 10, StaticRate("relu")),
        Population("output", CLASSES, StaticRate("linear")),
    )
    wires = (
        Projection("input", "hidden", Normal(0.0, 0.4), delay=0, name="dense"),
        Projection("hidden", "output", Normal(0.0, 0.1), delay=0, bias=True, name="readout"),
    )
    return Network(parts, wires)


def spots(index):
    """Noisy pictures of a bright spot in one of three corners, and their labels."""
    labels, x = np.arange(SHOWN) % CLASSES, 0.2 * normal(SHOWN, SIDE, SIDE, seed=index)
    for row, (top, left) in enumerate(np.array([(0, 0), (0, 3), (3, 0)])[labels]):
        x[row, top : top + 3, left : left + 3] += 1.0
    return x.reshape(SHOWN, -1), np.eye(CLASSES)[labels]


def taught(network, presentations=PRESENTATIONS):
    """(start, end, accuracy of each replica on new pictures) of a network that is shown spots."""
    simulator = compile(network, 1.0, replicas=REPLICAS, dtype="float64")
    start = state = simulator.init(SHOWN)
    for k in range(presentations):
        x, y = spots(k)
        drive = {"input": Held(x), **({"target": Held(y)} if network.has("target") else {})}
        state, _ = simulator.run(state, Phase("train", 1, drive))
    x, y = spots(999)
    _, recording = simulator.run(state, Phase("test", 1, {"input": Held(x)}, learn=False), (Probe("output", "rate"),))
    return start, state, (recording["output.rate"][0].argmax(-1) == y.argmax(-1)).mean(-1)


def distance(state, name):
    """How far from 1 the norm of the unit nearest to it is (units that never win stay where they were), at worst."""
    norms = torch.linalg.vector_norm(state.learned["weight"][name].flatten(2), dim=-1)
    return float((norms - 1).abs().min(-1).values.max())


CASES = {
    "average": (convolutional(AveragePool), (SOFTHEBB, ALIGNED, ALIGNED), "softhebb", "feedback_alignment"),
    "max": (convolutional(MaxPool), (SOFTHEBB, ALIGNED, ALIGNED), "softhebb", "feedback_alignment"),
    "dense": (dense(), (KROTOV, BACKPROP), "krotov_hopfield", "backprop"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_unsupervised_layer_under_a_supervised_head(case):
    """Below, weights go to the unit sphere exactly as they would without a head; above, it learns what they send."""
    network, schemes, below, above = CASES[case]
    first, *head = (p.name for p in network.forward() if p.name != "pool")
    layered = PerLayer(schemes)(network)
    assert {p.name: p.rule.name for p in layered.projections if p.rule is not None} == {
        first: below,
        **dict.fromkeys(head, above),
    }
    start, state, accuracy = taught(layered)
    assert moved(state, start) == {first, *head}
    assert accuracy.min() > 0.9
    assert distance(state, first) < 0.1 * distance(start, first)
    _, alone, chance = taught(replace(schemes[0], output="none", layers=(first,))(network))
    assert torch.equal(alone.learned["weight"][first], state.learned["weight"][first])
    assert chance.mean() < 0.7


@pytest.mark.parametrize("case", CASES)
def test_the_head_learns_by_its_own_rule(case):
    """In the first update, from weights that are the same, as over a layer that does not learn."""
    network, schemes, _, _ = CASES[case]
    head = tuple(p.name for p in network.forward() if p.name != "pool")[1:]
    _, both, _ = taught(PerLayer(schemes)(network), 1)
    start, alone, _ = taught(replace(schemes[-1], layers=head)(network), 1)
    assert moved(alone, start) == set(head)
    for name in head:
        for part in ("weight", "bias"):
            assert torch.equal(both.learned[part][name], alone.learned[part][name])


# ---- coupled synapses ------------------------------------------------------------------------------------------------

UNCOUPLED = {"bptt": "its change is a gradient, formed after the phase, not by a three-factor rule"}


@pytest.mark.parametrize("rule", [rule for rule in TABLE if rule != "heterosynaptic" and rule not in UNCOUPLED])
def test_heterosynaptic_on_every_rule(rule):
    """`+heterosynaptic` couples what every projection learns, before the rule's own transforms; biases as before."""
    net = made(rule, HOME[rule], success="graded")
    coupled = Heterosynaptic(0.5, 2)(net)
    taught = [p for p in net.projections if p.rule is not None]
    for p in taught:
        ours = coupled.projection(p.name).rule
        assert (ours.chain, ours.bias_chain) == ((Coupling(0.5, 2), *p.rule.chain), p.rule.bias_chain)
    ours, theirs = (trained(compile(one, 1.0, dtype="float64"), one) for one in (coupled, net))
    assert all(torch.isfinite(value).all() for value in ours.learned["weight"].values())
    alone = {p.name for p in taught if p.connectivity.kind == "one_to_one"}  # a synapse with no neighbour
    assert moved(ours, theirs) >= {p.name for p in taught} - alone
    assert all(isinstance(p.rule, ThreeFactorRule) for p in taught)


@pytest.mark.parametrize("rule", UNCOUPLED)
def test_heterosynaptic_wants_a_three_factor_rule(rule):
    with pytest.raises(ConfigurationError, match="there is no three-factor rule to change"):
        Heterosynaptic(0.5, 2)(made(rule, HOME[rule]))
