"""Pair STDP against Brian2, NEST and Norse: every weight of every recorded step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.factor import Apply, Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, Term
from neurosim.rules.stdp import STDP, room


def spikes(times, steps, dt):
    """A raster [T, 1, 1] with a spike at step t / dt."""
    raster = np.zeros((steps, 1, 1))
    raster[np.round(np.asarray(times) / dt).astype(int)] = 1
    return raster


def weights(rule, z_pre, z_post, start, dt, dendritic_delay=0.0, tie=None):
    """Weight [T, P, Q] after every step; both spike trains come from outside, the synapse delivers to a port nobody
    reads."""
    wire = Projection("input", "output", start, port="feedback", delay=0, dendritic_delay=dendritic_delay, name="wire")
    network = Network(
        (Population("input", z_pre.shape[-1], SpikeRelay()), Population("output", z_post.shape[-1], SpikeRelay())),
        (wire,),
    )
    attached = rule.rule(network, wire)
    if tie is not None:
        attached = replace(attached, components=(Component((*attached.components[0].terms, tie)),))
    network = network.with_projections(lambda p: replace(p, rule=attached))
    simulator = compile(network, dt, dtype="float64")
    phase = Phase("spikes", len(z_pre), {"input": z_pre, "output": z_post})
    _, recording = simulator.run(simulator.init(z_pre.shape[1]), phase, (Probe("wire", "weight"),))
    return recording["wire.weight"]


def brian2(one, **more):
    """Brian2's pre pathway runs first in a tie: a pre spike meets the older post trace, a post spike the new pre
    trace."""
    taus = {"tau_plus": one["tau_pre"], "tau_minus": one["tau_post"]}
    return STDP(**{"A_plus": one["dApre"], "A_minus": -one["dApost"], "w_max": one["wmax"], **taus, **more})


@pytest.mark.parametrize("case", range(3))
def test_brian2(case):
    """Step by step. (Case 2 has a tie with the weight at its bound, in its last spikes: see the next test.)"""
    arrays, meta = golden("stdp_brian2")
    one, steps = meta["cases"][case], len(arrays[f"c{case}.t"])
    z_pre, z_post = (spikes(arrays[f"c{case}.{end}"], steps, 0.1) for end in ("pre", "post"))
    assert (z_pre * z_post).sum() >= 4  # ties
    rule = brian2(one, read_pre="after", read_post="before")
    ours = weights(rule, z_pre, z_post, one["w0"], 0.1)[:, 0, 0]
    stop = 1798 if case == 2 else steps
    np.testing.assert_allclose(ours[:stop], arrays[f"c{case}.w"][:stop], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", range(3))
def test_brian2_with_the_bound_between_the_pathways(case):
    """Brian2 clips the weight after each pathway, so in a tie twice. Here each step is two: pre spikes in the first
    half, post spikes in the second. Every pair is then half a step further apart (or nearer), which A takes back
    exactly."""
    arrays, meta = golden("stdp_brian2")
    one, steps = meta["cases"][case], len(arrays[f"c{case}.t"])
    z_pre, z_post = (np.zeros((2 * steps, 1, 1)) for _ in range(2))
    z_pre[::2] = spikes(arrays[f"c{case}.pre"], steps, 0.1)
    z_post[1::2] = spikes(arrays[f"c{case}.post"], steps, 0.1)
    growth, loss = one["dApre"] * np.exp(0.05 / one["tau_pre"]), -one["dApost"] * np.exp(-0.05 / one["tau_post"])
    ours = weights(brian2(one, A_plus=growth, A_minus=loss), z_pre, z_post, one["w0"], 0.05)[1::2, 0, 0]
    np.testing.assert_allclose(ours, arrays[f"c{case}.w"], rtol=0, atol=1e-12)


def both(x, y):
    return x * y


@pytest.mark.parametrize("case", range(7))
def test_nest(case):
    """All delay is dendritic; a coincident pair does not count (both traces "before").

    In a tie NEST lets the weight grow, then shrink from the grown value. Where loss is proportional to the weight, the
    growth that is lost again is one more term, S_i y_i S_j x_j with the product of both gains; it is added here.
    """
    arrays, meta = golden("stdp_nest")
    one = meta["cases"][case]
    rule = STDP(
        A_plus=one["lambda"] * one["Wmax"], A_minus=one["alpha"] * one["lambda"] * one["Wmax"],
        tau_plus=one["tau_plus"], tau_minus=one["tau_minus"], mu_plus=one["mu_plus"], mu_minus=one["mu_minus"],
        w_max=one["Wmax"], read_pre="before", read_post="before",
    )  # fmt: skip
    tie = None
    if one["mu_minus"] == 1.0:
        x, y = Trace(pre("spike"), rule.tau_plus, read="before"), Trace(post("spike"), rule.tau_minus, read="before")
        lost = -rule.A_minus / rule.w_max * rule.A_plus
        gain = OfWeight(room, (lost, rule.w_max, rule.w_max, 1.0))
        tie = Term(Apply(both, (post("spike"), y)), Apply(both, (pre("spike"), x)), gain)
    steps = round(one["T"] / 0.1) + 100
    z_pre, z_post = (spikes(arrays[f"c{case}.{end}_spikes"], steps, 0.1) for end in ("pre", "post"))
    ours = weights(rule, z_pre, z_post, one["weight"], 0.1, one["dendritic_delay"], tie)[:, 0, 0]
    rows = np.round(arrays[f"c{case}.w_times"] / 0.1).astype(int)
    np.testing.assert_allclose(ours[rows], arrays[f"c{case}.w"], rtol=0, atol=1e-12 * one["Wmax"])


@pytest.mark.parametrize("case", range(4))
def test_norse(case):
    """Norse's traces decay by 1 - dt / tau and gain a dt / tau a spike; both are read after their update; batch
    sums."""
    arrays, meta = golden("stdp_norse")
    one = meta["cases"][case]
    share = {end: one["dt"] / one[f"tau_{end}"] for end in ("pre", "post")}
    # additive_step is additive but for a weight that sits exactly on its bound: a power so small that x^mu is 1 or 0
    mu = {"additive": 0.0, "additive_step": 1e-16, "multiplicative_pow": one["mu"], "multiplicative_relu": 1.0}[
        one["algorithm"]
    ]
    rule = STDP(
        A_plus=one["eta_plus"] * one["a_pre"] * share["pre"], A_minus=one["eta_minus"] * one["a_post"] * share["post"],
        tau_plus=-1.0 / np.log(1 - share["pre"]), tau_minus=-1.0 / np.log(1 - share["post"]), mu_plus=mu, mu_minus=mu,
        w_min=one["w_min"], w_max=one["w_max"], read_pre="after", read_post="after", reduce="sum",
    )  # fmt: skip
    z_pre, z_post = (arrays[f"c{case}.z_{end}"].astype(float) for end in ("pre", "post"))
    ours = weights(rule, z_pre, z_post, arrays[f"c{case}.w0"], 1.0)
    np.testing.assert_allclose(ours, arrays[f"c{case}.w"], rtol=0, atol=1e-12)
