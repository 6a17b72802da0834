"""dw = S_i r1_j (A2_plus + A3_plus o2_i) - o1_i S_j (A2_minus + A3_minus r2_j) in plain NumPy, with coincident spikes
put in by hand."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, silent_pair, simulate, weight, with_rule
from plain import LAYERS, described, shown, train
from test_pair_stdp import DT, B, P, Q, T, late, trace, trains

from neurosim.phase import Phase
from neurosim.rules.stdp import STDP
from neurosim.rules.triplet_stdp import TripletSTDP
from neurosim.types import ConfigurationError

BASE = {
    "A2_plus": 0.03, "A3_plus": 0.015, "A2_minus": 0.02, "A3_minus": 0.01,
    "tau_plus": 7.0, "tau_x": 13.0, "tau_minus": 11.0, "tau_y": 17.0,
}  # fmt: skip
OPTIONS = [
    {},
    {"pairing": "nearest"},
    {"read_pre": "before", "read_post": "after"},
    {"A2_plus": 0.3},
    {"A2_plus": 0.3, "w_min": None, "w_max": None},
    {"w_min": 0.4, "w_max": 0.6},
    {"reduce": "sum"},
    {"reduce": "sequential", "w_min": 0.45, "w_max": 0.55},
]


def by_hand(rule, z_pre, z_post, w):
    """Weight [P, Q] after the trains, both as they reach the synapse."""
    r1, r2 = (
        trace(z_pre, tau, rule.pairing, read) for tau, read in ((rule.tau_plus, rule.read_pre), (rule.tau_x, "before"))
    )
    o1, o2 = (
        trace(z_post, tau, rule.pairing, read)
        for tau, read in ((rule.tau_minus, rule.read_post), (rule.tau_y, "before"))
    )
    low, high = (-np.inf if rule.w_min is None else rule.w_min), (np.inf if rule.w_max is None else rule.w_max)
    for t in range(T):
        growth = (z_post[t] * (rule.A2_plus + rule.A3_plus * o2[t]))[..., None] * r1[t][:, None]
        loss = o1[t][..., None] * (z_pre[t] * (rule.A2_minus + rule.A3_minus * r2[t]))[:, None]
        if rule.reduce == "sequential":
            for b in range(B):
                w = np.clip(w + growth[b] - loss[b], low, high)
        else:
            w = np.clip(w + getattr(np, rule.reduce)(growth - loss, axis=0), low, high)
    return w


def ours(rule, z_pre, z_post, start):
    network = silent_pair(Q, P, None, weight=start, delay=1.0, dendritic_delay=1.5, bias=True)
    network = with_rule(network, rule.rule(network, network.projection("wire")))
    phase = Phase("p", T, {"input": z_pre, "output": z_post})
    _, state, _ = simulate(network, phase, batch=B, dt=DT)
    assert not weight(state, part="bias").any()
    return weight(state)[0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equation(options):
    rule, (z_pre, z_post) = TripletSTDP(**{**BASE, **options}), trains()
    start = 0.5 + 0.03 * normal(P, Q)
    expected = by_hand(rule, late(z_pre, 2), late(z_post, 3), start)
    assert np.abs(expected - start).max() > 0.02
    np.testing.assert_allclose(ours(rule, z_pre, z_post, start), expected, rtol=0, atol=1e-13)


def test_every_option_changes_the_result():
    z_pre, z_post = trains()
    start = 0.5 + 0.03 * normal(P, Q)
    results = [by_hand(TripletSTDP(**{**BASE, **options}), z_pre, z_post, start) for options in OPTIONS]
    for index, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-6 for other in results[:index]), OPTIONS[index]


def test_without_triplets_it_is_pair_stdp():
    z_pre, z_post = trains()
    start = 0.5 + 0.03 * normal(P, Q)
    triplet = TripletSTDP(**{**BASE, "A3_plus": 0.0, "A3_minus": 0.0})
    pair = STDP(A_plus=0.03, A_minus=0.02, tau_plus=7.0, tau_minus=11.0)
    np.testing.assert_array_equal(ours(triplet, z_pre, z_post, start), ours(pair, z_pre, z_post, start))


def test_pairing_depends_on_the_rate():
    """Pre 10 ms before post, change per pair: nothing at 1 Hz, growth at 40 Hz (Sjostrom et al. 2001, by the fit)."""
    change = {}
    for rate, pairs in ((1, 10), (40, 60)):
        gap = 200 // rate  # steps of 5 ms
        z_pre, z_post = np.zeros((pairs * gap, 1, 1)), np.zeros((pairs * gap, 1, 1))
        z_pre[1::gap], z_post[3::gap] = 1, 1
        network = silent_pair(1, 1, None, weight=0.5)
        rule = TripletSTDP(w_min=None, w_max=None).rule(network, network.projection("wire"))
        phase = Phase("p", pairs * gap, {"input": z_pre, "output": z_post})
        _, state, _ = simulate(with_rule(network, rule), phase, dt=5.0)
        change[rate] = (weight(state).item() - 0.5) / pairs
    assert abs(change[1]) < 1e-5
    assert change[40] > 1e-3


@pytest.mark.parametrize("output", ["delta", "none"])
def test_which_layers_learn(output):
    network = TripletSTDP(A2_plus=0.1, output=output)(described("spiking"))
    last = "delta" if output == "delta" else None
    names = [network.projection(name).rule and network.projection(name).rule.name for name in LAYERS]
    assert names == ["triplet_stdp", "triplet_stdp", last]
    start, state = train(network, [[shown(0)], [shown(1)]])
    moved = [bool((state.learned["weight"][n] - start.learned["weight"][n]).abs().max() > 1e-6) for n in LAYERS]
    assert moved == [True, True, output == "delta"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"A3_minus": -0.1}, "A3_minus is -0.1; it must be a finite number >= 0"),
        ({"tau_x": 0.0}, "tau_x is 0.0"),
        ({"tau_y": -1.0}, "tau_y is -1.0"),
        ({"pairing": "some"}, "pairing is 'some'; allowed: all, nearest"),
        ({"w_min": 2.0}, "w_min must not exceed w_max"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ConfigurationError, match=message):
        TripletSTDP(**options)(described("spiking"))


def test_a_rule_for_spikes_says_so():
    with pytest.raises(ConfigurationError, match="this rule pairs spikes"):
        TripletSTDP()(described("leaky"))
