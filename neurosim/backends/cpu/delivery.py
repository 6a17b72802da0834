"""One projection on the CPU: its weights in the order in which they are read, and the kernel that delivers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import torch

from neurosim.backends.cpu import aligned, wires
from neurosim.backends.cpu.edges import Edges, Level, no_edges, sparse, wipe
from neurosim.backends.cpu.gather import LANES, Layout, gathered, layout
from neurosim.backends.cpu.rooms import room
from neurosim.backends.cpu.workspace import Workspace
from neurosim.backends.cpu.writer import Buffer, Kernel
from neurosim.backends.needs import released_by
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu

MATRIX_PRODUCT = 2**20  # multiplications a step from which a dense matrix product of rates is torch's


def _between(synapses: Synapses) -> bool:
    """Is a weight delivered that is not the one that is learned?"""
    rule = synapses.projection.rule
    noise = isinstance(rule, ThreeFactorRule) and rule.perturbation is not None
    return noise or (rule is not None and synapses.projection.transfer is not None)


class Delivery:
    """`weight` is laid out with the pre neuron first, so that a spike reads one run of memory; edges that carry rates
    are laid out to be gathered, unless their rule `learns`, which takes them by pre neuron.
    """

    def __init__(
        self,
        simulator: Cpu,
        work: Workspace,
        synapses: Synapses,
        learns: bool,
        by_post: bool = False,
        constant: bool = False,
    ):
        """`by_post`: a dense weight lies by post neuron, and spikes are delivered by list; see `event_learning`.
        `constant`: the same arrives in every step of a phase.
        """
        self.simulator, self.work, self.synapses = simulator, work, synapses
        self.source = (
            f"{synapses.pre.name}.{synapses.sent}"
            if synapses.projection.release is None
            else f"{released_by(synapses.name)}.released"
        )
        self.tied_to = synapses.projection.tied[0] if synapses.projection.tied else ""
        how = synapses.projection.tied[1] if synapses.projection.tied else ""
        # What is delivered is made of what is learned, where a transfer or noise lies between them.
        self.between = _between(synapses)
        source = simulator.plan.synapses[self.tied_to] if self.tied_to else None
        self.transposed = how == "transpose" and synapses.kind == "dense" and not (source and _between(source))
        self.derived = bool(self.tied_to) and not self.transposed  # has weights of its own, made of another's
        rule = synapses.projection.rule
        self.changes = learns and isinstance(rule, ThreeFactorRule) and rule.when == "step"  # within a phase
        self.reason = self._reason()
        self.by_post = by_post
        self.by_events = by_post or (synapses.kind == "sparse" and not self.reason and self._spikes())
        rates = not self._spikes() and synapses.projection.release is None
        self.gathers = synapses.kind == "sparse" and not self.reason and rates and not learns
        self.edges: Edges
        self.levels: list[Level] = []
        self.layouts: list[tuple[int, Layout]] = []  # delays of edges that are gathered, and where these lie
        self.made: list[Kernel] = []  # those that deliver along edges by pre neuron
        self.seen: tuple[Tensor | None, Tensor | None] = None, None  # weight and bias that were taken over last
        self.weight: Array | None = None
        self.bias: Array | None = None
        self.listed: tuple[Kernel, Buffer, bool] | None = (
            None  # of weights by post neuron: what delivers, where to, and
        )
        # whether it is the first to arrive there
        self.homes: list[tuple[Array, int]] | None = None  # where kernels know the address of `weight`; see `find`
        self.held: Array | None = None  # of what is constant, what the first step has brought
        if constant and synapses.kind == "dense" and not self.reason:
            self.held = np.zeros((*work.size, synapses.post.units), work.dtype)
        if not self.reason:
            self.weight, self.bias = self._places()
        self.own = self.weight  # no state shares it
        self.copied: ref[Tensor] | None = None  # the weight of which `own` is a copy: each trial may begin with it
        # Weight and bias as a rule has them.
        self.learned = self.weight if self.weight is None or not self.between else np.zeros_like(self.weight)
        self.learned_bias = self.bias if self.bias is None or not self.between else np.zeros_like(self.bias)

    @property
    def by_product(self) -> bool:
        """Is a matrix product of torch faster than a kernel?"""
        size = self.synapses.post.units * self.synapses.pre.units * self.work.size[1]
        return self.synapses.kind == "dense" and not self._spikes() and size >= MATRIX_PRODUCT

    def product(
        self, out: Buffer, first: bool, deliveries: Mapping[str, Delivery], begins: Callable[[int], bool]
    ) -> Callable[[int], None]:
        """What torch does in a step: add x w^T and the bias to the port `out`; `begins`: is it a phase's first?"""
        source, delay, into = self.work.buffer(self.source), self.synapses.delay, torch.from_numpy(out.array[0])
        owner = deliveries[self.tied_to] if self.transposed else self
        bias = None if self.bias is None else torch.from_numpy(self.bias)[:, None]
        held = into if self.held is None else torch.from_numpy(self.held)
        assert isinstance(delay, int)

        def deliver(t: int) -> None:
            if self.held is not None:
                if begins(t):
                    multiply(t, held, True)
                into.copy_(held) if first else into.add_(held)
            else:
                multiply(t, into, first)

        def multiply(t: int, into: Tensor, first: bool) -> None:
            assert owner.weight is not None
            weight = torch.from_numpy(owner.weight)
            weight = weight.transpose(-1, -2) if self.transposed else weight
            given = torch.from_numpy(source.at(t - delay))
            if first:
                torch.bmm(given, weight, out=into)
            else:
                into.baddbmm_(given, weight)
            if bias is not None:
                into.add_(bias)

        return deliver

    @property
    def parted(self) -> bool:
        """Can it be run part by part of the post population?"""
        fixed = self.synapses.projection.rule is None
        return self.synapses.kind == "sparse" and fixed and not self.reason and not self.gathers

    def _spikes(self) -> bool:
        return self.synapses.projection.release is None and self.synapses.sent == "spike"

    def _reason(self) -> str:
        """Why torch delivers, or ""."""
        synapses = self.synapses
        if synapses.kind == "convolution":
            return "a convolution"
        if synapses.combine != "sum":
            return "a port that combines by max"
        return ""

    def _places(self) -> tuple[Array, Array | None]:
        synapses, replicas, dtype = self.synapses, self.work.size[0], self.work.dtype
        bias = np.zeros((replicas, synapses.post.units), dtype) if synapses.has_bias else None
        if self.by_post:
            return aligned.zeros((replicas, synapses.post.units, synapses.pre.units), dtype), bias
        if synapses.kind == "dense" and not self.transposed:
            return np.zeros((replicas, synapses.pre.units, synapses.post.units), dtype), bias
        if synapses.kind == "one_to_one" or self.transposed:
            return np.zeros((replicas, synapses.post.units), dtype), bias  # transposed: the other's weight is read
        if self.gathers:
            return np.zeros(self._layouts(), dtype), bias
        self.edges = self.work.edges(synapses, self.parted)
        self.levels, self.post = self.edges.levels, self.edges.post
        return np.zeros(1 if synapses.projection.rule is None else len(self.post), dtype), bias

    @property
    def order(self) -> Array:
        """Which edge is at each place."""
        return self._gathered if self.gathers else self.edges.order

    @property
    def by_pre(self) -> Array | None:
        """The weights `[R, Q, P]` of a dense projection, if they lie like that here."""
        own = self.synapses.kind == "dense" and not (self.transposed or self.by_post or self.derived)
        return self.weight if own else None

    def find(self, kernels: Iterable[Kernel]) -> None:
        """From now on the kernels may read a state's tensor as it lies: none of them writes to the weight."""
        assert self.own is not None
        address = self.own.ctypes.data
        self.homes = [(one.block, int(place)) for one in kernels for place in np.flatnonzero(one.block == address)]

    def _take(self, weight: Tensor) -> None:
        """Let the kernels read `[R, Q, P]`: where it lies, if it lies in that order, else from a copy."""
        assert self.own is not None
        turned = weight.numpy().swapaxes(-1, -2)
        if self.homes is not None and turned.flags.c_contiguous:
            self._point(turned, weight.data_ptr())
            return
        if self.homes is None or self.copied is None or self.copied() is not weight:
            self.own[...] = turned
            self.copied = ref(weight)
        if self.weight is not self.own:
            self._point(self.own, self.own.ctypes.data)

    def _point(self, weight: Array, address: int) -> None:
        self.weight = weight
        for block, place in self.homes or ():
            block[place] = address

    def handed_over(self) -> Array:
        """`weight [R, Q, P]` in memory that kernels read and that may be written to: what a state holds is copied."""
        assert self.own is not None
        assert self.homes is not None
        if self.weight is self.own:
            self.own, self.copied = room(self.own.shape, self.own.dtype), None
        else:
            fresh = room(self.own.shape, self.own.dtype)
            fresh[...] = self.weight
            self._point(fresh, fresh.ctypes.data)
        assert self.weight is not None
        return self.weight

    def forget(self) -> None:
        """The weights here are no longer those of a state."""
        self.seen = None, None

    def _layouts(self) -> int:
        """Make one layout per delay; the number of edges."""
        edges, steps = self.synapses.edges, self.synapses.delay
        assert edges is not None
        post, pre = edges.post.numpy(), edges.pre.numpy()
        delay = steps.numpy() if isinstance(steps, Tensor) else np.full(len(post), steps)
        size = self.work.size[0], self.synapses.post.units, self.synapses.pre.units
        orders = [np.zeros(0, np.int64)]
        for level in np.unique(delay):
            chosen = np.flatnonzero(delay == level)
            laid = layout(post[chosen], pre[chosen], size, LANES[str(self.work.dtype)])
            self.layouts.append((int(level), laid))
            orders.append(chosen[laid.order])
        self._gathered = np.concatenate(orders)
        return len(post)

    def refresh(self, learned: dict[str, Any], context: Context) -> None:
        """Take over the weights that deliver, where they are not those of the last time."""
        if self.weight is None:
            return
        learning, synapses = self.simulator.learning, self.synapses
        weight = given = learning.effective_weight(synapses, learned, context)
        if self.derived:  # known again by what it is made of
            weight = learned["weight"][self.tied_to]
        bias = learning.effective_bias(synapses, learned, context) if self.bias is not None else None
        if weight is not self.seen[0] and not self.transposed:
            if synapses.kind == "dense" and not self.by_post:
                self._take(given)
            elif synapses.kind == "sparse":
                self._take_edges(given.numpy())
            else:
                self.weight[...] = given.numpy()
        if bias is not None and bias is not self.seen[1] and self.bias is not None:
            self.bias[...] = bias.numpy()
        self.seen = weight, bias

    def _take_edges(self, weight: Array) -> None:
        """The weights of edges; a single one where spikes arrive, all are equal and no rule changes them."""
        assert self.weight is not None
        if self.gathers or self.synapses.projection.rule is not None:
            np.take(weight, self.order, out=self.weight)
            return
        equal = bool((weight == weight[:1]).all())
        if equal:
            self.weight = weight[:1].copy() if len(weight) else np.zeros(1, self.work.dtype)
        else:
            self.weight = np.take(weight, self.order)
        for kernel in self.made:
            kernel.block[kernel.places["w"]] = self.weight.ctypes.data
            kernel.block[kernel.places["steps"]] = 0 if equal else 1

    def kernels(self, out: Buffer, first: bool, deliveries: Mapping[str, Delivery]) -> list[Kernel]:
        """The kernels that add to the port `out`; none where torch delivers (`product` may be what follows them)."""
        if self.weight is None:
            return []
        if self.synapses.kind == "sparse":
            return self._by_edges(out, first)
        synapses, work, delay = self.synapses, self.work, self.synapses.delay
        assert isinstance(delay, int)
        dtype, batch = str(work.dtype), work.size[1]
        shape = batch, synapses.post.units, synapses.pre.units
        if self.by_post:
            lists = work.lists(self.source)
            kernel = wires.deliver_by_list(dtype, shape, lists, delay, self.weight, self.bias, out, first)
            self.listed = kernel, out, first
            return [kernel]
        source, before = work.buffer(self.source), list(self._derive(deliveries))
        if self.by_product:
            return before
        if synapses.kind == "one_to_one":
            return [*before, wires.one_to_one(dtype, shape[:2], source, delay, self.weight, self.bias, out, first)]
        weight = deliveries[self.tied_to].weight if self.transposed else self.weight
        assert weight is not None
        ends = weight, self.bias, out, first, self.transposed, self.held
        return [*before, wires.dense(dtype, shape, source, delay, *ends)]

    def _derive(self, deliveries: Mapping[str, Delivery]) -> Iterator[Kernel]:
        """What makes the weights anew in every step, where those that they are made of change within the phase."""
        if not self.derived or not deliveries[self.tied_to].changes:
            return
        source, size = deliveries[self.tied_to].learned, self.simulator.learning.size[self.synapses.name]
        if source is None:  # torch learns, and hands over what it has learned
            return
        assert self.weight is not None
        sizes = None
        if size is not None:
            sizes = np.ascontiguousarray((size.transpose(-1, -2) if self.synapses.kind == "dense" else size).numpy())
        yield wires.derived(str(self.work.dtype), self.weight, source, sizes)

    def _by_edges(self, out: Buffer, first: bool) -> list[Kernel]:
        """One kernel per delay."""
        synapses, work = self.synapses, self.work
        assert self.weight is not None
        shape = work.size[1], synapses.post.units, synapses.pre.units
        if self.layouts:
            return self._gathering(shape, out, first)
        source = work.lists(self.source) if self.by_events else work.buffer(self.source)
        bounds = self.edges.bounds if self.edges.bounds == work.bounds(shape[1]) else ()
        levels = self.levels or [no_edges(work.size[0] * shape[2], self.edges.parts)]
        for number, level in enumerate(levels):
            bias = self.bias if number == len(levels) - 1 else None
            fresh = first and number == 0
            ends = self.post, self.weight, bias, out, fresh, bounds
            self.made.append(sparse(str(work.dtype), shape, source, level, *ends))
        return self.made

    def wipes(self, out: Buffer) -> list[Kernel]:
        """The kernels that leave a port zero to which `kernels` added along listed edges."""
        shape = self.work.size[1], self.synapses.post.units, self.synapses.pre.units
        dtype, source = str(self.work.dtype), self.work.lists(self.source)
        return [wipe(dtype, shape, source, level, self.post, out, self.edges.bounds) for level in self.levels]

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
