"""Changes formed at the end of a phase from the rows of its steps: weights, gathered changes and eligibilities are
those of the reference, which goes step by step.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from backends import DT, Turned, agree, leaves

from neurosim import checkpoint
from neurosim.backends import compile
from neurosim.backends.cpu import factored, product, program
from neurosim.connectivity import Dense, FixedInDegree
from neurosim.constraint import Bounds, Dale, DividedByMax
from neurosim.factor import One, Trace, post, pre
from neurosim.modulator import Broadcast, Feedback, Unmodulated
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Phase
from neurosim.random import Uniform
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.transform import Adam, Heterosynaptic, Normalised, Rate
from neurosim.types import ConfigurationError

BATCH, TOLERANCE = 3, 1e-11


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks of any size."""
    monkeypatch.setattr(factored, "LEAST_WORK", 0)


def halved(w):
    return 0.5 * w


SPIKES, RATES = pre("spike"), Trace(pre("spike"), 8.0)
SLOPE = post("slope")


def rule(*terms, tau=6.0, accumulate="last", when="sample", modulator=None, reduce="mean", **more):
    return ThreeFactorRule(
        (Component(terms or (Term(SLOPE, RATES),), tau=tau),),
        modulator=Broadcast("reward") if modulator is None else modulator,
        accumulate=accumulate,
        when=when,
        reduce=reduce,
        **{"transforms": (Rate(0.01),), **more},
    )


def network(learning, **settings):
    """Poisson -> LIF, whose teaching port gets the spikes of two other sources, so that m differs by step."""
    return Network(
        [
            Population("input", 9, PoissonSource(rate=300.0)),
            Population("teacher", 2, PoissonSource(rate=300.0)),
            Population("output", 4, LIF(tau_mem=10.0)),
        ],
        [
            Projection("input", "output", Uniform(0.0, 0.5), name="w", rule=learning, **settings),
            Projection("teacher", "output", Uniform(-1.0, 1.0), name="teach", port="feedback"),
        ],
    )


def phase(steps=12, units=1, seed=1, **more):
    reward = torch.randn(BATCH, units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Phase("p", steps, signals={"reward": reward}, **more)


def simulators(net, replicas=2, dtype="float64"):
    return [compile(net, DT, seed=3, replicas=replicas, backend=name, dtype=dtype) for name in ("reference", "cpu")]


def names_of(simulator):
    """Which projections were factored, program by program."""
    rules = [builder.plastic for builder, _ in simulator._programs.values()]
    return [tuple(one.name for one in found if isinstance(one, factored.Factored)) for found in rules]


def together(net, trials, probes=(), replicas=2, batch=BATCH, fresh=False):
    """Trials one after the other on both backends, states compared after each."""
    both = simulators(net, replicas)
    states = [simulator.init(batch) for simulator in both]
    for trial in trials:
        if fresh:
            states = [simulator.fresh(state) for simulator, state in zip(both, states, strict=True)]
        results = [simulator.run(state, trial, probes) for simulator, state in zip(both, states, strict=True)]
        states = [state for state, _ in results]
        agree([(None, *result) for result in results], TOLERANCE)
    assert not torch.equal(states[0].learned["weight"]["w"], both[0].init(batch).learned["weight"]["w"])
    return both[1], states[1]


RULES = {
    "a trace at the end": rule(),
    "a trace before the spike": rule(Term(SLOPE, Trace(pre("spike"), 8.0, read="before"))),
    "a trace that is a mean": rule(Term(SLOPE, Trace(pre("spike"), 8.0, "mean"))),
    "a mean before the spike": rule(Term(SLOPE, Trace(pre("spike"), 8.0, "mean", read="before"))),
    "a trace of the nearest": rule(Term(SLOPE, Trace(pre("spike"), 8.0, "nearest"))),
    "a trace of a trace": rule(Term(SLOPE, Trace(RATES, 5.0))),
    "spikes": rule(Term(SLOPE, SPIKES)),
    "a sum since the start": rule(tau=float("inf")),
    "m of every step": rule(accumulate="sum", modulator=Feedback(post("feedback"))),
    "the mean over steps": rule(accumulate="mean", modulator=Feedback(post("feedback"))),
    "no memory, m of every step": rule(tau=None, accumulate="sum", modulator=Feedback(post("feedback"))),
    "no memory, mean": rule(tau=None, accumulate="mean", modulator=Feedback(post("feedback"))),
    "no memory, last": rule(tau=None),
    "a signal of the phase": rule(accumulate="sum"),
    "a signal with a baseline": rule(modulator=Broadcast("reward", 4.0)),
    "no modulator": rule(accumulate="sum", modulator=Unmodulated()),
    "no modulator, last": rule(modulator=Unmodulated()),
    "sum over the batch": rule(reduce="sum"),
    "by phase": rule(when="phase"),
    "two terms": rule(Term(SLOPE, RATES), Term(post("spike"), SPIKES), Term(post("v"), One("pre"))),
    "one at the post end": rule(Term(One("post"), RATES)),
    "a gain by synapse": rule(
        Term(SLOPE, RATES, PerSynapse(0.7)), Term(SLOPE, SPIKES, PerSynapse(torch.rand(4, 9).numpy(), 1.5))
    ),
    "a gain of the weight": rule(Term(SLOPE, RATES, OfWeight(halved)), Term(SLOPE, SPIKES), tau=None),
    "adam and bounds": rule(transforms=(Adam(), Rate(0.01)), constraints=(Bounds(0.05, 0.4),)),
    "neighbours": rule(transforms=(Normalised(), Adam(), Rate(0.01)), constraints=(DividedByMax(),)),
    "neighbours, mean": rule(accumulate="mean", transforms=(Heterosynaptic(0.3, 3), Rate(0.01))),
    "signs": rule(constraints=(Dale(np.where(np.arange(9) % 2, 1, -1)),)),
    "torch updates": rule(transforms=(Turned(), Rate(0.01)), bias_transforms=(Rate(0.01),)),
}
WIRES = {
    "dense": {"connectivity": Dense()},
    "without delay": {"connectivity": Dense(), "delay": 0.0},
    "late": {"connectivity": Dense(), "delay": 1.5},
    "bias": {"connectivity": Dense(), "bias": 0.05},
    "in-degree": {"connectivity": FixedInDegree(5), "delay": 1.0},
    "in-degree and bias": {"connectivity": FixedInDegree(5), "bias": 0.05},
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", RULES)
def test_every_rule_and_wire(name, wire):
    learning = RULES[name]
    if name == "a gain by synapse" and wire.startswith("in-degree"):
        pytest.skip("its gain is an array for dense synapses")
    cpu, _ = together(network(learning, **WIRES[wire]), [phase(), phase(seed=2)])
    assert names_of(cpu) == [("w",)]
    assert cpu.shortcuts()[0].startswith("the change of 'w' is formed at the end of a phase")


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_replicas_and_rows(replicas, batch):
    net = network(rule(), delay=0.0, bias=0.1)
    reward = torch.linspace(-1.0, 1.0, batch, dtype=torch.float64)[:, None]
    trial = Phase("p", 12, signals={"reward": reward})
    both = simulators(net, replicas)
    results = [simulator.run(simulator.init(batch), trial) for simulator in both]
    agree([(None, *result) for result in results], TOLERANCE)
    assert names_of(both[1]) == [("w",)]


@pytest.mark.parametrize("accumulate", ["last", "sum", "mean"])
@pytest.mark.parametrize("tau", [None, 6.0])
@pytest.mark.parametrize("when", ["phase", "sample"])
def test_phases_of_a_trial(accumulate, tau, when):
    """Eligibility and gathered change go on through phases, also through one in which nothing learns."""
    net = network(rule(accumulate=accumulate, tau=tau, when=when), bias=0.1)
    trial = [phase(7), phase(5, seed=2), phase(4, learn=False), phase(6, seed=3), phase(2, learn=False)]
    together(net, [trial, trial])


@pytest.mark.parametrize("fresh", [True, False])
def test_runs_of_different_length(fresh):
    cpu, _ = together(network(rule(), bias=0.1), [phase(12), phase(5), phase(1), phase(12)], fresh=fresh)
    assert names_of(cpu) == [("w",)]


def test_an_eligibility_that_is_recorded_is_kept_in_every_step():
    net = network(rule())
    probes = [Probe("w", "eligibility"), Probe("w", "modulator"), Probe("w", "weight")]
    cpu, _ = together(net, [phase(), phase(seed=2)], probes)
    assert names_of(cpu) == [()]
    assert not cpu.shortcuts()


@pytest.mark.parametrize("accumulate", ["last", "sum"])
def test_weights_and_modulators_are_recorded(accumulate):
    net = network(rule(accumulate=accumulate, modulator=Feedback(post("feedback"))))
    probes = [Probe("w", "modulator"), Probe("w", "weight"), Probe("output", "spike")]
    cpu, _ = together(net, [phase(), phase(seed=2)], probes)
    assert names_of(cpu) == [("w",)]


def test_a_state_goes_from_one_backend_to_the_other(tmp_path):
    """With the eligibility formed by whoever reads it: the reference, a checkpoint, pickle."""
    reference, cpu = simulators(network(rule(), bias=0.1))
    middle, _ = cpu.run(cpu.init(BATCH), phase())
    checkpoint.save(tmp_path / "state", middle._asdict(), {})
    read, _ = checkpoint.load(tmp_path / "state")
    kept = type(middle)(**read)
    again = type(middle)(*pickle.loads(pickle.dumps(tuple(middle))))
    wanted, _ = reference.run(reference.run(reference.init(BATCH), phase())[0], phase(7, seed=2))
    for simulator in (reference, cpu):
        for state in (middle, kept, again):
            found, _ = simulator.run(state, phase(7, seed=2))
            agree([(None, wanted, {}), (None, found, {})], TOLERANCE)


def test_a_state_never_changes():
    """Neither its weights nor what its eligibility is made of, whenever that is read."""
    net = network(rule(transforms=(Adam(), Rate(0.01))), bias=0.1)
    one, other = (compile(net, DT, seed=3, backend="cpu", dtype="float64") for _ in range(2))
    first, _ = one.run(one.init(BATCH), phase())
    expected = {path: value.clone() for path, value in leaves(other.run(other.init(BATCH), phase())[0].activity)}
    before = {path: value.clone() for path, value in leaves(first.learned)}
    state = first
    for seed in (2, 3):
        state, _ = one.run(state, phase(seed=seed))
    for learn in (False, True):  # kernels read `first` where it lies, then a weight in another order
        for read in (first, one.init(BATCH)):
            one.run(read, phase(learn=learn))
    for path, value in leaves(first.learned):
        assert torch.equal(value, before[path]), path
    for path, value in leaves(first.activity):
        assert torch.equal(value, expected[path]), path


@pytest.mark.parametrize("name", ["a trace at the end", "a gain by synapse", "one at the post end"])
def test_products_of_torch(name, monkeypatch):
    """Where many inputs are not zero and the product is large."""
    monkeypatch.setattr(product, "MATRIX_PRODUCT", 0)
    monkeypatch.setattr(product, "FEW", 0.0)
    called = []
    kept = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *arrays: called.append(1) or kept(*arrays))
    together(network(RULES[name], bias=0.1), [phase(), [phase(5), phase(6, seed=2)]])
    assert called


def test_replicas_of_which_some_have_too_many_inputs(monkeypatch):
    """The product of torch is for all of them, and lists are then empty; the next run decides anew."""
    monkeypatch.setattr(product, "MATRIX_PRODUCT", 0)
    reference, cpu = simulators(network(rule()), replicas=3)
    wanted, _ = reference.run(reference.init(BATCH), phase())
    found = []
    for few in torch.linspace(0.0, 0.5, 26).tolist():
        monkeypatch.setattr(product, "FEW", few)
        state, _ = cpu.run(cpu.init(BATCH), phase())
        agree([(None, wanted, {}), (None, state, {})], TOLERANCE)
        ((builder, _),) = cpu._programs.values()
        found.append(int(builder.plastic[0].summands["weight"][0].inputs.dense.sum()))
    assert (found[0], found[-1]) == (3, 0)
    assert {1, 2} & set(found)


@pytest.mark.parametrize("connectivity", [Dense(), FixedInDegree(5)])
@pytest.mark.parametrize("replicas", [5, None])
def test_any_number_of_threads_gives_the_same_bits(connectivity, replicas, monkeypatch):
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    net = network(RULES["two terms"], connectivity=connectivity, bias=0.1)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            simulator = compile(net, DT, seed=3, replicas=replicas, backend="cpu")
            found.append(simulator.run(simulator.init(BATCH), [phase(), phase(5, seed=2)])[0])
    finally:
        torch.set_num_threads(before)
    for state in found[1:]:
        for (path, value), (_, other) in zip(leaves(found[0].learned), leaves(state.learned), strict=True):
            assert torch.equal(value, other), path


def test_who_is_factored():
    """Structure decides: no decay by neuron, no second component, weights that stay in the phase, few bytes."""
    both = simulators(network(rule()))
    synapses = both[1].plan.synapses["w"]
    assert factored.fits(synapses, rule())
    term = Term(SLOPE, RATES)
    refused = [
        rule(when="step"),
        rule(Term(SLOPE, RATES, OfWeight(halved))),
        ThreeFactorRule((Component((term,), decay=post("slope")),), accumulate="last", when="sample"),
        ThreeFactorRule((Component((term,)), Component((term,))), accumulate="last", when="sample"),
    ]
    assert not any(factored.fits(synapses, one) for one in refused)


def test_rows_that_are_too_large_are_not_kept(monkeypatch):
    monkeypatch.setattr(factored, "MOST_BYTES", 2 * 12 * BATCH * 13 * 8 - 1)  # R K B (P + Q) reals
    cpu, _ = together(network(rule()), [phase(11), phase(12)])
    assert names_of(cpu) == [("w",), ()]


def test_the_modulator_is_made_once_a_phase():
    cpu = simulators(network(rule(modulator=Broadcast("reward", 4.0)), bias=0.1))[1]
    calls, kept = [], cpu.learning.modulator
    cpu.learning.modulator = lambda *given: calls.append(given[-1]) or kept(*given)
    cpu.run(cpu.init(BATCH), [phase(12), phase(5)])
    assert calls == [11, 4]
    assert not cpu.uncompiled()


@pytest.mark.parametrize("when", ["step", "sample"])
def test_a_signal_needs_no_call(when):
    """Broadcast without a baseline is filled in before a phase, one number for a row or one for each neuron."""
    net = network(rule(when=when, accumulate="sum", tau=None), bias=0.1)
    cpu, _ = together(net, [phase(), phase(units=4), phase()], [Probe("w", "modulator"), Probe("w", "weight")])
    assert not cpu.uncompiled()


def test_a_signal_that_does_not_fit():
    for simulator in simulators(network(rule())):
        state = simulator.init(BATCH)
        with pytest.raises(ConfigurationError, match="reads the signal 'reward', but phase 'p' carries: none"):
            simulator.run(state, Phase("p", 3))
        with pytest.raises(ConfigurationError, match=r"modulator of projection 'w' has shape \(2, 3, 2\); it must"):
            simulator.run(state, phase(units=2))


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("fresh", [True, False])
def test_spikes_behind_a_trace_before_the_spike(mode, fresh):
    """They are there where another projection remembers them longer."""
    learning = rule(Term(SLOPE, Trace(pre("spike"), 8.0, mode, read="before")))
    bare = network(learning, delay=DT)
    beside = Projection("input", "output", Uniform(0.0, 0.2), name="beside", delay=4 * DT)
    net = Network(bare.populations, [*bare.projections, beside])
    cpu, _ = together(net, [phase(), phase(5, seed=2)], fresh=fresh)
    ((builder, _),) = cpu._programs.values()
    assert builder.plastic[0].summands["weight"][0].filtered is not None


def test_what_torch_learns_is_no_shortcut():
    """One row after the other: each with its own update, so that there is no product."""
    net = network(rule(reduce="sequential"))
    cpu, _ = together(net, [phase(), phase(seed=2)])
    assert names_of(cpu) == [()]
    assert not cpu.shortcuts()
    assert "one after the other" in "; ".join(cpu.uncompiled())
