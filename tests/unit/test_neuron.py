"""What holds for every neuron: the protocol, that every parameter matters, slopes, errors."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch
from alone import simulate, tensor
from zoo import TABLE, VARIANTS, changed, drive

import neurosim.neuron as neurons
from neurosim.backends.specialise import for_torch
from neurosim.neuron import LIF, Model, Relay
from neurosim.surrogate import ATan, Triangular
from neurosim.types import ConfigurationError

STEPS, SIZE, DT = 200, 6, 0.5
PARAMETERS = [(name, parameter) for name, (_, others) in TABLE.items() for parameter in others]


def record(neuron, seed=0):
    return simulate(neuron, DT, drive(neuron, STEPS, SIZE, seed), steps=STEPS, size=SIZE)


def test_table_has_every_neuron_and_every_parameter() -> None:
    public = {name for name in neurons.__all__ if isinstance(getattr(neurons, name), type)} - {"Model", "Neuron"}
    assert set(TABLE) == public
    for name, (base, others) in TABLE.items():
        assert {field.name for field in fields(base)} == set(others), name


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_every_parameter_changes_the_result(name: str, parameter: str) -> None:
    base, others = TABLE[name]
    assert getattr(base, parameter) != others[parameter]
    before, after = record(base), record(changed(base, parameter, others[parameter]))
    assert any(not np.array_equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("name", "port"), [(name, port) for name, (base, _) in TABLE.items() for port in (*base.ports, *base.draws)]
)
def test_every_port_and_draw_changes_the_result(name: str, port: str) -> None:
    neuron = TABLE[name][0]
    inputs = drive(neuron, STEPS, SIZE)
    without = simulate(neuron, DT, inputs | {port: 0.5 * inputs[port]}, steps=STEPS, size=SIZE)
    before = record(neuron)
    assert any(not np.array_equal(before[key], without[key]) for key in before)


@pytest.mark.parametrize("name", VARIANTS)
def test_protocol(name: str) -> None:
    neuron = VARIANTS[name]
    assert isinstance(neuron, Model)
    assert tuple(neuron.initial()) == neuron.states
    assert neuron.outputs[0] in ("spike", "rate")
    assert not set(neuron.ports) & set(neuron.teaching)
    assert all(isinstance(value, np.float64) for value in neuron.constants(DT))
    recorded = record(neuron)
    assert tuple(recorded) == neuron.states + neuron.outputs
    assert all(np.isfinite(values).all() for values in recorded.values())
    if neuron.outputs[0] == "spike" and name != "SpikeRelay":
        assert set(np.unique(recorded["spike"])) == {0.0, 1.0}
    with pytest.raises(FrozenInstanceError):
        neuron.step = None


@pytest.mark.parametrize("name", VARIANTS)
def test_step_runs_on_plain_floats_as_it_is_written(name: str) -> None:
    neuron = VARIANTS[name]
    values = [float(value[0, 0]) for value in drive(neuron, 1, 1, 3).values()]
    result = neuron.step(*neuron.initial().values(), *values, *neuron.constants(DT))
    expected = simulate(neuron, DT, drive(neuron, 1, 1, 3), steps=1, size=1)
    for name_of, value in zip((*neuron.states, *neuron.outputs), result, strict=True):
        pseudo = name_of in ("slope", "slope_theta", "keep_theta")
        if not pseudo or neuron.surrogate is None:  # without specialisation there is no surrogate
            assert value == pytest.approx(expected[name_of].item(), rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("name", [name for name, neuron in VARIANTS.items() if "slope" in neuron.outputs])
def test_slope_is_the_derivative_of_the_output_by_the_first_port(name: str) -> None:
    """From recorded states on the way, by autograd; heaviside's backward is the surrogate in both."""
    neuron = VARIANTS[name]
    inputs, before = drive(neuron, STEPS, SIZE), record(neuron)
    step, constants = for_torch(neuron.step, neuron.surrogate), [tensor(value) for value in neuron.constants(DT)]
    seen = 0
    for t in range(0, STEPS - 1, 3):
        states = [tensor(before[name][t]) for name in neuron.states]
        handed = [tensor(inputs[name][t + 1]) for name in (*neuron.ports, *neuron.draws)]
        handed[0].requires_grad_()
        result = dict(zip((*neuron.states, *neuron.outputs), step(*states, *handed, *constants), strict=True))
        output = result[neuron.outputs[0]]
        gradient = torch.autograd.grad(output.sum(), handed[0])[0] if output.requires_grad else torch.zeros_like(output)
        torch.testing.assert_close(result["slope"].detach().expand(SIZE), gradient, rtol=1e-10, atol=1e-14)
        seen += int((gradient != 0).sum())
    assert seen > 0 or neuron == VARIANTS["LIF subtract, no surrogate"]


def test_parameters_may_be_arrays() -> None:
    tau, v_th = np.array([5.0, 10.0, 20.0]), np.array([[0.5, 0.6, 0.7], [0.8, 0.9, 1.0]])  # [N], [R, N]
    left, *_, last = LIF(tau_mem=tau, v_th=v_th).constants(1.0)
    np.testing.assert_array_equal(left, np.exp(-1.0 / tau))
    assert last == 0
    neuron = LIF(tau_mem=tau, v_th=v_th[1])
    together = simulate(neuron, 1.0, {"current": np.full((50, 3), 1.5)}, steps=50, size=3)
    for k in range(3):
        alone = simulate(
            LIF(tau_mem=tau[k], v_th=v_th[1, k]), 1.0, {"current": np.full((50, 1), 1.5)}, steps=50, size=1
        )
        np.testing.assert_array_equal(together["v"][:, k], alone["v"][:, 0])


POSITIVE = {
    "tau_mem",
    "tau_syn_exc",
    "tau_syn_inh",
    "tau_theta",
    "tau_w",
    "r_mem",
    "c_mem",
    "g_leak",
    "delta_t",
    "tau_leak",
}
FINITE = {"v_th", "v_reset", "v_rest", "v_t", "e_exc", "e_inh", "a", "b", "c", "d", "amplitude", "first", "last",
          "mean", "proportional", "beta", "gain"}  # fmt: skip
WORDS = {"reset", "arrival", "integration", "activation", "leak_of"}
NOT_NEGATIVE = {"t_ref", "tau_basal", "tau_apical", "tau", "std", "rate", "start", "stop"}
BAD = (
    [
        (name, parameter, bad)
        for name, parameter in PARAMETERS
        if parameter in POSITIVE
        for bad in (0.0, -1.0, np.nan)
        if (name, parameter, bad) != ("TwoCompartment", "tau_mem", 0.0)  # no memory
    ]
    + [(name, parameter, np.inf) for name, parameter in PARAMETERS if parameter in POSITIVE - {"tau_leak"}]
    + [(name, parameter, bad) for name, parameter in PARAMETERS if parameter in FINITE for bad in (np.nan, np.inf)]
    + [(name, parameter, "nonsense") for name, parameter in PARAMETERS if parameter in WORDS]
    + [(name, parameter, -1.0) for name, parameter in PARAMETERS if parameter in NOT_NEGATIVE]
    + [(name, parameter, 0.7) for name, parameter in PARAMETERS if parameter in {"t_ref", "start", "stop"}]
    + [("Perturbed", "sd", bad) for bad in (0.0, -1.0, np.nan)]
    + [("Perturbed", "where", "nonsense"), ("Perturbed", "neuron", Relay())]
    + [("PoissonSource", "rate", 2001.0), ("StepSource", "start", 100.0), ("RampSource", "stop", 0.0)]
)


def test_every_parameter_has_a_bad_value() -> None:
    assert {(name, parameter) for name, parameter, _ in BAD} == {
        entry for entry in PARAMETERS if entry[1] != "surrogate"
    }


@pytest.mark.parametrize(("name", "parameter", "bad"), BAD)
def test_bad_parameter_is_one_clear_sentence(name: str, parameter: str, bad: object) -> None:
    # A neuron that cannot be perturbed is named by its class.
    said = "a Relay cannot be perturbed" if parameter == "neuron" else rf"\b{parameter}\b"
    with pytest.raises(ConfigurationError, match=said):
        changed(TABLE[name][0], parameter, bad).constants(DT)


@pytest.mark.parametrize("dt", [0.0, -1.0, np.nan])
@pytest.mark.parametrize(
    "name", ["LIF", "AdEx", "Izhikevich", "CobaLIF", "LeakyRate", "LeakyController", "PoissonSource", "StepSource"]
)
def test_bad_dt(name: str, dt: float) -> None:
    with pytest.raises(ConfigurationError, match="dt"):
        TABLE[name][0].constants(dt)


def test_euler_refuses_a_step_longer_than_the_time_constant() -> None:
    with pytest.raises(ConfigurationError, match="dt <= tau_mem"):
        LIF(tau_mem=1.0, integration="euler").constants(2.0)


@pytest.mark.parametrize("reset", ["subtract", "none"])
def test_refractory_neuron_is_silent_even_if_reset_leaves_it_above_threshold(reset: str) -> None:
    neuron = LIF(reset=reset, t_ref=3.0)
    recorded = simulate(neuron, 1.0, {"basal": np.full((9, 1), 5.0)}, steps=9, size=1)
    np.testing.assert_array_equal(recorded["spike"][:, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1])
    assert (recorded["slope"][recorded["refractory"] == 2] == 0).all()


@pytest.mark.parametrize(("reset", "after"), [("to_v_reset", 0.25), ("zero", 0.0), ("subtract", 1.25), ("none", 2.0)])
def test_reset_words(reset: str, after: float) -> None:
    neuron = LIF(reset=reset, v_reset=0.25)
    assert simulate(neuron, 1.0, {"basal": np.full((1, 1), 2.0)}, steps=1, size=1)["v"].item() == after


@pytest.mark.parametrize(
    ("arrival", "gain"), [("after_leak", 1.0), ("before_leak", np.exp(-0.05)), ("filtered", 1 - np.exp(-0.05))]
)
def test_arrival(arrival: str, gain: float) -> None:
    recorded = simulate(LIF(arrival=arrival), 1.0, {"basal": np.full((1, 1), 0.5)}, steps=1, size=1)
    assert recorded["v"].item() == pytest.approx(0.5 * gain, rel=1e-15)


def test_delayed_reset_is_the_recursion_of_eprop() -> None:
    """Against the equations of Bellec et al. 2020 in NumPy: a_t, v_t, z_t, psi_t; z is silent, v not held, in t_ref."""
    tau_mem, tau_theta, beta, v_th, dt, silent = 20.0, 60.0, 0.3, 0.6, 1.0, 2
    neurons_at_work = neurons.DelayedResetLIF(
        tau_mem=tau_mem,
        tau_theta=tau_theta,
        beta=beta,
        v_th=v_th,
        t_ref=silent * dt,
        surrogate=Triangular(gamma=0.3, width=v_th),
    )
    current = np.random.default_rng(1).normal(0.1, 0.3, (300, 5))
    ours = simulate(neurons_at_work, dt, {"basal": current}, steps=300, size=5)
    alpha, rho = np.exp(-dt / tau_mem), np.exp(-dt / tau_theta)
    v, a, z, quiet = np.zeros(5), np.zeros(5), np.zeros(5), np.zeros(5)
    for t in range(300):
        a = rho * a + z
        v = alpha * v + current[t] - v_th * z
        over = v - v_th - beta * a
        psi = np.where(quiet > 0, 0.0, 0.3 / v_th * np.maximum(0, 1 - np.abs(over) / v_th))
        z = ((over >= 0) & (quiet == 0)).astype(float)
        quiet = np.where(z == 1, silent, np.maximum(quiet - 1, 0))
        for name, value in {"v": v, "theta": a, "spike": z, "slope": psi}.items():
            np.testing.assert_allclose(ours[name][t], value, rtol=0, atol=1e-12)
    assert ours["spike"].sum() > 50


def test_gradient_flows_through_time_but_not_through_the_reset() -> None:
    """d v_2 / d input_1: what the leak leaves if there was no spike, 0 after a reset to v_reset."""
    neuron = LIF(tau_mem=10.0)
    step, constants = for_torch(neuron.step, neuron.surrogate), [tensor(value) for value in neuron.constants(1.0)]
    basal = tensor([0.5, 1.5]).requires_grad_()
    zero = torch.zeros(2, dtype=torch.float64)
    v, refractory, *_ = step(zero, zero, basal, zero, *constants)
    v, *_ = step(v, refractory, zero, zero, *constants)
    np.testing.assert_allclose(torch.autograd.grad(v.sum(), basal)[0], [np.exp(-0.1), 0.0], rtol=1e-14)


@pytest.mark.parametrize("name", ["AdaptiveLIF", "DelayedResetLIF"])
def test_what_the_threshold_says_about_its_adaptation(name: str) -> None:
    """`slope_theta` and `keep_theta` are derivatives with respect to the adaptation that the step was handed."""
    neuron = replace(getattr(neurons, name)(), beta=0.3, tau_theta=30.0, t_ref=2.0, surrogate=ATan())
    step, constants = for_torch(neuron.step, neuron.surrogate), [tensor(value) for value in neuron.constants(1.0)]
    v, theta, zero = (tensor(values) for values in ([0.9, 1.9, 0.2, 1.0], [0.5, 0.4, 0.3, 0.2], [0.0] * 4))
    refractory = tensor([0.0, 0.0, 0.0, 1.0])
    handed = zero.clone().requires_grad_()
    delayed = name == "DelayedResetLIF"  # it is handed theta and the last spike; a derivative for theta comes last
    states = (v, theta, handed, refractory) if delayed else (v, theta + handed, refractory)
    result = dict(zip((*neuron.states, *neuron.outputs), step(*states, zero, zero, *constants), strict=True))
    left = result["theta"] * np.exp(-1 / 30) + result["spike"] if delayed else result["theta"]
    for field, value in (("slope_theta", result["spike"]), ("keep_theta", left)):
        (gradient,) = torch.autograd.grad(value.sum(), handed, retain_graph=True)
        torch.testing.assert_close(result[field], gradient, rtol=1e-14, atol=0)
    assert (result["slope_theta"][:3] < -0.01).all()
    assert result["slope_theta"][3] == 0


def test_sources() -> None:
    def rate(source, steps=8):
        return simulate(source, 1.0, {}, steps=steps, size=1)["rate"][:, 0]

    np.testing.assert_array_equal(
        rate(neurons.StepSource(amplitude=2.0, start=2.0, stop=5.0)), [0, 0, 2, 2, 2, 0, 0, 0]
    )
    np.testing.assert_array_equal(
        rate(neurons.RampSource(first=1.0, last=3.0, start=2.0, stop=6.0)), [1, 1, 1, 1.5, 2, 2.5, 3, 3]
    )


def test_poisson_never_spikes_at_rate_zero_and_always_at_probability_one() -> None:
    edge = {"uniform": np.array([[0.0, 0.5, 1 - 2**-53]])}
    for rate, expected in ((0.0, [0, 0, 0]), (1000.0, [1, 1, 1]), (500.0, [1, 0, 0])):
        spikes = simulate(neurons.PoissonSource(rate=rate), 1.0, edge, steps=1, size=3)["spike"]
        np.testing.assert_array_equal(spikes[0], expected)


def test_controller_is_the_published_recursion() -> None:
    """u_int += dt (e - alpha u); u = u_int + k_p e, u on the right is the whole control of the step before."""
    error, alpha, k_p, dt = np.random.default_rng(0).normal(size=(40, 3)), 0.05, 0.4, 0.2
    controller = neurons.LeakyController(gain=1.0, tau_leak=1 / alpha, proportional=k_p, leak_of="control")
    ours = simulate(controller, dt, {"basal": error}, steps=40, size=3)["rate"]
    integral = control = np.zeros(3)
    for t in range(40):
        integral = integral + dt * (error[t] - alpha * control)
        control = integral + k_p * error[t]
        np.testing.assert_allclose(ours[t], control, rtol=0, atol=1e-14)


def test_two_compartments_agree_without_apical_input() -> None:
    inputs = drive(neurons.TwoCompartment(), 50, 4)
    recorded = simulate(neurons.TwoCompartment(), 1.0, {"basal": inputs["basal"]}, steps=50, size=4)
    np.testing.assert_array_equal(recorded["rate"], recorded["basal_rate"])
    recorded = simulate(neurons.TwoCompartment(tau_basal=0.0), 1.0, inputs, steps=50, size=4)
    np.testing.assert_array_equal(recorded["v_basal"], inputs["basal"])


def test_the_apical_compartment_is_what_adds_to_the_basal_rate() -> None:
    """Forward Euler: v_apical += dt / tau_apical (apical - v_apical), v += dt / tau_mem (basal + v_apical - v)."""
    neuron = neurons.TwoCompartment(4.0, 0.0, 2.0, integration="euler")
    inputs = drive(neuron, 50, 4)
    recorded = simulate(neuron, 0.5, inputs, steps=50, size=4)
    v = v_apical = np.zeros(4)
    for t in range(50):
        v_apical = v_apical + 0.5 / 2.0 * (inputs["apical"][t] - v_apical)
        v = v + 0.5 / 4.0 * (inputs["basal"][t] + v_apical - v)
        np.testing.assert_allclose(recorded["v_apical"][t], v_apical, rtol=0, atol=1e-14)
        error = np.tanh(v) - np.tanh(inputs["basal"][t])
        np.testing.assert_allclose(recorded["prediction_error"][t], error, rtol=0, atol=1e-14)


def test_without_time_constants_two_compartments_have_no_memory() -> None:
    for integration in ("exact", "euler"):
        neuron = neurons.TwoCompartment(0.0, 0.0, 0.0, integration=integration)
        inputs = drive(neuron, 50, 4)
        recorded = simulate(neuron, 0.5, inputs, steps=50, size=4)
        np.testing.assert_allclose(recorded["rate"], np.tanh(inputs["basal"] + inputs["apical"]), rtol=0, atol=1e-15)


def test_sample_and_hold() -> None:
    basal, gate = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[1.0], [0.0], [0.0], [1.0]])
    recorded = simulate(neurons.SampleAndHold(), 1.0, {"basal": basal, "gate": gate}, steps=4, size=1)
    np.testing.assert_array_equal(recorded["rate"][:, 0], [1.0, 1.0, 1.0, 4.0])


def test_relu_has_slope_zero_at_zero() -> None:
    recorded = simulate(neurons.StaticRate("relu"), 1.0, {"basal": np.array([[-1.0, 0.0, 2.0]])}, steps=1, size=3)
    np.testing.assert_array_equal(recorded["slope"], [[0, 0, 1]])
