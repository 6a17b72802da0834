"""What a new weight must obey: `w <- C(w)` after every update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from neurosim.transform import Layout
from neurosim.types import ConfigurationError, Tensor, choice, numeric, positive


class Constraint(Protocol):
    """A frozen dataclass: `apply(weight, layout) -> weight`."""

    def apply(self, weight: Tensor, layout: Layout) -> Tensor: ...


@dataclass(frozen=True)
class Bounds:
    """w_min <= w <= w_max; None leaves a side open."""

    w_min: float | None = None
    w_max: float | None = None

    def __post_init__(self) -> None:
        for name in ("w_min", "w_max"):
            if getattr(self, name) is not None:
                numeric(getattr(self, name), f"{name} of Bounds", "a number, or None for an open side")
        if self.w_min is not None and self.w_max is not None and not self.w_min <= self.w_max:
            raise ConfigurationError(f"w_min is {self.w_min} and w_max is {self.w_max}; w_min must not exceed w_max")

    def apply(self, weight: Tensor, layout: Layout) -> Tensor:
        return weight.clamp(self.w_min, self.w_max) if self.w_min is not None or self.w_max is not None else weight


@dataclass(frozen=True)
class Dale:
    """A pre-synaptic neuron keeps one sign (Dale's principle): w_ij <- sign_j max(sign_j w_ij, 0).

    `sign` is +1, -1, or one of them per pre-synaptic neuron. Only the weights that break the rule become 0.
    """

    sign: Any = 1

    def __post_init__(self) -> None:
        if not np.isin(numeric(self.sign, "sign of Dale", "+1 or -1"), (-1, 1)).all():
            raise ConfigurationError(
                f"sign of Dale is {self.sign}; it must be +1 or -1, one number or one per pre neuron"
            )

    def apply(self, weight: Tensor, layout: Layout) -> Tensor:
        sign = layout.from_pre(self.sign)
        return sign * torch.relu(sign * weight)


@dataclass(frozen=True)
class RowNorm:
    """The inputs of each post-synaptic neuron have the Euclidean norm ("order" 2) or the sum of |w| (order 1) `norm`.

    A row of zeros stays zero.
    """

    norm: float = 1.0
    order: int = 2

    def __post_init__(self) -> None:
        positive(self.norm, "norm of RowNorm")
        if isinstance(self.order, bool) or self.order not in (1, 2):
            raise ConfigurationError(f"order of RowNorm is {self.order}; allowed: 1, 2")

    def apply(self, weight: Tensor, layout: Layout) -> Tensor:
        size = layout.row_sum(weight.abs()) if self.order == 1 else layout.row_sum(weight * weight).sqrt()
        return weight * (self.norm / torch.where(size > 0, size, torch.ones_like(size) * self.norm))


@dataclass(frozen=True)
class DividedByMax:
    """w <- w / max|w|, over the whole projection ("all") or the inputs of each post-synaptic neuron ("row").

    Najarro and Risi (2020) keep the weights of a layer bounded so. Weights that are all zero stay zero.
    """

    over: str = "all"

    def __post_init__(self) -> None:
        choice(self.over, ("all", "row"), "over of DividedByMax")

    def apply(self, weight: Tensor, layout: Layout) -> Tensor:
        largest = layout.row_max(weight.abs()) if self.over == "row" else layout.total_max(weight.abs())
        return weight / torch.where(largest > 0, largest, torch.ones_like(largest))
