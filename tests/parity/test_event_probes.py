"""Probes that keep events: the non-zero entries of the raster that a plain probe of the same population gives."""

import numpy as np
import pytest
import torch
from backends import agree, both

from neurosim.backends import compile
from neurosim.backends.cpu import events
from neurosim.connectivity import FixedProbability
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Phase
from neurosim.random import Uniform
from neurosim.recorder import Probe
from neurosim.types import ConfigurationError

STEPS = 50


def network():
    return Network(
        [Population("input", 30, PoissonSource(rate=100.0)), Population("cells", 40, LIF())],
        [
            Projection("input", "cells", Uniform(0.3, 0.5)),
            Projection("cells", "cells", Uniform(0.0, 0.2), FixedProbability(0.2), delay=1.5, name="back"),
        ],
        output="cells",
    )


def listed(raster, start=0):
    """(clock, ...) of what is not zero in a raster `[T, R, B, N]`."""
    found = np.argwhere(raster)
    return found[:, 0] + start, found[:, 1:]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("capacity", [2**22, 700])
def test_events_are_those_of_the_raster(backend, capacity, monkeypatch):
    monkeypatch.setattr(events, "CAPACITY", capacity)  # 700: a stretch of 2 steps
    simulator = compile(network(), 0.5, replicas=2, backend=backend)
    start, _ = simulator.run(simulator.init(3), Phase("before", 20))
    phases = Phase("p", STEPS), Phase("q", STEPS)
    _, raster = simulator.run(start, phases, [Probe("input", "spike"), Probe("cells", "spike")])
    _, kept = simulator.run(start, phases, [Probe("cells", "spike", events=True), Probe("input", "spike", events=True)])
    for key in raster:
        clock, places = listed(raster[key], 20)
        assert len(clock) > 50
        np.testing.assert_array_equal(kept.step[key], clock)
        np.testing.assert_array_equal(kept[key], places)
        np.testing.assert_allclose(kept.time(key), (clock + 1) * 0.5)


def test_the_backends_agree_and_hide_replicas():
    results = both(network(), Phase("p", STEPS), [Probe("cells", "spike", events=True)], batch=2)
    agree(results, 1e-11)
    assert results[1][2]["cells.spike"].shape[1] == 2
    assert not results[1][0].uncompiled()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_no_events(backend):
    simulator = compile(network(), 0.5, backend=backend)
    phase = Phase("p", 5, {"input": torch.full((5, 1, 30), -1000.0)})
    _, kept = simulator.run(simulator.init(1), phase, [Probe("cells", "spike", events=True)])
    assert kept["cells.spike"].shape == (0, 2)
    assert len(kept.time("cells.spike")) == 0


@pytest.mark.parametrize("wrong", [{"every": 2}, {"units": (0,)}])
def test_events_of_a_part_are_refused(wrong):
    simulator = compile(network(), 0.5)
    with pytest.raises(ConfigurationError, match="keeps events; that works on populations, with all units and every"):
        simulator.run(simulator.init(1), Phase("p", 2), [Probe("cells", "spike", events=True, **wrong)])


def test_events_of_a_weight_are_refused():
    simulator = compile(network(), 0.5)
    with pytest.raises(ConfigurationError, match="keeps events"):
        simulator.run(simulator.init(1), Phase("p", 2), [Probe("back", "weight", events=True)])
