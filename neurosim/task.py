"""What a task is: three fixed splits of labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from neurosim.types import Array


@dataclass(frozen=True)
class Split:
    """Examples `x [n, *shape]` (float64) with integer labels `y [n]` (int64).

    A sequence has a row for each of T stretches of time: `x [n, T, *shape]`. Its target is one label `y [n]`, one label
    per row `y [n, T]` (int64, -1: no target in this row), or K values per row `y [n, T, K]` (float64, NaN: no target).
    Every row is shown for the same number of time steps: `settings.steps` must be a multiple of T. In a row without a
    target the population `error` is silent, so that a rule that reads it does not learn there, and nothing is scored.
    """

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """A loaded task: training, validation and test split, the number of `classes`, the `shape` of one example (of one
    row of it, if it is a sequence). For targets that are values `classes` is their number, K.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    shape: tuple[int, ...]

    @property
    def inputs(self) -> int:
        """Number of values in one example, or in one row of a sequence."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def rows(self) -> int:
        """T of a sequence, 1 for examples that are no sequences."""
        return 1 if self.train.x.ndim == len(self.shape) + 1 else int(self.train.x.shape[1])


class Task(Protocol):
    """A frozen dataclass of settings that loads itself: `seed` fixes data and splits."""

    name: str

    def load(self, seed: int) -> Dataset: ...
