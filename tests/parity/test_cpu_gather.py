"""Rates along sparse edges are gathered by post neuron; random numbers come several at a time: the same bits."""

import numpy as np
import pytest
import torch
from backends import DT, agree, both

from neurosim.backends import compile
from neurosim.backends.cpu import program
from neurosim.backends.cpu.gather import LANES, layout
from neurosim.backends.cpu.kernels import noise
from neurosim.backends.cpu.machine import drive
from neurosim.backends.cpu.noise import normal
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.writer import Buffer
from neurosim.connectivity import EdgeList, FixedInDegree, FixedProbability
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyRate, Relay
from neurosim.phase import Held, Phase
from neurosim.random import Normal, Stream, Uniform
from neurosim.recorder import Probe


def reservoir(connectivity=None, units=37, **settings):
    """Relay -> tanh units -> fewer tanh units and back: sizes that fill no whole number of vectors."""
    connectivity = connectivity or FixedProbability(0.4)
    return Network(
        [
            Population("input", 11, Relay()),
            Population("cells", units, LeakyRate(tau_mem=3.0)),
            Population("output", 5, LeakyRate(tau_mem=2.0)),
        ],
        [
            Projection("input", "cells", Normal(0.0, 0.5), FixedProbability(0.3), name="in", delay=0.0, bias=0.1),
            Projection("cells", "cells", Normal(0.0, 0.4), connectivity, name="w", **settings),
            Projection("cells", "output", Normal(0.0, 0.5), FixedInDegree(9), name="out"),
        ],
    )


WIRES = {
    "one delay": {},
    "bias": {"bias": Normal(0.0, 0.1)},
    "delays by synapse": {"delay": Uniform(0.5, 3.0)},
    "in-degree": {"connectivity": FixedInDegree(7)},
    "few edges": {"connectivity": FixedProbability(0.02)},
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gathered_rates_are_those_of_the_reference(wire, dtype):
    network = reservoir(**WIRES[wire])
    drives = {"input": torch.randn(30, 2, 3, 11, generator=torch.Generator().manual_seed(2))}
    probes = [Probe("cells", "rate"), Probe("output", "v")]
    results = both(network, Phase("p", 30, drives), probes, batch=3, replicas=2, dtype=dtype)
    agree(results, 1e-12 if dtype == "float64" else 2e-6)
    assert not results[1][0].uncompiled()
    builder, _ = next(iter(results[1][0]._programs.values()))
    assert all(delivery.gathers for delivery in builder.deliveries.values())


def test_any_number_of_threads_gathers_the_same_bits(monkeypatch):
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    drives = {"input": torch.randn(20, 3, 4, 11, generator=torch.Generator().manual_seed(2))}
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):  # shares of replicas, then of rows
            torch.set_num_threads(threads)
            simulator = compile(reservoir(), DT, seed=1, replicas=3, backend="cpu")
            found.append(simulator.run(simulator.init(4), Phase("p", 20, drives), [Probe("output", "v")])[1])
    finally:
        torch.set_num_threads(before)
    for recording in found[1:]:
        np.testing.assert_array_equal(recording["output.v"], found[0]["output.v"])


def test_each_neuron_adds_its_edges_in_the_order_of_the_pre_neurons():
    """Bit for bit, with neurons of none to many edges, and whatever order the edges were given in."""
    generator = np.random.default_rng(4)
    units, dtype = 45, np.float32
    many = generator.integers(0, 60, units)  # edges of each neuron; a pair may have several
    post, pre = np.repeat(np.arange(units), many), generator.integers(0, units, many.sum())
    shuffled = generator.permutation(len(post))
    post, pre = post[shuffled], pre[shuffled]
    weight = generator.standard_normal(len(post)).astype(dtype)
    given = generator.standard_normal((1, units)).astype(dtype)
    network = Network(
        [Population("input", units, Relay()), Population("cells", units, LeakyRate(tau_mem=1e-3))],
        [Projection("input", "cells", weight, EdgeList(post, pre), name="w", delay=0.0)],
    )
    simulator = compile(network, DT, backend="cpu", dtype="float32")
    drives = {"input": Held(torch.from_numpy(given))}
    state, _ = simulator.run(simulator.init(1), Phase("p", 1, drives))
    expected = np.zeros(units, dtype)
    for edge in np.lexsort((pre, post)):
        expected[post[edge]] += weight[edge] * given[0, pre[edge]]
    np.testing.assert_array_equal(state.activity["state"]["cells"]["v"].numpy().reshape(-1), expected)


def test_an_infinite_rate_reaches_only_those_it_is_connected_to():
    units = 40
    post, pre = np.repeat(np.arange(units), 3), np.tile([1, 2, 3], units)
    keep = (pre != 2) | (post < 5)
    pre[(pre == 1) & (post >= 20)] = 0
    network = Network(
        [Population("input", 4, Relay()), Population("cells", units, LeakyRate(activation="relu"))],
        [Projection("input", "cells", 1.0, EdgeList(post[keep], pre[keep]), name="w", delay=0.0)],
    )
    simulator = compile(network, DT, backend="cpu")
    for infinite, reached in ((2, range(5)), (0, range(20, units))):
        given = torch.ones(1, 4)
        given[0, infinite] = torch.inf
        state, _ = simulator.run(simulator.init(1), Phase("p", 1, {"input": Held(given)}))
        found = np.flatnonzero(~np.isfinite(state.activity["state"]["cells"]["v"].numpy().reshape(-1)))
        assert list(found) == list(reached)


def test_more_pre_neurons_than_16_bits_count():
    units, far = 70_000, (3, 65_537, 69_999)
    post, pre = np.repeat(np.arange(20), 3), np.tile(far, 20)
    network = Network(
        [Population("input", units, Relay()), Population("cells", 20, LeakyRate())],
        [Projection("input", "cells", Uniform(0.5, 1.0), EdgeList(post, pre), name="w", delay=0.0)],
    )
    drives = {"input": Held(torch.arange(units)[None] / units)}
    agree(both(network, Phase("p", 3, drives), [Probe("cells", "rate")]), 1e-12)


def test_the_layout_is_a_permutation_that_keeps_replicas_apart():
    generator = np.random.default_rng(6)
    post, pre = generator.integers(0, 3 * 50, 2000), generator.integers(0, 3 * 20, 2000)
    pre = pre % 20 + post // 50 * 20
    laid = layout(post, pre, (3, 50, 20), LANES["float64"])
    assert sorted(laid.order) == list(range(2000))
    for chunk, (start, count) in enumerate(zip(laid.start, laid.count, strict=True)):
        own = post[laid.order[start : start + count * 8]].reshape(count, 8)
        np.testing.assert_array_equal(own, np.tile(laid.rows[chunk] + chunk // 6 * 50, (count, 1)))
    assert laid.rest_of[0] == 0
    assert laid.rest_of[-1] == len(laid.rest)
    assert laid.rest_edges[-1] == 2000


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("units", [3, 32, 77])
def test_uniform_numbers_have_the_bits_of_the_stream(dtype, units):
    stream, samples = Stream(7 + (11 << 32), "noise/x/uniform"), np.array([4, 2**32 - 1, 9])
    room = np.full(6 * units + 100, -1.0, dtype)
    out = Buffer(room[: 6 * units].reshape(1, 2, 3, units))
    kernel = noise(dtype, "uniform", stream.key, (3, units), "ids", out, (0, units))
    kernel.feed("ids", np.broadcast_to(samples[None, :, None], (2, 3, 1)), 3)
    kernel.begin(2**31 + 5, 1)
    drive(table([kernel]), 2**31 + 5, 2**31 + 6, 0, 2, 0, 3)
    address = torch.arange(2)[:, None, None], torch.as_tensor(samples)[:, None], 2**31 + 5, torch.arange(units)
    expected = stream.uniform(*address, dtype=getattr(torch, dtype)).numpy()
    np.testing.assert_array_equal(out.array[0], expected)
    assert (room[6 * units :] == -1.0).all(), "written behind the last unit"


@pytest.mark.parametrize("kind", ["normal", "held_normal"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("units", [1, 32, 290])
def test_normal_numbers_are_those_of_the_stream(dtype, units, kind):
    """Side by side and one by one they have the same bits, which differ from the stream's in the last places only."""
    stream, samples = Stream(7 + (11 << 32), "noise/x/normal"), np.array([4, 2**32 - 1, 9])
    out = Buffer(np.full((1, 2, 3, units), -1.0, dtype))
    kernel = noise(dtype, kind, stream.key, (3, units), "ids", out, (0, units))
    kernel.feed("ids", np.broadcast_to(samples[None, :, None], (2, 3, 1)), 3)
    kernel.begin(2**31 + 5, 4)
    for step in range(4):
        drive(table([kernel]), 2**31 + 5 + step, 2**31 + 6 + step, 0, 2, 0, 3)
        at = 2**31 + 5 + (step if kind == "normal" else 0)
        address = torch.arange(2)[:, None, None], torch.as_tensor(samples)[:, None], at, torch.arange(units)
        expected = stream.normal(*address, dtype=getattr(torch, dtype)).numpy()
        np.testing.assert_allclose(out.array[0], expected, rtol=0, atol=1e-14 if dtype == "float64" else 2e-6)
        words = np.uint64([at, 4, 1, *stream.key])
        alone = np.array([normal(dtype)(np.uint64(n), *words) for n in range(units)], dtype)
        np.testing.assert_array_equal(out.array[0, 1, 0], alone)
