"""Transforms that look at a neuron's other synapses, or at the whole projection: normalisation, sparseness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.transform.base import Layout
from neurosim.types import ConfigurationError, Tensor, choice, positive, within


@dataclass(frozen=True)
class Normalised:
    """change <- change / (max|change| + epsilon), over the whole projection ("all") or each post-synaptic neuron
    ("row").

    `by` "norm" divides by the Euclidean norm of the row instead (row only).
    """

    over: str = "all"
    by: str = "max"
    epsilon: float = 1e-30
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        choice(self.over, ("all", "row"), "over of Normalised")
        choice(self.by, ("max", "norm"), "by of Normalised")
        positive(self.epsilon, "epsilon of Normalised", zero=True)
        if self.by == "norm" and self.over == "all":
            raise ConfigurationError("Normalised by 'norm' works over 'row'; over 'all' it divides by 'max'")

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        if self.by == "norm":
            return change / (layout.row_sum(change * change).sqrt() + self.epsilon)
        largest = layout.row_max(change.abs()) if self.over == "row" else layout.total_max(change.abs())
        return change / (largest + self.epsilon)


@dataclass(frozen=True)
class NormRate:
    """change <- (| norm(w_i) - norm | + epsilon)^power change: fast while a row is far from the norm where it settles.

    norm(w_i) is the Euclidean norm of the inputs of neuron i (Moraitis et al. 2022; Journé et al. 2023: power 0.5).
    """

    power: float = 0.5
    norm: float = 1.0
    epsilon: float = 1e-10
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        positive(self.power, "power of NormRate", zero=True)
        positive(self.norm, "norm of NormRate")
        positive(self.epsilon, "epsilon of NormRate", zero=True)

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        distance = (layout.row_sum(weight * weight).sqrt() - self.norm).abs()
        return change * (distance + self.epsilon) ** self.power


@dataclass(frozen=True)
class Sparsify:
    """Changes below the `percent`-th percentile of the whole projection become 0 (signed values: the largest stay).

    The percentile is the entry round(percent / 100 (n - 1)) of the n sorted changes (Gupta et al. 2021). `by` "size"
    compares |change| instead.
    """

    percent: float
    by: str = "value"
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        choice(self.by, ("value", "size"), "by of Sparsify")
        within(self.percent, 0, 100, "percent of Sparsify")

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        compared = change.abs() if self.by == "size" else change
        return change * (compared >= layout.total_percentile(compared, self.percent))
