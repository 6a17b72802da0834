"""What a task is: three fixed splits of labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from neurosim.types import Array


@dataclass(frozen=True)
class Split:
    """Examples `x [n, *shape]` (float64) with integer labels `y [n]` (int64)."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A loaded task: training, validation and test split, the number of `classes`, the `shape` of one example."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    shape: tuple[int, ...]

    @property
    def inputs(self) -> int:
        """Number of values in one example."""
        size = 1
        for length in self.shape:
            size *= length
        return size


class Task(Protocol):
    """A frozen dataclass of settings that loads itself: `seed` fixes data and splits."""

    name: str

    def load(self, seed: int) -> Dataset: ...
