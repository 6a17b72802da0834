"""A weight's neighbours in torch: sums over rows, blocks and the whole projection, for weights with a shape.

Each result broadcasts against the weight. Edges, whose rows have no common length, have their own in `synapse.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from neurosim.random import Stream
from neurosim.types import Tensor


def block_sums(rows: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Sum and size of blocks of consecutive entries of the last axis, spread back over the entries; the last may be
    short.
    """
    length = rows.shape[-1]
    padded = functional.pad(rows, (0, -length % block)).unflatten(-1, (-1, block))
    total = padded.sum(-1, keepdim=True).expand(padded.shape).flatten(-2)[..., :length]
    size = torch.full((length,), float(min(block, length)), dtype=rows.dtype, device=rows.device)
    size[length - length % block :] = length % block or block
    return total, size


def percentile(rows: Tensor, percent: float) -> Tensor:
    """Entry round(percent / 100 (n - 1)) of the sorted last axis `[..., n]` -> `[..., 1]`."""
    entry = round(percent / 100.0 * (rows.shape[-1] - 1))
    return rows.sort(-1).values[..., entry : entry + 1]


def groups_of(name: str, seed: int) -> Stream:
    """The stream from which the permuted blocks of a projection are drawn."""
    return Stream(seed, f"groups/{name}")


class Matrix:
    """Weights `[R, P, ...]`: a row is one post-synaptic neuron or channel, all other axes are its inputs.

    `name` is the projection's (or the parameter's): the permuted blocks of two of them are different.
    """

    def __init__(self, name: str):
        self.name = name
        self._orders: dict[tuple[int, torch.Size], Tensor] = {}  # drawn once, as they hold for a whole run

    def _rows(self, x: Tensor) -> Tensor:
        return x.flatten(2)

    def row_sum(self, x: Tensor) -> Tensor:
        return self._rows(x).sum(-1).reshape(*x.shape[:2], *[1] * (x.dim() - 2))

    def row_max(self, x: Tensor) -> Tensor:
        return self._rows(x).amax(-1).reshape(*x.shape[:2], *[1] * (x.dim() - 2))

    def total_max(self, x: Tensor) -> Tensor:
        return x.flatten(1).amax(-1).reshape(-1, *[1] * (x.dim() - 1))

    def total_percentile(self, x: Tensor, percent: float) -> Tensor:
        return percentile(x.flatten(1), percent).reshape(-1, *[1] * (x.dim() - 1))

    def _random_order(self, seed: int, rows: Tensor) -> Tensor:
        """A random order of the last axis for each row of `[R, P, n]`."""
        if (seed, rows.shape) not in self._orders:
            replica, row = torch.arange(rows.shape[0])[:, None], torch.arange(rows.shape[1])
            order = groups_of(self.name, seed).permutation(rows.shape[2], replica, row)
            self._orders[seed, rows.shape] = order.to(rows.device)
        return self._orders[seed, rows.shape]

    def groups(self, weight: Tensor, block: int, grouping: str, seed: int) -> Tensor:
        """The block of each synapse, as numbers from 0 on in each replica, shaped like the weight."""
        rows = weight.flatten(1) if grouping == "flat" else self._rows(weight)
        length = rows.shape[-1]
        own = (torch.arange(length) // block).expand(rows.shape)
        if grouping == "permuted":
            order = self._random_order(seed, rows)
            own = torch.empty_like(order).scatter(-1, order, own)
        if grouping != "flat":
            own = own + -(-length // block) * torch.arange(rows.shape[1])[:, None]
        return own.reshape(weight.shape)

    def block_sum(self, x: Tensor, block: int, grouping: str = "row", seed: int = 0) -> tuple[Tensor, Tensor]:
        rows = x.flatten(1) if grouping == "flat" else self._rows(x)
        if grouping != "permuted":
            total, size = block_sums(rows, block)
            return total.reshape(x.shape), size.expand(rows.shape).reshape(x.shape)
        order = self._random_order(seed, rows)
        total, size = block_sums(rows.gather(-1, order), block)
        back = (torch.empty_like(rows).scatter(-1, order, value.expand(rows.shape)) for value in (total, size))
        return next(back).reshape(x.shape), next(back).reshape(x.shape)


class Lone:
    """Weights of which a post-synaptic neuron has one, without neighbours: one-to-one, and biases."""

    def row_sum(self, x: Tensor) -> Tensor:
        return x

    def row_max(self, x: Tensor) -> Tensor:
        return x

    def total_max(self, x: Tensor) -> Tensor:
        return x.amax(-1, keepdim=True)

    def total_percentile(self, x: Tensor, percent: float) -> Tensor:
        return percentile(x, percent)

    def block_sum(self, x: Tensor, block: int, grouping: str = "row", seed: int = 0) -> tuple[Tensor, Tensor]:
        return x, torch.ones((), dtype=x.dtype, device=x.device)
