"""One projection on the CPU: its weights in the order in which they are read, and the kernel that delivers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.backends.cpu import kernels
from neurosim.backends.cpu.gather import LANES, Layout, gathered, layout
from neurosim.backends.cpu.workspace import Workspace
from neurosim.backends.cpu.writer import Buffer, Kernel
from neurosim.backends.needs import released_by
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu

MATRIX_PRODUCT = 2**20  # multiplications a step from which a dense matrix product of rates is torch's


class Delivery:
    """`weight` is laid out with the pre neuron first, so that a spike reads one run of memory; edges that carry rates
    are laid out to be gathered, unless their rule `learns`, which takes them by pre neuron.
    """

    def __init__(self, simulator: Cpu, work: Workspace, synapses: Synapses, learns: bool, by_post: bool = False):
        """`by_post`: a dense weight lies by post neuron, and spikes are delivered by list; see `event_learning`."""
        self.simulator, self.work, self.synapses = simulator, work, synapses
        self.source = (
            f"{synapses.pre.name}.{synapses.sent}"
            if synapses.projection.release is None
            else f"{released_by(synapses.name)}.released"
        )
        self.tied_to = synapses.projection.tied[0] if synapses.projection.tied else ""
        how = synapses.projection.tied[1] if synapses.projection.tied else ""
        self.transposed = how == "transpose" and synapses.kind == "dense"
        self.reason = self._reason()
        self.by_post = by_post
        self.by_events = by_post or (synapses.kind == "sparse" and not self.reason and self._spikes())
        rates = not self._spikes() and synapses.projection.release is None
        self.gathers = synapses.kind == "sparse" and not self.reason and rates and not learns
        self.levels: list[tuple[int, Array]] = []  # edges: delay, and where the edges of each pre neuron begin
        self.layouts: list[tuple[int, Layout]] = []  # the same of edges that are gathered
        self.seen: tuple[Tensor | None, Tensor | None] = None, None  # weight and bias that were taken over last
        self.weight: Array | None = None
        self.bias: Array | None = None
        self.homes: list[tuple[Array, int]] | None = None  # where kernels know the address of `weight`; see `find`
        if not self.reason:
            self.weight, self.bias = self._places()
        self.own = self.weight  # no state shares it

    def _spikes(self) -> bool:
        return self.synapses.projection.release is None and self.synapses.sent == "spike"

    def _reason(self) -> str:
        """Why torch delivers, or ""."""
        synapses = self.synapses
        if synapses.kind == "convolution":
            return "a convolution"
        if synapses.combine != "sum":
            return "a port that combines by max"
        if self.tied_to and not self.transposed:
            return "a tie by sign"
        size = synapses.post.units * synapses.pre.units * self.work.size[1]
        if synapses.kind == "dense" and not self._spikes() and size >= MATRIX_PRODUCT:
            return "a large matrix product of rates"
        return ""

    def _places(self) -> tuple[Array, Array | None]:
        synapses, replicas, dtype = self.synapses, self.work.size[0], self.work.dtype
        bias = np.zeros((replicas, synapses.post.units), dtype) if synapses.has_bias else None
        if self.by_post:
            return np.zeros((replicas, synapses.post.units, synapses.pre.units), dtype), bias
        if synapses.kind == "dense" and not self.transposed:
            return np.zeros((replicas, synapses.pre.units, synapses.post.units), dtype), bias
        if synapses.kind == "one_to_one" or self.transposed:
            return np.zeros((replicas, synapses.post.units), dtype), bias  # transposed: the other's weight is read
        edges: Any = synapses.edges
        post, pre = edges.post.numpy(), edges.pre.numpy()
        delay = synapses.delay.numpy() if isinstance(synapses.delay, Tensor) else np.full(len(post), synapses.delay)
        if self.gathers:
            self.order = self._layouts(post, pre, delay)
            return np.zeros(len(post), dtype), bias
        self.order = np.lexsort((post, pre, delay))
        self.post = (post[self.order] % synapses.post.units).astype(np.int32)
        for level in np.unique(delay):
            chosen = np.flatnonzero(delay[self.order] == level)
            counts = np.bincount(pre[self.order[chosen]], minlength=replicas * synapses.pre.units)
            pointer = chosen[0] + np.concatenate(([0], np.cumsum(counts)))
            self.levels.append((int(level), pointer.astype(np.int64)))
        return np.zeros(len(post), dtype), bias

    @property
    def by_pre(self) -> Array | None:
        """The weights `[R, Q, P]` of a dense projection, if they lie like that here."""
        own = self.synapses.kind == "dense" and not self.transposed and not self.by_post
        return self.weight if own else None

    def find(self, kernels: Iterable[Kernel]) -> None:
        """From now on the kernels may read a state's tensor as it lies: none of them writes to the weight."""
        assert self.own is not None
        address = self.own.ctypes.data
        self.homes = [(one.block, int(place)) for one in kernels for place in np.flatnonzero(one.block == address)]

    def _take(self, turned: Tensor) -> None:
        """Let the kernels read `[R, Q, P]`: where it lies, if it lies in that order, else from a copy."""
        assert self.own is not None
        weight = turned.numpy() if self.homes is not None and turned.is_contiguous() else self.own
        if weight is self.own:
            self.own[...] = turned.numpy()
        if weight is not self.weight:
            self.weight, address = weight, weight.ctypes.data
            for block, place in self.homes or ():
                block[place] = address

    def _layouts(self, post: Array, pre: Array, delay: Array) -> Array:
        """One layout per delay; the order of all edges."""
        size = self.work.size[0], self.synapses.post.units, self.synapses.pre.units
        orders = [np.zeros(0, np.int64)]
        for level in np.unique(delay):
            chosen = np.flatnonzero(delay == level)
            laid = layout(post[chosen], pre[chosen], size, LANES[str(self.work.dtype)])
            self.layouts.append((int(level), laid))
            orders.append(chosen[laid.order])
        return np.concatenate(orders)

    def refresh(self, learned: dict[str, Any], context: Context) -> None:
        """Take over the weights that deliver, where they are not those of the last time."""
        if self.weight is None:
            return
        learning, synapses = self.simulator.learning, self.synapses
        weight = learning.effective_weight(synapses, learned, context)
        bias = learning.effective_bias(synapses, learned, context) if self.bias is not None else None
        if weight is not self.seen[0] and not self.transposed:
            if synapses.kind == "dense" and not self.by_post:
                self._take(weight.transpose(-1, -2))
            elif synapses.kind == "sparse":
                np.take(weight.numpy(), self.order, out=self.weight)
            else:
                self.weight[...] = weight.numpy()
        if bias is not None and bias is not self.seen[1] and self.bias is not None:
            self.bias[...] = bias.numpy()
        self.seen = weight, bias

    def kernels(self, out: Buffer, first: bool, deliveries: Mapping[str, Delivery]) -> list[Kernel]:
        """The kernels that add to the port `out`; none where torch delivers."""
        if self.weight is None:
            return []
        if self.synapses.kind == "sparse":
            return self._by_edges(out, first)
        synapses, work, delay = self.synapses, self.work, self.synapses.delay
        assert isinstance(delay, int)
        source, dtype, batch = work.buffer(self.source), str(work.dtype), work.size[1]
        if synapses.kind == "one_to_one":
            size = batch, synapses.post.units
            return [kernels.one_to_one(dtype, size, source, delay, self.weight, self.bias, out, first)]
        shape = batch, synapses.post.units, synapses.pre.units
        if self.by_post:
            events = work.spikes(self.source)
            return [kernels.deliver_by_list(dtype, shape, source, delay, events, self.weight, self.bias, out, first)]
        weight = deliveries[self.tied_to].weight if self.transposed else self.weight
        assert weight is not None
        how = self.transposed, self._spikes()
        return [kernels.dense(dtype, shape, source, delay, weight, self.bias, out, first, *how)]

    def _by_edges(self, out: Buffer, first: bool) -> list[Kernel]:
        """One kernel per delay."""
        synapses, work = self.synapses, self.work
        assert self.weight is not None
        shape = work.size[1], synapses.post.units, synapses.pre.units
        if self.layouts:
            return self._gathering(shape, out, first)
        source, events = work.buffer(self.source), work.spikes(self.source) if self.by_events else None
        made = []
        nothing = 1, np.zeros(work.size[0] * shape[2] + 1, np.int64)  # no edge at all: the port is cleared
        levels = self.levels or [nothing]
        for number, (delay, pointer) in enumerate(levels):
            bias = self.bias if number == len(levels) - 1 else None
            edges = pointer, self.post, self.weight
            fresh = first and number == 0
            made.append(kernels.sparse(str(work.dtype), shape, source, delay, events, *edges, bias, out, fresh))
        return made

    def _gathering(self, shape: tuple[int, int, int], out: Buffer, first: bool) -> list[Kernel]:
        assert self.weight is not None
        source, dtype, begin, made = self.work.buffer(self.source), str(self.work.dtype), 0, []
        for number, (delay, laid) in enumerate(self.layouts):
            last, fresh = number == len(self.layouts) - 1, first and number == 0
            weight = self.weight[begin : begin + len(laid.order)]
            begin += len(laid.order)
            bias = self.bias if last else None
            made.append(gathered(dtype, shape, source, delay, laid, weight, bias, out, fresh))
        return made
