"""Spikes over sparse edges: the neurons that spiked are listed, and each adds its row of weights to the port.

Additions meet in any order, so that on a GPU the last bits of a sum of three or more weights differ between runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from neurosim.backends.resolve import Synapses
from neurosim.backends.triton.delivery import Delivery
from neurosim.backends.triton.source import Kernel, Text, blocks
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder

LIST, ROW, PROGRAMS = 1024, 128, 1024  # values looked at, edges added at once, and spikes treated at a time


class SpikeList:
    """Where the values of a label are not zero, in the steps of a chunk: `index [count]` into `[R, count * B, N]`."""

    def __init__(self, builder: Builder, source: str):
        self.builder, self.source = builder, source
        values, units = builder.values, builder.labels.units(source)
        device = values.device
        self.index = torch.zeros(
            values.size[0] * values.size[1] * values.steps * units, dtype=torch.int64, device=device
        )
        self.count = torch.zeros(1, dtype=torch.int64, device=device)
        self.seen: tuple[int, ...] = ()
        text = Text("listed", constants={"LIST": LIST})
        for name, value in (("index", self.index), ("count", self.count), ("x_at", values.one)):
            text.argument(name, value)
        for name in ("total", "row", "stride"):
            text.argument(name, 1)
        for line in (
            "at = tl.program_id(0).to(tl.int64) * LIST + tl.arange(0, LIST)",
            "mask = at < total",
            "x = tl.load(x_at + (at // row) * stride + at % row, mask=mask, other=0.0)",
            "spiked = (x != 0) & mask",
            "place = tl.cumsum(spiked.to(tl.int64), 0)",
            "start = tl.atomic_add(count, tl.sum(spiked.to(tl.int64), 0))",
            "tl.store(index + start + place - 1, at, mask=spiked)",
        ):
            text.line(line)
        self.kernel = text.done()

    def refresh(self, first: int, count: int, delay: int) -> Tensor:
        """List the values of these steps, once for all who ask; the values."""
        x = self.builder.values.folded(self.source, first, count, delay)
        asked = self.builder.runs, self.builder.begins, first, count, delay
        if asked != self.seen:
            self.seen = asked
            self.count.zero_()
            total = x.numel()
            self.kernel.launch(
                blocks(total, LIST), x_at=x, total=total, row=x.shape[1] * x.shape[2], stride=x.stride(0)
            )
        return x


class EdgeDelivery(Delivery):
    """See the module. Edges are sorted by delay and pre neuron; per delay a table says where a neuron's begin."""

    def __init__(self, builder: Builder, synapses: Synapses):
        super().__init__(builder, synapses)
        edges, device, replicas = synapses.edges, builder.values.device, builder.values.size[0]
        assert edges is not None
        post, pre = edges.post.numpy(), edges.pre.numpy()
        delay = synapses.delay.numpy() if isinstance(synapses.delay, Tensor) else np.full(len(post), synapses.delay)
        order = np.lexsort((post, pre, delay))
        self.order = torch.from_numpy(order).to(device)
        self.post = torch.from_numpy((post[order] % synapses.post.units).astype(np.int32)).to(device)
        self.levels = [
            (
                int(level),
                torch.from_numpy(_pointer(pre[order], delay[order], level, replicas * synapses.pre.units)).to(device),
            )
            for level in np.unique(delay)
        ]
        rule = synapses.projection.rule
        self.changes = getattr(rule, "when", "") == "step"  # weights that change in place are read where they are
        self.sorted: tuple[Tensor | None, Tensor | None] = None, None
        self.kernel = self._kernel()

    @staticmethod
    def serves(builder: Builder, synapses: Synapses) -> bool:
        """Are these spikes over edges that add up?"""
        return (
            synapses.kind == "sparse"
            and synapses.combine == "sum"
            and synapses.sent == "spike"
            and synapses.projection.release is None
        )

    def _kernel(self) -> Kernel:
        values = self.builder.values
        text = Text("spread", constants={"ROW": ROW})
        arrays = {
            "index": self.post, "count": self.post, "pointer": self.post, "post": self.post, "order": self.order,
            "x_at": values.one, "w_at": values.one, "o_at": values.one,
        }  # fmt: skip
        for name, value in arrays.items():
            text.argument(name, value)
        for name in ("rows", "N", "P", "x_stride", "o_stride", "programs"):
            text.argument(name, 1)
        weight = "tl.load(w_at + tl.load(order + k, mask=mask, other=0), mask=mask, other=0.0)"
        for depth, line in (
            (1, "spikes = tl.load(count)"),
            (1, "for s in range(tl.program_id(0), spikes, programs):"),
            (2, "at = tl.load(index + s)"),
            (2, "r, inside = at // (rows * N), at % (rows * N)"),
            (2, "row, j = inside // N, inside % N"),
            (2, "x = tl.load(x_at + r * x_stride + inside)"),
            (2, "first, last = tl.load(pointer + r * N + j), tl.load(pointer + r * N + j + 1)"),
            (2, "for k0 in range(first, last, ROW):"),
            (3, "k = k0 + tl.arange(0, ROW)"),
            (3, "mask = k < last"),
            (3, f"w = {weight if self.changes else 'tl.load(w_at + k, mask=mask, other=0.0)'}"),
            (3, "i = tl.load(post + k, mask=mask, other=0)"),
            (3, "tl.atomic_add(o_at + r * o_stride + row * P + i, w * x, mask=mask)"),
        ):
            text.line(line, depth)
        return text.done()

    def _in_order(self, weight: Tensor) -> Tensor:
        """The weights in the order of the edges; sorted again only where they are others than the last time."""
        if self.changes:
            return weight
        if self.sorted[0] is not weight:
            self.sorted = weight, weight[self.order]
        assert self.sorted[1] is not None
        return self.sorted[1]

    def _deliver(self, weight: Tensor, out: Tensor, first: int, count: int) -> None:
        if self.first:
            out.zero_()
        ordered, spikes = self._in_order(weight), self.builder.spikes(self.source)
        for delay, pointer in self.levels:
            x = spikes.refresh(first, count, delay)
            self.kernel.launch(
                (PROGRAMS,) if x.is_cuda else (1,),
                index=spikes.index, count=spikes.count, pointer=pointer, post=self.post, order=self.order,
                x_at=x, w_at=ordered, o_at=out, rows=x.shape[1], N=x.shape[2], P=out.shape[2],
                x_stride=x.stride(0), o_stride=out.stride(0), programs=PROGRAMS if x.is_cuda else 1,
            )  # fmt: skip


def _pointer(pre: Array, delay: Array, level: int, count: int) -> Array:
    """Where the edges of each pre neuron begin among those of one delay, `[count + 1]`."""
    chosen = np.flatnonzero(delay == level)
    found = np.concatenate(([0], np.cumsum(np.bincount(pre[chosen], minlength=count))))
    pointer: Array = (chosen[0] + found).astype(np.int64)
    return pointer
