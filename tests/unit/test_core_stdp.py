"""Pair STDP over delays that differ by synapse, against an event loop that works with arrival times.

A pre spike of step t arrives at t + d_ij; a post spike of step t reaches the synapse at t + dendritic delay. At each
arrival of a pre spike the weight loses A_minus times the trace of the post spikes that have reached it, at each post
spike it gains A_plus times the trace of the pre spikes that have arrived; what coincides counts in both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import raster, silent_pair, simulate, weight

from neurosim.connectivity import EdgeList
from neurosim.constraint import Bounds
from neurosim.factor import Apply, Trace, post, pre
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

T, P, Q = 60, 3, 4
A_PLUS, A_MINUS, TAU_PLUS, TAU_MINUS = 0.02, 0.025, 8.0, 12.0
DELAYS = np.array([[0, 1, 2, 3], [5, 1, 0, 4], [2, 2, 7, 1]])


def negative(trace):
    return -0.025 * trace


def scaled(trace):
    return 0.02 * trace


def stdp(read_pre="after", read_post="after", **options):
    grow = Term(post("spike"), Apply(scaled, (Trace(pre("spike"), TAU_PLUS, read=read_pre),)))
    shrink = Term(Apply(negative, (Trace(post("spike"), TAU_MINUS, read=read_post),)), pre("spike"))
    return ThreeFactorRule((Component((grow, shrink)),), **options)


def events(pre_spikes, post_spikes, delays, dendritic, w, include_pre=True, include_post=True):
    """Weight [E] from spike steps, event by event; `include_*`: does a coincident partner count?"""
    w = w.copy()
    for k, (i, j) in enumerate(np.ndindex(P, Q)):
        arrivals = np.flatnonzero(pre_spikes[:, j]) + delays[i, j]
        backs = np.flatnonzero(post_spikes[:, i]) + dendritic
        for step in range(T):
            earlier = arrivals[arrivals <= step] if include_pre else arrivals[arrivals < step]
            later = backs[backs <= step] if include_post else backs[backs < step]
            w.flat[k] += A_PLUS * (step in backs) * np.exp(-(step - earlier) / TAU_PLUS).sum()
            w.flat[k] -= A_MINUS * (step in arrivals) * np.exp(-(step - later) / TAU_MINUS).sum()
    return w


def spikes():
    """Random trains, with coincidences put in by hand: the same step, and pre one delay before post."""
    pre_spikes, post_spikes = raster(T, Q, probability=0.1), raster(T, P, probability=0.1, seed=1)
    pre_spikes[20], post_spikes[20] = 1, 1
    pre_spikes[30:32] = 1
    post_spikes[30 + DELAYS[0, 2], 0] = post_spikes[30 + DELAYS[2, 2], 2] = 1
    return pre_spikes, post_spikes


def phase(pre_spikes, post_spikes):
    return Phase("p", T, {"input": pre_spikes[:, None], "output": post_spikes[:, None]})


@pytest.mark.parametrize(("read_pre", "read_post"), [("after", "after"), ("before", "before"), ("after", "before")])
@pytest.mark.parametrize("dendritic", [0, 2])
@pytest.mark.parametrize("sparse", [False, True])
def test_delays_that_differ_by_synapse(sparse, dendritic, read_pre, read_post):
    pre_spikes, post_spikes = spikes()
    start = np.random.default_rng(0).random((P, Q))
    order = np.random.default_rng(1).permutation(P * Q)
    i, j = np.divmod(order, Q)
    wire = {"weight": start, "delay": DELAYS.astype(float), "dendritic_delay": dendritic}
    if sparse:
        wire |= {"weight": start[i, j], "delay": DELAYS[i, j].astype(float), "connectivity": EdgeList(i, j)}
    net = silent_pair(Q, P, stdp(read_pre, read_post), **wire)
    _, state, _ = simulate(net, phase(pre_spikes, post_spikes))
    expected = events(pre_spikes, post_spikes, DELAYS, dendritic, start, read_pre == "after", read_post == "after")
    assert np.abs(expected - start).min() > 1e-3
    np.testing.assert_allclose(weight(state), expected[i, j] if sparse else expected.ravel(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_one_delay_for_all(delay):
    """The matrix path (one product per term) gives the same numbers as edges do."""
    pre_spikes, post_spikes = spikes()
    net = silent_pair(Q, P, stdp(), weight=0.5, delay=delay, dendritic_delay=3.0)
    _, state, _ = simulate(net, phase(pre_spikes, post_spikes))
    expected = events(pre_spikes, post_spikes, np.full((P, Q), delay), 3, np.full((P, Q), 0.5))
    np.testing.assert_allclose(weight(state)[0], expected, rtol=0, atol=1e-13)


def test_pairing_at_emission_is_another_rule():
    """The delay matters: what arrives is paired, not what is emitted."""
    pre_spikes, post_spikes = spikes()
    arrived = events(pre_spikes, post_spikes, DELAYS, 0, np.zeros((P, Q)))
    emitted = events(pre_spikes, post_spikes, 0 * DELAYS, 0, np.zeros((P, Q)))
    assert np.abs(arrived - emitted)[DELAYS > 0].min() > 1e-4


def test_fractional_steps_and_bounds():
    """dt = 0.5: delays in ms; hard bounds hold after every step."""
    pre_spikes, post_spikes = spikes()
    delays = DELAYS * 0.5
    rule = stdp(transforms=(Rate(5.0),), constraints=(Bounds(0.3, 0.7),))
    net = silent_pair(Q, P, rule, weight=0.5, delay=delays, dendritic_delay=0.5)
    _, _, recording = simulate(net, phase(pre_spikes, post_spikes), (Probe("wire", "weight"),), dt=0.5)
    w, history = np.full((P, Q), 0.5), recording["wire.weight"]
    x, y = np.zeros((P, Q)), np.zeros((P, 1))
    for t in range(T):
        arrived = np.array([[pre_spikes[t - d, j] if t >= d else 0.0 for j, d in enumerate(row)] for row in DELAYS])
        back = post_spikes[t - 1][:, None] if t else np.zeros((P, 1))
        x, y = np.exp(-0.5 / TAU_PLUS) * x + arrived, np.exp(-0.5 / TAU_MINUS) * y + back
        w = np.clip(w + 5.0 * (A_PLUS * back * x - A_MINUS * y * arrived), 0.3, 0.7)
        np.testing.assert_allclose(history[t], w, rtol=0, atol=1e-13)
    assert (w == 0.3).any() or (w == 0.7).any()


def test_a_delay_that_is_no_multiple_of_dt():
    with pytest.raises(ConfigurationError, match="delay of projection 'wire' has a value that is no multiple"):
        simulate(silent_pair(Q, P, stdp(), delay=DELAYS + 0.3), Phase("p", 1))
    with pytest.raises(
        ConfigurationError, match=r"delay of projection 'wire' has shape \(4, 3\); allowed: a number, \(3, 4\)"
    ):
        simulate(silent_pair(Q, P, stdp(), delay=DELAYS.T), Phase("p", 1))


def test_two_edges_of_one_pair_learn_apart():
    """An edge list may join a pair twice; each synapse has its own delay and its own weight."""
    pre_spikes, post_spikes = spikes()
    net = silent_pair(
        Q, P, stdp(), weight=np.zeros(2), delay=np.array([1.0, 4.0]), connectivity=EdgeList([1, 1], [2, 2])
    )
    _, state, _ = simulate(net, phase(pre_spikes, post_spikes))
    for edge, delay in enumerate((1, 4)):
        expected = events(pre_spikes, post_spikes, np.full((P, Q), delay), 0, np.zeros((P, Q)))[1, 2]
        np.testing.assert_allclose(weight(state)[edge], expected, rtol=0, atol=1e-13)


def test_batch_of_trains_is_the_mean():
    pre_spikes, post_spikes = raster(T, 3, Q), raster(T, 3, P)
    net = silent_pair(Q, P, replace(stdp(), reduce="mean"), weight=0.0, delay=DELAYS.astype(float))
    _, state, _ = simulate(net, Phase("p", T, {"input": pre_spikes, "output": post_spikes}), batch=3)
    singles = [events(pre_spikes[:, b], post_spikes[:, b], DELAYS, 0, np.zeros((P, Q))) for b in range(3)]
    np.testing.assert_allclose(weight(state), np.mean(singles, 0).ravel(), rtol=0, atol=1e-12)
