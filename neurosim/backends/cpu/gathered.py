"""What the cotangent of a port, of some steps at a time, adds to the gradients of the sources that arrive there."""

from __future__ import annotations

import torch

from neurosim.backends.cpu.rooms import room
from neurosim.backends.cpu.spans import Span
from neurosim.backends.gradient.step import Arriving, Product, Source
from neurosim.types import Tensor


class OfTensor:
    """Of a sequence `[T, R, B, N]`, any axis of which may have length 1: the sum over that axis."""

    def __init__(self, source: Tensor):
        self.source = source
        self.total: Tensor | None = None

    def add(self, chunk: Span, g: Tensor) -> None:
        """The cotangent `[K, R, B, N]` of the steps `chunk`."""
        if self.source.requires_grad and len(self.source) == 1:
            part = g.sum_to_size(self.source.shape)
            self.total = part if self.total is None else self.total + part

    def made(self, whole: Tensor | None) -> list[Tensor | None]:
        """The gradient; `whole`: the cotangent of all steps, where the source has them all (None: none arrived)."""
        if whole is None or not self.source.requires_grad or self.total is not None:
            return [self.total]
        return [whole.sum_to_size(self.source.shape)]


class OfProduct:
    """Of what a projection sends and of its weight: g w, and g^T x summed chunk by chunk."""

    def __init__(self, product: Product):
        self.product, self.x, self.weight = product, product.x.detach(), product.weight.detach()
        self.of_x, self.of_weight = (
            torch.from_numpy(room(tuple(tensor.shape), tensor.numpy().dtype))
            if needed
            else None
            for tensor, needed in ((self.x, product.x.requires_grad), (self.weight, product.weight.requires_grad))
        )  # fmt: skip
        self.fresh = True

    def add(self, chunk: Span, g: Tensor) -> None:
        rows = g.flatten(0, 2)
        if self.of_weight is not None:
            x = self.product.rows(*chunk)
            torch.addmm(self.of_weight[0], rows.T, x, beta=0 if self.fresh else 1, out=self.of_weight[0])
        if self.of_x is not None:
            torch.mm(rows, self.weight[0], out=self.of_x[slice(*chunk)].flatten(0, 2))
        self.fresh = False

    def made(self, whole: Tensor | None) -> list[Tensor | None]:
        return [None, None] if self.fresh else [self.of_x, self.of_weight]


def gathered(source: Source) -> OfTensor | OfProduct:
    return OfProduct(source) if isinstance(source, Product) else OfTensor(source)


def tensors_of(sources: Arriving) -> list[Tensor]:
    """The tensors of every source, in the order in which `made` has their gradients."""
    return [
        tensor
        for port in sources
        for source in port
        for tensor in ((source.x, source.weight) if isinstance(source, Product) else (source,))
    ]
