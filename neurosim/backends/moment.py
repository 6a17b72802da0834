"""The values of one time step, by label, with the remembered values of earlier ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neurosim.backends.needs import Leaf, canonical
from neurosim.factor import Field
from neurosim.network import Population
from neurosim.types import Tensor


def label(population: str, leaf: Leaf) -> str:
    """The name under which a population's field or trace is held: "hidden.spike", "hidden.spike~20.0sum"."""
    leaf = canonical(leaf)
    return (
        f"{population}.{leaf.name}"
        if isinstance(leaf, Field)
        else f"{label(population, leaf.of)}~{float(leaf.tau)}{leaf.mode}"
    )


class Moment:
    """`now` fills up in the course of a step; `read(label, d)` gives a value of d steps ago, zero where nothing
    arrived.
    """

    def __init__(self, activity: dict[str, Any], learned: dict[str, Any], clock: int, zero: Tensor, one: Tensor):
        self.now: dict[str, Tensor] = {}
        self.modulators: dict[str, Tensor] = {}
        self.released: dict[str, dict[str, Tensor]] = {}
        self.learned, self.clock = learned, clock
        self._history, self._zero, self.one = activity["history"], zero, one

    def read(self, name: str, delay: int) -> Tensor:
        if delay:
            past: Tensor = self._history[name][delay - 1]
            return past
        value = self.now.get(name)
        if value is None:
            if name.startswith("."):  # the constant end of a bias
                return self.one
            return self._zero
        return value

    def add(self, port: str, value: Tensor, combine: str = "sum") -> None:
        """Add what arrives at a port (or keep the larger, where the port combines by max)."""
        old = self.now.get(port)
        if old is None:
            self.now[port] = value
        else:
            self.now[port] = torch.maximum(old, value) if combine == "max" else old + value

    def pull_back(self, population: Population, g: Tensor) -> Tensor:
        """A cotangent of a population's output, brought in front of its lateral."""
        axon = f"{population.name}.{population.axon}"
        return over_channels(population.lateral.pullback, population.shape, self.now[f"{axon}|raw"], self.now[axon], g)


def over_channels(function: Any, shape: tuple[int, ...], *values: Tensor) -> Tensor:
    """Apply a vector function over the units of a flat population, or over the channels at each position of a shaped
    one.
    """
    if len(shape) == 1:
        flat: Tensor = function(*values)
        return flat
    turned = [value.unflatten(-1, (shape[0], -1)).transpose(-1, -2) for value in values]
    shaped: Tensor = function(*turned)
    return shaped.transpose(-1, -2).flatten(-2)


def constant(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A constant as a Python number (float64: torch would round a bare number to float32) or a tensor of `dtype`."""
    tensor = torch.as_tensor(np.asarray(value, dtype=np.float64))
    return float(tensor) if tensor.dim() == 0 else tensor.to(device, dtype)
