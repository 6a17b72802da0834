"""Values of factors at the two ends of a projection, in one time step."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch

from neurosim.backends.moment import Moment, label
from neurosim.backends.needs import CONSTANT
from neurosim.backends.plan import Plan
from neurosim.backends.resolve import Synapses
from neurosim.backends.specialise import for_torch
from neurosim.backends.update import Part
from neurosim.factor import Apply, Coefficient, Factor, One, Trace
from neurosim.types import Tensor


class Reader:
    """Values of factors at the two ends of one projection, in one step."""

    def __init__(self, plan: Plan, synapses: Synapses, moment: Moment, batch: int):
        self.synapses, self.moment, self.dt = synapses, moment, plan.dt
        self.size = (plan.replicas, batch)

    def post(self, factor: Factor | None) -> Tensor:
        """A post factor `[R, B, P]`, `dendritic_delay` late."""
        return self._full(
            self._value(self.synapses.post.name, factor, self.synapses.dendritic), self.synapses.post.units
        )

    def pre(self, factor: Factor) -> Any:
        """A pre factor `[R, B, Q]` as a function of the axonal delay."""
        units = self.synapses.pre.units
        return lambda delay: self._full(self._value(self.synapses.pre.name, factor, delay), units)

    def _full(self, value: Tensor, units: int) -> Tensor:
        """The constant 1, and a port where nothing arrived, are `[1, 1, 1]`."""
        size = (*self.size, units)
        return value if value.shape == size else value.expand(size)

    def end(self, part: Part, factor: Factor) -> Any:
        """The pre factor of a weight, or of a bias (whose pre end is the constant 1)."""
        return self.pre(factor) if part.name == "weight" else lambda delay: self._value(CONSTANT, factor, 0)

    def _value(self, population: str, factor: Factor | None, delay: int) -> Tensor:
        if factor is None or isinstance(factor, One):
            return self.moment.one
        if isinstance(factor, Coefficient):
            one = self.moment.one
            return one if population == CONSTANT else _numbers(factor, one.dtype, one.device)
        if isinstance(factor, Apply):
            values = [self._value(population, argument, delay) for argument in factor.arguments]
            return for_torch(factor.fn)(*values, *factor.constants)  # type: ignore[no-any-return]
        if isinstance(factor, Trace) and factor.read == "before":
            decay = math.exp(-self.dt / factor.tau)
            return decay * self.moment.read(label(population, factor), delay + 1)
        return self.moment.read(label(population, factor), delay)


@lru_cache(maxsize=256)  # values never change, and a device should get them once
def _numbers(coefficient: Coefficient, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A coefficient `[R, 1, N]`, `[1, 1, N]` or `[1, 1, 1]`."""
    values = torch.tensor(coefficient.values).to(device, dtype)
    return values.reshape(-1, 1, values.shape[-1] if values.dim() else 1)
