"""Noisy corners of the unit square, labelled by exclusive or."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neurosim.random import Stream
from neurosim.task import Dataset
from neurosim.types import Array, ConfigurationError, positive

from .points import check_points, dataset
from .split import array

ORIGINAL_NOISE = 0.1


@dataclass(frozen=True)
class Xor:
    """Corners (a, b) uniform in {0, 1}^2, `y = a xor b`, `x = ((a, b) + noise * N(0, I)) / divide_by`.

    `train`, `validation`, `test` are numbers of points; `test=None` means 2000, or 100 with `original`.
    `original=True` gives the arrays of the original code (Daruwalla and Lipasti 2024; see `points.original_arrays`):
    the same for every seed, 900 train and 100 test, noise 0.1. It had no validation split, so that one is generated
    with this seed. The original divided by 255, which is here `divide_by=255`.
    """

    name: str = "xor"
    train: int = 900
    validation: int = 500
    test: int | None = None
    noise: float = ORIGINAL_NOISE
    original: bool = False
    divide_by: float = 1.0

    def __post_init__(self) -> None:
        check_points(self.name, self.original, self.train, self.validation, self.test, self.divide_by)
        positive(self.noise, f"task {self.name}: noise", zero=True)
        if self.original and self.noise != ORIGINAL_NOISE:
            raise ConfigurationError(
                f"task {self.name}: original=true has noise {ORIGINAL_NOISE}, asked for {self.noise}"
            )

    def load(self, seed: int) -> Dataset:
        def generate(split: str, points: int) -> tuple[Array, Array]:
            rows, columns = torch.arange(points)[:, None], torch.arange(2)
            corner = Stream(seed, f"task/xor/{split}/corner").integers(2, sample=rows, element=columns)
            noise = Stream(seed, f"task/xor/{split}/noise").normal(sample=rows, element=columns)
            return array(corner + self.noise * noise), array(corner[:, 0] ^ corner[:, 1])

        sizes = (self.train, self.validation, self.test)
        return dataset(self.name, generate, "xor" if self.original else None, sizes, self.divide_by)
