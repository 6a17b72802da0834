"""The CPU backend against the reference: every neuron, every connectivity, every rule; threads; chunks; the cache."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from backends import DT, agree, both, leaves
from zoo import VARIANTS, drive

from neurosim.backends import compile
from neurosim.backends.cpu import cache, program, simulator, team, tiles
from neurosim.backends.cpu.cache import fingerprint, surrogate_fingerprint
from neurosim.connectivity import Conv2d, Dense, FixedInDegree, FixedProbability, MaxPool, OneToOne
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, CubaLIF, LeakyRate, PoissonSource
from neurosim.phase import Phase
from neurosim.random import Normal, Uniform
from neurosim.recorder import Probe
from neurosim.release import TsodyksMarkram
from neurosim.rules.stdp import STDP
from neurosim.surrogate import FastSigmoid
from neurosim.types import ConfigurationError

SIZE, STEPS = 6, 40


@pytest.mark.parametrize("name", VARIANTS)
def test_every_neuron(name):
    neuron = VARIANTS[name]
    inputs = drive(neuron, STEPS, SIZE)
    arrays = {f"cells.{port}": torch.as_tensor(inputs[port])[:, None, :] for port in neuron.ports}
    probes = [Probe("cells", field) for field in (*neuron.states, *neuron.outputs)]
    results = both(Network([Population("cells", SIZE, neuron)], []), Phase("p", STEPS, arrays), probes)
    agree(results, 1e-11)
    assert not results[1][0].uncompiled()
    first = results[1][2][f"cells.{neuron.outputs[0]}"]
    assert first.any() or "silent" in name


def layers(**settings):
    """Poisson -> LIF -> LIF, the projections made of `settings`."""
    return Network(
        [
            Population("input", (1, 4, 4), PoissonSource(rate=200.0)),
            Population("hidden", settings.pop("shape", 16), LIF(tau_mem=10.0)),
            Population("output", 5, LIF()),
        ],
        [
            Projection("input", "hidden", settings.pop("weight", Uniform(0.0, 0.6)), name="in", **settings),
            Projection("hidden", "output", Normal(0.3, 0.1), name="out"),
            Projection("output", "hidden", Normal(-0.1, 0.05), name="back", delay=1.5, port="current"),
        ],
    )


WIRES = {
    "dense": {"connectivity": Dense(), "delay": 0.0},
    "dense with a bias": {"connectivity": Dense(), "bias": 0.05},
    "one to one": {"connectivity": OneToOne(), "bias": 0.1, "weight": Uniform(0.5, 1.5)},
    "in-degree": {"connectivity": FixedInDegree(5), "delay": 1.0},
    "probability and bias": {"connectivity": FixedProbability(0.3), "bias": 0.02},
    "delays by synapse": {"connectivity": FixedProbability(0.5), "delay": Uniform(0.5, 4.0)},
    "dense delays": {"connectivity": Dense(), "delay": Uniform(0.5, 3.0)},
    "depression": {"connectivity": FixedInDegree(5), "release": TsodyksMarkram(0.5, 100.0, 20.0), "weight": 2.0},
    "convolution": {"connectivity": Conv2d(3, padding=1), "shape": (2, 4, 4)},
    "max pool": {"connectivity": MaxPool(2), "shape": (1, 2, 2), "weight": 2.0},
}
TORCH = {"convolution": "a convolution", "max pool": "combines by max"}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_connectivity(wire, dtype):
    probes = [Probe("hidden", "v", every=3, units=(0, 2)), Probe("output", "spike"), Probe("hidden", "spike")]
    settings = dict(WIRES[wire])
    quiet = Phase("quiet", 8, noise=False)  # twice: the second one comes after the noise of another phase
    phases = (Phase("a", 25), Phase("b", 20, silent=("back",)), quiet, Phase("c", 10), quiet)
    results = both(layers(**settings), phases, probes, batch=3, replicas=2, dtype=dtype)
    agree(results, 1e-11 if dtype == "float64" else 2e-5)
    assert results[1][2]["hidden.spike"].mean() > 0.01
    reasons = results[1][0].uncompiled()
    assert bool(reasons) == (wire in TORCH)
    assert wire not in TORCH or TORCH[wire] in reasons[0]


def test_a_run_in_chunks_is_a_whole_run_bit_for_bit():
    simulator = compile(layers(connectivity=FixedInDegree(5), delay=1.0), DT, seed=1, backend="cpu")
    whole, _ = simulator.run(simulator.init(2), Phase("p", 60))
    parts = simulator.init(2)
    for steps in (1, 7, 30, 22):
        parts, _ = simulator.run(parts, Phase("p", steps))
    for (path, value), (_, other) in zip(leaves(whole.activity), leaves(parts.activity), strict=True):
        assert torch.equal(value, other), path


def test_a_state_goes_from_one_backend_to_the_other():
    network = layers(connectivity=FixedInDegree(5), delay=1.0)
    reference, cpu = (compile(network, DT, seed=1, backend=name, dtype="float64") for name in ("reference", "cpu"))
    middle, _ = reference.run(reference.init(2), Phase("p", 30))
    before = {path: value.clone() for path, value in leaves(middle.activity)}
    expected, _ = reference.run(middle, Phase("p", 30))
    found, _ = cpu.run(middle, Phase("p", 30))
    agree([(None, expected, {}), (None, found, {})], 1e-11)
    for path, value in leaves(middle.activity):
        assert torch.equal(before[path], value), path  # the state that went in is as it was


@pytest.mark.parametrize(("replicas", "batch"), [(5, 2), (None, 7)])
def test_any_number_of_threads_gives_the_same_bits(replicas, batch, monkeypatch):
    monkeypatch.setattr(program, "PARALLEL_WORK", 0)
    network = layers(connectivity=FixedInDegree(5))
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            simulator = compile(network, DT, seed=1, replicas=replicas, backend="cpu")
            found.append(simulator.run(simulator.init(batch), Phase("p", 50), [Probe("output", "v")]))
    finally:
        torch.set_num_threads(before)
    for _, recording in found[1:]:
        np.testing.assert_array_equal(recording["output.v"], found[0][1]["output.v"])


def test_pair_stdp_visits_only_what_spiked():
    """The kernel that passes over silent neurons, and weights that start outside their bounds."""
    populations = [
        Population("pre", 12, PoissonSource(rate=40.0)),
        Population("post", 7, LIF(tau_mem=20.0)),
    ]
    wire = Projection("pre", "post", Uniform(-0.2, 0.9), name="wire")
    bare = Network(populations, [wire], input="pre", output="post")
    net = STDP(A_plus=0.05, A_minus=0.04, w_min=0.0, w_max=0.6, output="same")(bare)
    results = both(net, Phase("p", 200), [Probe("post", "spike")], batch=2, replicas=2)
    agree(results, 1e-11)
    weight = results[1][1].learned["weight"]["wire"]
    assert results[1][2]["post.spike"].any()
    assert bool(((weight >= 0.0) & (weight <= 0.6)).all())
    assert not results[1][0].uncompiled()


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_kernels_are_kept_between_processes(tmp_path):
    text = (
        "from neurosim.backends import compile\n"
        "from neurosim.backends.cpu.cache import Compilations\n"
        "from neurosim.network import Network, Population\n"
        "from neurosim.neuron import PoissonSource\n"
        "from neurosim.phase import Phase\n"
        "simulator = compile(Network([Population('p', 3, PoissonSource(rate=50.0))], []), 1.0, backend='cpu')\n"
        "simulator.run(simulator.init(1), Phase('p', 5))\n"
        "print(Compilations.fresh, Compilations.loaded)\n"
    )
    environment = {**os.environ, "NEUROSIM_CACHE": str(tmp_path / "kernels")}
    told = [
        subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert told == ["2 0\n", "0 2\n"]


def test_a_surrogate_is_part_of_a_kernel_s_name():
    assert surrogate_fingerprint(FastSigmoid(1.0)) != surrogate_fingerprint(FastSigmoid(2.0))
    assert fingerprint(LIF.step) != fingerprint(LeakyRate().step)


def test_a_damaged_kernel_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_done", {})
    net = Network([Population("p", 3, PoissonSource(rate=50.0))], [])
    run_once(net)
    for path in tmp_path.glob("*.kernel"):
        path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(cache, "_done", {})
    before = cache.Compilations.fresh
    run_once(net)
    assert cache.Compilations.fresh == before + 2


def run_once(network):
    simulator = compile(network, DT, backend="cpu")
    simulator.run(simulator.init(1), Phase("p", 3))


def test_refuses_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match="'cuda'; backend 'cpu' runs on the cpu, 'reference' on any device"):
        compile(Network([Population("p", 3, PoissonSource())], []), DT, backend="cpu", device="cuda")


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(("dtype", "smallest"), [("float64", 1e-300), ("float32", 1e-37)])
def test_what_decays_ends_at_zero(dtype, smallest, lanes, monkeypatch):
    """Below the smallest normal number a value is zero in compiled loops, in them only; else it is the reference's."""
    monkeypatch.setattr(simulator, "lanes_of", lambda units, threads: lanes)
    monkeypatch.setattr(tiles, "SIZE", 64)
    monkeypatch.setattr(team.Pace, "_way", lambda pace: int(lanes > 1))
    tiles.bounds.cache_clear()
    cells = CubaLIF(tau_mem=2.0, tau_syn_exc=1.0, tau_syn_inh=1.0)
    jump = torch.full((1, 1, 200), 0.01, dtype=getattr(torch, dtype))
    silence = torch.zeros(1560, 1, 200, dtype=jump.dtype)
    net, given = Network([Population("cells", 200, cells)], []), torch.cat((jump, silence))
    results = both(net, Phase("p", len(given), {"cells": given}), [Probe("cells", "i_exc")], dtype=dtype)
    tiles.bounds.cache_clear()
    (_, expected, wanted), (_, found, got) = results
    assert 0.0 < expected.activity["state"]["cells"]["i_exc"].max() < smallest or dtype == "float32"
    assert (found.activity["state"]["cells"]["i_exc"] == 0.0).all()
    normal = wanted["cells.i_exc"] > smallest
    np.testing.assert_allclose(
        got["cells.i_exc"][normal], wanted["cells.i_exc"][normal], rtol=1e-12 if dtype == "float64" else 1e-4
    )
    tiny = torch.tensor([1e-310], dtype=torch.float64)
    assert (tiny * 1.0).item() == 1e-310
