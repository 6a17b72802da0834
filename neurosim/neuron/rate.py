"""Rate neurons: leaky, static, and one with a dendritic compartment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.neuron.base import Model, decay, leak
from neurosim.types import Parameter
from neurosim.vocabulary import fill, heaviside, max, sigmoid, tanh


def relu(v: Any) -> tuple[Any, Any]:
    """max(v, 0) and its derivative, which is 0 at 0."""
    return max(v, 0.0), 1.0 - heaviside(-v)


def hyperbolic(v: Any) -> tuple[Any, Any]:
    """tanh(v) and its derivative."""
    rate = tanh(v)
    return rate, 1.0 - rate * rate


def logistic(v: Any) -> tuple[Any, Any]:
    """1 / (1 + exp(-v)) and its derivative."""
    rate = sigmoid(v)
    return rate, rate * (1.0 - rate)


def identity(v: Any) -> tuple[Any, Any]:
    """v and its derivative."""
    return v, fill(v, 1.0)


ACTIVATIONS = {"relu": relu, "tanh": hyperbolic, "sigmoid": logistic, "linear": identity}


def leaky_step(activation: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, ...]]:
    """The step of `LeakyRate` with its activation."""

    def leaky_rate(v: Any, basal: Any, leak: Any, gain: Any) -> tuple[Any, ...]:
        v = leak * v + gain * basal
        rate, derivative = activation(v)
        return v, rate, gain * derivative

    return leaky_rate


def static_step(activation: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, ...]]:
    """The step of `StaticRate` with its activation."""

    def static_rate(basal: Any) -> tuple[Any, ...]:
        return activation(basal)

    return static_rate


def two_compartment_step(activation: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, ...]]:
    """The step of `TwoCompartment` with its activation."""

    def two_compartment(
        v: Any, v_basal: Any, v_apical: Any, basal: Any, apical: Any, leak: Any, gain: Any, leak_basal: Any,
        gain_basal: Any, leak_apical: Any, gain_apical: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        v_basal = leak_basal * v_basal + gain_basal * basal
        v_apical = leak_apical * v_apical + gain_apical * apical
        v = leak * v + gain * (basal + v_apical)
        rate, derivative = activation(v)
        basal_rate, _ = activation(v_basal)
        return v, v_basal, v_apical, rate, basal_rate, rate - basal_rate, gain * derivative

    return two_compartment


LEAKY_STEPS = {name: leaky_step(activation) for name, activation in ACTIVATIONS.items()}
STATIC_STEPS = {name: static_step(activation) for name, activation in ACTIVATIONS.items()}
TWO_COMPARTMENT_STEPS = {name: two_compartment_step(activation) for name, activation in ACTIVATIONS.items()}


@dataclass(frozen=True)
class LeakyRate(Model):
    """tau_mem dv/dt = -v + basal;  rate = activation(v), with the new v.

    Integration: exact for input constant within the step, v <- l v + (1 - l) basal, l = exp(-dt / tau_mem);
    `integration="euler"` has l = 1 - dt / tau_mem. `slope` is (1 - l) activation'(v). `activation`: relu (derivative 0
    at 0), tanh, sigmoid, linear. tau_mem in ms; v, basal and rate have no units.
    """

    tau_mem: Parameter = 10.0
    activation: str = "tanh"
    integration: str = "exact"

    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ("v",)
    ports: ClassVar[tuple[str, ...]] = ("basal",)
    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")

    @property
    def step(self) -> Callable[..., tuple[Any, ...]]:
        return LEAKY_STEPS[self.activation]

    def constants(self, dt: float) -> tuple[Any, ...]:
        left = leak(self.tau_mem, dt, self.integration, "tau_mem")
        return left, 1.0 - left

    def initial(self) -> dict[str, Any]:
        return {"v": 0.0}


@dataclass(frozen=True)
class StaticRate(Model):
    """rate = activation(basal), no memory; `slope` is activation'(basal). `activation`: relu, tanh, sigmoid, linear."""

    activation: str = "tanh"

    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("basal",)
    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")

    @property
    def step(self) -> Callable[..., tuple[Any, ...]]:
        return STATIC_STEPS[self.activation]

    def constants(self, dt: float) -> tuple[Any, ...]:
        return ()

    def initial(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class TwoCompartment(Model):
    """tau_mem dv/dt = -v + basal + v_apical;  rate = f(v).

    tau_basal dv_basal/dt = -v_basal + basal;  tau_apical dv_apical/dt = -v_apical + apical. `basal_rate` = f(v_basal)
    is what the rate would be without apical input, `prediction_error` = f(v) - f(v_basal) what that input adds, before
    any lateral (Urbanczik, Senn 2014; Meulemans et al. 2021). Integration as in `LeakyRate` (v_basal: always exact);
    a time constant of 0 is no memory: v = basal + v_apical, v_basal = basal, v_apical = apical. `tau_basal` None is
    tau_mem. tau_mem, tau_basal, tau_apical in ms; the rest has no units. `slope` is d rate / d basal.
    """

    tau_mem: Parameter = 10.0
    tau_basal: Parameter | None = None
    tau_apical: Parameter = 0.0
    activation: str = "tanh"
    integration: str = "exact"

    may_be_zero: ClassVar[tuple[str, ...]] = ("tau_mem",)
    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ("v", "v_basal", "v_apical")
    ports: ClassVar[tuple[str, ...]] = ("basal", "apical")
    outputs: ClassVar[tuple[str, ...]] = ("rate", "basal_rate", "prediction_error", "slope")

    @property
    def step(self) -> Callable[..., tuple[Any, ...]]:
        return TWO_COMPARTMENT_STEPS[self.activation]

    def constants(self, dt: float) -> tuple[Any, ...]:
        left = leak(self.tau_mem, dt, self.integration, "tau_mem", zero=True)
        left_basal = left if self.tau_basal is None else decay(self.tau_basal, dt, "tau_basal", zero=True)
        left_apical = leak(self.tau_apical, dt, self.integration, "tau_apical", zero=True)
        return left, 1.0 - left, left_basal, 1.0 - left_basal, left_apical, 1.0 - left_apical

    def initial(self) -> dict[str, Any]:
        return {"v": 0.0, "v_basal": 0.0, "v_apical": 0.0}
