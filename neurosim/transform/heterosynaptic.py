"""Coupling between neighbouring synapses: a constant matrix in front of the change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from neurosim.transform.base import Layout
from neurosim.types import ConfigurationError, Tensor, choice, numeric

GROUPINGS = ("row", "permuted", "flat")
NORMALISATIONS = ("none", "trace", "norm")


@dataclass(frozen=True)
class Heterosynaptic:
    """Coupling between neighbouring synapses of one post-synaptic neuron: change <- H^-1 change, block by block.

    On a block of n synapses H = (1 - alpha) I + alpha 1 1^T, whose inverse needs no solve (Sherman-Morrison):
    H^-1 g = (g - alpha sum(g) / (1 + (n - 1) alpha)) / (1 - alpha). It damps what the synapses of a block have in
    common and amplifies their differences (alpha > 0: competition), or the other way round (alpha < 0: cooperation).
    alpha 0 gives the change as it is. ConfigurationError unless -1 / (block - 1) < alpha < 1.

    `grouping` says which `block` synapses make a block; the last block may be shorter:

    - "row": consecutive inputs of the same neuron (of one filter of a convolution);
    - "permuted": the same number of inputs of the same neuron, drawn by `seed`: the control for "neighbouring";
    - "flat": consecutive entries of the whole weight, row by row, so that blocks may reach across two neurons.

    `normalise` keeps alpha from being a learning rate in disguise (the mean gain trace(H^-1) / n is 3.1 at alpha 0.75
    and n = 4): "trace" divides H^-1 by that mean gain; "norm" gives each block's change the Euclidean norm that it
    had, so that only its direction is new. Synapses without neighbours (biases, one-to-one) keep their change.

    C. Kümpel, I. Amaya 2025, github.com/clarakuempel/HeterosynapticLearning (grouping "flat", no normalisation).
    """

    alpha: float
    block: int
    grouping: str = "row"
    normalise: str = "none"
    seed: int = 0
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.block, bool) or not isinstance(self.block, int) or self.block < 1:
            raise ConfigurationError(
                f"block of Heterosynaptic is {self.block!r}; it must be a whole number of at least 1"
            )
        lowest = -1.0 / (self.block - 1) if self.block > 1 else float("-inf")
        if not lowest < numeric(self.alpha, "alpha of Heterosynaptic") < 1:
            raise ConfigurationError(
                f"alpha of Heterosynaptic is {self.alpha}; it must be in ({lowest}, 1) for block {self.block}"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ConfigurationError(f"seed of Heterosynaptic is {self.seed!r}; it must be a whole number")
        choice(self.grouping, GROUPINGS, "grouping of Heterosynaptic")
        choice(self.normalise, NORMALISATIONS, "normalise of Heterosynaptic")

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        if self.alpha == 0:
            return change
        total, size = layout.block_sum(change, self.block, self.grouping, self.seed)
        common = 1.0 + (size - 1.0) * self.alpha  # the eigenvalue of H for what a block has in common
        coupled = (change - self.alpha * total / common) / (1.0 - self.alpha)
        if self.normalise == "trace":
            return coupled * ((1.0 - self.alpha) * common / (common - self.alpha))
        return self._as_long(change, coupled, layout) if self.normalise == "norm" else coupled

    def _as_long(self, change: Tensor, coupled: Tensor, layout: Layout) -> Tensor:
        """`coupled` with the Euclidean norm of `change` in each block; a block of zeros stays as it is."""
        before, after = (
            layout.block_sum(value * value, self.block, self.grouping, self.seed)[0] for value in (change, coupled)
        )
        return coupled * torch.where(after > 0, before / after, torch.ones_like(after)).sqrt()
