"""What a transform is, and what one that looks at neighbouring synapses gets to see of a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from neurosim.types import Tensor


class Layout(Protocol):
    """Sums over a weight's neighbours, for any connectivity; each result broadcasts against the weight."""

    def row_sum(self, x: Tensor) -> Tensor: ...  # over all inputs of one post-synaptic neuron

    def row_max(self, x: Tensor) -> Tensor: ...

    def total_max(self, x: Tensor) -> Tensor: ...  # over the whole projection, replica by replica

    def total_percentile(
        self, x: Tensor, percent: float
    ) -> Tensor: ...  # the same: entry round(percent / 100 (n - 1)) of all

    def block_sum(
        self, x: Tensor, block: int, grouping: str = "row", seed: int = 0
    ) -> tuple[Tensor, Tensor]: ...  # sum and size of the block of each synapse; see `Heterosynaptic`

    def from_pre(self, values: Any) -> Tensor: ...  # one value per pre-synaptic neuron, spread over the weight


class Transform(Protocol):
    """A frozen dataclass. `pointwise` transforms have `step`, `constants()` and `memory`; the others have `update`."""

    pointwise: ClassVar[bool]
    memory: ClassVar[tuple[str, ...]]


@dataclass(frozen=True)
class Chain:
    """Several transforms as one, applied in order."""

    transforms: tuple[Any, ...]


def flatten(transforms: tuple[Any, ...]) -> tuple[Any, ...]:
    """Transforms with every `Chain` opened."""
    result: list[Any] = []
    for transform in transforms:
        result.extend(flatten(transform.transforms) if isinstance(transform, Chain) else (transform,))
    return tuple(result)
