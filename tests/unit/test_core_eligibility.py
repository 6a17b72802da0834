"""Eligibilities with memory, against loops in NumPy: two components with a decay of the post neuron, gains, dendritic
delay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal, raster, silent_pair, simulate, weight

from neurosim.connectivity import EdgeList
from neurosim.factor import Apply, One, Trace, post, pre
from neurosim.modulator import Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import DelayedResetLIF, GatedRelay, Relay, SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, OfComponent, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.transform import Rate

T, B, R, P, Q = 25, 3, 2, 4, 5


def coupling(slope, theta):
    return 0.0 - slope * theta


def test_two_components_with_a_decay_of_the_post_neuron():
    """psi = rate of a gated relay (basal x gate), d_i = its slope (the gate), and the gate is the learning signal."""
    psi, spikes = np.abs(normal(T, R, B, P)), raster(T, R, B, Q)
    gate = np.random.default_rng(5).uniform(0.2, 0.9, (T, R, B, P))
    net = Network(
        (Population("input", Q, Relay()), Population("output", P, GatedRelay())),
        (Projection("input", "output", normal(P, Q), port="feedback", name="wire", bias=True, rule=None, delay=2),),
    )
    bar = Trace(pre("rate"), 10.0)
    first = Component((Term(post("rate"), bar),), decay=post("slope"))
    minus = Apply(coupling, (post("rate"), post("slope")))
    second = Component((Term(post("rate"), bar), Term(minus, One("pre"), OfComponent(0))))
    rule = ThreeFactorRule((first, second), Feedback(post("gate")), transforms=(Rate(0.1),), reduce="mean")
    net = net.with_projections(lambda p: replace(p, rule=rule))
    phase = Phase("p", T, {"input": spikes, "output.basal": psi, "output.gate": gate})
    _, state, recording = simulate(
        net, phase, (Probe("wire", "eligibility"), Probe("wire", "weight")), batch=B, replicas=R
    )

    w, b = np.repeat(normal(P, Q)[None], R, 0), np.zeros((R, P))
    trace, e1, e1_bias, bias_trace = np.zeros((R, B, Q)), np.zeros((R, B, P, Q)), np.zeros((R, B, P)), 0.0
    keep = np.exp(-1.0 / 10.0)
    for t in range(T):
        post_side, d = psi[t] * gate[t], gate[t]
        trace = keep * trace + (spikes[t - 2] if t >= 2 else 0.0)
        bias_trace = keep * bias_trace + 1.0
        e = post_side[..., None] * trace[:, :, None] - (post_side * d)[..., None] * e1
        e_bias = post_side * bias_trace - post_side * d * e1_bias
        e1 = d[..., None] * e1 + post_side[..., None] * trace[:, :, None]
        e1_bias = d * e1_bias + post_side * bias_trace
        w += 0.1 * (gate[t][..., None] * e).mean(1)
        b += 0.1 * (gate[t] * e_bias).mean(1)
        np.testing.assert_allclose(recording["wire.eligibility"][t], e, rtol=0, atol=1e-12)
        np.testing.assert_allclose(recording["wire.weight"][t], w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weight(state, part="bias"), b, rtol=0, atol=1e-12)


def test_reading_a_component_after_its_update():
    """ "after" reads the new value: with one step, "before" gives zero and "after" the product."""
    for read, expected in (("before", 0.0), ("after", 6.0)):
        first = Component((Term(post("rate"), pre("rate")),), tau=5.0)
        second = Component((Term(One("post"), One("pre"), OfComponent(0, read)),))
        rule = ThreeFactorRule((first, second), transforms=(Rate(1.0),))
        net = Network(
            (Population("input", 1, Relay()), Population("output", 1, Relay())),
            (Projection("input", "output", 0.0, port="feedback", name="wire", delay=0, rule=rule),),
        )
        _, state, _ = simulate(
            net, Phase("p", 1, {"input": np.full((1, 1, 1), 2.0), "output": np.full((1, 1, 1), 3.0)})
        )
        assert weight(state).item() == expected


def exponential_rule(**options):
    component = Component((Term(post("spike"), Trace(pre("spike"), 7.0)),), tau=4.0)
    return ThreeFactorRule((component,), Feedback(post("basal")), transforms=(Rate(0.5),), **options)


@pytest.mark.parametrize("dendritic", [0.0, 2.0])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_scalar_decay_dense_and_sparse(reduce, sparse, dendritic):
    """e <- exp(-dt / tau_e) e + post pre_trace, post read dendritic_delay late; m = the post activity, late too."""
    pre_spikes, post_values = raster(T, B, Q), normal(T, B, P)
    net = silent_pair(Q, P, exponential_rule(reduce=reduce), weight=0.0, dendritic_delay=dendritic, delay=1)
    if sparse:
        post_index, pre_index = np.divmod(np.random.default_rng(0).permutation(P * Q), Q)
        net = net.with_projections(lambda p: replace(p, connectivity=EdgeList(post_index, pre_index)))
    phase = Phase("p", T, {"input": pre_spikes, "output": post_values})
    _, state, _ = simulate(net, phase, batch=B)
    w, e, trace, d = np.zeros((P, Q)), np.zeros((B, P, Q)), np.zeros((B, Q)), int(dendritic)
    for t in range(T):
        trace = np.exp(-1 / 7.0) * trace + (pre_spikes[t - 1] if t >= 1 else 0.0)
        y = post_values[t - d] if t >= d else np.zeros((B, P))
        e = np.exp(-1 / 4.0) * e + y[..., None] * trace[:, None]
        w += 0.5 * getattr(np, reduce)(y[..., None] * e, axis=0)
    expected = w[post_index, pre_index] if sparse else w[None]
    np.testing.assert_allclose(weight(state), expected, rtol=0, atol=1e-12)


def square(w):
    return w * w


@pytest.mark.parametrize("memory", [None, 4.0])
@pytest.mark.parametrize("shape", [(P, Q), (P, 1), (Q,), (R, P, Q), ()])
def test_gains_of_the_weight_and_per_synapse(memory, shape):
    """Oja's decay w^2 beside coefficients per synapse, with and without memory, for every shape that broadcasts."""
    gain = normal(*shape) if shape else 0.7
    x, y = normal(T, R, B, Q), normal(T, R, B, P)
    terms = (Term(post("rate"), pre("rate"), PerSynapse(gain)), Term(post("rate"), One("pre"), OfWeight(square)))
    rule = ThreeFactorRule((Component(terms, tau=memory),), transforms=(Rate(0.01),), reduce="mean")
    net = Network(
        (Population("input", Q, Relay()), Population("output", P, Relay())),
        (Projection("input", "output", normal(P, Q), port="feedback", name="wire", delay=0, rule=rule),),
    )
    _, state, _ = simulate(net, Phase("p", T, {"input": x, "output": y}), batch=B, replicas=R)
    w, e = np.repeat(normal(P, Q)[None], R, 0), np.zeros((R, B, P, Q))
    for t in range(T):
        product = y[t][..., None] * x[t][:, :, None] * (np.expand_dims(gain, 1) if np.ndim(gain) == 3 else gain)
        product = product + y[t][..., None] * (w * w)[:, None]
        e = (np.exp(-1 / memory) if memory else 0.0) * e + product
        w = w + 0.01 * e.mean(1)
    np.testing.assert_allclose(weight(state), w, rtol=0, atol=1e-12)


def test_traces_every_mode_read_and_cascade():
    spikes = raster(T, 1, 1)
    traces = {
        "sum": Trace(pre("spike"), 5),
        "nearest": Trace(pre("spike"), 5.0, "nearest"),
        "mean": Trace(pre("spike"), 5.0, "mean"),
        "before": Trace(pre("spike"), 5.0, "sum", "before"),
        "cascade": Trace(Trace(pre("spike"), 5.0), 3.0),
    }
    a, c = np.exp(-1 / 5), np.exp(-1 / 3)
    state = dict.fromkeys(traces, 0.0)
    totals = dict.fromkeys(traces, 0.0)
    for z in spikes[:, 0, 0]:
        before = a * state["sum"]
        state["sum"] = a * state["sum"] + z
        state["nearest"] = z if z > 0 else a * state["nearest"]
        state["mean"] = a * state["mean"] + (1 - a) * z
        state["before"] = before
        state["cascade"] = c * state["cascade"] + state["sum"]
        totals = {name: totals[name] + state[name] for name in traces}
    for name, trace in traces.items():
        rule = ThreeFactorRule((Component((Term(One("post"), trace),)),))
        _, after, _ = simulate(silent_pair(1, 1, rule, weight=0.0), Phase("p", T, {"input": spikes}))
        np.testing.assert_allclose(weight(after).item(), totals[name], rtol=1e-13, err_msg=name)


def test_equal_traces_are_one_whatever_the_number_type():
    """tau=5 and tau=5.0 are the same trace; a rule with either must find it."""
    rules = [ThreeFactorRule((Component((Term(One("post"), Trace(pre("rate"), tau)),)),)) for tau in (5, 5.0)]
    net = Network(
        (Population("input", 1, Relay()), Population("output", 1, Relay())),
        tuple(
            Projection("input", "output", 0.0, port="feedback", name=f"wire{k}", delay=0, rule=rule)
            for k, rule in enumerate(rules)
        ),
    )
    _, state, _ = simulate(net, Phase("p", 3, {"input": np.ones((3, 1, 1))}))
    assert weight(state, "wire0").item() == weight(state, "wire1").item() > 3


@pytest.mark.parametrize("read", ["after", "before"])
@pytest.mark.parametrize("memory", [None, 3.0])
def test_a_bias_sees_the_trace_of_a_constant_one(memory, read):
    """The pre factor of a bias is the same trace of 1; batch 3, replicas 2."""
    y = normal(T, R, B, P)
    rule = ThreeFactorRule(
        (Component((Term(post("rate"), Trace(pre("rate"), 6.0, read=read)),), tau=memory),), reduce="sum"
    )
    net = Network(
        (Population("input", Q, Relay()), Population("output", P, Relay())),
        (Projection("input", "output", 0.0, port="feedback", name="wire", delay=3, bias=True, rule=rule),),
    )
    _, state, _ = simulate(net, Phase("p", T, {"output": y}), batch=B, replicas=R)
    trace, e, b, a = 0.0, np.zeros((R, B, P)), np.zeros((R, P)), np.exp(-1 / 6.0)
    for t in range(T):
        trace, before = a * trace + 1.0, a * trace
        e = (np.exp(-1 / memory) if memory else 0.0) * e + y[t] * (trace if read == "after" else before)
        b += e.sum(1)
    np.testing.assert_allclose(weight(state, part="bias"), b, rtol=0, atol=1e-11)


def test_eprop_on_real_adaptive_neurons():
    """The rule of the module on a network that spikes: psi = slope, prebar, learning signal at `feedback`."""
    beta, tau_theta = 0.7, 40.0
    psi_beta = Apply(scaled, (post("slope"),))
    bar = Trace(pre("spike"), 20.0)
    rho = np.exp(-1.0 / tau_theta)
    decay = Apply(remaining, (post("slope"),))
    rule = ThreeFactorRule(
        (
            Component((Term(post("slope"), bar),), decay=decay),
            Component((Term(post("slope"), bar), Term(psi_beta, One("pre"), OfComponent(0)))),
        ),
        Feedback(post("feedback")),
        transforms=(Rate(0.01),),
        reduce="mean",
    )
    neuron = DelayedResetLIF(tau_mem=20.0, tau_theta=tau_theta, beta=beta)
    net = Network(
        (Population("input", Q, SpikeRelay()), Population("cells", P, neuron)),
        (Projection("input", "cells", np.abs(normal(P, Q)), delay=0, name="wire", rule=rule),),
    )
    spikes, signal = raster(60, R, B, Q), normal(60, R, B, P)
    probes = (Probe("cells", "slope"), Probe("cells", "spike"), Probe("wire", "weight"))
    _, _, recording = simulate(
        net, Phase("p", 60, {"input": spikes, "cells.feedback": signal}), probes, batch=B, replicas=R
    )
    assert recording["cells.spike"].sum() > 20
    psi, a = recording["cells.slope"], np.exp(-1 / 20.0)
    prebar, e1, w = np.zeros((R, B, Q)), np.zeros((R, B, P, Q)), np.repeat(np.abs(normal(P, Q))[None], R, 0)
    for t in range(60):
        prebar = a * prebar + spikes[t]
        e = psi[t][..., None] * prebar[:, :, None] - beta * psi[t][..., None] * e1
        e1 = (rho - beta * psi[t])[..., None] * e1 + psi[t][..., None] * prebar[:, :, None]
        w = w + 0.01 * (signal[t][..., None] * e).mean(1)
        np.testing.assert_allclose(recording["wire.weight"][t], w, rtol=0, atol=1e-12)


RHO_40 = float(np.exp(-1.0 / 40.0))


def scaled(slope):
    return -0.7 * slope


def remaining(slope):
    return RHO_40 - 0.7 * slope
