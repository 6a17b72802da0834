"""What a chunk of time steps holds: for every label a tensor with a time axis, and the states at its end.

`array [R, depth + steps, B, N]`: step t of the chunk is at `depth + t`, the steps before the chunk are in front of it.
So a slice of consecutive steps folds into the batch without a copy, `[R, count * B, N]`, and what works on a batch
works on many steps at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neurosim.backends.moment import Moment
from neurosim.backends.needs import CONSTANT
from neurosim.types import Tensor


@dataclass
class Buffer:
    """Values of a label during a chunk, `array [R, depth + steps, B, N]`."""

    array: Tensor
    depth: int

    def steps(self, first: int, count: int, delay: int = 0) -> Tensor:
        """The values `[R, count, B, N]` from step `first` on, of `delay` steps earlier."""
        return self.array.narrow(1, self.depth + first - delay, count)

    def folded(self, first: int, count: int, delay: int = 0) -> Tensor:
        """The same as `[R, count * B, N]`: time folded into the batch. A view."""
        return self.steps(first, count, delay).flatten(1, 2)

    def turn(self, count: int) -> None:
        """The chunk of `count` steps is over: its last steps become the past of the next one."""
        if self.depth:
            self.array[:, : self.depth] = self.array[:, count : count + self.depth].clone()


class Values:
    """The buffers of a simulator for one batch size; made when first asked for."""

    def __init__(self, size: tuple[int, int], steps: int, dtype: torch.dtype, device: torch.device):
        self.size, self.steps, self.dtype, self.device = size, steps, dtype, device
        self.buffers: dict[str, Buffer] = {}
        self.states: dict[tuple[str, ...], Tensor] = {}
        self.one = torch.ones(1, 1, 1, dtype=dtype, device=device)
        self.zero = torch.zeros(1, 1, 1, dtype=dtype, device=device)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def make(self, label: str, units: int, depth: int) -> Buffer:
        """The buffer of a label."""
        if label not in self.buffers:
            replicas, batch = self.size
            self.buffers[label] = Buffer(self.zeros(replicas, depth + self.steps, batch, units), depth)
        return self.buffers[label]

    def state(self, key: tuple[str, ...], units: int) -> Tensor:
        """The tensor `[R, B, N]` of a state."""
        if key not in self.states:
            self.states[key] = self.zeros(*self.size, units)
        return self.states[key]

    def folded(self, label: str, first: int, count: int, delay: int = 0) -> Tensor:
        """`[R, count * B, N]`; `[1, 1, 1]` of zero where nothing arrives, of one at the constant end of a bias."""
        if label in self.buffers:
            return self.buffers[label].folded(first, count, delay)
        return self.one if label.startswith(f"{CONSTANT}.") else self.zero


class SliceMoment(Moment):
    """One step of a chunk, or many folded into the batch, read as a moment of the reference."""

    def __init__(self, values: Values, learned: dict[str, Any], clock: int, first: int, count: int = 1):
        super().__init__({"history": {}}, learned, clock, values.zero, values.one)
        self.values, self.first, self.count = values, first, count
        self.now = _Now(self)  # type: ignore[assignment]

    def read(self, name: str, delay: int) -> Tensor:
        return self.values.folded(name, self.first, self.count, delay)


class _Now(Mapping[str, Tensor]):
    """The values of now, for what looks them up by name."""

    def __init__(self, moment: SliceMoment):
        self.moment = moment

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.moment.values.buffers:
            raise KeyError(name)
        return self.moment.read(name, 0)

    def __iter__(self) -> Any:
        return iter(self.moment.values.buffers)

    def __len__(self) -> int:
        return len(self.moment.values.buffers)
