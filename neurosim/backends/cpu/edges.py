"""Edges in the order in which spikes read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

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
