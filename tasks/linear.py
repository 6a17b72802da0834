"""Points in the plane on either side of a line through the origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neurosim.random import Stream
from neurosim.task import Dataset
from neurosim.types import Array, ConfigurationError

from .points import check_points, dataset, original_arrays
from .split import array


@dataclass(frozen=True)
class Linear:
    """`u` uniform in [-1, 1)^2, `y = 1` where `u . weight > 0`, else 0; `x = u / divide_by`.

    `weight` is drawn from N(0, I) with the seed unless two numbers are given. `train`, `validation`, `test` are
    numbers of points; `test=None` means 2000, or 100 with `original`. `original=True` gives the arrays of the
    original code (Daruwalla and Lipasti 2024; see `points.original_arrays`): the same for every seed, 900 train and
    100 test. It had no validation split, so that one is generated, with the original weight and this seed. The
    original divided by 255, which is here `divide_by=255`.
    """

    name: str = "linear"
    train: int = 900
    validation: int = 500
    test: int | None = None
    weight: Sequence[float] | None = None
    original: bool = False
    divide_by: float = 1.0

    def __post_init__(self) -> None:
        check_points(self.name, self.original, self.train, self.validation, self.test, self.divide_by)
        if self.weight is None:
            return
        weight = tuple(self.weight) if isinstance(self.weight, Sequence) else ()
        numbers = all(isinstance(part, float | int) and math.isfinite(part) for part in weight)
        if len(weight) != 2 or not numbers or not any(weight):
            raise ConfigurationError(
                f"task {self.name}: weight is {self.weight}; it must be two finite numbers, not both 0, or null"
            )
        if self.original:
            raise ConfigurationError(f"task {self.name}: original=true fixes the weight; set weight=null")
        object.__setattr__(self, "weight", weight)

    def load(self, seed: int) -> Dataset:
        weight = self._weight(seed)

        def generate(split: str, points: int) -> tuple[Array, Array]:
            stream = Stream(seed, f"task/linear/{split}")
            x = 2.0 * stream.uniform(sample=torch.arange(points)[:, None], element=torch.arange(2)) - 1.0
            return array(x), array(x @ weight > 0)

        sizes = (self.train, self.validation, self.test)
        return dataset(self.name, generate, "lin" if self.original else None, sizes, self.divide_by)

    def _weight(self, seed: int) -> torch.Tensor:
        if self.weight is not None:
            return torch.tensor(self.weight, dtype=torch.float64)
        if self.original:
            return torch.as_tensor(original_arrays()["lin_w"], dtype=torch.float64)
        return Stream(seed, "task/linear/weight").normal(element=torch.arange(2))
