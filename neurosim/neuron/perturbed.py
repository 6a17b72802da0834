"""A neuron with noise of its own, before or behind its non-linearity: the probe of node perturbation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from neurosim.neuron.base import Model, above_zero
from neurosim.neuron.lif import LIF
from neurosim.neuron.rate import LeakyRate, StaticRate
from neurosim.surrogate import Surrogate
from neurosim.types import ConfigurationError, choice
from neurosim.vocabulary import where

PLACES = ("before", "after")


@cache
def static_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a perturbed neuron without states."""

    def perturbed_static(quiet: Any, basal: Any, normal: Any, before: Any, after: Any) -> tuple[Any, ...]:
        rate, slope = step(basal + before * normal)
        rate = rate + after * normal
        quiet = where(normal == 0.0, rate, quiet)
        return quiet, rate, slope, (before + after) * normal, rate - quiet

    return perturbed_static


@cache
def leaky_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a perturbed `LeakyRate`."""

    def perturbed_leaky(
        v: Any, quiet: Any, basal: Any, normal: Any, leak: Any, gain: Any, before: Any, after: Any
    ) -> tuple[Any, ...]:
        v, rate, slope = step(v, basal + before * normal, leak, gain)
        rate = rate + after * normal
        quiet = where(normal == 0.0, rate, quiet)
        return v, quiet, rate, slope, (before + after) * normal, rate - quiet

    return perturbed_leaky


@cache
def spiking_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a perturbed `LIF`; `after` is 0."""

    def perturbed_spiking(
        v: Any, refractory: Any, quiet: Any, basal: Any, current: Any, normal: Any, leak: Any, gain: Any, drive: Any,
        v_rest: Any, v_th: Any, scale: Any, shift: Any, steps: Any, before: Any, after: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        v, refractory, spike, slope = step(
            v, refractory, basal + before * normal, current, leak, gain, drive, v_rest, v_th, scale, shift, steps
        )
        quiet = where(normal == 0.0, spike, quiet)
        return v, refractory, quiet, spike, slope, (before + after) * normal, spike - quiet

    return perturbed_spiking


STEPS: dict[type[Any], Callable[..., Callable[..., Any]]] = {
    StaticRate: static_step,
    LeakyRate: leaky_step,
    LIF: spiking_step,
}


@dataclass(frozen=True)
class Perturbed(Model):
    """`neuron` (StaticRate, LeakyRate or LIF) with the noise sd * normal, held for a whole phase.

    `where` "before": it is added to the drive `basal`, in front of the non-linearity; "after": to the rate behind it
    (not of spikes). `sd` is in units of the drive, or of the rate. Outputs are those of the neuron, and `noise`, this
    phase's number; `deviation`, the output less `quiet`, the output of the last step without noise (`Phase.noise`
    False): with the noise of others that arrives here. Draws: "held_normal", one number for a phase.
    """

    neuron: Model
    sd: float
    where: str = "before"

    draws: ClassVar[tuple[str, ...]] = ("held_normal",)

    def __post_init__(self) -> None:
        choice(self.where, PLACES, "where of Perturbed")
        above_zero(self.sd, "sd of Perturbed")
        if type(self.neuron) not in STEPS:
            allowed = ", ".join(kind.__name__ for kind in STEPS)
            raise ConfigurationError(f"a {type(self.neuron).__name__} cannot be perturbed; allowed: {allowed}")
        if self.where == "after" and isinstance(self.neuron, LIF):
            raise ConfigurationError("noise behind the non-linearity is for rates: a spike is 0 or 1; use 'before'")

    @property
    def inner(self) -> Any:
        """The neuron that is perturbed."""
        return self.neuron

    @property
    def surrogate(self) -> Surrogate | None:
        surrogate: Surrogate | None = self.inner.surrogate
        return surrogate

    @property
    def states(self) -> tuple[str, ...]:
        return (*self.inner.states, "quiet")

    @property
    def ports(self) -> tuple[str, ...]:
        ports: tuple[str, ...] = self.inner.ports
        return ports

    @property
    def outputs(self) -> tuple[str, ...]:
        return (*self.inner.outputs, "noise", "deviation")

    @property
    def step(self) -> Callable[..., tuple[Any, ...]]:
        return STEPS[type(self.neuron)](self.inner.step)

    def constants(self, dt: float) -> tuple[Any, ...]:
        sd, none = np.float64(self.sd), np.float64(0.0)
        return *self.inner.constants(dt), *((sd, none) if self.where == "before" else (none, sd))

    def initial(self) -> dict[str, Any]:
        return {**self.inner.initial(), "quiet": 0.0}
