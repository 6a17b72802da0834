"""Gradient rules on the CPU backend, all steps of a population at once, against the reference's graph of steps."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from backends import DT, agree, device_of, leaves
from nets import normal, raster
from zoo import VARIANTS, drive

from neurosim.adapter import Count, Last, Mean
from neurosim.backends import compile
from neurosim.backends.cpu import blocks, program
from neurosim.connectivity import AveragePool, Conv2d, Dense, FixedInDegree, FixedProbability, MaxPool, OneToOne
from neurosim.factor import Trace, post, pre
from neurosim.lateral import LayerNorm, Softmax
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, CubaLIF, LeakyRate, PoissonSource, Relay, SpikeRelay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.random import Normal, Uniform
from neurosim.recorder import Probe
from neurosim.release import TsodyksMarkram
from neurosim.rule import Component, GradientRule, OfWeight, Term, ThreeFactorRule
from neurosim.surrogate import ATan, FastSigmoid
from neurosim.transform import Rate, optimizer
from neurosim.vocabulary import exp

T, B, R, N = 12, 3, 2, 6


def gradient(**options):
    return GradientRule(
        options.pop("decoder", Mean()), options.pop("loss", "mse"), **{"transforms": (Rate(1.0),), **options}
    )


def compared(network, phases, probes=(), *, batch=B, replicas=R, tolerance=1e-10, learns=None, backend="cpu"):
    """Both backends over the phases, run one by one and then as one trial; returns the other's simulator. `learns`:
    the projections that must have moved in the first phase (None: all with a gradient rule).
    """
    found = []
    for name in ("reference", backend):
        place = {"backend": name, "device": device_of(name), "dtype": "float64"}
        simulator = compile(network, DT, seed=3, replicas=replicas, **place)
        start = state = simulator.init(batch)
        states = []
        for phase in (*phases, tuple(phases)):
            state, recording = simulator.run(state, phase, probes)
            states.append((simulator, state, recording))
        found.append((start, states))
    for expected, ours in zip(found[0][1], found[1][1], strict=True):
        agree([expected, ours], tolerance)
        for name in expected[1].learned["weight"]:  # what has been learned, and not only what there is
            rows = [(state.learned["weight"][name] - start.learned["weight"][name]).cpu()
                    for start, state in ((found[0][0], expected[1]), (found[1][0], ours[1]))]  # fmt: skip
            assert (rows[0] - rows[1]).abs().max() <= 1e-9 * rows[0].abs().max(), name
    start, states = found[0]
    moved = {p.name: (states[0][1].learned["weight"][p.name] - start.learned["weight"][p.name]).abs().max()
             for p in network.projections if isinstance(p.rule, GradientRule)}  # fmt: skip
    assert all(moved[name] > 1e-6 for name in (moved if learns is None else learns)), moved
    return found[1][1][0][0]


def on_cpu(simulator):
    """Nothing ran on the reference."""
    return not any("step by step" in reason or "every step" in reason for reason in simulator.uncompiled())


def shown(*targets, steps=T, **options):
    """Phases whose label is for 4 outputs."""
    return [Phase(f"p{k}", steps, {name: value(k) for name, value in dict(targets).items()},
                  {"label": normal(B, 4, seed=k)}, **options) for k in range(2)]  # fmt: skip


SURROGATE = FastSigmoid(2.0)


def surrogated(neuron):
    own = "surrogate" in {field.name for field in fields(neuron)} and neuron.surrogate is not None
    return replace(neuron, surrogate=ATan(0.5)) if own else neuron


CUT = ("LIF", "AdaptiveLIF", "DelayedResetLIF", "LeakyRate")  # also with a graph that is cut between steps


@pytest.mark.parametrize(("name", "through_time"), [*((n, True) for n in VARIANTS), *((n, False) for n in CUT)])
def test_every_neuron(name, through_time):
    """Through a neuron to the weights in front of it: one projection on every port, and a readout behind."""
    neuron = surrogated(VARIANTS[name])
    if not neuron.ports:
        pytest.skip("it has no port")
    sizes = drive(neuron, T, N)
    rule = gradient(through_time=through_time)
    wires = [Projection("input", "cells", normal(N, 5, seed=k) * sizes[port].std() + sizes[port].mean() / 5, port=port,
                        delay=0, bias=True, name=port, rule=rule) for k, port in enumerate(neuron.ports)]  # fmt: skip
    network = Network(
        (Population("input", 5, Relay()), Population("cells", N, neuron), Population("output", 4, LeakyRate())),
        (*wires, Projection("cells", "output", Normal(0.0, 1.0), delay=0, name="out", rule=rule)),
    )
    phases = shown(("input", lambda k: 1.0 + 0.3 * normal(T, B, 5, seed=k)))
    probes = [Probe("cells", field) for field in (*neuron.states, *neuron.outputs, *neuron.ports)]
    passes = not name.startswith("Poisson") and "no surrogate" not in name
    learns = [port for port in neuron.ports if port != "gate" or name == "GatedRelay"] if passes else ()
    simulator = compared(network, phases, probes, learns=learns)
    assert not simulator.uncompiled()


def positive(w):
    return exp(w)


WIRES = {
    "dense": {"connectivity": Dense(), "delay": 0.0},
    "dense with delay": {"connectivity": Dense(), "delay": 2 * DT, "bias": 0.2},
    "longer than the phase": {"connectivity": Dense(), "delay": 20 * DT},
    "one to one": {"connectivity": OneToOne(), "bias": 0.1, "weight": Uniform(0.5, 1.5), "delay": 0.0},
    "transfer": {"connectivity": Dense(), "transfer": OfWeight(positive), "delay": 0.0, "weight": Normal(-1.5, 0.3)},
    "in-degree": {"connectivity": FixedInDegree(5), "delay": 1.0},
    "probability": {"connectivity": FixedProbability(0.5), "bias": 0.02, "delay": 0.0},
    "delays by synapse": {"connectivity": FixedProbability(0.6), "delay": Uniform(0.5, 4.0)},
    "depression": {"connectivity": Dense(), "release": TsodyksMarkram(0.5, 100.0, 20.0), "weight": Normal(0.6, 0.4)},
    "convolution": {"connectivity": Conv2d(3, padding=1), "shape": (2, 4, 4), "bias": 0.1, "delay": 0.0},
    "max pool": {"connectivity": MaxPool(2), "shape": (1, 2, 2), "weight": 2.0, "delay": 0.0},
    "average pool": {"connectivity": AveragePool(2), "shape": (1, 2, 2), "weight": 2.0},
}


def wired(**settings):
    """Input -> spikes -> LIF -> leaky readout, the middle projection made of `settings`."""
    settings = {"weight": Normal(0.15, 0.2), **settings}
    shape, rule = settings.pop("shape", 16), gradient()
    plastic = None if isinstance(settings["connectivity"], MaxPool | AveragePool) else rule
    return Network(
        (
            Population("input", 5, Relay()),
            Population("first", (1, 4, 4), LIF(5.0, v_th=0.5, surrogate=SURROGATE)),
            Population("second", shape, LIF(5.0, v_th=0.5, reset="subtract", surrogate=SURROGATE)),
            Population("output", 4, LeakyRate(5.0, "linear")),
        ),
        (
            Projection("input", "first", Normal(0.2, 0.3), delay=0, name="in", rule=rule),
            Projection("first", "second", **settings, name="middle", rule=plastic),
            Projection("second", "output", Normal(0.0, 0.5), delay=0, bias=True, name="out", rule=rule),
        ),
    )


@pytest.mark.parametrize("wire", WIRES)
def test_every_connectivity(wire):
    """At any delay what comes in a phase from before it is the old activity."""
    phases = shown(("input", lambda k: raster(T, B, 5, seed=k)))
    probes = [
        Probe("second", "v", every=5, units=(0, 2)),
        Probe("second", "spike", events=True),
        Probe("in", "weight", every=4),
    ]
    simulator = compared(wired(**WIRES[wire]), phases, probes, learns=() if wire == "longer than the phase" else None)
    assert on_cpu(simulator)
    other = {"in-degree", "probability", "delays by synapse", "convolution", "max pool", "average pool"}
    assert bool(simulator.uncompiled()) == (wire in other)


@pytest.mark.parametrize("replicas", [None, 3])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("decoder", [Mean(3), Last(), Count()])
def test_losses_and_decoders(decoder, loss, replicas):
    network = wired(connectivity=Dense()).with_projections(
        lambda p: replace(p, rule=gradient(decoder=decoder, loss=loss, transforms=optimizer("adam", 0.01)))
    )
    compared(network, shown(("input", lambda k: raster(T, B, 5, seed=k))), replicas=replicas)


def rates(**settings):
    """Static and leaky rates with laterals."""
    rule = gradient(transforms=(Rate(0.01),), **settings)
    return Network(
        (
            Population("input", 5, Relay()),
            Population("first", 6, StaticRate("tanh"), lateral=LayerNorm()),
            Population("second", (3, 2), LeakyRate(5.0, "sigmoid"), lateral=Softmax(), initial={"v": Normal(0.0, 1.0)}),
            Population("output", 4, StaticRate("linear")),
        ),
        (
            Projection("input", "first", Normal(0.2, 0.3), delay=0, bias=True, name="in", rule=rule),
            Projection("first", "second", Normal(0.2, 0.6), delay=0, bias=True, name="middle", rule=rule),
            Projection("second", "output", Normal(0.0, 0.5), delay=0, bias=0.3, name="out", rule=rule),
            Projection("first", "output", Normal(0.0, 0.5), delay=DT, output="slope", name="skip", rule=rule),
            Projection("second", "output", Normal(0.0, 0.5), delay=0, output="v", name="potential", rule=rule),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("held", [True, False])
def test_rates_laterals_and_what_is_sent(held, through_time):
    """A held input is computed once; a state and another output than the axon's are sent; two drives on one port."""

    def given(k):
        return Held(normal(B, 5, seed=k)) if held else normal(T, R, B, 5, seed=k)

    phases = shown(("input", given), ("first", lambda k: Held(0.3 * normal(R, B, 6, seed=k))))
    simulator = compared(
        rates(through_time=through_time), phases, [Probe("second", "rate"), Probe("first", "basal")], learns=()
    )
    assert on_cpu(simulator)
    assert any("lateral of 'first'" in reason for reason in simulator.uncompiled())


def test_noise_and_silence():
    network = wired(connectivity=Dense())
    rule = network.projection("in").rule
    noisy = Network(
        (*network.populations, Population("noise", 5, PoissonSource(rate=300.0))),
        (*network.projections, Projection("noise", "second", Normal(0.2, 0.3), delay=0, name="rain", rule=rule)),
    )
    drive = {"input": raster(T, B, 5)}
    label = {"label": normal(B, 4)}
    phases = [
        Phase("loud", 70, {"input": raster(70, B, 5)}, label),
        Phase("still", T, drive, label, noise=False),
        Phase("alone", T, drive, label, silent=("rain", "middle")),
        Phase("a part", T, drive, label, learn=("in",)),
        Phase("test", T, drive, learn=False),
    ]
    assert on_cpu(compared(noisy, phases, [Probe("noise", "spike")]))


def beside(when, accumulate="sum"):
    """A local rule with traces on one projection, gradients on the others."""
    trace = Trace(pre("spike"), tau=4.0)
    late = Trace(post("spike"), tau=3.0, read="before")
    terms = Term(post("slope"), trace), Term(late, pre("spike"))
    local = ThreeFactorRule(
        (Component(terms, tau=6.0),), Broadcast("reward"), accumulate, when, transforms=(Rate(0.1),)
    )
    network = wired(connectivity=Dense(), delay=2 * DT, bias=0.1)
    return network.with_projections(lambda p: replace(p, rule=local) if p.name == "middle" else p)


@pytest.mark.parametrize(
    ("when", "accumulate"), [("phase", "mean"), ("sample", "sum"), ("phase", "last"), ("step", "sum")]
)
def test_a_local_rule_beside(when, accumulate):
    network = beside(when, accumulate)
    reward = {"reward": normal(B, 1), "label": normal(B, 4)}
    phases = [Phase(f"p{k}", T, {"input": raster(T, B, 5, seed=k)}, reward) for k in range(3)]
    phases[2] = replace(phases[2], learn=("in", "out"))
    probes = [Probe("middle", "eligibility", every=3), Probe("middle", "modulator"), Probe("middle", "weight")]
    simulator = compared(network, phases, probes, learns=())
    assert on_cpu(simulator) == (when != "step")


def test_two_that_combine_by_max():
    pool = {"connectivity": MaxPool(2), "weight": 2.0, "delay": 0.0}
    network = wired(**pool, shape=(1, 2, 2))
    late = Projection("first", "second", **{**pool, "delay": DT, "weight": 1.5}, name="late")
    network = replace(network, projections=(*network.projections, late))
    compared(network, shown(("input", lambda k: raster(T, B, 5, seed=k))), [Probe("second", "basal")])


BACK = {
    "onto itself": {"pre": "second", "post": "second", "delay": DT},
    "two steps later": {"pre": "second", "post": "second", "delay": 2 * DT, "bias": 0.1},
    "around": {"pre": "second", "post": "first", "delay": DT, "port": "current"},
    "one to one": {"pre": "second", "post": "first", "delay": 3 * DT, "connectivity": OneToOne()},
    "from an output": {"pre": "second", "post": "second", "delay": DT, "output": "slope"},
    "longer than the phase": {"pre": "second", "post": "second", "delay": 20 * DT},
}


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("back", BACK)
def test_recurrent_paths(back, through_time):
    """Two of them, of which one learns."""
    rule = gradient(through_time=through_time)
    network = wired(connectivity=Dense(), delay=0.0).with_projections(lambda p: replace(p, rule=rule))
    wires = Projection(**{"weight": Normal(0.1, 0.3), "rule": rule, **BACK[back]}, name="back")
    fixed = Projection("first", "first", Normal(-0.1, 0.1), delay=DT, name="fixed")
    network = replace(network, projections=(*network.projections, wires, fixed))
    probes = [Probe("second", "v"), Probe("first", "current"), Probe("first", "spike", every=3)]
    learns = ("in", "middle", "out", *(("back",) if back != "longer than the phase" else ()))
    phases = shown(("input", lambda k: raster(T, B, 5, seed=k)))
    reasons = compared(network, phases, probes, learns=learns).uncompiled()
    assert reasons
    assert all("one product per step" in reason for reason in reasons)


def test_a_loop_that_needs_steps_is_told():
    network = wired(connectivity=Dense())
    back = Projection("second", "first", Normal(0.1, 0.2), FixedProbability(0.5), name="back")
    network = replace(network, projections=(*network.projections, back))
    simulator = compared(network, shown(("input", lambda k: raster(T, B, 5))))
    (reason,) = simulator.uncompiled()
    assert "recurrent paths is built step by step: first and second, with projection 'back'" in reason


def test_states_made_again_are_those_that_were(monkeypatch):
    """Kept in blocks of a few steps, and all at once: the same bits, at any number of threads."""
    network = Network(
        (Population("input", 5, Relay()), Population("cells", N, CubaLIF(t_ref=1.0, surrogate=SURROGATE)),
         Population("output", 4, LIF(surrogate=SURROGATE))),
        (Projection("input", "cells", Normal(3.0, 2.0), delay=0, name="in", rule=gradient()),
         Projection("cells", "output", Normal(1.0, 1.0), delay=0, name="out", rule=gradient())),
    )  # fmt: skip
    phase = shown(("input", lambda k: normal(T, B, 5, seed=k)))[0]
    found = []
    before = torch.get_num_threads()
    try:
        for most, block, threads in ((2**26, 2**20, 1), (0, 1, 1), (0, 3 * 4 * 8 * R * B * N, 1), (0, 2000, 2)):
            monkeypatch.setattr(blocks, "MOST_KEPT", most)
            monkeypatch.setattr(blocks, "BLOCK", block)
            monkeypatch.setattr(program, "PARALLEL_WORK", 0)
            torch.set_num_threads(threads)
            simulator = compile(network, DT, seed=3, replicas=R, backend="cpu", dtype="float64")
            state, recording = simulator.run(simulator.init(B), phase, [Probe("cells", "v")])
            found.append((*state.learned["weight"].values(), torch.from_numpy(recording["cells.v"])))
    finally:
        torch.set_num_threads(before)
    assert (found[0][0] - simulator.init(B).learned["weight"]["in"]).abs().max() > 1e-6
    for other in found[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(other, found[0], strict=True))


def test_float32():
    network = wired(connectivity=Dense())
    phase = Phase("p", T, {"input": raster(T, B, 5)}, {"label": normal(B, 4)})
    ends = []
    for backend in ("reference", "cpu"):
        simulator = compile(network, DT, seed=3, backend=backend)
        state, _ = simulator.run(simulator.init(B), phase)
        ends.append(state.learned["weight"])
    for name, expected in ends[0].items():
        assert ends[1][name].dtype == torch.float32
        torch.testing.assert_close(ends[1][name], expected, rtol=0, atol=1e-5)


def test_the_graph_is_gone_and_spikes_in_are_as_they_were():
    network = wired(connectivity=Dense(), delay=DT)
    network = replace(network, populations=tuple(
        replace(p, neuron=SpikeRelay()) if p.name == "input" else p for p in network.populations))  # fmt: skip
    x = torch.as_tensor(raster(T, B, 5))
    kept = x.clone()
    simulator = compile(network, DT, backend="cpu", dtype="float64")
    state, _ = simulator.run(simulator.init(B), Phase("p", T, {"input": x}, {"label": normal(B, 4)}))
    tensors = [tensor for _, tensor in leaves((state.learned, state.activity))]
    assert not any(tensor.requires_grad for tensor in tensors)
    assert torch.equal(x, kept)
    assert all(np.isfinite(tensor.numpy()).all() for tensor in tensors)
