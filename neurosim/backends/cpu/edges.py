"""Edges in the order in which spikes read them, and the kernel that delivers along them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from neurosim.backends.cpu.lists import Lists, name_lists, visit
from neurosim.backends.cpu.machine import fetch
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.types import Array

MANY = 2**31  # edges from which on a pointer needs 64 bits


@dataclass(frozen=True)
class Level:
    """Edges of one delay, from edge `first` on. `pointer [R * Q * parts + 1]`: where the edges of a pre neuron to a
    part of the post population begin; they end where the next begin.
    """

    delay: int
    pointer: Array


def no_edges(pres: int, parts: int) -> Level:
    """A level without edges: its kernel clears the port."""
    return Level(1, np.zeros(pres * parts + 1, np.int32))


class Edges:
    """The edges `post [E]`, `pre [E]` of all replicas, sorted by delay, pre neuron and post neuron.

    A counting sort: sorting by three keys took 2 s and six copies of 10 million edges.
    """

    def __init__(
        self, post: Array, pre: Array, delay: int | Array, size: tuple[int, int, int], bounds: tuple[int, ...]
    ):
        """`size` is (replicas, posts, pres); `bounds` those of the parts of the post population."""
        self._given, self._delay, self.size, self.parts = (post, pre), delay, size, len(bounds) - 1
        self.bounds = bounds
        self._part = np.repeat(np.arange(self.parts, dtype=np.uint8), np.diff(bounds))
        self._order = np.zeros(0, np.int64)
        self.levels: list[Level] = []
        self.post = np.empty(len(post), np.int32)  # within its replica
        self._sort(self.post, self._order)

    @cached_property
    def order(self) -> Array:
        """Which edge is at each place; only weights that differ need it."""
        order = np.empty(len(self.post), np.int32 if len(self.post) < MANY else np.int64)
        self._sort(self.post, order)
        return order

    def _sort(self, found: Array, order: Array) -> None:
        self.levels, begin = [], 0
        replicas, posts, pres = self.size
        for delay, post, pre, which in self._by_delay():
            pointer = np.zeros(replicas * pres * self.parts + 1, np.int32 if len(self.post) < MANY else np.int64)
            _count(post, pre, posts, self._part, self.parts, pointer)
            np.cumsum(pointer, out=pointer)
            np.add(pointer, begin, out=pointer)
            _place(post, pre, which, posts, self._part, self.parts, pointer[:-1].copy(), found, order)
            begin += len(post)
            self.levels.append(Level(delay, pointer))

    def _by_delay(self) -> Iterator[tuple[int, Array, Array, Array]]:
        """Edges of each delay in the order of their post neurons, and which they are (all of them: empty)."""
        post, pre = self._given
        whole = np.zeros(0, np.int64)
        in_order = bool((post[1:] >= post[:-1]).all())
        if isinstance(self._delay, int) and in_order:
            yield self._delay, post, pre, whole
            return
        delays = np.full(len(post), self._delay) if isinstance(self._delay, int) else self._delay
        for delay in np.unique(delays):
            chosen = np.flatnonzero(delays == delay)
            if not in_order:
                chosen = chosen[np.argsort(post[chosen], kind="stable")]
            yield int(delay), post[chosen], pre[chosen], chosen


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(post, pre, posts, part, parts, pointer):  # type: ignore[no-untyped-def]
    """How many edges each pre neuron has in each part, one place behind."""
    for e in range(len(post)):
        i = post[e] if post[e] < posts else post[e] % posts
        pointer[np.int64(pre[e]) * parts + part[i] + 1] += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _place(post, pre, which, posts, part, parts, free, found, order):  # type: ignore[no-untyped-def]
    """Put every edge at the next free place of its pre neuron and part."""
    for e in range(len(post)):
        i = post[e] if post[e] < posts else post[e] % posts
        own = np.int64(pre[e]) * parts + part[i]
        at = free[own]
        free[own] = at + 1
        found[at] = i
        if len(order) > 0:
            order[at] = which[e] if len(which) > 0 else e


def sparse(
    dtype: str,
    size: tuple[int, int, int],
    source: Buffer | Lists,
    level: Level,
    post: Array,
    weight: Array,
    bias: Array | None,
    out: Buffer,
    first: bool,
    bounds: tuple[int, ...],
) -> Kernel:
    """o_post += w x_pre along edges sorted by pre, then post, over `size` (B, P, Q).

    From lists, only the neurons that spiked `delay` steps ago are visited; else all whose value is not zero. Every part
    of the post population has its own edges (`bounds` (): there is one part): no two threads add to one neuron, and the
    order of sums is that of the pre neurons. Where all weights are equal, `weight` has a single entry and "steps" is 0:
    a third of what has to be read.
    """
    writer = Writer(dtype)
    writer.bounds, writer.units, writer.at_once = bounds, size[1], level.delay == 0
    for name, value in zip("BPQ", size, strict=True):
        writer.number(name, value)
    writer.number("parts", max(1, len(bounds) - 1))
    writer.number("delay", level.delay)
    writer.number("steps", 1)
    writer.array("start", level.pointer, "indices" if level.pointer.itemsize == 4 else "integers")
    writer.array("post", post, "indices")
    writer.address("post_at", post)
    writer.array("w", weight)
    writer.rows()
    writer.values("o", out, units="P")
    if first:
        writer.line("for n in range(n0, n1):", 3)
        writer.line("o[u(n)] = real(0)", 4)
    if isinstance(source, Lists):
        _visit_listed(writer, source)
    else:
        writer.values("x", source, "delay", units="Q")
        writer.line("for j in range(Q):", 3)
        writer.line("value = x[u(j)]", 4)
        writer.line("if value != real(0):", 4)
        _add_edges(writer, 5)
    if bias is not None:  # after the products, as in the reference
        writer.array("bias", bias)
        writer.line("for n in range(n0, n1):", 3)
        writer.line("o[u(n)] += bias[u(r * P + n)]", 4)
    return writer.done()


def wipe(
    dtype: str,
    size: tuple[int, int, int],
    lists: Lists,
    level: Level,
    post: Array,
    out: Buffer,
    bounds: tuple[int, ...],
) -> Kernel:
    """o_post = 0 again along the edges by which `sparse` has added to it, or everywhere where they are many.

    A core's first cache holds 48 kB, the ports of 4,096 neurons take 64: zeros stored to all of them in every step cost
    0.21 of the 0.79 ns that a CUBA neuron takes.
    """
    writer = Writer(dtype)
    writer.bounds, writer.units = bounds, size[1]
    for name, value in zip("BPQ", size, strict=True):
        writer.number(name, value)
    parts = max(1, len(bounds) - 1)
    writer.number("parts", parts)
    writer.number("delay", level.delay)
    edges = int(level.pointer[-1]) - int(level.pointer[0])
    writer.number("most", size[1] * (len(level.pointer) - 1) // (4 * parts * max(1, edges)))
    writer.array("start", level.pointer, "indices" if level.pointer.itemsize == 4 else "integers")
    writer.array("post", post, "indices")
    writer.rows()
    writer.values("o", out, units="P")
    name_lists(writer, lists, "delay")
    writer.line("count = 0", 3)
    writer.line("for s in range(lists):", 3)
    writer.line("count += np.int64(listed[u(begin[u(s)] + s * apart)])", 4)
    writer.line("if count > most:", 3)
    writer.line("for n in range(n0, n1):", 4)
    writer.line("o[u(n)] = real(0)", 5)
    writer.line("continue", 4)
    visit(writer, 3)
    writer.line("own = (r * Q + np.int64(listed[u(head + n)])) * parts + part", 5)
    writer.line("for edge in range(np.int64(start[u(own)]), np.int64(start[u(own + 1)])):", 5)
    writer.line("o[u(post[u(edge)])] = real(0)", 6)
    return writer.done()


def _visit_listed(writer: Writer, lists: Lists) -> None:
    name_lists(writer, lists, "delay")
    writer.scope["fetch"] = fetch
    visit(writer, 3)
    writer.line("own = (r * Q + np.int64(listed[u(head + n)])) * parts + part", 5)
    writer.line("fetch(post_at + np.int64(start[u(own)]) * 4)", 5)
    visit(writer, 3)
    writer.line("j = np.int64(listed[u(head + n)])", 5)
    writer.line("value = held[u(n)]", 5)
    _add_edges(writer, 5)


def _add_edges(writer: Writer, depth: int) -> None:
    writer.line("own = (r * Q + j) * parts + part", depth)
    writer.line("low, high = np.int64(start[u(own)]), np.int64(start[u(own + 1)])", depth)
    writer.line("if steps == 0:", depth)
    writer.line("each = w[0] * value", depth + 1)
    writer.line("for edge in range(low, high):", depth + 1)
    writer.line("o[u(post[u(edge)])] += each", depth + 2)
    writer.line("else:", depth)
    writer.line("for edge in range(low, high):", depth + 1)
    writer.line("o[u(post[u(edge)])] += w[u(edge)] * value", depth + 2)
