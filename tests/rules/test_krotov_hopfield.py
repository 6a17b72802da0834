"""dw = lr (1 - n / updates) D / max|D|, D = sum_b g (x - I w), in plain NumPy (Krotov, Hopfield 2019)."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, pair, simulate, weight
from plain import LAYERS, as_phase, described, shown
from unsupervised import WeightOnly, check

from neurosim.backends import compile
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.krotov_hopfield import KrotovHopfield, dead_units, with_plain_drive
from neurosim.types import ConfigurationError


def ranked(current, k, delta):
    """1 for the winner, -delta for the unit of rank k; g [B, P]."""
    order, g = np.argsort(-current, -1), np.zeros_like(current)
    rows = np.arange(len(current))
    g[rows, order[:, k - 1]] = -delta
    g[rows, order[:, 0]] = 1
    return g


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 4, "delta": 0.1},
        {"delta": 0.0},
        {"updates": 4},
        {"updates": 4, "every": 2},
        {"when": "step", "output": "none"},
        {"when": "sample", "accumulate": "sum", "output": "none"},
        {"lr_output": 0.1, "lr": 0.2},
    ],
    ids=str,
)
def test_equation(options):
    scheme = KrotovHopfield(**{"lr": 0.1, **options})

    def local(net, step, layer):
        current = step.pre[layer] @ net.weights[layer].T + net.biases[layer]
        g = ranked(current, scheme.k, scheme.delta)
        return g.T @ step.pre[layer] - (g * current).sum(0)[:, None] * net.weights[layer], net.biases[layer]

    def rate(g, w, count):
        falling = 1.0 if scheme.updates is None else max(0.0, 1 - count // scheme.every * scheme.every / scheme.updates)
        return scheme.lr * falling * g / np.abs(g).max()

    check(scheme, lambda: local, lambda: WeightOnly(rate))


@pytest.mark.parametrize("p", [2.0, 3.0, 4.5])
def test_norm_of_the_winners(p):
    """The fixed point: a unit that goes on winning ends on the sphere sum |w|^p = 1. Each unit gets one of the
    inputs."""
    x = np.abs(normal(3, 6)) + 0.1
    start = 0.5 * x / np.linalg.norm(x, axis=1, keepdims=True)
    scheme = KrotovHopfield(lr=0.03, p=p, delta=0.0, updates=800, output="same")
    phases = [Phase("show", 1, {"input": Held(x)})] * 800
    _, state, recording = simulate(scheme(pair(6, 3, weight=start)), phases, (Probe("output", "rate"),), batch=3)
    final = weight(state)[0]
    current = x @ (np.sign(final) * np.abs(final) ** (p - 1)).T
    winners = np.unique(current.argmax(1))
    np.testing.assert_allclose((np.abs(final) ** p).sum(1)[winners], 1.0, atol=1e-3)
    np.testing.assert_allclose(recording["output.rate"][-1], current, rtol=1e-3)  # what the layer sends is its current


def test_the_readout_takes_the_plain_product():
    """p = 3: while it learns, the layer sends sign(w) w^2 x; in the second stage w x, with the weights of the first."""
    scheme = KrotovHopfield(lr=0.1, p=3.0)
    network, one = scheme(described("static")), shown(0, steps=1)
    simulator = compile(network, 1.0, dtype="float64")
    first, recording = simulator.run(simulator.init(3), as_phase(one, network), (Probe("hidden0", "basal"),))
    start = simulator.init(3).learned["weight"]["input_hidden0"][0].numpy()
    np.testing.assert_allclose(recording["hidden0.basal"][0], one.x @ (np.abs(start) * start).T, rtol=0, atol=1e-13)
    second = compile(with_plain_drive(network), 1.0, dtype="float64")
    probes = (Probe("hidden0", "basal"), Probe("input_hidden0", "weight"))
    state = second.init(3, first.learned)
    after, recording = second.run(state, as_phase(one, network), probes)
    w = first.learned["weight"]["input_hidden0"][0].numpy()
    assert np.abs(w - start).max() > 0.01
    np.testing.assert_allclose(recording["hidden0.basal"][0], one.x @ w.T, rtol=0, atol=1e-13)
    for name in LAYERS:  # the output layer goes on learning, the hidden ones stay
        moved = after.learned["weight"][name] - first.learned["weight"][name]
        assert bool(moved.any()) == (name == LAYERS[2])


def test_dead_units():
    x = np.eye(3)
    w = np.array([[2.0, 0, 0], [1.0, 3.0, 0], [0.5, 0.5, 0.5], [0, 0, 1.0]])
    assert dead_units(w, x).tolist() == [2]
    assert dead_units(w[[1, 2]], -x).tolist() == []
    # at p = 4 the currents are cubes: the unit of three small weights loses the sum it wins at p = 2
    w, x = np.array([[0.6, 0.6, 0.6], [0.0, 1.0, 0.0]]), np.ones((1, 3))
    assert dead_units(w, x, 2.0).tolist() == [1]
    assert dead_units(w, x, 4.0).tolist() == [0]


def test_bad_parameters():
    for options, message in (
        ({"p": 1.5}, "p of KrotovHopfield is 1.5; it must be at least 2"),
        ({"k": 1}, "k of Ranked is 1; it must be a whole number of at least 2"),
        ({"delta": -0.1}, "delta of Ranked is -0.1"),
        ({"every": 0, "updates": 3}, "every of Schedule"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            KrotovHopfield(**options)(described("static"))
