"""The third factor of perturbation methods: what a perturbation did to a number, a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from neurosim.factor import Factor
from neurosim.modulator.base import Memory, View
from neurosim.types import ConfigurationError, Tensor

CLEAN = "clean"


@dataclass(frozen=True)
class Decrease:
    """m = value of `of` at the end of the phase `clean`, less its value now: by how much a loss has fallen since.

    In the phase `clean` itself m = 0, and the value of its last step is remembered, until the next phase has ended.
    Raises ConfigurationError where no such phase came before, or with another batch.
    """

    of: Factor
    clean: str = CLEAN
    scope: ClassVar[str] = "neuron"
    every_step: ClassVar[bool] = False
    of_output: ClassVar[bool] = False

    def factors(self) -> tuple[Factor, ...]:
        return (self.of,)

    def signals(self) -> tuple[str, ...]:
        return ()

    def init(self) -> Memory:
        return {}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        value = view.post(self.of)
        if view.phase == self.clean:
            return torch.zeros_like(value), {"clean": value.clone()}
        before = memory.get("clean")
        if before is None or before.shape != value.shape:
            raise ConfigurationError(
                f"a rule compares phase {view.phase!r} with phase {self.clean!r}, but no such phase came before it on "
                f"a batch of {value.shape[-2]}; show samples as the network's trial says"
            )
        return before - value, {} if view.last else memory
