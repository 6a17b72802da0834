"""The controller of deep feedback control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.neuron.base import Model, above_zero, number
from neurosim.random import Distribution
from neurosim.types import ConfigurationError, Parameter, numeric


def leaky_controller(
    integral: Any, control: Any, basal: Any, gain: Any, lose_integral: Any, lose_control: Any, proportional: Any
) -> tuple[Any, ...]:
    integral = integral - lose_integral * integral - lose_control * control + gain * basal
    control = integral + proportional * basal
    return integral, control, control, 0.0 * basal + (gain + proportional)


@dataclass(frozen=True)
class LeakyController(Model):
    """Leaky proportional-integral control u of an error e (port `basal`), the output `rate` (Meulemans et al. 2021).

    c <- c - (dt / tau_leak) x + dt gain e;  u <- c + proportional e;  x is the old c for `leak_of="integral"`, the old
    u for `leak_of="control"` (which is how the published code leaks). Integration: forward Euler. gain in 1 / ms,
    tau_leak in ms (inf: no leak), proportional has no units. `slope` = dt gain + proportional.
    """

    gain: Parameter = 0.05
    tau_leak: Parameter = 50.0
    proportional: Parameter = 0.3
    leak_of: str = "integral"

    free: ClassVar[tuple[str, ...]] = ("tau_leak",)
    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ("integral", "control")
    ports: ClassVar[tuple[str, ...]] = ("basal",)
    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")
    step = staticmethod(leaky_controller)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.tau_leak, Distribution):
            self._tau()

    def _tau(self) -> Any:
        allowed = "a number > 0, or inf for no leak"
        tau = numeric(self.tau_leak, "tau_leak", allowed)[()]
        if not bool(np.all(tau > 0)):
            raise ConfigurationError(f"tau_leak is {self.tau_leak}; it must be {allowed}")
        return tau

    def constants(self, dt: float) -> tuple[Any, ...]:
        tau = self._tau()
        gain, loss, none = above_zero(dt, "dt") * number(self.gain, "gain"), dt / tau, np.float64(0.0)
        losses = (loss, none) if self.leak_of == "integral" else (none, loss)
        return gain, *losses, number(self.proportional, "proportional")

    def initial(self) -> dict[str, Any]:
        return {"integral": 0.0, "control": 0.0}
