"""Batches that are shown in one call: the bits of a run for each, on either backend, for any number of threads."""

from __future__ import annotations

import pytest
import torch
from backends import agree, leaves
from plain import described
from test_table import BATCH, NETWORKS, REFUSED, TABLE, built

from neurosim.backends import compile
from neurosim.backends.cpu import program, series
from neurosim.connectivity import Dense
from neurosim.factor import post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyRate, Perturbed, Relay
from neurosim.phase import Held, Phase, batches, staged
from neurosim.random import Normal
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.rules.biohsic import BioHSIC
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

COUNT, STEPS = 4, 6


@pytest.fixture
def whole(monkeypatch):
    """How many calls ran several batches."""
    calls = []

    def counted(*arguments):
        state = run(*arguments)
        calls.append(state is not None)
        return state

    run = series.run
    monkeypatch.setattr(series, "run", counted)
    return calls


def values(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(shape[0]), dtype=torch.float64)


def trial(net, *, held=True):
    """The network's trial on `COUNT` batches of inputs and labels."""
    rows = BATCH * COUNT
    labels = torch.nn.functional.one_hot(torch.arange(rows) % 3, 3).double()
    x = values(rows, 4)
    drive = {"input": Held(x) if held else values(STEPS, rows, 4)}
    drive |= {"target": Held(labels)} if net.has("target") else {}
    signals = {"input": x, "label": labels, "reward": values(rows, 1)}
    shown = Phase("train", STEPS, drive, signals, samples=torch.arange(7, 7 + rows))
    return tuple(staged(stage, shown) for stage in net.trial)


def same(first, second):
    assert first.clock == second.clock
    pairs = zip(leaves((first.activity, first.learned)), leaves((second.activity, second.learned)), strict=True)
    for (path, value), (_, other) in pairs:
        assert value.shape == other.shape, path
        assert torch.equal(value, other), path


def one_by_one(simulator, state, phases, rest):
    for part in batches(phases, simulator.batch(state)):
        state, _ = simulator.run(simulator.fresh(state) if rest else state, part)
    return state


def check(net, phases, rest, dtype="float32"):
    """One call, a run for each, and the reference; twice, so that the second goes on from the first."""
    results = []
    for backend in ("cpu", "reference"):
        simulator = compile(net, 1.0, seed=2, replicas=2, backend=backend, dtype=dtype)
        found, expected = simulator.init(BATCH), simulator.init(BATCH)
        for _ in range(2):
            found = simulator.run_batches(found, phases, rest)
            expected = one_by_one(simulator, expected, phases, rest)
        same(found, expected)
        results.append((simulator, found, {}))
    agree(results[::-1], 1e-9 if dtype == "float64" else 2e-4)
    start = simulator.init(BATCH)
    assert any(not torch.equal(found.learned["weight"][name], w) for name, w in start.learned["weight"].items())


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize(
    ("when", "accumulate"), [("step", "sum"), ("phase", "last"), ("phase", "mean"), ("sample", "sum")]
)
def test_an_update_in_every_step_or_batch(when, accumulate, rest, whole):
    scheme = BioHSIC(BATCH, gamma=5.0, sigma_x=0.5, sigma_y=0.5, sigma_z=1.0, when=when, accumulate=accumulate, lr=0.02)
    net = scheme(described("leaky", norm=True))
    check(net, trial(net), rest)
    assert whole == [True, True]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", TABLE)
def test_every_rule(rule, network, whole):
    if (rule, network) in REFUSED:
        pytest.skip(f"{rule} is for {REFUSED[rule, network]} only")
    net, _ = built(rule, network)
    phases = trial(net, held=network != "spiking")
    simulator = compile(net, 1.0, seed=2, replicas=2, backend="cpu")
    for rest in (False, True):
        start, _ = simulator.run(simulator.init(BATCH), next(batches(phases, BATCH)))
        same(simulator.run_batches(start, phases, rest), one_by_one(simulator, start, phases, rest))
    told = [*simulator.uncompiled(), *simulator.shortcuts(), *(["a gradient"] if rule == "bptt" else [])]
    assert any(whole) == (len(phases) == 1 and not told)


@pytest.mark.parametrize("rest", [False, True])
def test_noise_that_is_held_belongs_to_its_batch(rest, whole):
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), transforms=(Rate(0.01),))
    populations = [Population("input", 4, Relay()), Population("layer", 5, Perturbed(LeakyRate(5.0, "tanh"), 0.5))]
    wire = Projection("input", "layer", Normal(0.0, 0.5), Dense(), name="in", delay=0, rule=rule)
    net = Network(populations, [wire])
    check(net, trial(net), rest, "float64")
    assert whole == [True, True]


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    net, _ = built("eprop", "spiking")
    simulator = compile(net, 1.0, seed=2, replicas=5, backend="cpu")
    phases, before, found = trial(net), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(simulator.run_batches(simulator.init(BATCH), phases, rest=True))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    same(found[0], found[1])
    same(found[0], found[2])


def test_rows_that_are_no_batches_are_refused():
    net, _ = built("frozen", "layered")
    for backend in ("reference", "cpu"):
        simulator = compile(net, 1.0, backend=backend)
        with pytest.raises(ConfigurationError, match="12 rows; allowed: a multiple of the batch of the state, 5"):
            simulator.run_batches(simulator.init(5), trial(net))
