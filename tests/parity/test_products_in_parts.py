"""Products formed some steps at a time, right before they are read: the reference's results, and the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backends import DT, agree, both
from nets import normal, raster
from test_gradient_phases import B, N, T, compared, gradient, shown, wired

from neurosim.backends import compile
from neurosim.backends.cpu import ahead, blocks, program, spans
from neurosim.backends.cpu.rooms import LEAST
from neurosim.backends.gradient.step import Product
from neurosim.connectivity import Dense, FixedProbability
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, CubaLIF, GatedRelay, LeakyRate, Relay
from neurosim.phase import Held, Phase
from neurosim.random import Normal
from neurosim.recorder import Probe
from neurosim.surrogate import FastSigmoid

SURROGATE = FastSigmoid(2.0)


@pytest.fixture
def parts(monkeypatch):
    """Parts of at most 5 of 12 steps; what was formed, as (steps, columns)."""
    monkeypatch.setattr(spans, "ROWS", 5 * B)
    monkeypatch.setattr(spans, "BYTES", 1)
    monkeypatch.setattr(ahead, "LEAST_ROWS", 1)
    monkeypatch.setattr(ahead, "LEAST_WORK", 1)
    found = []

    def watched(owner, name, seen):
        function = getattr(owner, name)

        def wrapper(*arguments):
            found.append(seen(*arguments))
            return function(*arguments)

        monkeypatch.setattr(owner, name, wrapper)

    watched(Product, "form", lambda product, first, stop, out: (stop - first, len(product.weight[0])))
    watched(ahead, "_form", lambda drive, weight, bias, span, array: (span[1] - span[0], len(weight[0])))
    return found


def deep(**settings):
    """Input -> spikes -> spikes -> leaky readout, with biases, a delay, two projections on one port (one of which
    is no product), and one on another.
    """
    rule = gradient(**settings)
    return Network(
        (
            Population("input", 5, Relay()),
            Population("first", N, LIF(5.0, v_th=0.5, t_ref=1.0, surrogate=SURROGATE)),
            Population("second", 7, CubaLIF(surrogate=SURROGATE)),
            Population("output", 4, LeakyRate(5.0, "linear")),
        ),
        (
            Projection("input", "first", Normal(0.2, 0.3), delay=0, bias=True, name="in", rule=rule),
            Projection("input", "first", Normal(0.0, 0.1), delay=2 * DT, port="current", name="late", rule=rule),
            Projection("input", "first", Normal(0.1, 0.3), FixedProbability(0.5), delay=0, name="some", rule=rule),
            Projection("first", "second", Normal(2.0, 2.0), delay=DT, bias=0.1, name="middle", rule=rule),
            Projection("input", "second", Normal(0.5, 0.5), delay=0, name="around", rule=rule),
            Projection("second", "output", Normal(0.0, 0.5), delay=0, bias=True, name="out", rule=rule),
        ),
    )


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize(("kept", "block"), [(2**26, 2**20), (0, 1), (0, 2 * 3 * 8 * B * N)])
def test_gradients(kept, block, through_time, parts, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_KEPT", kept)
    monkeypatch.setattr(blocks, "BLOCK", block)
    phases = shown(("input", lambda k: 1.0 + normal(T, B, 5, seed=k)))
    learns = None if through_time else ("middle", "around", "out")  # one step of delay cuts what is in front of it
    probes = [Probe("second", "spike"), Probe("first", "v")]
    compared(deep(through_time=through_time), phases, probes, replicas=1, learns=learns)
    assert set(parts) >= {(4, N), (4, 7), (4, 4)}
    assert all(steps == 4 for steps, _ in parts)


def test_what_else_reads_a_port(parts):
    """A probe of a port, a relay that passes it on, and a held drive beside it: the product is formed whole."""
    network = wired(connectivity=Dense(), delay=0.0)
    network = replace(network, populations=tuple(
        replace(p, neuron=Relay()) if p.name == "second" else p for p in network.populations))  # fmt: skip
    phases = shown(("input", lambda k: raster(T, B, 5, seed=k)), ("first", lambda k: Held(normal(B, 16, seed=k))))
    compared(network, phases, [Probe("first", "basal")], replicas=1)
    assert parts
    assert {columns for _, columns in parts} == {4}  # only the readout's is not read by anyone else


def test_a_port_that_no_gradient_comes_from(parts):
    """What a derivative reads of a port is there for all steps: a gate, and what it lets through."""
    network = Network(
        (Population("input", 5, Relay()), Population("cells", N, GatedRelay()), Population("output", 4, LeakyRate())),
        (
            Projection("input", "cells", Normal(0.0, 0.5), delay=0, name="in", rule=gradient()),
            Projection("input", "cells", Normal(1.0, 0.5), delay=0, port="gate", name="gate"),
            Projection("cells", "output", Normal(0.0, 1.0), delay=0, name="out", rule=gradient()),
        ),
    )
    compared(network, shown(("input", lambda k: normal(T, B, 5, seed=k))), replicas=1)
    assert {columns for _, columns in parts} == {4, N}


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_gradients(threads, parts, monkeypatch):
    """Old states kept or made again, at any number of threads."""
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    phase = shown(("input", lambda k: 1.0 + normal(T, B, 5, seed=k)))[0]
    before, found = torch.get_num_threads(), []
    try:
        for kept, block, count in ((2**26, 2**20, 1), (0, 1, threads)):
            monkeypatch.setattr(blocks, "MOST_KEPT", kept)
            monkeypatch.setattr(blocks, "BLOCK", block)
            torch.set_num_threads(count)
            simulator = compile(deep(), DT, seed=3, backend="cpu", dtype="float64")
            state, _ = simulator.run(simulator.init(B), phase)
            found.append((state.learned["weight"], simulator.init(B).learned["weight"]))
    finally:
        torch.set_num_threads(before)
    for name, weight in found[0][0].items():
        assert not torch.equal(weight, found[0][1][name])
        assert torch.equal(weight, found[1][0][name]), name


PROBES = [Probe("cells", "spike"), Probe("cells", "v", every=3), Probe("input", "rate")]


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("bias", [False, 0.3])
@pytest.mark.parametrize("events", [False, True])
def test_a_driven_layer(events, bias, replicas, parts):
    """Two drives that are formed in parts beside one that is not, over two phases."""
    network = Network(
        (Population("input", 5, Relay()), Population("other", 3, Relay()), Population("cells", 9, LIF(5.0))),
        (
            Projection("input", "cells", Normal(0.2, 0.4), delay=0, bias=bias, name="w"),
            Projection("other", "cells", Normal(0.2, 0.4), delay=0, port="current", name="v"),
            Projection("cells", "cells", Normal(0.0, 0.05), name="back"),
        ),
        output="cells",
    )
    given = {"input": normal(T, B, 5), "other": normal(T, B, 3, seed=1), "cells": normal(T, B, 9, seed=2)}
    phases = Phase("p", T, given), Phase("q", T - 1, {name: x[1:] for name, x in given.items()})
    probes = [*PROBES[1:], Probe("cells", "spike", events=True)] if events else PROBES
    results = both(network, phases, probes, batch=B, replicas=replicas)
    agree(results, 1e-10)
    assert {columns for _, columns in parts} == {9}
    assert {steps for steps, _ in parts} == ({1, 2} if replicas else {3, 4})


def test_a_recording_is_written_once():
    """The memory of a large one is used again only when nobody holds it, not even a part of it."""
    network = Network(
        (Population("input", 5, Relay()), Population("cells", LEAST // (4 * B) + 1, LIF(5.0))),
        (Projection("input", "cells", Normal(0.2, 0.4), delay=0, name="w"),),
    )
    simulator = compile(network, DT, backend="cpu")
    state = simulator.init(B)

    def recorded(seed):
        return simulator.run(state, Phase("p", T, {"input": normal(T, B, 5, seed=seed)}), PROBES[1:2])[1]["cells.v"]

    first = recorded(0)
    address, kept, expected = first.ctypes.data, first[1:3, 1, ::2], first[1:3, 1, ::2].copy()
    del first
    second = recorded(1)
    assert second.ctypes.data != address
    np.testing.assert_array_equal(kept, expected)
    addresses = {address, second.ctypes.data}
    del kept, second
    assert recorded(2).ctypes.data in addresses
