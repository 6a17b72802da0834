"""Learning at the synapses of neurons that spiked: weights by post neuron against the reference, in either layout."""

import numpy as np
import pytest
import torch
from backends import DT, agree, both, leaves

from neurosim.backends import compile
from neurosim.backends.cpu import learning
from neurosim.backends.cpu.event_learning import dearer, fits
from neurosim.backends.cpu.factors import spiking
from neurosim.backends.cpu.program import Program
from neurosim.backends.cpu.writer import Kernel
from neurosim.constraint import Bounds
from neurosim.factor import Apply, One, Trace, post, pre
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Phase
from neurosim.random import Normal, Uniform
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.rules.stdp import STDP
from neurosim.transform import Annealed, Rate
from neurosim.vocabulary import abs, exp, log, max, tanh, where


def network(rule, pres=11, posts=7, weight=None, rate=60.0, **settings):
    """Poisson -> LIF, with a second, fixed projection onto the same port before it and lateral inhibition."""
    populations = [Population("pre", pres, PoissonSource(rate=rate)), Population("post", posts, LIF(tau_mem=20.0))]
    wire = Projection("pre", "post", weight or Uniform(-0.2, 0.9), name="wire", rule=rule, **settings)
    others = (
        Projection("pre", "post", Normal(0.05, 0.1), name="fixed", delay=0.0),
        Projection("post", "post", Normal(-0.2, 0.05), name="back"),
    )
    return Network(populations, [others[0], wire, others[1]], input="pre", output="post")


def halved(w, high):
    return high - 0.5 * w


X, Y = Trace(pre("spike"), 15.0), Trace(post("spike"), 25.0, read="before")
AFTER = Trace(post("spike"), 25.0)
GAINS = np.linspace(0.01, 0.05, 77).reshape(7, 11)


def product(spike, past):
    return spike * past


def graded(spike, past, scale):
    return tanh(-max(abs(spike), spike * past)) / (1.0 + exp(past * scale)) - where(past > 0.0, spike, 0.0)


def less_than_five(spike, past):
    return spike + max(0.0, past - 5.0)


def logarithm(spike, past):
    return log(spike) * past


def one_over(spike, past):
    return past / spike


def chosen(spike, past):
    return where(spike > 0.0, spike, past)


def triplets(read):
    """What a spike that has a past contributes, at either end."""
    mine, sent = (Apply(product, (end("spike"), Trace(end("spike"), 40.0, read=read))) for end in (post, pre))
    return Term(mine, X, PerSynapse(0.05)), Term(Y, pre("spike")), Term(Y, sent, PerSynapse(-0.3))


RULES = {
    "numbers": {"terms": (Term(post("spike"), X, PerSynapse(0.05)), Term(Y, pre("spike"), PerSynapse(-0.04)))},
    "per synapse": {"terms": (Term(post("spike"), X, PerSynapse(GAINS)), Term(Y, pre("spike"), PerSynapse(-GAINS)))},
    "of the weight": {"terms": (Term(post("spike"), X, OfWeight(halved, (0.4,))), Term(Y, pre("spike")))},
    "trace of now": {"terms": (Term(post("spike"), X, PerSynapse(0.05)), Term(AFTER, pre("spike"), PerSynapse(-0.04)))},
    "slower and slower": {
        "terms": (Term(post("spike"), X), Term(Y, pre("spike"), PerSynapse(-1.0))),
        "transforms": (Rate(0.05), Annealed(30.0)),
    },
    "both spike": {"terms": (Term(post("spike"), pre("spike"), PerSynapse(0.1)), Term(post("spike"), X))},
    "triplets": {"terms": triplets("before")},
    "triplets of now": {"terms": triplets("after")},
    "no pre spike": {"terms": (Term(post("spike"), X, PerSynapse(-0.02)),)},
    "third factor": {
        "terms": (Term(post("spike"), X), Term(Y, pre("spike"), PerSynapse(-1.0))),
        "modulator": Broadcast("reward"),
        "transforms": (Rate(0.05),),
    },
}


def made(name):
    settings = dict(RULES[name])
    return ThreeFactorRule((Component(settings.pop("terms")),), constraints=(Bounds(0.0, 0.6),), name=name, **settings)


# Whose changes by listed spikes are known when they are delivered: without delays, and with them.
KNOWN = dict.fromkeys(("numbers", "per synapse", "of the weight", "slower and slower"), (True, True))
KNOWN |= {
    "trace of now": (False, True),
    "third factor": (False, False),
    "triplets": (True, True),
    "triplets of now": (False, True),
}


def delivering(simulator):
    """Do deliveries learn, in programs where something learns?"""
    rules = [plastic for builder, _ in simulator._programs.values() for plastic in builder.plastic]
    (answer,) = {bool(plastic.delivering) for plastic in rules}
    return answer


def by_post(simulator):
    """Whether the last program's weights lie by post neuron."""
    builder, _ = list(simulator._programs.values())[-1]
    return builder.deliveries["wire"].by_post


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("delays", [(0.0, 0.0), (1.5, 1.0)])
def test_weights_by_post_neuron_learn_what_the_reference_learns(name, delays):
    wires = {"delay": delays[0], "dendritic_delay": delays[1], "bias": name == "slower and slower"}
    signals = {"reward": torch.tensor([[[0.7]], [[-0.4]]])} if name == "third factor" else {}
    phases = (Phase("a", 90, signals=signals), Phase("b", 20, learn=False), Phase("c", 40, signals=signals))
    probes = [Probe("post", "spike"), Probe("wire", "weight", every=10)]
    results = both(network(made(name), **wires), phases, probes, replicas=2)
    agree(results, 1e-11)
    assert results[1][2]["post.spike"].any()
    moved = results[1][1].learned["weight"]["wire"] - results[1][0].init(1).learned["weight"]["wire"]
    assert (moved != 0).double().mean() > (0.5 if wires["bias"] else 0.8)
    simulator = results[1][0]
    assert not [reason for reason in simulator.uncompiled() if "wire" in reason and "learns" in reason]
    assert any(builder.deliveries["wire"].by_post for builder, _ in simulator._programs.values())
    assert delivering(simulator) == KNOWN.get(name, (False, False))[delays[1] > 0]


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if any(known)])
def test_a_delivery_that_learns_changes_no_bit(name, monkeypatch):
    """Weights changed when they are read, and put right where a post neuron spikes: as when all is done at the end."""
    net = network(made(name), dendritic_delay=1.0)
    found = []
    for learns in (True, False):
        if not learns:
            monkeypatch.setattr(learning, "known_early", lambda synaptic: False)
        simulator = compile(net, DT, seed=5, backend="cpu", dtype="float32")
        state, recording = simulator.run(simulator.init(1), (Phase("a", 300), Phase("b", 50)), [Probe("post", "spike")])
        assert delivering(simulator) == learns
        found.append((state, recording["post.spike"]))
    assert found[0][1].sum() > 20
    np.testing.assert_array_equal(found[0][1], found[1][1])
    for (path, value), (_, other) in zip(leaves(found[0][0].learned), leaves(found[1][0].learned), strict=True):
        assert torch.equal(value, other), path


def test_what_a_missing_spike_makes_zero():
    past = Trace(post("spike"), 20.0)
    assert spiking(post("spike"))
    assert spiking(Apply(product, (post("spike"), past)))
    assert spiking(Apply(product, (past, Apply(product, (past, post("spike"))))))
    for other in (past, post("rate"), Apply(product, (past, past)), One("post")):
        assert not spiking(other)
    assert spiking(Apply(graded, (post("spike"), past), (0.3,)))
    assert not spiking(Apply(graded, (past, post("spike")), (0.3,)))
    for function in (less_than_five, logarithm, one_over, chosen):
        assert not spiking(Apply(function, (post("spike"), past))), function


def test_kernels_in_the_place_of_one():
    """What is made in the last step only stays what it was."""
    first, second, third, fourth = (Kernel(k, np.zeros(1, np.int64), (), {}, (), (), {}) for k in range(4))
    program = Program()
    for place, kernel in enumerate((first, second, third)):
        program.add(kernel, final=place != 1)
    program.replace(second, [fourth, second])
    assert [kernel.address for kernel in program.operations] == [0, 3, 1, 2]
    assert program.final == {0, 3}


def test_the_layout_changes_no_bit_and_follows_the_spikes():
    """Post neurons that spike rarely: after a phase that has shown it, the weights lie by pre neuron."""
    terms = Term(post("spike"), X, PerSynapse(0.002)), Term(Y, pre("spike"), PerSynapse(-0.03))
    rule = ThreeFactorRule((Component(terms),), constraints=(Bounds(0.0, 0.6),))
    simulator = compile(network(rule, rate=200.0, weight=Uniform(0.0, 0.3)), DT, seed=2, backend="cpu")
    start = simulator.init(1)
    state, first = simulator.run(start, Phase("a", 3000), [Probe("post", "v")])
    assert by_post(simulator)
    assert simulator.by_pre == {"wire"}
    again, second = simulator.run(start, Phase("a", 3000), [Probe("post", "v")])
    assert not by_post(simulator)
    assert (state.learned["weight"]["wire"] != start.learned["weight"]["wire"]).double().mean() > 0.8
    np.testing.assert_array_equal(first["post.v"], second["post.v"])
    for (path, value), (_, other) in zip(leaves(state.learned), leaves(again.learned), strict=True):
        assert torch.equal(value, other), path


def test_who_spikes_more_decides():
    assert dearer(np.array([[1001, 10]]), 10, 100)
    assert not dearer(np.array([[999, 0]]), 10, 100)
    assert not dearer(np.array([[5000, 5000]]), 100, 100)


@pytest.mark.parametrize(
    "what",
    [
        {"components": (Component(RULES["numbers"]["terms"], tau=20.0),)},
        {"components": (Component((Term(Y, X),)),)},
        {"components": (Component((Term(Y, pre("spike")),)),)},
        {"components": (Component(RULES["numbers"]["terms"]),), "when": "phase"},
    ],
)
def test_what_does_not_fit(what):
    """A memory per synapse, a term without a spike, no term with a post spike, changes that wait."""
    simulator = compile(network(ThreeFactorRule(**what), rate=60.0), DT, backend="cpu")
    assert not fits(simulator.plan.synapses["wire"], ())
    simulator.run(simulator.init(1), Phase("p", 3))
    assert not by_post(simulator)


def test_a_batch_keeps_its_weights_by_pre_neuron():
    net = STDP(A_plus=0.05, A_minus=0.04, w_min=0.0, w_max=0.6, output="same")(network(None))
    simulator = compile(net, DT, backend="cpu")
    simulator.run(simulator.init(2), Phase("p", 3))
    assert not by_post(simulator)
    simulator.run(simulator.init(1), Phase("p", 3))
    assert by_post(simulator)
