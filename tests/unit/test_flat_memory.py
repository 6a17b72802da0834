"""A run that streams what it records keeps nothing for the steps that are over. Bytes are counted, not pages."""

import gc
import tracemalloc

import pytest
import torch

from neurosim.backends import compile
from neurosim.factor import Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.storage import TraceWriter, TrialInfo, read_trace, reader
from neurosim.transform import Rate

STEPS, PARTS = 2000, 10
ALLOWED = 1.0  # byte per step: a number that is kept for each takes eight
NAMES = ("package_version", "commit", "config", "seed", "backend", "device", "dtype")


def network():
    rule = ThreeFactorRule((Component((Term(post("spike"), Trace(pre("spike"), 20.0)),)),), transforms=(Rate(1e-3),))
    return Network(
        [Population("input", 5, PoissonSource(rate=100.0)), Population("output", 3, LIF(tau_mem=10.0))],
        [Projection("input", "output", 0.5, name="w", rule=rule)],
    )


def held():
    """Bytes of Python, of NumPy and of torch that something still refers to."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.layout is torch.strided]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return tracemalloc.get_traced_memory()[0] + sum(storages.values())


@pytest.mark.parametrize("events", [True, False])
def test_nothing_is_kept_for_steps_that_are_over(events, tmp_path):
    simulator, kept = compile(network(), 1.0, backend="cpu"), []
    state, phase = simulator.init(1), Phase("run", STEPS)
    probes = [Probe("output", "spike"), Probe("output", "v"), Probe("input", "spike", events=events)]
    if events:
        probes = [Probe("output", "spike", events=True)]
    tracemalloc.start()
    try:
        with TraceWriter(tmp_path, {**dict.fromkeys(NAMES, ""), "dt": 1.0}, replicas=None) as writer:
            for part in range(PARTS):
                state, found = simulator.run(state, phase, probes)
                if not events:
                    writer.append(found, TrialInfo(part, 0, "run"))
                    writer.close_segment()
                del found
                kept.append(held())
    finally:
        tracemalloc.stop()
    grown = kept[-1] - kept[PARTS // 2]
    assert grown < ALLOWED * STEPS * (PARTS - 1 - PARTS // 2)


def test_an_index_is_read_segment_by_segment(tmp_path, monkeypatch):
    """HDF5 would hold all of them open at once."""
    opened, reading = [], reader.reading
    monkeypatch.setattr(reader, "reading", lambda path: [opened.append(path.name), reading(path)][1])
    simulator = compile(network(), 1.0, backend="cpu")
    state, spikes = simulator.init(1), 0
    with TraceWriter(tmp_path, {**dict.fromkeys(NAMES, ""), "dt": 1.0}, replicas=None) as writer:
        for part in range(4):
            state, found = simulator.run(state, Phase("run", 50), [Probe("input", "spike")])
            spikes += int(found["input.spike"].sum())
            writer.append(found, TrialInfo(part, 0, "run"))
            writer.close_segment()
        trace = read_trace(writer.finish())
    opened.clear()
    times, nodes = trace.spikes("input")
    assert len(times) == len(nodes) == spikes > 0
    assert (times[1:] >= times[:-1]).all()
    assert times.max() > 150.0
    assert [opened.count(f"{number}.h5") for number in range(4)] == [2] * 4
