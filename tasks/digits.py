"""1797 hand-written digits of 8 x 8 pixels, part of the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosim.random import Stream
from neurosim.task import Dataset, Split
from neurosim.types import Array, choice

from .split import check_available, check_sizes, scaled, stratified

EXAMPLES = 1797


def digits_arrays() -> tuple[Array, Array]:
    """Pixels `[1797, 64]` (0 to 16) and labels `[1797]` as uint8, in the order of scikit-learn's `load_digits`.

    Source: scikit-learn (BSD 3-clause), a copy of the test set of "Optical Recognition of Handwritten Digits" by
    Alpaydin and Kaynak (1998), UCI Machine Learning Repository (CC BY 4.0).
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return file["x"], file["y"]


@dataclass(frozen=True)
class Digits:
    """Ten classes, shape (1, 8, 8): channel, row, column. The seed fixes three stratified splits of the given sizes.

    `scale`: "unit" gives pixel / 16 in [0, 1]; "symmetric" 2 pixel / 16 - 1 in [-1, 1]; "standard" subtracts each
    pixel's mean and divides by its standard deviation, both of the training split (a pixel that never varies there
    stays 0).
    """

    name: str = "digits"
    train: int = 1077
    validation: int = 360
    test: int = 360
    scale: str = "unit"

    def __post_init__(self) -> None:
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        check_sizes(self.name, **sizes)
        check_available(self.name, EXAMPLES, **sizes)
        choice(self.scale, ("unit", "symmetric", "standard"), f"task {self.name}: scale")

    def load(self, seed: int) -> Dataset:
        pixels, labels = digits_arrays()
        sizes = (self.train, self.validation, self.test)
        parts = stratified(labels, sizes, Stream(seed, "task/digits/split"))
        values = scaled(pixels, 16.0, self.scale).reshape(-1, 1, 8, 8)
        if self.scale == "standard":
            seen = values[parts[0]]
            deviation = seen.std(0)
            constant = deviation == 0
            values = (values - seen.mean(0)) / np.where(constant, 1.0, deviation) * ~constant
        train, validation, test = (Split(values[part], labels[part].astype(np.int64)) for part in parts)
        return Dataset(self.name, train, validation, test, classes=10, shape=(1, 8, 8))
