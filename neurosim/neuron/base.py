"""What a neuron is, and the constants that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosim.random import Distribution
from neurosim.surrogate import Surrogate
from neurosim.types import ConfigurationError, Parameter, choice, numeric, positive
from neurosim.vocabulary import max, where

RESETS = ("to_v_reset", "zero", "subtract", "none")
ARRIVALS = ("after_leak", "before_leak", "filtered")
INTEGRATIONS = ("exact", "euler")
ACTIVATION_WORDS = ("relu", "tanh", "sigmoid", "linear")
LEAKS = ("integral", "control")

# Parameters by name, for all models: one name means one thing.
WORDS: Mapping[str, tuple[str, ...]] = {
    "reset": RESETS,
    "arrival": ARRIVALS,
    "integration": INTEGRATIONS,
    "activation": ACTIVATION_WORDS,
    "leak_of": LEAKS,
}
ABOVE_ZERO = ("tau_mem", "tau_theta", "tau_syn_exc", "tau_syn_inh", "tau_w", "c_mem", "g_leak", "delta_t", "r_mem")
NOT_NEGATIVE = ("t_ref", "tau_basal", "tau_apical", "tau", "std", "rate", "start", "stop")


class Neuron(Protocol):
    """A frozen dataclass of parameters (numbers or arrays `[N]`, `[R, N]`) and one scalar step function.

    `step(*states, *ports, *draws, *constants) -> (*states, *outputs)` is written in the words of `neurosim.vocabulary`
    and knows neither shapes nor machines. `ports` are the driving ones, the first is where projections go by default;
    `teaching` ports are never read by the step, rules read them. The first output leaves by the axon. `slope` is
    d(first output) / d(first port) within this step, the reset detached, and for spiking neurons with the surrogate's
    pseudo-derivative in the place of the step function's. `draws` name the noise that is handed in: "uniform" in [0, 1)
    or "normal", anew in every step, or "held_normal", one number for a whole phase.
    """

    @property
    def states(self) -> tuple[str, ...]: ...
    @property
    def ports(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def teaching(self) -> tuple[str, ...]: ...
    @property
    def draws(self) -> tuple[str, ...]: ...
    @property
    def surrogate(self) -> Surrogate | None: ...
    @property
    def step(self) -> Callable[..., tuple[Any, ...]]: ...

    def constants(self, dt: float) -> tuple[Any, ...]:
        """Numbers the step takes after its inputs, for a step of `dt` ms; ConfigurationError for bad parameters."""
        ...

    def initial(self) -> dict[str, Any]:
        """Start value of each state."""
        ...


class Model:
    """What most neurons have in common; a model overrides what it has differently.

    Parameters are checked when a neuron is made, as far as that can be done without `dt`: `ABOVE_ZERO` and
    `NOT_NEGATIVE` name those with a sign (`may_be_zero`: those of the first that a model lets be 0), `WORDS` what a
    word may be, `free` what the model looks after itself; all others are finite numbers. A distribution is checked
    when `compile` has drawn from it.
    """

    teaching: ClassVar[tuple[str, ...]] = ("feedback",)
    draws: ClassVar[tuple[str, ...]] = ()
    free: ClassVar[tuple[str, ...]] = ()
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # every model is a dataclass
            value = getattr(self, field.name)
            if field.name in WORDS:
                choice(value, WORDS[field.name], field.name)
            elif field.name == "surrogate":
                _check_surrogate(value)
            elif field.name not in self.free and (value is not None or field.default is not None):
                _check_parameter(field.name, value, zero=field.name in (*NOT_NEGATIVE, *self.may_be_zero))


def _check_surrogate(value: Any) -> None:
    if value is not None and (isinstance(value, type) or not hasattr(value, "derivative")):
        shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise ConfigurationError(f"surrogate is {shown}; it must be an object, as in FastSigmoid(25.0), or None")


def _check_parameter(name: str, value: Any, zero: bool) -> None:
    if isinstance(value, Distribution):
        return
    if zero or name in ABOVE_ZERO:
        above_zero(value, name, zero=zero)
    else:
        number(value, name)


def number(value: Parameter, what: str) -> Any:
    """A float64 number or array; ConfigurationError unless all of it is finite."""
    values = numeric(value, what, "a finite number")
    if not bool(np.all(np.isfinite(values))):
        raise ConfigurationError(f"{what} is {value}; it must be a finite number")
    return values[()]


def above_zero(value: Parameter, what: str, *, zero: bool = False) -> Any:
    """A float64 number or array; ConfigurationError unless all of it is finite and > 0 (>= 0 with `zero`)."""
    return number(positive(value, what, zero=zero), what)


def decay(tau: Parameter, dt: float, what: str, *, zero: bool = False) -> Any:
    """exp(-dt / tau); with `zero`, tau = 0 is allowed and gives 0 (no memory)."""
    tau, dt = above_zero(tau, what, zero=zero), above_zero(dt, "dt")
    with np.errstate(divide="ignore"):
        return np.exp(-np.divide(dt, tau))


def leak(tau: Parameter, dt: float, integration: str, what: str, *, zero: bool = False) -> Any:
    """What is left of a leaking variable after one step: exp(-dt / tau), or 1 - dt / tau for `integration="euler"`.

    With `zero`, tau = 0 is allowed and gives 0 (no memory).
    """
    if choice(integration, INTEGRATIONS, "integration") == "exact":
        return decay(tau, dt, what, zero=zero)
    tau, dt = above_zero(tau, what, zero=zero), above_zero(dt, "dt")
    tau = np.where(tau == 0.0, dt, tau)[()]
    if bool(np.any(dt > tau)):
        raise ConfigurationError(f"{what} is {tau} ms with dt = {dt} ms; Euler integration needs dt <= {what}")
    return 1.0 - dt / tau


def whole_steps(duration: Parameter, dt: float, what: str) -> Any:
    """duration / dt as a whole number (a float); ConfigurationError if it is none or negative."""
    steps = above_zero(duration, what, zero=True) / above_zero(dt, "dt")
    whole = np.round(steps)
    if bool(np.any(np.abs(steps - whole) > 1e-6)):
        raise ConfigurationError(f"{what} is {duration} ms; it must be a multiple of dt = {dt} ms")
    return whole


def reset_constants(reset: str, v_th: Parameter, v_reset: Parameter) -> tuple[Any, Any]:
    """(scale, shift) of v <- scale v + shift at a spike. `subtract` takes v_th - v_reset away."""
    choice(reset, RESETS, "reset")
    v_th, v_reset = number(v_th, "v_th"), number(v_reset, "v_reset")
    if reset == "subtract":
        return np.float64(1.0), v_reset - v_th
    return np.float64(reset == "none"), v_reset if reset == "to_v_reset" else np.float64(0.0)


def arrival_gain(arrival: str, leak: Any) -> Any:
    """How much of a jump of this step is in v at its end: all, what the leak leaves, or (filtered) 1 - leak."""
    gains = {"after_leak": np.float64(1.0), "before_leak": leak, "filtered": 1.0 - leak}
    return gains[choice(arrival, ARRIVALS, "arrival")]


def membrane(neuron: Any, dt: float) -> tuple[Any, ...]:
    """(leak, gain of `basal`, gain of `current`, v_rest, v_th) from tau_mem, arrival, integration and r_mem."""
    left = leak(neuron.tau_mem, dt, neuron.integration, "tau_mem")
    drive = (1.0 - left) * above_zero(neuron.r_mem, "r_mem")
    gain = arrival_gain(neuron.arrival, left)
    return left, gain, drive, number(neuron.v_rest, "v_rest"), number(neuron.v_th, "v_th")


def after_spike(spiked: Any, v: Any, scale: Any, shift: Any) -> Any:
    """The reset as two constants; no derivative passes from the spike to v."""
    return where(spiked, scale * v + shift, v)


def count_down(spiked: Any, refractory: Any, steps: Any) -> Any:
    """Steps of silence that are left."""
    return where(spiked, steps, max(refractory - 1.0, 0.0))
