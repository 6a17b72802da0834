"""Which neurons a weight lies between: rows are post-synaptic neurons (or channels), columns pre-synaptic ones."""

from __future__ import annotations

import torch

from neurosim.backends.resolve import Synapses
from neurosim.backends.update import Part
from neurosim.types import Tensor


class Entries:
    """The entries of a weight or bias `[R, ...]`, flat: the `row`, `column` and `replica` of each; a bias has column
    -1.
    """

    def __init__(self, synapses: Synapses, part: Part, weight: Tensor, replicas: int):
        self.synapses, self.part, self.shape = synapses, part, weight.shape
        rows, columns = self._ends(weight)
        self.row, self.column = rows.reshape(-1), columns.reshape(-1)
        edges = synapses.edges
        if edges is not None and part.name == "weight":
            self.replica = torch.repeat_interleave(torch.arange(replicas), torch.tensor(edges.counts))
        else:
            self.replica = torch.arange(replicas).repeat_interleave(weight.numel() // replicas)

    def _ends(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        synapses, edges = self.synapses, self.synapses.edges
        if self.part.name == "bias":
            rows = torch.arange(weight.shape[1]).expand(weight.shape)
            return rows, torch.full_like(rows, -1)
        if edges is not None:
            return edges.post.long() % synapses.post.units, edges.pre.long() % synapses.pre.units
        axes = [torch.arange(length) for length in weight.shape[1:]]
        if len(axes) == 1:
            return axes[0].expand(weight.shape), axes[0].expand(weight.shape)
        grid = torch.meshgrid(*axes, indexing="ij")
        return grid[0].expand(weight.shape), grid[1].expand(weight.shape)

    def row_of(self, unit: int) -> int:
        """The row of a post-synaptic unit: its channel, where weights are shared."""
        return unit * self._rows() // self.synapses.post.units

    def column_of(self, unit: int) -> int:
        shared = self.synapses.kind == "convolution"
        return unit * self.synapses.pre.shape[0] // self.synapses.pre.units if shared else unit

    def _rows(self) -> int:
        return self.synapses.post.shape[0] if self.synapses.kind == "convolution" else self.synapses.post.units

    def changed(self, one: Tensor, other: Tensor) -> Tensor:
        """Which entries differ by a bit; `[R, ...]` like the weight, or one value per example more."""
        if one.shape != other.shape:
            return torch.ones_like(self.row, dtype=torch.bool)
        different = (one != other) & ~(one.isnan() & other.isnan())
        if one.shape == self.shape:
            return different.reshape(-1)
        return self._joined(different).reshape(-1)

    def _joined(self, different: Tensor) -> Tensor:
        if different.shape[1:] == self.shape and different.dim() == len(self.shape) + 1:
            return different.any(0)  # `reduce="sequential"`: the batch is the first axis
        shared: Tensor = self.part.operation.share(different.to(torch.float64), "max")
        joined: Tensor = shared.amax(0) > 0
        return joined

    def disturbed(self, value: Tensor, where: Tensor, amount: float) -> Tensor:
        """A copy of a weight-like or eligibility-like value, with `amount` added at the entries `where`."""
        if not value.numel():
            return value
        mask = amount * where.to(value.dtype).reshape(self.shape)
        if value.shape == self.shape:
            return value + mask
        if value.shape[1:] == self.shape and value.dim() == len(self.shape) + 1:
            return value + mask
        moved: Tensor = value + self.part.operation.spread(mask)
        return moved
