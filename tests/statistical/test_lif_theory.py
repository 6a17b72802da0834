"""Neurons against closed forms, source statistics, and order of convergence in dt."""

from __future__ import annotations

import numpy as np
import pytest
from alone import simulate

from neurosim.neuron import LIF, AdEx, CobaLIF, CubaLIF, Izhikevich, NoiseSource, PoissonSource
from neurosim.neuron.synaptic import joint_gain


@pytest.mark.parametrize("dt", [0.1, 0.5])
@pytest.mark.parametrize("t_ref", [0.0, 2.0])
def test_f_i_curve_of_lif(dt: float, t_ref: float) -> None:
    """Constant I: v crosses v_th after tau ln((I - v_reset) / (I - v_th)); on the grid that is the next whole step."""
    tau, v_th, v_reset = 20.0, 1.0, -0.3
    current = np.array([1.01, 1.1, 1.5, 2.0, 3.7])
    steps = 4000
    neuron = LIF(tau_mem=tau, v_th=v_th, v_reset=v_reset, t_ref=t_ref)
    recorded = simulate(
        neuron, dt, {"current": np.tile(current, (steps, 1))}, steps=steps, size=5, initial={"v": v_reset}
    )
    crossing = tau * np.log((current - v_reset) / (current - v_th))
    interval = np.ceil(crossing / dt) + t_ref / dt
    for k in range(5):
        rows = np.flatnonzero(recorded["spike"][:, k])
        assert rows[0] == np.ceil(crossing[k] / dt) - 1
        np.testing.assert_array_equal(np.diff(rows), interval[k])
        rate = 1000.0 / (np.diff(rows).mean() * dt)
        assert rate == pytest.approx(1000.0 / (interval[k] * dt), rel=1e-9)
        first = np.arange(1, rows[0] + 1) * dt  # the way up to the first spike, exactly
        np.testing.assert_allclose(
            recorded["v"][: rows[0], k], current[k] + (v_reset - current[k]) * np.exp(-first / tau), atol=1e-9
        )


def test_silent_below_rheobase() -> None:
    assert simulate(LIF(), 0.1, {"current": np.full((3000, 1), 0.999)}, steps=3000, size=1)["spike"].sum() == 0


@pytest.mark.parametrize(
    ("tau_mem", "tau_syn"), [(20.0, 5.0), (5.0, 20.0), (10.0, 10.0), (10.0, 10.0 * (1 + 1e-9)), (10.0, 10.1)]
)
@pytest.mark.parametrize("dt", [0.1, 1.0])
def test_psp_of_cuba(tau_mem: float, tau_syn: float, dt: float) -> None:
    """One spike of weight w: v = w tau_syn / (tau_mem - tau_syn) (e^{-t/tau_mem} - e^{-t/tau_syn}), or, where
    the two are equal to nine digits and this difference has none left, w t/tau e^{-t/tau}."""
    steps, weight = int(100 / dt), 0.9
    pulse = np.zeros((steps, 1))
    pulse[0] = weight
    time = (np.arange(steps) + 1) * dt
    for port, parameter in (("basal", "tau_syn_exc"), ("inhibitory", "tau_syn_inh")):
        ours = simulate(CubaLIF(tau_mem=tau_mem, **{parameter: tau_syn}), dt, {port: pulse}, steps=steps, size=1)["v"][
            :, 0
        ]
        if abs(tau_mem - tau_syn) < 1e-6:
            expected = weight * time / tau_mem * np.exp(-time / tau_mem)
        else:
            expected = weight * tau_syn / (tau_mem - tau_syn) * (np.exp(-time / tau_mem) - np.exp(-time / tau_syn))
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


def test_joint_gain_is_smooth_through_equal_time_constants() -> None:
    tau = 10.0 * (1 + np.array([-1e-6, -1e-12, 0.0, 1e-12, 1e-6]))
    np.testing.assert_allclose(np.diff(joint_gain(10.0, tau, 1.0)), 0, atol=1e-7)
    assert joint_gain(10.0, 10.0, 1.0) == pytest.approx(0.1 * np.exp(-0.1), rel=1e-15)


def test_coba_reaches_the_conductance_weighted_mean() -> None:
    """With a conductance that hardly decays, v settles at (g_leak v_rest + g_exc e_exc) / (g_leak + g_exc)."""
    neuron = CobaLIF(tau_syn_exc=1e9, v_th=100.0)
    pulse = np.zeros((4000, 1))
    pulse[0] = 3.0
    v = simulate(neuron, 0.1, {"basal": pulse}, steps=4000, size=1)["v"][-1, 0]
    assert v == pytest.approx((10.0 * -60.0 + 3.0 * 0.0) / 13.0, rel=1e-6)


def test_coba_with_constant_current_is_a_passive_membrane() -> None:
    """No conductance: v = v_rest + I / g_leak (1 - exp(-t g_leak / c_mem)), exactly."""
    v = simulate(CobaLIF(), 0.5, {"current": np.full((80, 1), 60.0)}, steps=80, size=1)["v"][:, 0]
    time = (np.arange(80) + 1) * 0.5
    np.testing.assert_allclose(v, -60.0 + 6.0 * (1 - np.exp(-time / 20.0)), rtol=0, atol=1e-9)


def end_state(neuron, dt: float, port: str, *, once: bool, amount: float, duration: float, **initial: float) -> float:
    """v after `duration` ms with constant input, or with one jump at the start (`once`); no spike on the way."""
    steps = round(duration / dt)
    drive = np.zeros((steps, 1))
    drive[: 1 if once else steps] = amount
    recorded = simulate(neuron, dt, {port: drive}, steps=steps, size=1, initial=initial)
    assert recorded["spike"].sum() == 0
    return recorded["v"][-1, 0]


ORDERS = [
    (AdEx(), "current", False, 800.0, {}),
    (Izhikevich(), "current", False, 3.5, {}),
    (CobaLIF(), "basal", True, 5.0, {"v": -60.0}),
    (CobaLIF(integration="euler"), "basal", True, 5.0, {"v": -60.0}),
]


@pytest.mark.parametrize(("neuron", "port", "once", "amount", "initial"), ORDERS)
def test_first_order_in_dt(neuron, port: str, once: bool, amount: float, initial: dict[str, float]) -> None:
    """The error against dt / 64 halves with dt: measured order 0.9 to 1.1."""
    duration, dt = 8.0, 0.05
    values = [
        end_state(neuron, dt / k, port, once=once, amount=amount, duration=duration, **initial) for k in (1, 2, 4)
    ]
    order = np.log2((values[0] - values[1]) / (values[1] - values[2]))
    assert 0.9 < order < 1.1, (order, values)


def test_lif_does_not_depend_on_dt() -> None:
    """Exact integration: the same voltage for any dt while the input is constant."""
    values = [end_state(LIF(), dt, "current", once=False, amount=0.9, duration=8.0) for dt in (0.05, 0.5, 2.0)]
    np.testing.assert_allclose(values, 0.9 * (1 - np.exp(-8.0 / 20.0)), rtol=1e-12)


def test_poisson_counts() -> None:
    """Counts are binomial: mean, Fano factor and independence between steps, each within 5 standard errors.
    The seed is fixed; a false alarm had odds of about 1 in 600,000 (three two-sided tests at 5 sigma)."""
    rate, dt, steps, size = 40.0, 1.0, 20000, 50
    uniform = np.random.default_rng(20).random((steps, size))
    inputs = {"uniform": uniform, "basal": np.full((steps, size), 15.0)}
    recorded = simulate(PoissonSource(rate=rate - 15.0), dt, inputs, steps=steps, size=size)
    spikes, p = recorded["spike"], rate * dt / 1000.0
    trials = spikes.size
    assert abs(spikes.mean() - p) < 5 * np.sqrt(p * (1 - p) / trials)
    counts = spikes.reshape(steps // 10, 10, size).sum(1).ravel()
    fano = counts.var() / counts.mean()
    assert abs(fano - (1 - p)) < 5 * (1 - p) * np.sqrt(2 / counts.size + 1 / (10 * p * counts.size))
    neighbours = ((spikes[1:] - p) * (spikes[:-1] - p)).mean() / (p * (1 - p))
    assert abs(neighbours) < 5 / np.sqrt(trials)


@pytest.mark.parametrize(("tau", "dt"), [(0.0, 1.0), (5.0, 1.0), (5.0, 0.25)])
def test_noise_source(tau: float, dt: float) -> None:
    """Mean, standard deviation and lag-one correlation, within 5 standard errors (fixed seed; odds 1 in 600,000)."""
    steps, size, burn = 2000, 200, int(60 / dt)
    normal = np.random.default_rng(3).standard_normal((steps, size))
    rate = simulate(NoiseSource(mean=2.0, std=0.5, tau=tau), dt, {"normal": normal}, steps=steps, size=size)["rate"][
        burn:
    ]
    keep = np.exp(-dt / tau) if tau else 0.0
    independent = rate.size * (1 - keep) / (1 + keep)
    x = rate - 2.0
    assert abs(x.mean()) < 5 * 0.5 / np.sqrt(independent)
    assert abs(x.var() / 0.25 - 1) < 5 * np.sqrt(2 / (rate.size * (1 - keep**2) / (1 + keep**2)))
    lag = (x[1:] * x[:-1]).mean() / x.var()
    assert abs(lag - keep) < 5 / np.sqrt(rate.size)
