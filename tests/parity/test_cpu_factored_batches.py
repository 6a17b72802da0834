"""Batches in one call where changes are formed at the end of each: the bits of a run for each, and the reference."""

from __future__ import annotations

import pytest
import torch
from backends import DT, agree, leaves
from test_cpu_factored import RULES, SLOPE, SPIKES, WIRES, names_of, network, rule

from neurosim.backends import compile
from neurosim.backends.cpu import factored, product, program, series
from neurosim.constraint import Bounds
from neurosim.factor import post
from neurosim.phase import Phase, batches
from neurosim.rule import Term

BATCH, COUNT, STEPS = 3, 4, 12
APART = ("torch updates", "a signal with a baseline")  # something is left to do between two batches
WITHOUT_MEMORY = ("no memory, m of every step", "no memory, last", "a gain of the weight")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks of any size."""
    monkeypatch.setattr(factored, "LEAST_WORK", 0)


@pytest.fixture
def whole(monkeypatch):
    """Which calls ran several batches."""
    calls, run = [], series.run
    monkeypatch.setattr(series, "run", lambda *given: [calls.append((state := run(*given)) is not None), state][1])
    return calls


def shown(steps=STEPS):
    reward = torch.randn(BATCH * COUNT, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return (Phase("p", steps, signals={"reward": reward}, samples=torch.arange(BATCH * COUNT)),)


def one_by_one(simulator, state, phases, rest):
    for part in batches(phases, BATCH):
        state, _ = simulator.run(simulator.fresh(state) if rest else state, part)
    return state


def same(first, second):
    assert first.clock == second.clock
    pairs = zip(leaves((first.activity, first.learned)), leaves((second.activity, second.learned)), strict=True)
    for (path, value), (_, other) in pairs:
        assert torch.equal(value, other), path


def check(net, rest):
    """One call, a run for each, and the reference; the second call goes on from the first."""
    results = []
    for backend in ("reference", "cpu"):
        simulator = compile(net, DT, seed=3, replicas=2, backend=backend, dtype="float64")
        found = expected = simulator.init(BATCH)
        for _ in range(2):
            found = simulator.run_batches(found, shown(), rest)
            expected = one_by_one(simulator, expected, shown(), rest)
            results.append((backend, found, {}))
        same(found, expected)
    agree([results[0], results[2]], 1e-9)
    assert not torch.equal(found.learned["weight"]["w"], simulator.init(BATCH).learned["weight"]["w"])
    assert set(names_of(simulator)) == {("w",)}
    return simulator


@pytest.mark.parametrize("wire", ["late", "bias", "in-degree and bias"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_and_wire(name, wire, whole):
    if name == "a gain by synapse" and wire.startswith("in-degree"):
        pytest.skip("its gain is an array for dense synapses")
    check(network(RULES[name], **WIRES[wire]), rest=True)
    assert whole == [name not in APART] * 2


@pytest.mark.parametrize("name", [*WITHOUT_MEMORY, "two terms"])
def test_activity_that_is_carried_on(name, whole):
    """An eligibility per synapse would have to be carried as well; where there is none, batches follow each other."""
    check(network(RULES[name], bias=0.1), rest=False)
    assert whole == [name in WITHOUT_MEMORY] * 2


def test_batches_with_too_many_inputs_are_run_one_by_one(monkeypatch, whole):
    """Where torch forms a product, nothing of what was tried in one call remains; it is not tried again."""
    monkeypatch.setattr(product, "MATRIX_PRODUCT", 0)
    monkeypatch.setattr(product, "FEW", 0.0)
    net = network(rule(Term(SLOPE, SPIKES), Term(post("spike"), SPIKES)), bias=0.1)
    simulator = check(net, rest=True)
    assert whole == [False, False]
    ((builder, made),) = simulator._programs.values()
    state = simulator.init(BATCH)
    assert series.why_not(builder, made, state, True) == "torch forms a product"


def test_a_state_never_changes(whole):
    """Neither what a call began with, nor what it left, when later ones go on from there."""
    net = network(rule(), bias=0.1)
    simulator = compile(net, DT, seed=3, backend="cpu", dtype="float64")
    start = simulator.init(BATCH)
    first = simulator.run_batches(start, shown(), True)
    kept = [{path: value.clone() for path, value in leaves(state.learned)} for state in (start, first)]
    simulator.run_batches(first, shown(), True)
    simulator.run(first, next(batches(shown(), BATCH)))
    again = simulator.run_batches(start, shown(), True)
    simulator.run_batches(start, shown(5), True)  # its weights lie in another order: they are copied
    for state, before in zip((start, first), kept, strict=True):
        for path, value in leaves(state.learned):
            assert torch.equal(value, before[path]), path
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(leaves(first.learned), leaves(again.learned), strict=True))
    assert whole == [True] * 4


@pytest.mark.parametrize("replicas", [5, None])
def test_any_number_of_threads_gives_the_same_bits(replicas, monkeypatch, whole):
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    net, found, before = network(RULES["two terms"], bias=0.1), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            simulator = compile(net, DT, seed=3, replicas=replicas, backend="cpu")
            found.append(simulator.run_batches(simulator.init(BATCH), shown(), True))
    finally:
        torch.set_num_threads(before)
    same(found[0], found[1])
    same(found[0], found[2])
    assert whole == [True] * 3


def test_phases_of_different_length(whole):
    """The room for lists and rows is that of the phase."""
    net = network(rule(), bias=0.1)
    simulator = compile(net, DT, seed=3, backend="cpu", dtype="float64")
    found = expected = simulator.init(BATCH)
    for steps in (12, 5, 1, 12):
        found = simulator.run_batches(found, shown(steps), True)
        expected = one_by_one(simulator, expected, shown(steps), True)
    same(found, expected)
    assert all(whole)


@pytest.mark.parametrize("bounds", [(), (Bounds(0.05, 0.4),)])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("wire", ["dense", "in-degree"])
def test_neurons_that_were_silent(wire, together, bounds):
    """Their weights stay as they are, but within bounds; of one step, in which most are silent."""
    net, found = network(rule(constraints=bounds), **WIRES[wire]), []
    for backend in ("reference", "cpu"):
        simulator = compile(net, DT, seed=3, replicas=2, backend=backend, dtype="float64")
        run = simulator.run_batches if together else one_by_one
        arguments = (simulator.init(BATCH), shown(2), True)
        found.append(run(*arguments) if together else run(simulator, *arguments))
    agree([(None, state, {}) for state in found], 1e-11)
