"""The two memories of the HSIC window: shown as a batch, or remembered sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, simulate

from neurosim.backends import compile
from neurosim.factor import post, pre
from neurosim.lateral import LayerNorm
from neurosim.modulator import HSIC
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

WINDOW, SAMPLES = 4, 9
X, Y = normal(SAMPLES, 3), np.eye(2)[np.arange(SAMPLES) % 2]


def network(memory, form="exact", lateral=None, lr=0.0, window=WINDOW, **rule):
    modulator = HSIC(post("rate"), window, 2.0, 0.5, 0.5, 1.0, form=form, memory=memory)
    rule = ThreeFactorRule(
        (Component((Term(post("slope"), pre("rate")),)),), modulator, transforms=(Rate(lr),), reduce="sum", **rule
    )
    return Network(
        (Population("input", 3, Relay()), Population("hidden", 5, StaticRate("tanh"), lateral)),
        (Projection("input", "hidden", normal(5, 3), delay=0, bias=True, name="wire", rule=rule),),
    )


def show(x, y, steps=1, **phase):
    return Phase("sample", steps, {"input": Held(x)}, {"input": x, "label": y}, **phase)


def streamed(net, samples=range(SAMPLES), steps=1, streams=1, probe="wire.modulator"):
    """The last recorded row for each sample, one sample after the other: `[samples, B, P]`."""
    simulator = compile(net, 1.0, dtype="float64")
    state, rows = simulator.init(streams), []
    for k in samples:
        x, y = (np.repeat(v[k : k + 1], streams, 0) for v in (X, Y))
        state, recording = simulator.run(simulator.fresh(state), show(x, y, steps), (Probe(*probe.split(".")),))
        rows.append(recording[probe][-1])
    return np.stack(rows), state


def windowed(net, steps=1):
    """The newest row's modulator for each full window, shown as a batch."""
    rows = []
    for stop in range(WINDOW, SAMPLES + 1):
        window = slice(stop - WINDOW, stop)
        _, _, recording = simulate(net, show(X[window], Y[window], steps), (Probe("wire", "modulator"),), batch=WINDOW)
        m = recording["wire.modulator"][-1]
        assert not m[:-1].any()
        rows.append(m[-1])
    return np.stack(rows)


def by_hand(z, x, y, form):
    """m = -xi of the newest row, from the kernels; gamma 2, sigma_x = sigma_y = 0.5, sigma_z = 1."""
    n = len(z)
    distance = lambda v: ((v[:, None] - v[None]) ** 2).sum(-1)  # noqa: E731
    kx, ky = (np.exp(-distance(v) / (2 * 0.25 * v.shape[1])) for v in (x, y))
    centring = np.eye(n) - 1 / n
    m = kx - 2.0 * ky
    if form == "exact":
        c = -(centring @ m @ centring)[-1] / (n - 1) ** 2
    else:
        d = np.diag(centring @ m)
        c = (d + d[-1] if form == "repository" else np.full(n, d[-1])) / (n * (n - 1) ** 2)
    kz = np.exp(-distance(z) / (2 * z.shape[1]))[-1]
    return -(2 / z.shape[1]) * ((c * kz)[:, None] * (z[-1] - z)).sum(0)


@pytest.mark.parametrize("form", ["exact", "repository", "published"])
def test_batch_is_the_equation(form):
    _, _, recording = simulate(
        network("batch", form), show(X[:4], Y[:4]), (Probe("wire", "modulator"), Probe("hidden", "rate")), batch=4
    )
    expected = by_hand(recording["hidden.rate"][0], X[:4], Y[:4], form)
    np.testing.assert_allclose(recording["wire.modulator"][0, -1], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("lateral", [None, LayerNorm()])
@pytest.mark.parametrize("form", ["exact", "repository", "published"])
def test_buffer_is_a_sliding_batch(form, lateral):
    buffered, _ = streamed(network("buffer", form, lateral))
    np.testing.assert_array_equal(buffered[: WINDOW - 1], 0.0)
    assert np.abs(buffered[WINDOW - 1 :, 0]).max() > 1e-3
    np.testing.assert_allclose(buffered[WINDOW - 1 :, 0], windowed(network("batch", form, lateral)), rtol=0, atol=1e-13)


def test_a_sample_of_several_steps_is_pushed_once():
    several, _ = streamed(network("buffer"), steps=3)
    once, _ = streamed(network("buffer"))
    np.testing.assert_allclose(several, once, rtol=0, atol=1e-15)


def test_every_batch_row_is_its_own_stream():
    """Two streams that see different samples remember different windows."""
    net = network("buffer")
    simulator = compile(net, 1.0, dtype="float64")
    state = simulator.init(2)
    for k in range(WINDOW + 1):
        x, y = X[[k, SAMPLES - 1 - k]], Y[[k, SAMPLES - 1 - k]]
        state, recording = simulator.run(simulator.fresh(state), show(x, y), (Probe("wire", "modulator"),))
    forward, _ = streamed(net, range(WINDOW + 1))
    backward, _ = streamed(net, range(SAMPLES - 1, SAMPLES - 2 - WINDOW, -1))
    np.testing.assert_allclose(recording["wire.modulator"][0, 0], forward[-1, 0], atol=1e-15)
    np.testing.assert_allclose(recording["wire.modulator"][0, 1], backward[-1, 0], atol=1e-15)


def test_a_phase_without_learning_pushes_nothing():
    net, simulator = network("buffer"), compile(network("buffer"), 1.0, dtype="float64")
    state = simulator.init(1)
    for k in range(WINDOW):
        state, _ = simulator.run(state, show(X[k : k + 1] + 9.0, Y[k : k + 1], learn=False))
        state, recording = simulator.run(state, show(X[k : k + 1], Y[k : k + 1]), (Probe("wire", "modulator"),))
    np.testing.assert_allclose(recording["wire.modulator"][0], streamed(net, range(WINDOW))[0][-1], atol=1e-15)


@pytest.mark.parametrize("memory", ["batch", "buffer"])
def test_learned_memory_starts_again_at_clock_zero(memory):
    """`init(learned=...)` sets the clock back: kernels of the old phase must not be taken for the new one's."""
    rows = {"batch": WINDOW, "buffer": 1}[memory]
    simulator = compile(network(memory, window=4 if memory == "batch" else 2), 1.0, dtype="float64")
    probes = (Probe("wire", "modulator"),)
    first, _ = simulator.run(simulator.init(rows), show(X[:rows], Y[:rows]))
    if memory == "buffer":
        first, _ = simulator.run(simulator.init(rows, first.learned), show(X[1:2], Y[1:2]))
    again = simulator.init(rows, first.learned)
    later = again._replace(clock=100)
    show_others = show(X[4 : 4 + rows], Y[4 : 4 + rows])
    m = simulator.run(again, show_others, probes)[1]["wire.modulator"]
    np.testing.assert_array_equal(m, simulator.run(later, show_others, probes)[1]["wire.modulator"])
    assert np.abs(m).max() > 1e-4


def test_the_change_is_m_slope_pre():
    net = network("batch", lr=0.1)
    _, state, recording = simulate(
        net, show(X[:4], Y[:4]), (Probe("wire", "modulator"), Probe("hidden", "slope")), batch=4
    )
    post_side = recording["wire.modulator"][0] * recording["hidden.slope"][0]
    change = state.learned["weight"]["wire"][0].numpy() - normal(5, 3)
    np.testing.assert_allclose(change, 0.1 * post_side.T @ X[:4], rtol=0, atol=1e-15)
    np.testing.assert_allclose(state.learned["bias"]["wire"][0].numpy(), 0.1 * post_side.sum(0), rtol=0, atol=1e-15)


def test_a_window_of_another_size_is_refused():
    with pytest.raises(ConfigurationError, match="window is 4 samples, but the batch has 3 rows"):
        simulate(network("batch"), show(X[:3], Y[:3]), batch=3)
    simulator = compile(network("buffer"), 1.0, dtype="float64")
    state, _ = simulator.run(simulator.init(1), show(X[:1], Y[:1]))
    with pytest.raises(ConfigurationError, match="every batch row is a stream of its own"):
        simulator.run(simulator.fresh(state, 2), show(X[:2], Y[:2]))
    with pytest.raises(ConfigurationError, match="reads the signal 'input', but phase 'p' carries: none"):
        simulate(network("batch"), Phase("p", 1), batch=4)
