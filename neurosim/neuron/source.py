"""Populations that drive others: Poisson spikes, and step, ramp and noise currents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.neuron.base import Model, above_zero, decay, number, whole_steps
from neurosim.types import ConfigurationError, Parameter
from neurosim.vocabulary import heaviside, max, min


def poisson(basal: Any, uniform: Any, rate: Any, per_step: Any) -> tuple[Any, ...]:
    # 1 - heaviside(u - p) rather than heaviside(p - u): u = 0 must not spike where p = 0
    return (1.0 - heaviside(uniform - (rate + basal) * per_step),)


@dataclass(frozen=True)
class PoissonSource(Model):
    """A spike with probability p = (rate + basal) dt / 1000 in each step, independently; rate and basal in Hz.

    p <= 0 never spikes, p >= 1 always does; a `rate` with p > 1 is an error. Draws: "uniform" in [0, 1).
    """

    rate: Parameter = 0.0

    surrogate: ClassVar[None] = None
    teaching: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[tuple[str, ...]] = ("uniform",)
    states: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("basal",)
    outputs: ClassVar[tuple[str, ...]] = ("spike",)
    step = staticmethod(poisson)

    def constants(self, dt: float) -> tuple[Any, ...]:
        rate, per_step = above_zero(self.rate, "rate", zero=True), above_zero(dt, "dt") / 1000.0
        if bool(np.any(rate * per_step > 1.0)):
            raise ConfigurationError(f"rate is {self.rate} Hz; with dt = {dt} ms it must be at most {1000.0 / dt} Hz")
        return rate, per_step

    def initial(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _Clocked(Model):
    """A source with a clock that counts steps; it has no input."""

    surrogate: ClassVar[None] = None
    teaching: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ("clock",)
    ports: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ("rate",)

    def initial(self) -> dict[str, Any]:
        return {"clock": 0.0}


def step_source(clock: Any, amplitude: Any, start: Any, stop: Any) -> tuple[Any, ...]:
    return clock + 1.0, amplitude * heaviside(clock - start) * (1.0 - heaviside(clock - stop))


def ramp_source(clock: Any, first: Any, change: Any, start: Any, steps: Any) -> tuple[Any, ...]:
    return clock + 1.0, first + change * max(min((clock - start) / steps, 1.0), 0.0)


def noise_source(x: Any, normal: Any, mean: Any, keep: Any, spread: Any) -> tuple[Any, ...]:
    x = keep * x + spread * normal
    return x, mean + x


def _ordered(start: Parameter, stop: Parameter, dt: float) -> tuple[Any, Any]:
    first, last = whole_steps(start, dt, "start"), whole_steps(stop, dt, "stop")
    if bool(np.any(last <= first)):
        raise ConfigurationError(f"stop is {stop} ms; it must be later than start = {start} ms")
    return first, last


@dataclass(frozen=True)
class StepSource(_Clocked):
    """rate = amplitude for start <= t < stop, else 0; t = k dt at step k. start, stop in ms, multiples of dt."""

    amplitude: Parameter = 1.0
    start: Parameter = 0.0
    stop: Parameter = 100.0
    step = staticmethod(step_source)

    def constants(self, dt: float) -> tuple[Any, ...]:
        return number(self.amplitude, "amplitude"), *_ordered(self.start, self.stop, dt)


@dataclass(frozen=True)
class RampSource(_Clocked):
    """rate goes from `first` at t = start to `last` at t = stop in a straight line, and is constant before and after.

    t = k dt at step k; start, stop in ms, multiples of dt.
    """

    first: Parameter = 0.0
    last: Parameter = 1.0
    start: Parameter = 0.0
    stop: Parameter = 100.0
    step = staticmethod(ramp_source)

    def constants(self, dt: float) -> tuple[Any, ...]:
        first, (start, stop) = number(self.first, "first"), _ordered(self.start, self.stop, dt)
        return first, number(self.last, "last") - first, start, stop - start


@dataclass(frozen=True)
class NoiseSource(Model):
    """rate = mean + x, tau dx = -x dt + noise: an Ornstein-Uhlenbeck current with deviation `std`, exact for any dt.

    x <- k x + std sqrt(1 - k^2) normal, k = exp(-dt / tau); tau = 0 is white: independent in each step (then `std` is
    the deviation at this dt). x starts at 0. tau in ms. Draws: "normal".
    """

    mean: Parameter = 0.0
    std: Parameter = 1.0
    tau: Parameter = 0.0

    surrogate: ClassVar[None] = None
    teaching: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[tuple[str, ...]] = ("normal",)
    states: ClassVar[tuple[str, ...]] = ("x",)
    ports: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ("rate",)
    step = staticmethod(noise_source)

    def constants(self, dt: float) -> tuple[Any, ...]:
        keep = decay(self.tau, dt, "tau", zero=True)
        return number(self.mean, "mean"), keep, above_zero(self.std, "std", zero=True) * np.sqrt(1.0 - keep * keep)

    def initial(self) -> dict[str, Any]:
        return {"x": 0.0}
