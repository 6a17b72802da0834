"""A population run part by part, by one thread or several: the reference's numbers, and the same bits."""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from backends import DT, agree, both, leaves

from neurosim.backends import State, compile
from neurosim.backends.cpu import populations, schedule, series, tiles, workspace
from neurosim.backends.cpu.team import Pace, Team
from neurosim.backends.cpu.writer import Kernel
from neurosim.connectivity import EdgeList, FixedInDegree, FixedProbability, OneToOne
from neurosim.constraint import Bounds
from neurosim.factor import Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, CubaLIF, PoissonSource, SpikeRelay
from neurosim.phase import Phase
from neurosim.random import Uniform
from neurosim.recorder import Probe
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.rules.stdp import STDP


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 64 neurons, and threads for any network."""
    monkeypatch.setattr(tiles, "SIZE", 64)
    monkeypatch.setattr(populations, "STORED", 64)
    monkeypatch.setattr(populations, "WIPED", 16)
    monkeypatch.setattr(workspace, "LARGE", 16)
    monkeypatch.setattr(tiles, "LEAST", 16)
    monkeypatch.setattr(tiles, "SHARED", 0)
    tiles.bounds.cache_clear()
    yield
    tiles.bounds.cache_clear()


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


CELL = CubaLIF(tau_mem=20.0, v_rest=-49.0, v_th=-50.0, v_reset=-60.0, t_ref=2.0)


def recurrent(**excitatory):
    """Excitatory and inhibitory neurons with sparse wiring, and Poisson input."""
    start, settings = {"v": Uniform(-60.0, -50.0)}, {"connectivity": FixedInDegree(20), **excitatory}
    return Network(
        [
            Population("source", 130, PoissonSource(rate=40.0)),
            Population("e", 300, CELL, initial=start),
            Population("i", 150, CELL, initial=start),
        ],
        [
            Projection("source", "e", 3.0, FixedProbability(0.1), name="in", delay=0.0),
            Projection("e", "e", 1.6, name="ee", **settings),
            Projection("e", "i", 1.6, FixedInDegree(20), name="ei"),
            Projection("i", "e", Uniform(-9.0, -6.0), FixedInDegree(10), port="inhibitory", name="ie"),
            Projection("i", "i", -9.0, FixedInDegree(10), port="inhibitory", name="ii"),
        ],
        input="source",
        output="e",
    )


GENERATOR = np.random.default_rng(1)
POST, PRE = GENERATOR.integers(0, 300, (2, 4000))
NETWORKS = {
    "one weight": {},
    "a weight per synapse": {"weight": Uniform(0.5, 2.0)},
    "a delay of three steps": {"delay": 1.5},
    "a delay per synapse": {"delay": Uniform(0.5, 4.0), "weight": Uniform(0.5, 2.0)},
    "a bias": {"bias": 0.05},
    "edges in any order": {"connectivity": EdgeList(POST, PRE), "weight": GENERATOR.uniform(0.5, 2.0, 4000)},
    "one to one": {"connectivity": OneToOne()},
    "rates": {"output": "v", "weight": 0.001, "port": "current"},
}
EVENTS = [Probe("e", "spike", events=True), Probe("i", "spike", events=True), Probe("source", "spike", events=True)]
VALUES = [Probe("i", "spike"), Probe("e", "v", every=3, units=(0, 77, 299)), Probe("e", "basal", units=(5, 250))]


def network_of(settings):
    net = recurrent()
    changed = [
        Projection("e", "e", **{"weight": 1.6, "connectivity": FixedInDegree(20), "name": "ee", **settings})
        if one.name == "ee"
        else one
        for one in net.projections
    ]
    return Network(net.populations, changed, input="source", output="e")


@pytest.mark.parametrize("probes", [EVENTS, VALUES, []], ids=["events", "values", "none"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_parts_are_those_of_the_reference(kind, probes):
    phases = Phase("a", 30), Phase("b", 15, silent=("ie",)), Phase("c", 7)
    results = both(network_of(NETWORKS[kind]), phases, probes)
    simulator, _, recording = results[1]
    for name in ("e", "i"):
        assert simulator.plan.network[name].units >= 128
    agree(results, 1e-9)
    if probes is EVENTS:
        assert len(recording["e.spike"]) > 50
    assert not simulator.uncompiled()


@pytest.mark.parametrize("last", ["in", "dense"])
def test_what_arrives_waits_for_what_arrives_after_it(last):
    """A delivery of this step's spikes, or one without parts, between another's and the neurons: no part is lost."""
    net = recurrent()
    order = sorted(net.projections, key=lambda one: one.name == "in")
    if last == "dense":
        order[-1] = Projection("source", "e", Uniform(0.0, 0.2), name="in", delay=0.0)
    results = both(Network(net.populations, order, input="source", output="e"), (Phase("a", 30),), VALUES)
    agree(results, 1e-9)


@pytest.mark.parametrize("rule", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
def test_any_number_of_threads_gives_the_same_bits(kind, rule, threads, monkeypatch):
    monkeypatch.setattr(Pace, "_way", lambda pace: 1)
    run, used = Team.run, []
    monkeypatch.setattr(Team, "run", lambda team, *steps: (used.append(len(team.tables)), run(team, *steps)))
    net, found = network_of(NETWORKS[kind]), []
    if rule:
        if "output" in NETWORKS[kind] or kind == "a delay per synapse":
            pytest.skip("STDP has no kernel for it")
        net = STDP(A_plus=0.05, A_minus=0.04, w_min=0.0, w_max=3.0, output="same")(net)
    for count in (1, 2, 3):
        threads(count)
        simulator = compile(net, DT, seed=1, backend="cpu", dtype="float64")
        found.append(simulator.run(simulator.init(1), (Phase("a", 60), Phase("b", 13)), [*EVENTS, VALUES[1]]))
        assert not simulator.uncompiled()
    assert set(used) == {2, 3}
    for state, recording in found[1:]:
        expected = dict(leaves((found[0][0].activity, found[0][0].learned)))
        for path, value in leaves((state.activity, state.learned)):
            assert torch.equal(value, expected[path]), path
        for key in recording:
            np.testing.assert_array_equal(recording[key], found[0][1][key])


@pytest.mark.parametrize("when", ["step", "phase"])
@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_dense_weights_learn_from_the_lists_of_all_parts(when, delay, threads, monkeypatch):
    """By the lists from which spikes are delivered (step), or by a product at the end (phase), with sparse wiring
    beside it.
    """
    monkeypatch.setattr(Pace, "_way", lambda pace: 1)
    late, early = Trace(post("spike"), 25.0, read="before"), Trace(pre("spike"), 15.0)
    terms = Term(post("spike"), early, PerSynapse(0.05)), Term(late, pre("spike"), PerSynapse(-0.04))
    rule = ThreeFactorRule((Component(terms),), constraints=(Bounds(0.0, 0.6),), when=when)
    cells = LIF(tau_mem=20.0)
    net = Network(
        [Population("source", 200, PoissonSource(rate=60.0)), Population("e", 150, cells)],
        [
            Projection("source", "e", Uniform(0.0, 0.1), name="wire", rule=rule, delay=delay),
            Projection("e", "e", -0.1, FixedInDegree(20), name="back"),
        ],
        input="source",
        output="e",
    )
    phases, probes = (Phase("a", 40), Phase("b", 20)), [*EVENTS[:1], *EVENTS[2:], Probe("wire", "weight", every=20)]
    results = both(net, phases, probes)
    agree(results, 1e-10)
    simulator, state, recording = results[1]
    assert len(np.unique(recording["e.spike"][:, -1])) > 75
    assert (state.learned["weight"]["wire"] != simulator.init(1).learned["weight"]["wire"]).double().mean() > 0.5
    deliveries = [builder.deliveries["wire"] for builder, _ in simulator._programs.values()]
    assert {one.by_post for one in deliveries} == {when == "step"}
    one = []
    for count in (1, 2, 3):
        threads(count)
        other = compile(net, DT, seed=1, backend="cpu", dtype="float64")
        final, _ = other.run(other.init(1), phases, probes)
        one = one or list(leaves(final.learned))
        for (path, value), (_, expected) in zip(leaves(final.learned), one, strict=True):
            assert torch.equal(value, expected), path


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("kind", ["a delay of three steps", "a delay per synapse", "rates"])
def test_presentations_in_one_call(kind, rest, threads, monkeypatch):
    """Lists, remembered values and states go on from one to the next, or start again; for any number of threads."""
    monkeypatch.setattr(Pace, "_way", lambda pace: 1)
    whole, run = [], series.run
    monkeypatch.setattr(series, "run", lambda *given: whole.append(run(*given)) or whole[-1])
    net = network_of(NETWORKS[kind])
    before, one = Phase("a", 20), Phase("a", 20)
    shown = Phase("a", 20, samples=torch.arange(5, 8))
    expected = compile(net, DT, seed=1, backend="reference", dtype="float64")
    start, _ = expected.run(expected.init(1), before)
    state, found = start, []
    for sample in range(5, 8):
        part = dataclasses.replace(one, samples=torch.tensor([sample]))
        state, _ = expected.run(expected.fresh(state) if rest else state, part)
    for count in (1, 2):
        threads(count)
        simulator = compile(net, DT, seed=1, backend="cpu", dtype="float64")
        found.append(simulator.run_batches(start, (shown,), rest))
        agree(((expected, state, {}), (simulator, found[-1], {})), 1e-9)
    assert [one is not None for one in whole] == [True, True]
    for (path, value), (_, other) in zip(leaves(found[0].activity), leaves(found[1].activity), strict=True):
        assert torch.equal(value, other), path


def test_events_of_a_population_whose_products_are_formed_ahead():
    """Nothing but their recording reads these spikes: they are listed all the same."""
    given = torch.as_tensor((np.random.default_rng(2).random((300, 1, 150)) < 0.1).astype(float))
    net = Network(
        [Population("input", 150, SpikeRelay()), Population("e", 100, LIF(tau_mem=10.0))],
        [Projection("input", "e", Uniform(0.0, 0.2), name="w", delay=0.0)],
        input="input",
        output="e",
    )
    results = both(net, (Phase("a", 300, {"input": given}),), [Probe("input", "spike", events=True)])
    agree(results, 1e-9)
    builders = [builder for builder, _ in results[1][0]._programs.values()]
    assert builders[0].early == ("w",)
    assert builders[0].populations.listed_only == ["input.spike"]
    assert len(results[1][2]["input.spike"]) == given.sum()


COUNTS = [
    Probe("e", "refractory"),
    Probe("i", "refractory", every=4, units=(3, 149)),
    Probe("e", "spike", events=True),
]


@pytest.mark.parametrize(
    ("t_ref", "start", "dtype"),
    [
        (2.0, 0.0, "uint8"),
        (200.0, 0.0, "uint16"),
        (2.0, np.where(np.arange(300) == 7, 255.0, 0.0), "uint8"),
        (2.0, np.where(np.arange(300) == 7, 256.0, 0.0), ""),
        (2.0, Uniform(0.0, 6.0), ""),
        (40000.0, 0.0, ""),
    ],
)
@pytest.mark.parametrize("probes", [COUNTS, COUNTS[2:]], ids=["read", "unread"])
def test_counts_are_kept_as_bytes_and_read_as_numbers(t_ref, start, dtype, probes):
    """Steps of silence of many neurons lie in bytes, unless what a state holds is no count."""
    net = recurrent()
    cells = dataclasses.replace(CELL, t_ref=t_ref)
    populations = [
        one if one.name != "e" else dataclasses.replace(one, neuron=cells, initial={**one.initial, "refractory": start})
        for one in net.populations
    ]
    phases = Phase("a", 60), Phase("b", 20, silent=("ie",))
    results = both(Network(populations, net.projections, input="source", output="e"), phases, probes)
    agree(results, 1e-9)
    simulator, state, recording = results[1]
    assert len(recording["e.spike"]) > 10
    (work,) = simulator._workspaces.values()
    assert work.state("e.refractory").array.dtype == (dtype or "float64")
    assert work.state("e.v").array.dtype == "float64"
    simulator.run(state, phases, probes)
    changed = State(copy.deepcopy(state.activity), state.learned, state.clock)
    changed.activity["state"]["e"]["refractory"][..., ::2] = 1.5  # nobody's count
    expected = results[0][0].run(changed, phases, probes)
    agree(((None, *expected), (None, *simulator.run(changed, phases, probes))), 1e-9)
    assert work.state("e.refractory").array.dtype == "float64"


def kernel(bounds=(), at_once=False, units=0):
    """A kernel to be put into a schedule; its block's first number is its name."""
    return Kernel(1, np.zeros(1, np.int64), (), {}, (), (), {}, bounds, units, at_once)


@pytest.mark.parametrize("lanes", [1, 2, 3, 5])
def test_threads_meet_where_they_read_what_others_wrote(lanes):
    parted, whole = (0, 64, 128, 192, 200), kernel(units=7)
    kernels = [kernel(parted), kernel(parted), kernel((0, 64, 90)), kernel(parted, at_once=True), whole, kernel(parted)]
    tables = [schedule.table(kernels, lane, lanes) for lane in range(lanes)]
    calls = [call for table in tables for call in table.tolist() if call[0]]
    for one in kernels:
        found = sorted(call[2:5] for call in calls if call[1] == one.block.ctypes.data)
        parts = [[first, stop, k] for k, (first, stop) in enumerate(pairwise(one.bounds))]
        assert found == (parts or [[0, 7, 0]])  # every part once, by one thread
    if lanes == 1:
        assert all(call[0] for call in tables[0].tolist())
        return
    for table in tables:
        blocks = [call[1] for call in table.tolist()]
        meetings = [at for at, call in enumerate(table.tolist()) if call[0] == 0]
        assert len(meetings) == 4  # before what reads this step's values, before and after the whole, at the end
        assert meetings[-1] == len(table) - 1
        late = {one.block.ctypes.data for one in kernels[3:]}
        assert not late & set(blocks[: meetings[0]])
