"""Products formed for all steps at once: the same spikes, states and weights as the reference, wherever it is done."""

import numpy as np
import pytest
import torch
from backends import DT, agree, both

from neurosim.backends import compile
from neurosim.backends.cpu import ahead
from neurosim.backends.cpu.listed import laid_product, listed_product, nonzero_inputs, tiles
from neurosim.factor import Trace, post, pre
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, Relay, SpikeRelay
from neurosim.phase import Held, Phase
from neurosim.random import Normal
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate

STEPS, BATCH, Q, P = 30, 3, 40, 150  # P is no multiple of the kernel's tile


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setattr(ahead, "LEAST_ROWS", 1)


def rule(when):
    term = Term(post("slope"), Trace(pre("spike"), 10.0))
    return ThreeFactorRule(
        (Component((term,), tau=8.0),), modulator=Broadcast("reward"), accumulate="last", when=when,
        transforms=(Rate(0.05),),
    )  # fmt: skip


def network(source=SpikeRelay, **settings):
    """input -> cells, with a recurrent projection beside it."""
    settings = {"delay": 0, **settings}
    return Network(
        (Population("input", Q, source()), Population("cells", P, LIF(tau_mem=10.0))),
        (
            Projection("input", "cells", Normal(0.1, 0.2), name="w", **settings),
            Projection("cells", "cells", Normal(0.0, 0.05), name="back"),
        ),
        output="cells",
    )


def phase(density=0.1, learn=True, **settings):
    generator = np.random.default_rng(2)
    x = torch.as_tensor((generator.random((STEPS, BATCH, Q)) < density).astype(float))
    reward = torch.as_tensor(generator.standard_normal((BATCH, 1)))
    return Phase("p", STEPS, {"input": x}, {"reward": reward}, learn=learn, **settings)


PROBES = [Probe("cells", "spike"), Probe("cells", "v"), Probe("input", "spike")]


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9])  # listed inputs, and the matrix product
@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("bias", [False, 0.3])
@pytest.mark.parametrize("cached", [0, 2**22])  # weights read in tiles, and as they lie
def test_forward(density, replicas, bias, cached, monkeypatch):
    monkeypatch.setattr(ahead, "CACHED", cached)
    results = both(network(bias=bias), phase(density), PROBES, batch=BATCH, replicas=replicas)
    agree(results, 1e-10)
    simulator = results[1][0]
    assert ahead.chosen(simulator, phase(density), BATCH) == ("w",)
    assert results[1][2]["cells.spike"].any() == (density > 0 or bool(bias))


@pytest.mark.parametrize("when", ["sample", "phase", "step"])
def test_learning(when):
    phases = phase(), phase(0.3), phase(learn=False)
    results = both(network(rule=rule(when)), phases, PROBES[:2], batch=BATCH)
    agree(results, 1e-9)
    start = results[0][0].init(BATCH).learned["weight"]["w"]
    assert (results[1][1].learned["weight"]["w"] - start).abs().max() > 1e-3
    learning, still = (ahead.chosen(results[1][0], one, BATCH) for one in (phases[0], phases[2]))
    assert (learning, still) == (() if when == "step" else ("w",), ("w",))


def test_of_rates():
    results = both(network(Relay), phase(0.5), PROBES[:2], batch=BATCH)
    agree(results, 1e-10)
    assert ahead.chosen(results[1][0], phase(0.5), BATCH) == ("w",)
    assert not results[1][0].uncompiled()


@pytest.mark.parametrize(
    ("settings", "condition"),
    [
        ({"delay": DT}, {}),
        ({}, {"silent": ("w",)}),
        ({}, {"drive": {"input": Held(torch.ones(BATCH, Q))}}),
        ({}, {"drive": {}}),
    ],
)
def test_not_where_it_would_be_wrong(settings, condition):
    simulator = compile(network(**settings), DT, backend="cpu")
    given = {"drive": {"input": torch.ones(STEPS, BATCH, Q)}, **condition}
    assert ahead.chosen(simulator, Phase("p", STEPS, **given), BATCH) == ()
    results = both(network(**settings), Phase("p", STEPS, **given), PROBES, batch=BATCH)
    agree(results, 1e-10)


def test_few_rows_are_delivered_step_by_step(monkeypatch):
    simulator = compile(network(), DT, backend="cpu")
    monkeypatch.setattr(ahead, "LEAST_ROWS", STEPS * BATCH + 1)
    assert ahead.chosen(simulator, phase(), BATCH) == ()


def test_the_memory_it_takes_is_bounded(monkeypatch):
    simulator = compile(network(), DT, backend="cpu")
    monkeypatch.setattr(ahead, "MOST_BYTES", 4 * STEPS * BATCH * P - 1)
    assert ahead.chosen(simulator, phase(), BATCH) == ()
    unlisted = compile(network(Relay), DT, backend="cpu")  # formed some steps at a time
    assert ahead.chosen(unlisted, phase(), BATCH) == ("w",)


@pytest.mark.parametrize("last", [None, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_listed_product_adds_in_the_order_of_the_inputs(dtype, last):
    """Any values; spikes, which are all 1; all 1 but one."""
    generator = np.random.default_rng(4)
    rows = (generator.random((7, 50)) * (generator.random((7, 50)) < 0.3)).astype(dtype)
    rows[3] = 0.0
    if last is not None:
        rows = (rows != 0).astype(dtype)
        rows[6, 49] = last
    weight = generator.standard_normal((P, 50)).astype(dtype)
    pointer, index, value, few = nonzero_inputs(rows, rows.size)
    out = np.full((7, P), np.nan, dtype)
    listed_product(pointer, index, value, tiles(weight), out)
    laid = np.full((7, P), np.nan, dtype)
    laid_product(pointer, index, value, np.ascontiguousarray(weight.T), laid)
    expected = np.zeros_like(out)
    for j in range(50):
        expected += rows[:, j : j + 1] * weight[:, j]
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(laid, expected)
    assert few
    assert not nonzero_inputs(rows, 5)[3]


def test_weights_that_changed_between_phases_arrive():
    """A weight that is new in every phase is read as it lies; tiles are made of one that comes again, and kept."""
    results = []
    for backend in ("reference", "cpu"):
        simulator = compile(network(rule=rule("phase")), DT, seed=3, backend=backend, dtype="float64")
        state, recordings = simulator.init(BATCH), []
        for learn in (True, True, False, False, False, True, False):
            state, recording = simulator.run(state, phase(learn=learn), PROBES)
            recordings.append(recording["cells.v"])
        results.append((simulator, state, {}))
        results[-1][2]["v"] = np.stack(recordings)
    np.testing.assert_allclose(results[1][2]["v"], results[0][2]["v"], rtol=1e-10, atol=1e-10)
    (kept,) = results[1][0]._products._tiles.values()
    assert kept[0] is not results[1][1].learned["weight"]["w"]  # of the phases in which it stayed
    assert not torch.equal(results[1][1].learned["weight"]["w"], results[1][0].init(1).learned["weight"]["w"])


def test_a_recording_stays_as_it_is_when_the_next_is_made():
    simulator = compile(network(), DT, backend="cpu", dtype="float64")
    state, first = simulator.run(simulator.init(BATCH), phase(), PROBES)
    before = {key: first[key].copy() for key in first}
    _, second = simulator.run(state, phase(), PROBES)
    for key in first:
        np.testing.assert_array_equal(first[key], before[key])
    assert not np.array_equal(first["cells.v"], second["cells.v"])
