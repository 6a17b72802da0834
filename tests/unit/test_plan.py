# ruff: noqa: E501 - the tables below have one case a line
"""What compiling finds out, and one clear sentence for what cannot be compiled or run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal

from neurosim.backends import compile
from neurosim.backends.needs import canonical
from neurosim.backends.resolve import steps_of
from neurosim.connectivity import AveragePool, Conv2d, EdgeList, FixedInDegree, FixedProbability, OneToOne
from neurosim.constraint import Dale
from neurosim.factor import Apply, Field, Trace, post, pre
from neurosim.lateral import KWinners
from neurosim.modulator import Broadcast, Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, Relay, SpikeRelay
from neurosim.phase import Held, Phase
from neurosim.random import Constant, LecunNormal, Uniform
from neurosim.recorder import Probe
from neurosim.release import TsodyksMarkram
from neurosim.rule import Component, GradientRule, OfComponent, PerSynapse, SynapseNoise, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

HEBB = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),))


RELAY = Relay()


def network(neuron=RELAY, sizes=(3, 4), **wire):
    wire = {"name": "wire", **wire}
    return Network(
        (Population("a", sizes[0], neuron), Population("b", sizes[1], neuron)), (Projection("a", "b", **wire),)
    )


def build(net=None, dt=1.0, **options):
    return compile(network() if net is None else net, dt, **options)


def run(net, phase=None, probes=(), batch=1, **options):
    simulator = build(net, **options)
    return simulator.run(simulator.init(batch), Phase("p", 1) if phase is None else phase, probes)


def rule(**options):
    return replace(HEBB, **options)


def term(**options):
    return Term(**{"post": post("rate"), "pre": pre("rate"), **options})


SHAPED = Network(
    (Population("a", (1, 3, 3), Relay()), Population("b", (2, 2, 2), Relay())),
    (Projection("a", "b", connectivity=Conv2d(2), delay=np.ones((8, 9)), name="wire"),),
)


def cycle(*delays):
    names = ("a", "b", "c")[: len(delays)]
    wires = zip(names, (*names[1:], names[0]), delays, strict=True)
    populations = tuple(Population(name, 2, LeakyRate()) for name in names)
    return Network(populations, tuple(Projection(i, j, delay=d) for i, j, d in wires))


COMPILE_ERRORS = {
    "dt 0": (lambda: build(dt=0.0), "dt \\(ms\\) is 0.0; it must be a finite number > 0"),
    "dt negative": (lambda: build(dt=-1.0), "dt \\(ms\\) is -1.0"),
    "dt nan": (lambda: build(dt=float("nan")), "dt \\(ms\\) is nan"),
    "replicas 0": (lambda: build(replicas=0), "replicas is 0; it must be a whole number of at least 1"),
    "replicas 2.5": (lambda: build(replicas=2.5), "replicas is 2.5"),
    "seed": (lambda: build(seed=-1), "seed is -1"),
    "seed None": (lambda: build(seed=None), "seed is None"),
    "backend": (lambda: build(backend="jax"), "backend is 'jax'; allowed: cpu, triton, reference"),
    "dtype": (lambda: build(dtype="float16"), "dtype is 'float16'; allowed: float32, float64"),
    "device": (lambda: build(device="tpu"), "device is 'tpu'; allowed: cpu, cuda"),
    "cuda": (lambda: build(device="cuda:99"), "device is 'cuda:99', but torch sees"),
    "delay": (lambda: build(network(delay=0.25), 0.1), "delay of projection 'wire' is 0.25 ms; it must be a multiple >= 0 of"),
    "negative delay": (lambda: build(network(delay=-1.0)), "delay of projection 'wire' is -1.0 ms"),
    "delay inf": (lambda: build(network(delay=float("inf"))), "delay of projection 'wire' is inf ms"),
    "delay word": (lambda: build(network(delay="long")), "delay of projection 'wire' is 'long'; allowed: a number"),
    "dendritic": (lambda: build(network(dendritic_delay=0.5)), "dendritic_delay of projection 'wire' is 0.5 ms"),
    "delay per synapse of conv": (lambda: build(SHAPED), "differs by synapse; that works on dense and sparse projections, not on conv"),
    "delay shape": (lambda: build(network(delay=np.ones(4))), "delay of projection 'wire' has shape \\(4,\\); allowed: a number, \\(4, 3\\)"),
    "self cycle": (lambda: build(cycle(0)), "zero delay form a cycle: a -> a"),
    "cycle": (lambda: build(cycle(0, 0, 0)), "zero delay form a cycle: "),
    "weight shape": (lambda: build(network(weight=np.ones((3, 4)))), "weight of projection 'wire' has shape \\(3, 4\\); allowed: a number, \\(4, 3\\) or \\(1, 4, 3\\)"),
    "weight word": (lambda: build(network(weight="big")), "weight of projection 'wire' is 'big'; allowed: a number, an array"),
    "edge weight": (
        lambda: build(network(weight=np.ones(3), connectivity=EdgeList([0], [1]))),
        "weight of projection 'wire' has shape \\(3,\\); allowed: a number, \\(1,\\)",
    ),
    "sparse weight": (
        lambda: build(network(weight=np.ones(3), connectivity=FixedProbability(0.5))), "allowed: a number, \\(4, 3\\)"),
    "bias shape": (lambda: build(network(bias=np.ones(3))), "bias of projection 'wire' has shape \\(3,\\); allowed: a number, \\(4,\\)"),
    "edge index": (lambda: build(network(connectivity=EdgeList([4], [0]))), "EdgeList has a post index outside 0..3"),
    "pre index": (lambda: build(network(connectivity=EdgeList([0], [-1]))), "EdgeList has a pre index outside 0..2"),
    "in-degree": (lambda: build(network(connectivity=FixedInDegree(4))), "degree of FixedInDegree is 4, but only 3 pre"),
    "initial": (
        lambda: build(Network((Population("a", 3, LIF(), initial={"v": [1, 2]}),), ())),
        "initial 'v' of population 'a' has shape \\(2,\\)",
    ),
    "parameter": (
        lambda: build(network(LIF(tau_mem=np.ones(5)))), "tau_mem of population 'a' has shape \\(5,\\); allowed: a number, \\(3,\\)"),
    "release parameter": (
        lambda: build(network(SpikeRelay(), release=TsodyksMarkram(U=np.ones(2)))),
        "U of release of projection 'wire' has shape \\(2,\\)",
    ),
    "parameter value": (lambda: build(network(LIF(tau_mem=-1.0))), "tau_mem is -1.0"),
    "post field": (
        lambda: build(network(rule=rule(components=(Component((term(post=post("spike")),)),)))),
        "the rule of projection 'wire' reads 'spike' at its post end; 'b' has: rate, slope, basal, feedback",
    ),
    "pre field": (
        lambda: build(network(rule=rule(components=(Component((term(pre=Trace(pre("v"), 5.0)),)),)))),
        "reads 'v' at its pre end; 'a' has",
    ),
    "decay field": (
        lambda: build(network(rule=rule(components=(Component((term(),), decay=post("v")),)))), "reads 'v' at its post end"),
    "modulator field": (lambda: build(network(rule=rule(modulator=Feedback(post("apical"))))), "reads 'apical' at its post end"),
    "modulator end": (
        lambda: build(network(rule=rule(modulator=Feedback(pre("rate"))))),
        "the modulator of projection 'wire' reads a pre factor; it may read post factors only",
    ),
    "per synapse": (
        lambda: build(network(rule=rule(components=(Component((term(gain=PerSynapse(np.ones(5))),)),)))),
        "a PerSynapse gain of projection 'wire' has shape \\(5,\\), which does not fit \\(4, 3\\)",
    ),
    "per synapse and bias": (
        lambda: build(network(bias=True, rule=rule(components=(Component((term(gain=PerSynapse(np.ones((4, 3)))),)),)))),
        "has shape \\(4, 3\\), but its bias has shape \\(4,\\)",
    ),
    "rates": (
        lambda: build(network(rule=rule(transforms=(Rate(np.ones((3, 4))),)))), "Rate of projection 'wire' has shape \\(3, 4\\)"),
    "rates of a bias": (
        lambda: build(network(bias=True, rule=rule(transforms=(Rate(np.ones((4, 3))),)))), "give one number, bias_transforms"),
    "gradient output": (
        lambda: build(network(rule=GradientRule(len))), "no population 'output'; the network has: a, b"),
    "gradient rules": (
        lambda: build(
            Network(
                network().populations,
                tuple(Projection("a", "b", name=n, rule=GradientRule(len, n, output="b")) for n in ("mse", "cross_entropy")),
            )
        ),
        "gradient rules differ in loss; all that learn together share one loss",
    ),
    "tie kind": (
        lambda: build(Network(network().populations, (
            Projection("a", "b", connectivity=FixedProbability(0.5), name="x"), Projection("b", "a", tied=("x", "transpose"))))),
        "'b_a' \\(dense\\) cannot be tied to 'x' \\(sparse\\): both must be dense",
    ),
    "tie shape": (
        lambda: build(Network(network().populations, (
            Projection("a", "b", name="x"), Projection("a", "b", tied=("x", "sign"))))),
        "'a_b' has shape \\(4, 3\\), but the transpose of 'x', to which it is tied, has \\(3, 4\\)",
    ),
    "teaching port sent": (
        lambda: build(network(output="feedback", delay=0)), "sends the teaching port 'feedback' to a driving port without delay"),
    "teaching cycle": (
        lambda: build(Network(network(sizes=(3, 3)).populations, tuple(
            Projection(i, j, connectivity=OneToOne(), output="feedback", port="feedback", delay=0) for i, j in ("ab", "ba")))),
        "teaching projections with zero delay form a cycle among: a_b_feedback, b_a_feedback",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPILE_ERRORS)
def test_compile_errors(name):
    make, sentence = COMPILE_ERRORS[name]
    with pytest.raises(ConfigurationError, match=sentence):
        make()


def probe(*words, **options):
    return lambda: run(network(rule=HEBB), probes=(Probe(*words, **options),))


RUN_ERRORS = {
    "batch 0": (lambda: run(network(), batch=0), "batch is 0; it must be a whole number of at least 1"),
    "batch of the phase": (lambda: run(network(), Phase("p", 1, {"a": Held(np.ones((2, 3)))})), "has batch 2, but the simulator's state has batch 1"),
    "replicas of the phase": (
        lambda: run(network(), Phase("p", 1, {"a": Held(np.ones((2, 1, 3)))})), "has replicas 2, but the simulator's state has replicas 1"),
    "drive": (lambda: run(network(), Phase("p", 1, {"c": Held(np.ones((1, 3)))})), "drives unknown 'c'; allowed: a, a.basal, a.feedback, b"),
    "port": (lambda: run(network(), Phase("p", 1, {"a.gate": Held(np.ones((1, 3)))})), "drives unknown 'a.gate'"),
    "width": (lambda: run(network(), Phase("p", 1, {"a": Held(np.ones((1, 4)))})), "is for 4 neurons \\(shape \\(1, 4\\)\\), but 'a' has 3"),
    "learn": (lambda: run(network(), Phase("p", 1, learn=("wire",))), "learn of phase 'p' names 'wire'; projections with a rule: none"),
    "silent": (lambda: run(network(), Phase("p", 1, silent=("wires",))), "silent of phase 'p' names 'wires'; projections: wire"),
    "second phase": (
        lambda: run(network(), (Phase("p", 1), Phase("q", 1, silent=("x",)))), "silent of phase 'q' names 'x'"),
    "signal": (
        lambda: run(network(rule=rule(modulator=Broadcast("reward"))), Phase("p", 1, signals={"label": np.ones((1, 1))})),
        "a rule reads the signal 'reward', but phase 'p' carries: label",
    ),
    "gradient signal": (
        lambda: run(network(rule=GradientRule(lambda r, dt: r.sum(0), output="b"))), "reads the signal 'label'; the phase carries: none"),
    "k winners": (
        lambda: run(Network((Population("a", 3, Relay(), KWinners(4)),), ())), "k of KWinners is 4, but the population has 3 units"),
    "dale": (lambda: run(network(rule=rule(constraints=(Dale([1, -1]),)))), "got numbers of shape \\(2,\\); allowed: one, or one per pre neuron \\(3\\)"),
    "probe target": (probe("c", "rate"), "a probe asks for 'c'; the network has: a, b, wire"),
    "probe field": (probe("a", "spike"), "a probe asks for 'spike' of 'a'; it has: rate, slope, basal, feedback"),
    "probe of a projection": (probe("wire", "rate"), "asks for 'rate' of 'wire'; it has: weight, bias, eligibility, modulator"),
    "every": (probe("a", "rate", every=0), "the probe of 'a.rate' keeps every 0 steps; it must be at least 1"),
    "units": (probe("a", "rate", units=(0, 3)), "asks for unit 3; allowed: 0 to 2"),
    "units of a projection": (probe("wire", "weight", units=(0,)), "picks units; that works on populations only"),
    "no bias": (probe("wire", "bias"), "projection 'wire' has no bias of its own to record"),
    "no eligibility": (probe("wire", "eligibility"), "the rule of projection 'wire' keeps no eligibility"),
    "no rule": (lambda: run(network(), probes=(Probe("wire", "modulator"),)), "'wire' has no three-factor rule, so it has no modulator"),
    "twice": (
        lambda: run(network(), probes=(Probe("a", "rate", units=(0,)), Probe("a", "rate", units=(1,)))), "two probes ask for 'a.rate'"),
    "no recording": (lambda: run(network(), probes=(Probe("a", "rate"),))[1]["a.spike"], "no recording of 'a.spike'; recorded: a.rate"),
}  # fmt: skip


@pytest.mark.parametrize("name", RUN_ERRORS)
def test_run_errors(name):
    make, sentence = RUN_ERRORS[name]
    with pytest.raises(ConfigurationError, match=sentence):
        make()


def test_tied_weights_are_no_ones_own():
    net = Network(
        network().populations,
        (Projection("a", "b", name="x"), Projection("b", "a", tied=("x", "transpose"), port="feedback")),
    )
    with pytest.raises(ConfigurationError, match="projection 'b_a_feedback' has no weight of its own to record"):
        run(net, probes=(Probe("b_a_feedback", "weight"),))


def test_steps_of():
    assert [steps_of(t, 0.1, "t") for t in (0.0, 0.1, 0.3, 1.5, 1000.1)] == [0, 1, 3, 15, 10001]


def test_order_follows_the_zero_delays():
    names = ("output", "two", "one", "input")
    populations = tuple(Population(name, 2, LeakyRate()) for name in names)
    wires = (("input", "one", 0), ("one", "two", 0), ("two", "output", 0), ("output", "input", 1))
    plan = compile(Network(populations, tuple(Projection(i, j, delay=d) for i, j, d in wires)), 1.0).plan
    assert plan.order == ("input", "one", "two", "output")


def test_history_is_as_long_as_it_has_to_be():
    """Delays of what is sent, axonal and dendritic delays of what a rule reads, one more for "before"."""
    trace = Trace(pre("rate"), 5.0, read="before")
    learning = ThreeFactorRule((Component((Term(post("slope"), trace),)),), Feedback(post("feedback")))
    plan = compile(network(delay=3.0, dendritic_delay=2.0, bias=True, rule=learning), 0.5).plan
    expected = {
        ("a", Field("post", "rate")): 6,
        ("a", canonical(trace)): 7,
        ("b", Field("post", "slope")): 4,
        ("b", Field("post", "feedback")): 4,
        ("", canonical(trace)): 1,
    }
    assert plan.history == expected
    assert compile(network(delay=0), 1.0).plan.history == {}


def test_traces_are_merged():
    """Two rules, three ends: equal traces of one population are kept once, inner ones before outer ones."""
    inner = Trace(pre("rate"), 5.0)
    cascade = Trace(inner, 7.0)
    both = ThreeFactorRule(
        (
            Component(
                (Term(Trace(post("rate"), 5.0), cascade), Term(post("rate"), Trace(pre("rate"), 5.0, read="before")))
            ),
        )
    )
    net = Network(
        network().populations,
        (Projection("a", "b", rule=both, name="x"), Projection("b", "a", rule=both, name="y")),
    )
    traces = compile(net, 1.0).plan.traces
    assert len(traces) == len(set(traces)) == 4
    order = {key: k for k, key in enumerate(traces)}
    for population in "ab":
        assert order[population, canonical(inner)] < order[population, canonical(cascade)]


def test_parameters_and_start_values():
    net = Network(
        (
            Population(
                "a",
                4,
                LIF(tau_mem=Uniform(5.0, 9.0), v_rest=[0.1, 0.2, 0.3, 0.4]),
                initial={"refractory": Constant(2.0)},
            ),
        ),
        (),
    )
    plan = compile(net, 1.0, replicas=3).plan
    assert plan.neurons["a"].tau_mem.shape == (3, 4)
    start = plan.initial_state("a")
    assert start["v"].tolist() == [[0.1, 0.2, 0.3, 0.4]] * 3
    assert start["refractory"].tolist() == [[2.0] * 4] * 3


def test_weights_of_every_layout():
    dense, given = normal(4, 3), normal(2, 4, 3)
    for connectivity in (FixedProbability(0.5), FixedInDegree(2)):
        plan = compile(network(weight=dense, connectivity=connectivity), 1.0, replicas=2).plan
        edges = plan.synapses["wire"].edges
        np.testing.assert_array_equal(plan.initial_weight("wire"), dense[edges.post % 4, edges.pre % 3])
        plan = compile(network(weight=given, connectivity=connectivity), 1.0, replicas=2).plan
        np.testing.assert_array_equal(
            plan.initial_weight("wire"), given[edges.post // 4, edges.post % 4, edges.pre % 3]
        )
    plan = compile(network(weight=given, delay=np.ones((4, 3))), 1.0, replicas=2).plan
    np.testing.assert_array_equal(plan.initial_weight("wire"), given.ravel())
    shaped = Network(
        (Population("a", (1, 4, 4), Relay()), Population("b", (1, 2, 2), Relay())),
        (Projection("a", "b", connectivity=AveragePool(2), name="wire"),),
    )
    assert set(compile(shaped, 1.0, replicas=2).plan.initial_weight("wire").tolist()) == {0.25}
    drawn = [
        compile(network(weight=LecunNormal(), delay=d), 1.0).plan.initial_weight("wire") for d in (1.0, np.ones((4, 3)))
    ]
    assert torch.equal(drawn[0].ravel(), drawn[1])  # a delay per synapse does not change the draw


def test_a_rate_per_synapse_in_every_layout():
    rates = np.arange(12.0).reshape(4, 3)
    ones = ThreeFactorRule((Component((Term(post("feedback"), pre("rate")),)),), transforms=(Rate(rates),))
    phase = Phase("p", 1, {"a": Held(np.ones((1, 3))), "b.feedback": Held(np.ones((1, 4)))})
    for wire in ({}, {"delay": np.zeros((4, 3))}, {"connectivity": FixedProbability(1.0)}):
        state, _ = run(network(weight=0.0, rule=ones, **{"delay": 0, **wire}), phase, dtype="float64", replicas=2)
        np.testing.assert_array_equal(state.learned["weight"]["wire"].numpy().reshape(2, 4, 3), [rates, rates])


def test_component_gain_noise_and_apply_are_checked_when_made():
    with pytest.raises(ConfigurationError, match="component 0 reads component -1"):
        ThreeFactorRule((Component((term(gain=OfComponent(-1)),)),))
    with pytest.raises(ConfigurationError, match="SynapseNoise of all terms has one sd"):
        ThreeFactorRule((Component((term(gain=SynapseNoise(1.0)), term(gain=SynapseNoise(2.0)))),))
    with pytest.raises(ConfigurationError, match="factors of one end"):
        Apply(abs, (post("rate"), pre("rate")))
