"""Updates in kernels: transforms and constraints that look at neighbours, weights that are not those delivered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends import Turned, agree, leaves

from neurosim.backends import compile
from neurosim.backends.cpu import delivery, program
from neurosim.backends.cpu.normals import Normals
from neurosim.backends.cpu.selection import of_rank
from neurosim.backends.synapse import operation
from neurosim.connectivity import Dense, EdgeList, FixedProbability, OneToOne
from neurosim.constraint import Bounds, Dale, DividedByMax, RowNorm
from neurosim.factor import One, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, Relay, SpikeRelay, StaticRate
from neurosim.phase import Phase
from neurosim.random import Normal, Stream
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, SynapseNoise, Term, ThreeFactorRule
from neurosim.transform import (
    Adam,
    Heterosynaptic,
    LessPast,
    Momentum,
    Normalised,
    NormRate,
    Rate,
    Scale,
    Sparsify,
    WeightDecay,
)
from neurosim.vocabulary import abs, power

BATCH, STEPS, PRES, POSTS = 3, 4, 7, 5
HEBB = (Term(post("rate"), pre("rate")),)
SIGNS = np.where(np.arange(PRES) % 2, 1, -1)

UPDATES = {
    "by the largest": ((Normalised("all"), Rate(0.1)), (Bounds(-0.8, 0.9),)),
    "by the largest of a row": ((Rate(0.3), Normalised("row")), (DividedByMax("row"),)),
    "by the norm of a row": ((Normalised("row", by="norm"), Adam(0.01)), (RowNorm(2.0),)),
    "softhebb": ((Normalised("all"), NormRate(0.5), Rate(0.05)), ()),
    "hebbnet": ((LessPast(0.1), Sparsify(70.0)), (DividedByMax(),)),
    "largest in size": ((Sparsify(33.0, by="size"), Momentum(0.1)), (RowNorm(1.5, order=1), Bounds(-0.3, 0.4))),
    "blocks": ((Heterosynaptic(0.3, 3), Rate(0.2)), ()),
    "blocks as long": ((Rate(0.2), Heterosynaptic(0.3, 3, normalise="norm")), (Dale(),)),
    "permuted blocks": ((Heterosynaptic(-0.3, 3, "permuted", "trace"), Adam(0.01)), ()),
    "flat blocks": ((Heterosynaptic(0.3, 4, "flat", "norm"),), (RowNorm(2.0),)),
    "signs of pre neurons": ((Rate(0.5),), (Dale(SIGNS),)),
}
WIRES = {"dense": Dense(), "sparse": FixedProbability(0.6), "one to one": OneToOne()}
WHEN = {
    "step": {"when": "step", "reduce": "mean"},
    "phase": {"when": "phase", "accumulate": "mean", "reduce": "sum"},
    "last": {"when": "phase", "accumulate": "last"},
}


def layer(rule, wire="dense", posts=POSTS, **more):
    """Rates that arrive at tanh units through plastic synapses."""
    posts = PRES if wire == "one to one" else posts
    return Network(
        [Population("a", PRES, Relay()), Population("b", posts, StaticRate("tanh"))],
        [Projection("a", "b", Normal(0.0, 0.5), WIRES[wire], delay=0, bias=True, rule=rule, name="w", **more)],
    )


def shown(turn, batch=BATCH):
    numbers = torch.Generator().manual_seed(turn)
    drive = torch.randn(STEPS, batch, PRES, generator=numbers, dtype=torch.float64)
    return Phase("p", STEPS, {"a": drive}, signals={"reward": torch.ones(batch, 1)})


def check(net, tolerance=1e-11, turns=3, probes=(), dtype="float64", phase=shown):
    """Both backends, several phases; the simulator on the CPU. The weights of "w" change."""
    results = []
    for backend in ("reference", "cpu"):
        simulator = compile(net, 1.0, seed=3, replicas=2, backend=backend, dtype=dtype)
        state = simulator.init(BATCH)
        for turn in range(turns):
            given = phase(turn)
            if dtype == "float32":
                given = Phase("p", STEPS, {name: drive.float() for name, drive in given.drive.items()})
            state, recording = simulator.run(state, given, probes)
        results.append((simulator, state, recording))
    agree(results, tolerance)
    before, after = (one.learned["weight"]["w"] for one in (simulator.init(BATCH), state))
    assert not torch.equal(before, after)
    return simulator


@pytest.mark.parametrize("when", ["step", "last"])
@pytest.mark.parametrize("name", UPDATES)
def test_neighbours(name, when):
    transforms, constraints = UPDATES[name]
    rule = ThreeFactorRule((Component(HEBB),), transforms=transforms, constraints=constraints, **WHEN[when])
    assert not check(layer(rule)).uncompiled()


@pytest.mark.parametrize("wire", ["sparse", "one to one"])
@pytest.mark.parametrize("name", UPDATES)
def test_neighbours_of_other_wires(name, wire):
    transforms, constraints = UPDATES[name]
    rule = ThreeFactorRule((Component(HEBB),), transforms=transforms, constraints=constraints, **WHEN["phase"])
    assert not check(layer(rule, wire)).uncompiled()


@pytest.mark.parametrize("name", ["softhebb", "signs of pre neurons", "blocks as long"])
def test_long_rows(name):
    """More post neurons than rows are joined for."""
    transforms, constraints = UPDATES[name]
    rule = ThreeFactorRule((Component(HEBB),), transforms=transforms, constraints=constraints, **WHEN["step"])
    assert not check(layer(rule, posts=70)).uncompiled()


def test_single_precision():
    transforms, constraints = UPDATES["by the norm of a row"]
    rule = ThreeFactorRule((Component(HEBB),), transforms=transforms, constraints=constraints, **WHEN["phase"])
    check(layer(rule), 2e-5, turns=2, dtype="float32")


def test_edges_of_one_replica_only():
    """A percentile, and blocks, of a projection that has no synapse at all."""
    rule = ThreeFactorRule((Component(HEBB),), transforms=(Sparsify(50.0), Heterosynaptic(0.3, 2)), when="phase")
    net = layer(rule)
    empty = Projection("a", "b", 0.5, EdgeList([], []), delay=0, rule=rule, name="none")
    check(net.with_parts(projections=(empty,)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["different", "many equals", "mostly zero", "sorted", "all the same"])
def test_a_rank_among_many(kind, dtype):
    x = np.random.default_rng(1).standard_normal(30_000)
    if kind == "many equals":
        x = np.round(x, 1)
    elif kind == "mostly zero":
        x[np.random.default_rng(2).random(len(x)) < 0.8] = 0.0
    elif kind == "all the same":
        x[:] = 3.0
    x = x.astype(dtype)
    ordered = np.sort(x)
    x = ordered if kind == "sorted" else x
    for count in (1, 2048, 2049, len(x)):
        part = np.sort(x[:count])
        for rank in {0, 1 % count, count // 3, 9 * count // 10, count - 1}:
            assert of_rank(x[:count].copy(), rank) == part[rank]


@pytest.mark.parametrize("grouping", ["row", "permuted", "flat"])
@pytest.mark.parametrize("wire", ["dense", "sparse"])
def test_groups_are_those_of_the_sums(wire, grouping):
    simulator = compile(layer(None, wire), 1.0, seed=3, replicas=2, dtype="float64")
    synapses = simulator.plan.synapses["w"]
    weight = simulator.init(1).learned["weight"]["w"]
    own = operation(synapses, 2, torch.device("cpu"))
    groups = own.groups(weight, 3, grouping, 5)
    if wire == "dense":
        groups = groups + torch.arange(2)[:, None, None] * (int(groups.max()) + 1)
    sums = torch.zeros(int(groups.max()) + 1, dtype=weight.dtype).index_add(0, groups.flatten(), weight.flatten())
    expected, size = own.block_sum(weight, 3, grouping, 5)
    torch.testing.assert_close(sums[groups], expected)
    assert torch.equal(groups.flatten().bincount()[groups].to(weight), size.expand(weight.shape))


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    transforms, constraints = UPDATES["blocks as long"]
    rule = ThreeFactorRule((Component(HEBB),), transforms=transforms, constraints=constraints, **WHEN["step"])
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            simulator = compile(layer(rule), 1.0, seed=1, replicas=5, backend="cpu")
            phase = Phase("p", STEPS, {name: drive.float() for name, drive in shown(0).drive.items()})
            found.append(simulator.run(simulator.init(BATCH), phase)[0].learned["weight"]["w"])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)


def test_batches_in_one_call():
    """The bits of a run for each."""
    transforms, constraints = UPDATES["hebbnet"]
    rule = ThreeFactorRule((Component(HEBB),), transforms=transforms, constraints=constraints, **WHEN["phase"])
    simulator = compile(layer(rule), 1.0, seed=3, replicas=2, backend="cpu", dtype="float64")
    whole = shown(0, 4 * BATCH)
    found = simulator.run_batches(simulator.init(BATCH), (whole,))
    state = simulator.init(BATCH)
    for first in range(0, 4 * BATCH, BATCH):
        part = Phase("p", STEPS, {"a": whole.drive["a"][:, first : first + BATCH]})
        state, _ = simulator.run(state, part)
    for (path, value), (_, other) in zip(leaves(found.learned), leaves(state.learned), strict=True):
        assert torch.equal(value, other), path


# ---- what has no kernel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", WHEN)
def test_what_has_no_word_is_torchs_and_told(when):
    rule = ThreeFactorRule((Component(HEBB),), transforms=(Turned(),), bias_transforms=(Rate(0.1),), **WHEN[when])
    (reason,) = check(layer(rule)).uncompiled()
    assert "Turned does what has no kernel: flip" in reason


# ---- spikes ----------------------------------------------------------------------------------------------------------


def steep(w, w_max):
    """1 - w / w_max."""
    return 1.0 - w / w_max


@pytest.mark.parametrize("posts", [POSTS, 70])
@pytest.mark.parametrize("constraints", [(RowNorm(2.0, order=1),), (Dale(),), (Bounds(0.0, 0.5),)], ids=repr)
@pytest.mark.parametrize("transforms", [(Rate(0.1),), (Momentum(0.1), WeightDecay(0.01))], ids=repr)
def test_changes_of_spiking_terms(transforms, constraints, posts):
    """Changes are formed where neurons spiked; then every synapse is updated, unless those may stay as they are."""
    spike = post("spike")
    terms = (
        Term(spike, One("pre"), OfWeight(steep, (2.0,))),
        Term(spike, pre("spike")),
        Term(One("post"), pre("spike")),
    )
    rule = ThreeFactorRule((Component(terms),), transforms=transforms, constraints=constraints, reduce="sum")
    net = Network(
        [Population("a", PRES, SpikeRelay()), Population("b", posts, LIF(tau_mem=5.0, v_th=0.4))],
        [Projection("a", "b", Normal(0.4, 0.3), delay=0, bias=True, rule=rule, name="w")],
    )

    def spikes(turn):
        return Phase("p", STEPS, {"a": (shown(turn).drive["a"] > 0.5).double()})

    assert not check(net, phase=spikes, probes=[Probe("b", "spike")]).uncompiled()


# ---- delivered and learned -------------------------------------------------------------------------------------------


def bent(w, exponent):
    """w |w|^exponent."""
    return w * power(abs(w), exponent)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("wire", WIRES)
def test_a_transfer(wire, when):
    growth = Term(post("rate"), One("pre"), OfWeight(steep, (2.0,)))  # reads the learned weight
    rule = ThreeFactorRule((Component((*HEBB, growth)),), transforms=(Rate(0.1),), **WHEN[when])
    net = layer(rule, wire, transfer=OfWeight(bent, (0.7,)))
    assert not check(net, probes=[Probe("w", "weight"), Probe("b", "rate")]).uncompiled()


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("wire", WIRES)
def test_noise_on_weights(wire, when):
    terms = (Term(post("rate"), One("pre"), SynapseNoise(0.3)), *HEBB)
    rule = ThreeFactorRule((Component(terms),), transforms=(Rate(0.1),), constraints=(Bounds(-0.4, 0.4),), **WHEN[when])

    def phase(turn):
        one = shown(turn)
        return Phase("p", STEPS, one.drive, noise=turn != 1)

    net = layer(rule, wire, transfer=OfWeight(bent, (0.7,)))
    assert not check(net, probes=[Probe("w", "weight"), Probe("b", "rate")], phase=phase).uncompiled()


def test_normals_of_a_stream():
    """For every replica and every element, beyond what a kernel draws at once."""
    stream, replica = Stream(3, "perturbation/w"), torch.arange(2)[:, None]
    draw = Normals(2)
    for step, count in ((0, 1), (7, 1500), (8, 1500), (7, 1500)):
        expected = stream.normal(replica, 0, step, torch.arange(count))
        torch.testing.assert_close(draw(stream, step, count), expected, rtol=1e-14, atol=1e-15)


def tied(how, rule, wire="dense", weight=0.5, **more):
    """What `b` sends goes back along the weights of `w`."""
    net = layer(rule, wire, **more)
    back = Projection("b", "c", weight, WIRES[wire], delay=0, tied=("w", how), name="back")
    return net.with_parts((Population("c", PRES, StaticRate("linear")),), (back,))


@pytest.mark.parametrize("when", ["step", "phase"])
@pytest.mark.parametrize("wire", ["dense", "one to one"])
@pytest.mark.parametrize("how", ["sign", "transpose"])
def test_ties(how, wire, when):
    rule = ThreeFactorRule((Component(HEBB),), transforms=(Scale(-0.5),), **WHEN[when])
    weight = Normal(0.0, 0.5) if how == "sign" else 0.0
    assert not check(tied(how, rule, wire, weight), probes=[Probe("c", "rate")]).uncompiled()


@pytest.mark.parametrize("when", ["step", "phase"])
def test_a_tie_to_weights_that_pass_through_something(when):
    """It is tied to what is learned."""
    terms = (Term(post("rate"), One("pre"), SynapseNoise(0.3)), *HEBB)
    rule = ThreeFactorRule((Component(terms),), transforms=(Rate(0.1),), **WHEN[when])
    net = tied("transpose", rule, weight=0.0, transfer=OfWeight(bent, (0.7,)))
    assert not check(net, probes=[Probe("c", "rate")]).uncompiled()


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("how", ["sign", "transpose"])
def test_large_products(how, when, monkeypatch):
    """Torch multiplies, kernels learn; a second projection adds to the same port."""
    monkeypatch.setattr(delivery, "MATRIX_PRODUCT", 0)
    rule = ThreeFactorRule((Component(HEBB),), transforms=(Rate(0.1),), constraints=(RowNorm(1.0),), **WHEN[when])
    net = tied(how, rule, weight=0.5 if how == "sign" else 0.0)
    late = Projection("a", "c", Normal(0.0, 0.5), delay=2, bias=0.3, name="late")
    simulator = check(net.with_parts(projections=(late,)), probes=[Probe("c", "rate"), Probe("b", "rate")])
    reasons = simulator.uncompiled()
    assert len(reasons) == 3
    assert all("a large matrix product of rates" in reason and "learns" not in reason for reason in reasons)
