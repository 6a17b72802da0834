"""dw = A_plus to_max(w) S_i x_j - A_minus from_min(w) y_i S_j in plain NumPy, with coincident spikes put in by hand."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, raster, silent_pair, simulate, weight, with_rule
from plain import LAYERS, described, shown, train

from neurosim.phase import Phase
from neurosim.rules.stdp import STDP
from neurosim.types import ConfigurationError

T, B, P, Q, DT = 50, 2, 3, 4, 0.5


def trains():
    z_pre, z_post = raster(T, B, Q, probability=0.15), raster(T, B, P, probability=0.15, seed=1)
    z_pre[10], z_post[10] = 1, 1  # everything at once
    z_post[20:22, 0, 0] = z_pre[20:23, 0, 0] = 1
    return z_pre, z_post


def late(z, steps):
    return np.concatenate((np.zeros((steps, *z.shape[1:])), z))[: len(z)]


def trace(z, tau, pairing, read):
    """[T, ...] of a spike train: sum over earlier spikes or since the last one, with or without this step's."""
    x, rows, decay = np.zeros(z.shape[1:]), [], np.exp(-DT / tau)
    for now in z:
        before = decay * x
        x = before + now if pairing == "all" else np.where(now > 0, now, before)
        rows.append(x if read == "after" else before)
    return np.array(rows)


def by_hand(rule, z_pre, z_post, w):
    """Weight [P, Q] after the trains, both as they reach the synapse."""
    x = trace(z_pre, rule.tau_plus, rule.pairing, rule.read_pre)
    y = trace(z_post, rule.tau_minus, rule.pairing, rule.read_post)
    bounded = rule.w_max is not None and rule.w_min is not None
    for t in range(T):
        growth = np.einsum("bi,bj->bij", z_post[t], x[t])
        loss = np.einsum("bi,bj->bij", y[t], z_pre[t])
        rows = [slice(b, b + 1) for b in range(B)] if rule.reduce == "sequential" else [slice(None)]
        total = {"mean": np.mean, "sum": np.sum, "sequential": np.sum}[rule.reduce]
        start = w
        for row in rows:
            up = ((rule.w_max - start) / (rule.w_max - rule.w_min)) ** rule.mu_plus if bounded else 1.0
            down = ((start - rule.w_min) / (rule.w_max - rule.w_min)) ** rule.mu_minus if bounded else 1.0
            change = rule.A_plus * up * growth - rule.A_minus * down * loss
            w = w + total(change[row], 0)
            w = np.clip(w, rule.w_min, rule.w_max) if bounded else w
    return w


OPTIONS = [
    {},
    {"pairing": "nearest"},
    {"read_pre": "before", "read_post": "after"},
    {"mu_plus": 1.0, "mu_minus": 1.0},
    {"mu_plus": 0.3, "mu_minus": 0.6, "w_min": 0.2, "w_max": 2.0},
    {"w_min": None, "w_max": None},
    {"w_min": 0.4, "w_max": 0.6},
    {"reduce": "sum"},
    {"reduce": "sequential"},
    {"reduce": "sequential", "w_min": 0.45, "w_max": 0.55},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equation(options):
    """On a rule with unequal amplitudes and time constants, so that no two parameters can be exchanged."""
    rule = STDP(**{"A_plus": 0.3, "A_minus": 0.2, "tau_plus": 7.0, "tau_minus": 11.0, **options})
    z_pre, z_post = trains()
    start = 0.5 + 0.03 * normal(P, Q)
    network = silent_pair(Q, P, None, weight=start, delay=1.0, dendritic_delay=1.5, bias=True)
    network = with_rule(network, rule.rule(network, network.projection("wire")))
    phase = Phase("p", T, {"input": z_pre, "output": z_post})
    _, state, _ = simulate(network, phase, batch=B, dt=DT)
    expected = by_hand(rule, late(z_pre, 2), late(z_post, 3), start)
    assert np.abs(expected - start).max() > 0.02
    np.testing.assert_allclose(weight(state)[0], expected, rtol=0, atol=1e-13)
    assert not weight(state, part="bias").any()


def test_every_option_changes_the_result():
    z_pre, z_post = trains()
    z_pre, z_post = late(z_pre, 2), late(z_post, 3)
    start = 0.5 + 0.03 * normal(P, Q)
    base = {"A_plus": 0.3, "A_minus": 0.2, "tau_plus": 7.0, "tau_minus": 11.0}
    results = [by_hand(STDP(**{**base, **options}), z_pre, z_post, start) for options in OPTIONS]
    for index, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-6 for other in results[:index]), OPTIONS[index]


@pytest.mark.parametrize(("output", "kinds"), [("delta", ["stdp", "stdp", "delta"]), ("none", ["stdp", "stdp", None])])
def test_which_layers_learn(output, kinds):
    network = STDP(output=output)(described("spiking"))
    assert [network.projection(name).rule and network.projection(name).rule.name for name in LAYERS] == kinds
    start, state = train(network, [[shown(0)], [shown(1)]])
    for name, kind in zip(LAYERS, kinds, strict=True):
        moved = (state.learned["weight"][name] - start.learned["weight"][name]).abs().max()
        assert (moved > 1e-6) == (kind is not None)


def test_a_rule_for_spikes_says_so():
    with pytest.raises(ConfigurationError, match="this rule pairs spikes, but 'hidden0' sends 'rate'"):
        STDP()(described("leaky"))
    with pytest.raises(ConfigurationError, match="this rule pairs spikes, but 'output' sends 'rate'"):
        STDP(output="same")(described("spiking"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"A_minus": -0.1}, "A_minus is -0.1; it must be a finite number >= 0"),
        ({"mu_plus": 0.5, "w_max": None}, "with mu > 0 they must be two different numbers"),
        ({"pairing": "some"}, "pairing is 'some'; allowed: all, nearest"),
        ({"output": "other"}, "output is 'other'; allowed: delta, same, none"),
        ({"w_min": 2.0}, "w_min must not exceed w_max"),
        ({"tau_plus": 0.0}, "tau_plus is 0.0"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ConfigurationError, match=message):
        STDP(**options)(described("spiking"))
