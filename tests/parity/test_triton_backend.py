"""The Triton backend against the reference: neurons, connectivity, rules, chunks. Its kernels are interpreted here;
TRITON_INTERPRET=0 runs the same tests on a GPU.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from backends import DT, agree, both, device_of, leaves
from test_cpu_backend import WIRES, layers
from zoo import VARIANTS, drive

from neurosim.backends import compile
from neurosim.backends.triton import simulator as simulator_module
from neurosim.backends.triton import source
from neurosim.connectivity import FixedInDegree, FixedProbability, OneToOne
from neurosim.factor import Trace, post, pre
from neurosim.modulator import Broadcast, Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Held, Phase
from neurosim.random import Normal, Uniform
from neurosim.recorder import Probe
from neurosim.rule import Component, OfComponent, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.transform import Momentum, Rate
from neurosim.types import ConfigurationError

SIZE, STEPS = 6, 16


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_neuron(name, dtype):
    neuron = VARIANTS[name]
    inputs = drive(neuron, STEPS, SIZE)
    arrays = {f"cells.{port}": torch.as_tensor(inputs[port])[:, None, :] for port in neuron.ports}
    probes = [Probe("cells", field) for field in (*neuron.states, *neuron.outputs)]
    network = Network([Population("cells", SIZE, neuron)], [])
    results = both(network, Phase("p", STEPS, arrays), probes, dtype=dtype, backend="triton")
    agree(results, 1e-11 if dtype == "float64" else 2e-5)
    assert not results[1][0].uncompiled()


@pytest.mark.parametrize("wire", WIRES)
def test_every_connectivity(wire):
    probes = [
        Probe("hidden", "v", every=3, units=(0, 2)),
        Probe("output", "spike"),
        Probe("hidden", "basal"),
        Probe("input", "spike", events=True),
    ]
    quiet = Phase("quiet", 4, noise=False)  # twice: the second one comes after the noise of another phase
    phases = (Phase("a", 10), Phase("b", 7, silent=("back",)), quiet, Phase("c", 5), quiet)
    results = both(layers(**dict(WIRES[wire])), phases, probes, batch=3, replicas=2, backend="triton")
    agree(results, 1e-11)
    assert results[1][2]["output.spike"].any()


def test_parameters_that_differ_by_neuron_and_replica():
    network = Network([Population("cells", SIZE, LIF(tau_mem=Uniform(5.0, 20.0), v_th=Uniform(0.5, 1.0)))], [])
    drives = {"cells": torch.full((STEPS, 2, SIZE), 0.2)}
    results = both(network, Phase("p", STEPS, drives), [Probe("cells", "v")], batch=2, replicas=3, backend="triton")
    agree(results, 1e-11)
    rows = results[1][2]["cells.v"]
    assert not np.array_equal(rows[:, 0], rows[:, 1])


def test_chunks_of_any_length_give_the_same_bits(monkeypatch):
    network = layers(connectivity=FixedInDegree(5), delay=1.0)
    probes = [Probe("output", "v", every=4), Probe("hidden", "spike", events=True)]
    whole = both(network, Phase("p", 23), probes, batch=2, backend="triton")[1]
    monkeypatch.setattr(simulator_module, "MOST_BYTES", 1)  # a chunk for every step
    parts = both(network, Phase("p", 23), probes, batch=2, backend="triton")[1]
    for (path, value), (_, other) in zip(leaves(whole[1].activity), leaves(parts[1].activity), strict=True):
        assert torch.equal(value, other), path
    for key in whole[2]:
        np.testing.assert_array_equal(whole[2][key], parts[2][key])
        np.testing.assert_array_equal(whole[2].step[key], parts[2].step[key])


def test_a_state_that_went_in_is_as_it_was():
    network = wired(at_once(), Uniform(0.0, 0.6))
    place = {"backend": "triton", "device": device_of("triton"), "dtype": "float64"}
    simulator = compile(network, DT, seed=1, **place)
    state, _ = simulator.run(simulator.init(2), Phase("p", 6))
    before = {path: value.clone() for path, value in leaves((state.activity, state.learned))}
    simulator.run(state, Phase("p", 6))
    for path, value in leaves((state.activity, state.learned)):
        assert torch.equal(before[path], value), path


# ---- rules -----------------------------------------------------------------------------------------------------------

PAIR = (
    Term(post("spike"), Trace(pre("spike"), 15.0)),
    Term(Trace(post("spike"), 20.0), pre("spike"), OfWeight(lambda w: 0.3 - w)),
)


def _soft(w, edge):
    return edge - w


def at_once(**settings):
    """A change in every step, with a memory of the transform."""
    terms = (
        Term(post("spike"), Trace(pre("spike"), 15.0)),
        Term(Trace(post("spike"), 20.0), pre("spike"), OfWeight(_soft, (0.3,))),
    )
    settings = {"transforms": (Momentum(0.8), Rate(0.05)), **settings}
    return ThreeFactorRule((Component(terms),), when="step", **settings)


def eligible(**settings):
    """A memory per synapse, modulated at the end."""
    term = Term(post("spike"), Trace(pre("spike"), 15.0))
    settings = {"accumulate": "last", "when": "phase", "modulator": Broadcast("reward"), **settings}
    return ThreeFactorRule((Component((term,), tau=12.0),), transforms=(Rate(0.5),), **settings)


def cascade(**settings):
    """Two components, the second one reads the first; decay by a post field."""
    first = Component((Term(post("slope"), pre("spike")),), decay=post("slope"))
    second = Component(
        (Term(post("slope"), Trace(pre("spike"), 10.0)), Term(post("spike"), pre("spike"), OfComponent(0))), tau=8.0
    )
    return ThreeFactorRule((first, second), transforms=(Rate(0.02),), **settings)


def wired(rule, weight, connectivity=None, **settings):
    wire = {} if connectivity is None else {"connectivity": connectivity}
    wires = [
        Projection("pre", "post", weight, name="wire", rule=rule, **wire, **settings),
        Projection("post", "pre_read", Normal(0.5, 0.2), name="read"),
        Projection("pre_read", "post", Normal(0.5, 0.2), name="teach", port="feedback"),
    ]
    populations = [
        Population("pre", 12, PoissonSource(rate=120.0)),
        Population("post", 12, LIF(tau_mem=10.0, v_th=0.5)),
        Population("pre_read", 3, LIF(v_th=0.2)),
    ]
    return Network(populations, wires, input="pre", output="post")


RULES = {
    "every step": at_once(),
    "every step, sum over the batch": at_once(reduce="sum"),
    "last": eligible(),
    "last, sample": eligible(when="sample"),
    "sum with a decay": eligible(accumulate="sum", modulator=Feedback(post("feedback"))),
    "mean with a decay": eligible(accumulate="mean", reduce="sum"),
    "cascade": cascade(when="phase"),
    "cascade at once": cascade(when="step", modulator=Feedback(post("feedback"))),
    "no memory": ThreeFactorRule((Component((PAIR[0],)),), when="phase", modulator=Feedback(post("feedback"))),
    "coefficients": ThreeFactorRule(
        (Component((Term(post("spike"), pre("spike"), PerSynapse(np.linspace(-1.0, 1.0, 12)[:, None], 0.5)),)),),
        when="step",
    ),
}
KINDS = {
    "dense": {},
    "bias": {"bias": 0.1},
    "one to one": {"connectivity": OneToOne(), "weight": Uniform(0.5, 1.0)},
    "sparse": {"connectivity": FixedProbability(0.4), "delay": 1.0},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RULES)
def test_rules(name, kind):
    settings = {"weight": Uniform(0.0, 0.6), **KINDS[kind]}
    if name == "coefficients" and kind in ("one to one", "sparse"):
        pytest.skip("coefficients of a matrix")
    network = wired(RULES[name], **settings)
    signals = {"reward": torch.tensor([[1.0], [-0.5]])}
    phases = [Phase("a", 7, signals=signals), Phase("b", 3, learn=False), Phase("c", 6, signals=signals)]
    results = both(network, phases, [Probe("post", "spike")], batch=2, replicas=2, backend="triton")
    agree(results, 1e-11)
    (reference, expected, _), (triton, _, _) = results
    assert not triton.uncompiled()
    assert not torch.equal(expected.learned["weight"]["wire"], reference.init(2).learned["weight"]["wire"])


def test_probes_of_what_learns():
    probes = [Probe("wire", field, every=2) for field in ("weight", "eligibility", "modulator")]
    signals = {"reward": torch.tensor([[1.0], [-0.5]])}
    for rule in (eligible(), cascade(when="step", modulator=Feedback(post("feedback")))):
        network = wired(rule, Uniform(0.0, 0.6))
        results = both(network, [Phase("a", 9, signals=signals)], probes, batch=2, replicas=2, backend="triton")
        agree(results, 1e-11)


def test_drives_of_all_kinds():
    network = wired(at_once(modulator=Feedback(post("feedback"))), Uniform(0.0, 0.6))
    steps = torch.rand(8, 2, 12, generator=torch.Generator().manual_seed(1))
    drives = {"post": steps, "post.current": Held(0.5 * steps[0]), "post.feedback": steps - 0.5}
    probes = [Probe("post", "v"), Probe("post", "basal"), Probe("post", "feedback")]
    agree(both(network, Phase("p", 8, drives), probes, batch=2, backend="triton"), 1e-11)


# ---- where it cannot run ---------------------------------------------------------------------------------------------


def test_without_a_gpu_and_without_the_interpreter_it_says_so(monkeypatch):
    monkeypatch.setattr(source, "interpreted", lambda: False)
    with pytest.raises(ConfigurationError, match="runs on a GPU and device is 'cpu'"):
        compile(Network([Population("cells", 2, LIF())], []), DT, backend="triton")


def test_without_triton_it_says_what_brings_it():
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "from neurosim.backends import compile\n"
        "from neurosim.network import Network, Population\n"
        "from neurosim.neuron import LIF\n"
        "compile(Network([Population('cells', 2, LIF())], []), 1.0, backend='triton')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert 'pip install "neurosim[gpu]"' in done.stderr
