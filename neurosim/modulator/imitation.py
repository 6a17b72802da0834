"""Third factors that teach a population to give what another modulator would be: a difference, or how well it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from neurosim.factor import Factor
from neurosim.modulator.base import Memory, View
from neurosim.types import Tensor, positive


@dataclass(frozen=True)
class Towards:
    """m_i = scale * teacher_i - value of `of` at neuron i: the error of a population that imitates a modulator.

    `teacher` is evaluated at the projection that learns, so it reads that projection's post population.
    """

    teacher: Any
    of: Factor
    scale: float = 1.0
    every_step: bool = field(default=False, init=False)

    scope: ClassVar[str] = "layer"
    of_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(self.scale, "scale of Towards")
        object.__setattr__(self, "every_step", self.teacher.every_step)

    def factors(self) -> tuple[Factor, ...]:
        return (*self.teacher.factors(), self.of)

    def signals(self) -> tuple[str, ...]:
        signals: tuple[str, ...] = self.teacher.signals()
        return signals

    def init(self) -> Memory:
        memory: Memory = self.teacher.init()
        return memory

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        wanted, memory = self.teacher.update(view, memory)
        return self.scale * wanted - view.post(self.of), memory


@dataclass(frozen=True)
class Success:
    """m = 1 if P > mean P, else 0, with P = -sum_i error_i^2: one number for all neurons, which says whether the
    population has become better (Hoerzer, Legenstein, Maass 2014).

    mean <- mean + (P - mean) / tau before use, in every step (`tau` in steps), for each batch row; it starts at the
    first P. `error` is a modulator.
    """

    error: Any
    tau: float
    every_step: ClassVar[bool] = True
    scope: ClassVar[str] = "layer"
    of_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(self.tau, "tau of Success (steps)")

    def factors(self) -> tuple[Factor, ...]:
        factors: tuple[Factor, ...] = self.error.factors()
        return factors

    def signals(self) -> tuple[str, ...]:
        signals: tuple[str, ...] = self.error.signals()
        return signals

    def init(self) -> Memory:
        return {"error": self.error.init()}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        error, inner = self.error.update(view, memory["error"])
        performance = -(error * error).sum(-1, keepdim=True)
        mean = memory.get("mean", performance)
        if mean.shape != performance.shape:  # another batch: its rows have no past
            mean = performance
        new = mean + (performance - mean) / self.tau
        return (performance > new).to(performance.dtype), {"error": inner, "mean": torch.as_tensor(new)}
