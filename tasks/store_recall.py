"""Store and recall: keep a bit in mind when told to, past other bits, until asked for it (Bellec et al. 2018, 2020).

G. Bellec, D. Salaj, A. Subramoney, R. Legenstein, W. Maass, "Long short-term memory and learning-to-learn in networks
of spiking neurons", NeurIPS 2018; in e-prop's paper (Nat. Commun. 11:3625, 2020) as a test of working memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neurosim.random import Stream
from neurosim.sequence import NO_LABEL
from neurosim.task import Dataset, Split
from neurosim.types import ConfigurationError

from .split import array, check_sizes

ZERO, ONE, STORE, RECALL = range(4)


@dataclass(frozen=True)
class StoreRecall:
    """An example has `rows` rows. Each but the last shows a random bit; one of them is marked "store", the last one
    says "recall" and has the label: the bit that was stored. The other rows have none. Chance is 1/2.

    Inputs are four groups of `copies` channels: bit 0, bit 1, store, recall; a group is 1 while it is on. The store
    comes in the first row, or with `anywhere` in any but the last. With `distract` false no other bit is shown.
    The seed fixes the examples; those of the three splits are drawn one by one, so that they can coincide.
    """

    name: str = "store_recall"
    rows: int = 6
    copies: int = 5
    anywhere: bool = False
    distract: bool = True
    train: int = 1000
    validation: int = 200
    test: int = 500

    def __post_init__(self) -> None:
        check_sizes(self.name, train=self.train, validation=self.validation, test=self.test, copies=self.copies)
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 2:
            raise ConfigurationError(f"task {self.name}: rows is {self.rows!r}; it must be an integer >= 2")
        for name in ("anywhere", "distract"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(
                    f"task {self.name}: {name} is {getattr(self, name)!r}; it must be true or false"
                )

    def load(self, seed: int) -> Dataset:
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        train, validation, test = (self._split(seed, name, size) for name, size in sizes.items())
        return Dataset(self.name, train, validation, test, classes=2, shape=(4 * self.copies,))

    def _split(self, seed: int, name: str, size: int) -> Split:
        example, row = torch.arange(size)[:, None], torch.arange(self.rows - 1)
        bit = array(Stream(seed, f"task/store_recall/{name}/bit").integers(2, sample=example, element=row))
        store = np.zeros(size, np.int64)
        if self.anywhere:
            rows = Stream(seed, f"task/store_recall/{name}/store")
            store = array(rows.integers(self.rows - 1, sample=torch.arange(size)))
        each = np.arange(size)
        group = np.zeros((size, self.rows, 4))
        group[each[:, None], np.arange(self.rows - 1), bit] = 1.0
        if not self.distract:
            group[np.arange(self.rows) != store[:, None]] = 0.0
        group[each, store, STORE] = 1.0
        group[:, -1, RECALL] = 1.0
        y = np.full((size, self.rows), NO_LABEL, np.int64)
        y[:, -1] = bit[each, store]
        return Split(np.repeat(group, self.copies, -1), y)
