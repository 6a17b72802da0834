"""dg = lr (S_i x_j + (y_i - alpha) S_j) in plain NumPy, with coincident spikes put in by hand, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, raster, silent_pair, simulate, weight, with_rule
from plain import described
from test_pair_stdp import DT, B, P, Q, T, late, trace, trains

from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, SpikeRelay
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.inhibitory_stdp import InhibitorySTDP
from neurosim.types import ConfigurationError

BATCH = 4
BASE = {"lr": 0.02, "rho_0": 10.0, "tau": 9.0, "w_max": 3.0}
OPTIONS = [
    {},
    {"rho_0": 40.0},
    {"rho_0": 400.0},  # down to 0
    {"read_pre": "before"},
    {"read_post": "after"},
    {"w_max": 0.8},
    {"lr": 0.2},
    {"lr": 0.2, "w_max": None},
    {"reduce": "sum"},
    {"reduce": "sequential", "rho_0": 400.0},
]


def by_hand(rule, z_pre, z_post, g):
    """Strength [P, Q] after the trains, both as they reach the synapse."""
    x, y = trace(z_pre, rule.tau, "all", rule.read_pre), trace(z_post, rule.tau, "all", rule.read_post)
    alpha, high = 2 * rule.rho_0 / 1000 * rule.tau, np.inf if rule.w_max is None else rule.w_max
    for t in range(T):
        change = rule.lr * (z_post[t][..., None] * x[t][:, None] + (y[t] - alpha)[..., None] * z_pre[t][:, None])
        if rule.reduce == "sequential":
            for b in range(B):
                g = np.clip(g + change[b], 0, high)
        else:
            g = np.clip(g + getattr(np, rule.reduce)(change, axis=0), 0, high)
    return g


@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equation(options, negative):
    rule, (z_pre, z_post) = InhibitorySTDP(**{**BASE, **options}, negative=negative), trains()
    start, sign = 0.5 + 0.03 * normal(P, Q), -1.0 if negative else 1.0
    network = silent_pair(Q, P, None, weight=sign * start, delay=1.0, dendritic_delay=1.5, bias=True)
    network = with_rule(network, rule.rule(network, network.projection("wire")))
    phase = Phase("p", T, {"input": z_pre, "output": z_post})
    _, state, _ = simulate(network, phase, batch=B, dt=DT)
    expected = by_hand(rule, late(z_pre, 2), late(z_post, 3), start)
    assert np.abs(expected - start).max() > 0.02
    np.testing.assert_allclose(sign * weight(state)[0], expected, rtol=0, atol=1e-13)
    assert not weight(state, part="bias").any()


def test_every_option_changes_the_result():
    z_pre, z_post = trains()
    start = 0.5 + 0.03 * normal(P, Q)
    results = [by_hand(InhibitorySTDP(**{**BASE, **options}), z_pre, z_post, start) for options in OPTIONS]
    for index, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-6 for other in results[:index]), OPTIONS[index]


def test_neurons_with_unequal_drive_come_to_the_same_rate():
    """Three neurons, driven to fire at 20 to 80 Hz, are brought to 10 Hz; with fixed inhibition they are not."""
    steps, excitation, inputs = 4000, np.array([[0.06, 0.08, 0.1]]), 20
    rates = {}
    for lr in (0.0, 0.01):
        rule = InhibitorySTDP(lr=lr, rho_0=10.0, w_max=None)
        wire = Projection("input", "cells", -0.001, delay=0, name="wire")
        network = Network((Population("input", inputs, SpikeRelay()), Population("cells", 3, LIF())), (wire,))
        network = with_rule(network, rule.rule(network, wire))
        spikes = raster(steps, BATCH, inputs, probability=0.02)
        drive = {"input": spikes, "cells": Held(np.repeat(excitation, BATCH, 0))}
        _, _, recording = simulate(network, Phase("p", steps, drive), (Probe("cells", "spike"),), batch=BATCH)
        rates[lr] = 1000 * recording["cells.spike"][steps // 2 :].mean((0, 1))
    assert rates[0.0].min() > 15
    assert np.ptp(rates[0.0]) > 20
    np.testing.assert_allclose(rates[0.01], 10.0, atol=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho_0": -1.0}, "rho_0 is -1.0; it must be a finite number >= 0"),
        ({"tau": 0.0}, "tau is 0.0"),
        ({"w_max": -0.5}, "w_max is -0.5"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"output": "other"}, "output is 'other'; allowed: delta, same, none"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ConfigurationError, match=message):
        InhibitorySTDP(**options)(described("spiking"))


def test_a_rule_for_spikes_says_so():
    with pytest.raises(ConfigurationError, match="this rule pairs spikes"):
        InhibitorySTDP()(described("leaky"))
