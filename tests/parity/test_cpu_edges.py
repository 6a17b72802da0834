"""Edges on the CPU backend: sorted by counting, drawn in pieces, one number where all weights are equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends import DT, agree, both

from neurosim import connectivity
from neurosim.backends import compile
from neurosim.backends.cpu.edges import Edges
from neurosim.connectivity import EdgeList, FixedInDegree
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Phase
from neurosim.random import Stream
from neurosim.recorder import Probe

POSTS, PRES, REPLICAS, COUNT = 90, 70, 2, 3000


@pytest.mark.parametrize("delays", [1, 3])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("bounds", [(0, POSTS), (0, 20, 64, POSTS)])
def test_edges_are_sorted_by_delay_pre_part_and_post(delays, in_order, bounds):
    generator = np.random.default_rng(3)
    chosen = generator.choice(REPLICAS**2 * POSTS * PRES // REPLICAS, COUNT, replace=False)
    post, pre = (chosen // PRES).astype(np.int32), (chosen % PRES + chosen // PRES // POSTS * PRES).astype(np.int32)
    if in_order:
        order = np.lexsort((pre, post))
        post, pre = post[order], pre[order]
    delay = generator.integers(1, 1 + delays, COUNT) if delays > 1 else 1
    edges = Edges(post, pre, delay, (REPLICAS, POSTS, PRES), bounds)
    part = np.searchsorted(bounds, post % POSTS, side="right") - 1
    every = np.broadcast_to(delay, COUNT)
    expected = np.lexsort((post, part, pre, every))
    np.testing.assert_array_equal(edges.order, expected)
    np.testing.assert_array_equal(edges.post, post[expected] % POSTS)
    parts, begin = len(bounds) - 1, 0
    for level in edges.levels:
        own = every == level.delay
        counts = np.bincount(pre[own].astype(int) * parts + part[own], minlength=REPLICAS * PRES * parts)
        np.testing.assert_array_equal(level.pointer, begin + np.concatenate(([0], np.cumsum(counts))))
        begin += own.sum()


@pytest.mark.parametrize("same", [False, True])
def test_edges_drawn_in_pieces_are_those_drawn_at_once(same, monkeypatch):
    stream = Stream(5, "wiring")
    whole = FixedInDegree(7).edges(40, 40, same, stream, 1)
    monkeypatch.setattr(connectivity, "DRAWN", 7 * 6)
    pieces = FixedInDegree(7).edges(40, 40, same, stream, 1)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one, other)
    for i in range(40):
        own = whole[1][whole[0] == i]
        assert len(set(own)) == 7
        assert not (same and i in own)


def network(weight):
    post, pre = np.random.default_rng(1).integers(0, 50, (2, 800))
    return Network(
        [Population("source", 50, PoissonSource(rate=80.0)), Population("out", 50, LIF(v_th=100.0))],
        [Projection("source", "out", weight, EdgeList(post, pre), name="in")],
        input="source",
        output="out",
    )


@pytest.mark.parametrize("weight", [2.0, np.random.default_rng(2).uniform(0.5, 2.0, 800)], ids=["equal", "different"])
def test_weights_of_edges(weight):
    results = both(network(weight), (Phase("a", 20),), [Probe("out", "v")])
    agree(results, 1e-9)
    assert np.ptp(results[1][2]["out.v"]) > 1.0


def test_equal_weights_may_become_different_and_equal_again():
    simulators = [compile(network(2.0), DT, seed=1, backend=name, dtype="float64") for name in ("reference", "cpu")]
    values = []
    for simulator in simulators:
        state, found = simulator.init(1), []
        given = state.learned["weight"]["in"]
        for weight in (given, torch.linspace(0.5, 2.0, given.numel(), dtype=given.dtype), 0.5 * given, given):
            state.learned["weight"] = {**state.learned["weight"], "in": weight}
            state, recording = simulator.run(state, (Phase("a", 15),), [Probe("out", "v")])
            found.append(recording["out.v"])
        values.append(found)
    for expected, found in zip(*values, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
