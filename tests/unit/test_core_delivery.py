"""Delivery and integration: delays, biases, release, silence, drives, and what probes give back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import normal, raster, simulate, weight
from test_release import event_driven

from neurosim.backends import compile
from neurosim.connectivity import AveragePool, EdgeList, FixedInDegree, FixedProbability, MaxPool, OneToOne
from neurosim.factor import One, post, pre
from neurosim.modulator import Feedback, Shuffled, Unmodulated
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, PoissonSource, Relay, SpikeRelay, StaticRate
from neurosim.phase import Held, Phase, Spikes
from neurosim.recorder import Probe
from neurosim.release import Static, TsodyksMarkram
from neurosim.rule import Component, Term, ThreeFactorRule

T, B = 30, 2


RELAY = Relay()


def chain(*wires, sizes=(4, 3), neuron=RELAY):
    return Network((Population("input", sizes[0], neuron), Population("output", sizes[1], neuron)), wires)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_delay_per_synapse(sparse):
    """y_i(t) = b_i + sum_j w_ij x_j(t - d_ij), delays from 0 to 6 steps of 0.5 ms, zero before anything was sent."""
    w, x = normal(3, 4), normal(T, B, 4)
    d = np.random.default_rng(0).integers(0, 7, (3, 4))
    wire = {"weight": w, "delay": 0.5 * d, "bias": normal(3)}
    if sparse:
        i, j = np.divmod(np.random.default_rng(1).permutation(12), 4)
        wire |= {"weight": w[i, j], "delay": 0.5 * d[i, j], "connectivity": EdgeList(i, j)}
    _, _, recording = simulate(
        chain(Projection("input", "output", **wire)),
        Phase("p", T, {"input": x}),
        (Probe("output", "rate"),),
        batch=B,
        dt=0.5,
    )
    expected = np.tile(normal(3), (T, B, 1))
    for i, j in np.ndindex(3, 4):
        expected[d[i, j] :, :, i] += w[i, j] * x[: T - d[i, j], :, j]
    np.testing.assert_allclose(recording["output.rate"], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("delay", "steps"), [(None, 1), (0, 0), (0.0, 0), (2.0, 2)])
def test_one_delay(delay, steps):
    x = normal(T, B, 4)
    net = chain(Projection("input", "output", normal(3, 4), delay=delay))
    _, _, recording = simulate(net, Phase("p", T, {"input": x}), (Probe("output", "rate"),), batch=B)
    expected = np.zeros((T, B, 3))
    expected[steps:] = x[: T - steps] @ normal(3, 4).T
    np.testing.assert_allclose(recording["output.rate"], expected, rtol=0, atol=1e-13)


def test_recurrent_network_with_bias():
    """v <- l v + (1 - l)(W x + U r(t - 1) + b + c), r = tanh v."""
    w, u, b, c, x = normal(5, 4), normal(5, 5), normal(5), 0.3, normal(T, B, 4)
    net = Network(
        (Population("input", 4, Relay()), Population("cells", 5, LeakyRate(tau_mem=6.0, activation="tanh"))),
        (
            Projection("input", "cells", w, delay=0, bias=b),
            Projection("cells", "cells", u, bias=c),
        ),
    )
    _, _, recording = simulate(net, Phase("p", T, {"input": x}), (Probe("cells", "rate"),), batch=B)
    v, r, leak = np.zeros((B, 5)), np.zeros((B, 5)), np.exp(-1 / 6)
    for t in range(T):
        v = leak * v + (1 - leak) * (x[t] @ w.T + r @ u.T + b + c)
        r = np.tanh(v)
        np.testing.assert_allclose(recording["cells.rate"][t], r, rtol=0, atol=1e-12)


@pytest.mark.parametrize("delay", [0, 1, 4])
@pytest.mark.parametrize("connectivity", [None, OneToOne()])
def test_release_is_short_term_plasticity_at_the_source(delay, connectivity):
    spikes, w = raster(60, B, 3), normal(3, 3) if connectivity is None else normal(3)
    extra = {} if connectivity is None else {"connectivity": connectivity}
    net = chain(
        Projection("input", "output", w, delay=delay, release=TsodyksMarkram(0.3, 100.0, 40.0), **extra),
        Projection("input", "output", w, delay=delay, release=Static(), port="feedback", **extra),
        sizes=(3, 3),
        neuron=SpikeRelay(),
    )
    probes = (Probe("output", "basal"), Probe("output", "feedback"))
    _, _, recording = simulate(net, Phase("p", 60, {"input": spikes}), probes, batch=B, dt=1.0)
    released = np.zeros_like(spikes)
    for b, j in np.ndindex(B, 3):
        rows = np.flatnonzero(spikes[:, b, j])
        released[rows, b, j] = event_driven(rows, 0.3, 100.0, 40.0)
    for key, sent in (("output.basal", released), ("output.feedback", spikes)):
        arrived = sent @ w.T if connectivity is None else sent * w
        expected = np.zeros_like(arrived)
        expected[delay:] = arrived[: 60 - delay]
        np.testing.assert_allclose(recording[key], expected, rtol=0, atol=1e-12)


def test_drives_add_up():
    """Held, an array, spike times and a projection, at driving and teaching ports, from the first step to the last."""
    net = chain(
        Projection("input", "output", 2.0, OneToOne(), delay=0),
        Projection("input", "output", 3.0, OneToOne(), delay=0, port="feedback"),
        sizes=(2, 2),
    )
    x, held, teach = normal(3, 1, 2), normal(1, 2, seed=2), normal(3, 1, 2, seed=3)
    phase = Phase("p", 3, {"input": Spikes([[1.0], [2.0, 3.0]]), "output": Held(held), "output.feedback": teach})
    probes = (Probe("output", "rate"), Probe("output", "feedback"), Probe("input", "rate"))
    _, _, recording = simulate(net, phase, probes)
    spikes = np.array([[1, 0], [0, 1], [0, 1]])[:, None]
    np.testing.assert_array_equal(recording["input.rate"], spikes)
    np.testing.assert_allclose(recording["output.rate"], 2 * spikes + held, rtol=1e-15)
    np.testing.assert_allclose(recording["output.feedback"], 3 * spikes + teach, rtol=1e-15)
    assert x.shape == (3, 1, 2)


@pytest.mark.parametrize("neuron", [Relay(), StaticRate("tanh"), LIF(), LeakyRate()])
def test_nothing_arrives(neuron):
    """Undriven and silenced populations are at rest; what they send on, and what rules read of them, has its full
    shape.
    """
    axon = neuron.outputs[0]
    rule = ThreeFactorRule(
        (
            Component(
                (Term(post(axon), pre(axon)), Term(post("basal"), pre("basal")), Term(One("post"), One("pre"))),
            ),
        )
    )
    net = Network(
        tuple(Population(name, size, neuron) for name, size in (("input", 4), ("middle", 3), ("output", 5))),
        (
            Projection("input", "middle", normal(3, 4), delay=0, rule=rule, name="first"),
            Projection("middle", "output", normal(5, 3), delay=0, rule=rule, name="second"),
            Projection("middle", "output", normal(5, 3), delay=0, output="basal", name="port"),
            Projection("output", "middle", normal(3, 5), delay=1, output="feedback", port="feedback", name="back"),
        ),
    )
    probes = tuple(Probe("output", field) for field in (axon, "slope", "basal", "feedback"))
    for silent in ((), ("first",)):
        _, state, recording = simulate(net, Phase("p", 2, silent=silent), probes, batch=B, replicas=2)
        assert not recording[f"output.{axon}"].any()
        assert recording["output.slope"].shape == (2, 2, B, 5)
        np.testing.assert_allclose(weight(state, "first") - normal(3, 4), 2.0, rtol=1e-14)  # One x One, two steps


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("memory", [None, 3.0])
def test_constant_factors_have_the_full_shape(memory, sparse):
    """1 x 1, 1 x pre and post x 1 for a batch and replicas above one; with and without memory; unmodulated or not."""
    wiring = {"connectivity": EdgeList(*np.divmod(np.arange(12), 4))} if sparse else {}
    terms = (Term(One("post"), One("pre")), Term(One("post"), pre("rate")), Term(post("rate"), One("pre")))
    x, y = normal(3, B, 4), normal(3, B, 3)
    for modulator in (Unmodulated(), Feedback(post("rate"))):
        rule = ThreeFactorRule((Component(terms, tau=memory),), modulator, reduce="mean")
        net = chain(Projection("input", "output", 0.0, port="feedback", delay=0, name="wire", rule=rule, **wiring))
        _, state, _ = simulate(net, Phase("p", 3, {"input": x, "output": y}), batch=B, replicas=2)
        w, e = np.zeros((3, 4)), 0.0
        for t in range(3):
            e = (np.exp(-1 / memory) if memory else 0.0) * e + 1.0 + x[t][:, None] + y[t][..., None]
            w += (e if isinstance(modulator, Unmodulated) else y[t][..., None] * e).mean(0)
        np.testing.assert_allclose(weight(state).reshape(2, 3, 4), [w, w], rtol=0, atol=1e-12)


def test_max_of_two_projections():
    """A port that combines by max takes the largest over all its projections."""
    shape, small = (2, 4, 4), (2, 2, 2)
    net = Network(
        (Population("a", shape, Relay()), Population("b", shape, Relay()), Population("out", small, Relay())),
        (
            Projection("a", "out", connectivity=MaxPool(2), delay=0),
            Projection("b", "out", connectivity=MaxPool(2), delay=0),
        ),
    )
    a, b = normal(1, B, 32), normal(1, B, 32, seed=1)
    _, _, recording = simulate(net, Phase("p", 1, {"a": a, "b": b}), (Probe("out", "rate"),), batch=B)
    pooled = np.maximum(a, b).reshape(B, 2, 2, 2, 2, 2).max((3, 5))
    np.testing.assert_array_equal(recording["out.rate"][0], pooled.reshape(B, -1))


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_probe():
    rule = ThreeFactorRule((Component((Term(post("slope"), pre("spike")),), tau=9.0),), Feedback(post("feedback")))
    net = Network(
        (Population("input", 4, SpikeRelay()), Population("cells", 3, LIF()), Population("teacher", 3, Relay())),
        (
            Projection("input", "cells", normal(3, 4), delay=0, bias=True, name="wire", rule=rule),
            Projection("teacher", "cells", 1.0, OneToOne(), port="feedback", delay=0),
        ),
    )
    fields = ("v", "refractory", "spike", "slope", "basal", "current", "feedback")
    probes = [Probe("cells", field) for field in fields]
    probes += [Probe("wire", field) for field in ("weight", "bias", "eligibility", "modulator")]
    x, teach = raster(T, B, 4), normal(T, B, 3)
    phase = Phase("p", T, {"input": x, "teacher": teach})
    _, state, all_rows = simulate(net, phase, probes, batch=B)
    assert {key: all_rows[key].shape for key in all_rows} == {
        **{f"cells.{field}": (T, B, 3) for field in fields},
        "wire.weight": (T, 3, 4),
        "wire.bias": (T, 3),
        "wire.eligibility": (T, B, 3, 4),
        "wire.modulator": (T, B, 3),
    }
    np.testing.assert_array_equal(all_rows["wire.modulator"], teach)
    np.testing.assert_array_equal(all_rows["wire.weight"][-1], weight(state)[0])
    assert all_rows["cells.refractory"].any() == all_rows["cells.current"].any() == False  # noqa: E712
    picked = [Probe("cells", "v", every=7, units=(2, 0)), Probe("wire", "weight", every=4)]
    _, _, some = simulate(net, (phase, phase), picked, batch=B)
    assert some.step["cells.v"].tolist() == list(range(0, 2 * T, 7))
    np.testing.assert_array_equal(some["cells.v"][:5], all_rows["cells.v"][::7][..., [2, 0]])
    np.testing.assert_array_equal(some.time("wire.weight")[:3], [1.0, 5.0, 9.0])


def test_probes_of_edges():
    """Weights and eligibilities of edges: `[T, R, E]` and `[T, R, B, E]`, NaN beyond the edges of a replica."""
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),), tau=9.0),))
    net = chain(
        Projection("input", "output", 0.5, FixedProbability(0.5), port="feedback", name="wire", delay=0, rule=rule),
        sizes=(6, 5),
    )
    x, y = normal(2, B, 6), normal(2, B, 5)
    probes = (Probe("wire", "weight"), Probe("wire", "eligibility"))
    phases = (Phase("rest", 1, learn=False), Phase("p", 2, {"input": x, "output": y}))
    simulator, _, recording = simulate(net, phases, probes, batch=B, replicas=3)
    edges = simulator.plan.synapses["wire"].edges
    longest, first = max(edges.counts), 0
    assert recording["wire.weight"].shape == (3, 3, longest)
    assert recording["wire.eligibility"].shape == (3, 3, B, longest)
    for r, count in enumerate(edges.counts):
        i, j = edges.post[first : first + count] % 5, edges.pre[first : first + count] % 6
        first += count
        own = recording["wire.eligibility"][:, r]
        assert np.isnan(own[..., count:]).all()
        assert not own[0, :, :count].any()
        np.testing.assert_allclose(own[1, :, :count], y[0][:, i] * x[0][:, j], rtol=1e-15)
        np.testing.assert_allclose(recording["wire.weight"][0, r, :count], 0.5)


def test_probes_of_a_dense_projection_with_a_delay_per_synapse():
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),), tau=9.0),))
    net = chain(
        Projection("input", "output", normal(3, 4), delay=np.ones((3, 4)), port="feedback", name="wire", rule=rule)
    )
    probes = (Probe("wire", "weight"), Probe("wire", "eligibility"))
    _, _, recording = simulate(
        net, Phase("p", 2, {"input": normal(2, B, 4), "output": normal(2, B, 3)}), probes, batch=B, replicas=2
    )
    assert recording["wire.weight"].shape == (2, 2, 3, 4)
    product = normal(2, B, 3)[1][..., None] * normal(2, B, 4)[0][:, None]
    assert recording["wire.eligibility"].shape == (2, 2, B, 3, 4)
    np.testing.assert_allclose(recording["wire.eligibility"][1, 1], product, rtol=1e-14)


def test_a_modulator_that_is_not_formed_is_nan():
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), when="phase", accumulate="last")
    net = chain(Projection("input", "output", 0.0, port="feedback", name="wire", rule=rule))
    _, _, recording = simulate(
        net, (Phase("p", 2), Phase("rest", 1, learn=False)), (Probe("wire", "modulator"),), batch=B
    )
    np.testing.assert_array_equal(recording["wire.modulator"][:, 0, 0], [np.nan, 1.0, np.nan])


# ---- odds and ends -----------------------------------------------------------------------------------------------


def test_shuffled_deals_the_same_values_to_others():
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), Feedback(post("rate")))
    shuffled = ThreeFactorRule(rule.components, Shuffled(rule.modulator))
    y = normal(8, B, 3)
    rows = []
    for one in (rule, shuffled):
        net = chain(Projection("input", "output", 0.0, port="feedback", name="wire", rule=one))
        phase = Phase("p", 8, {"output": y})
        rows.append(simulate(net, phase, (Probe("wire", "modulator"),), batch=B, replicas=2)[2]["wire.modulator"])
    np.testing.assert_array_equal(np.sort(rows[0], -1), np.sort(rows[1], -1))
    assert (rows[0] != rows[1]).any((1, 2, 3)).sum() > 4
    unmodulated = ThreeFactorRule(rule.components, Shuffled(Unmodulated()))
    net = chain(Projection("input", "output", 0.0, port="feedback", name="wire", rule=unmodulated))
    simulate(net, Phase("p", 1), batch=B)


def test_fresh_and_repeat():
    net = Network(
        (Population("input", 4, SpikeRelay()), Population("cells", 3, LIF(tau_mem=5.0, v_th=9.0))),
        (Projection("input", "cells", normal(3, 4), delay=2, name="wire"),),
    )
    simulator = compile(net, 1.0, dtype="float64")
    probes = (Probe("cells", "v"),)
    state, _ = simulator.run(simulator.init(2), Phase("p", 5, {"input": normal(5, 2, 4)}))
    assert state.clock == simulator.fresh(state).clock == 5
    rest = simulator.run(simulator.fresh(state, 3), Phase("p", 3), probes)[1]["cells.v"]
    assert rest.shape == (3, 3, 3)
    assert not rest.any()
    two = simulator.run(state, Phase("p", 3), probes)[1]["cells.v"]
    five = simulator.run(simulator.repeat(state, 5), Phase("p", 3), probes)[1]["cells.v"]
    np.testing.assert_array_equal(five, two[:, [0, 1, 0, 1, 0]])
    assert two.any()


def test_noise_off_hands_out_silence():
    net = Network((Population("source", 50, PoissonSource(500.0)),), ())
    on, off = (
        simulate(net, Phase("p", 20, noise=noise), (Probe("source", "spike"),))[2]["source.spike"]
        for noise in (True, False)
    )
    assert on.any()
    assert not off.any()


def test_pool_weights_are_fixed():
    net = Network(
        (Population("a", (1, 2, 2), Relay()), Population("b", (1, 1, 1), Relay())),
        (Projection("a", "b", 7.0, AveragePool(2), delay=0, name="pool"),),
    )
    assert compile(net, 1.0).plan.initial_weight("pool").tolist() == [0.25] * 4


def test_float32_and_degrees():
    simulator = compile(chain(Projection("input", "output", 1.0, FixedInDegree(2), name="wire")), 1.0)
    state, recording = simulator.run(
        simulator.init(1), Phase("p", 2, {"input": Held(torch.ones(1, 4))}), (Probe("output", "rate"),)
    )
    assert recording["output.rate"].dtype == np.float32
    np.testing.assert_array_equal(recording["output.rate"][1], [[2.0, 2.0, 2.0]])
    assert state.learned["weight"]["wire"].dtype == torch.float32
