"""Symbols to be kept in mind over a delay, and given back in order when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neurosim.random import Stream
from neurosim.sequence import NO_LABEL
from neurosim.task import Dataset, Split
from neurosim.types import ConfigurationError

from .split import array, check_sizes


@dataclass(frozen=True)
class DelayedRecall:
    """`length` random symbols are shown, one a row; after `delay` rows without any a cue is on for `length` rows.

    Inputs are `symbols` channels, one of them 1 while its symbol is shown, and the cue. The label of row i of the cue
    is the i-th symbol; other rows have none. An example has T = 2 length + delay rows. With `selective` the symbols
    come at random rows of the first length + delay, in order (selective copying; Gu and Dao 2023, in small). Chance is
    1 / symbols. The seed fixes the examples; those of the three splits are drawn one by one, so that they can coincide
    where there are few (symbols^length, without `selective`).
    """

    name: str = "delayed_recall"
    symbols: int = 4
    length: int = 1
    delay: int = 18
    selective: bool = False
    train: int = 500
    validation: int = 200
    test: int = 200

    def __post_init__(self) -> None:
        check_sizes(self.name, train=self.train, validation=self.validation, test=self.test, length=self.length)
        if isinstance(self.symbols, bool) or not isinstance(self.symbols, int) or self.symbols < 2:
            raise ConfigurationError(f"task {self.name}: symbols is {self.symbols!r}; it must be an integer >= 2")
        if isinstance(self.delay, bool) or not isinstance(self.delay, int) or self.delay < 0:
            raise ConfigurationError(f"task {self.name}: delay is {self.delay!r}; it must be an integer >= 0")
        if not isinstance(self.selective, bool):
            raise ConfigurationError(f"task {self.name}: selective is {self.selective!r}; it must be true or false")

    @property
    def rows(self) -> int:
        """T, the rows of time of an example."""
        return 2 * self.length + self.delay

    def load(self, seed: int) -> Dataset:
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        train, validation, test = (self._split(seed, name, size) for name, size in sizes.items())
        return Dataset(self.name, train, validation, test, classes=self.symbols, shape=(self.symbols + 1,))

    def _split(self, seed: int, name: str, size: int) -> Split:
        example, place = torch.arange(size)[:, None], torch.arange(self.length)
        stream = Stream(seed, f"task/delayed_recall/{name}/symbol")
        symbol = array(stream.integers(self.symbols, sample=example, element=place))
        rows = np.tile(np.arange(self.length), (size, 1))
        if self.selective:
            order = Stream(seed, f"task/delayed_recall/{name}/row")
            free = self.length + self.delay
            rows = np.stack([np.sort(array(order.permutation(free, sample=k))[: self.length]) for k in range(size)])
        x = np.zeros((size, self.rows, self.symbols + 1))
        x[np.arange(size)[:, None], rows, symbol] = 1.0
        x[:, -self.length :, -1] = 1.0
        y = np.full((size, self.rows), NO_LABEL, np.int64)
        y[:, -self.length :] = symbol
        return Split(x, y)
