"""Where the values of a running simulation lie: one place per label, filled from a state and read back into one.

Kernels know these places by their addresses, so they stay the same from run to run; a state that goes in is copied,
and so is the one that comes out: `run` stays a pure function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from neurosim.backends.cpu import aligned, tiles
from neurosim.backends.cpu.edges import Edges
from neurosim.backends.cpu.lists import Lists, empty
from neurosim.backends.cpu.piece import Piece, fits
from neurosim.backends.cpu.tiles import LANES
from neurosim.backends.cpu.writer import Buffer
from neurosim.backends.moment import Moment
from neurosim.backends.resolve import Synapses
from neurosim.types import Array, Tensor

LARGE = 2048  # units of all rows of a population from which counts lie in bytes: 100,000 CUBA neurons gain a fifth
COUNT = "|count"  # ends the label of such a place


def _fits(values: Array, dtype: str) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((values.astype(dtype) == values).all())


class Workspace:
    """Buffers by label for `batch` rows, made when they are first asked for."""

    def __init__(
        self, size: tuple[int, int], units: dict[str, int], memories: dict[str, int], dtype: str, lanes: int = 1
    ):
        """`size` is (replicas, rows); `lanes` threads may share the network."""
        self.size, self.units, self.memories = size, units, memories
        self.dtype = np.dtype(dtype)
        self.counts: dict[str, str] = {}  # states that stay whole numbers from 0 on, and the type that holds them
        self._lanes = lanes
        self.buffers: dict[str, Buffer] = {}
        self.listed: dict[str, Lists] = {}
        self._passing: dict[str, Buffer] = {}
        self._edges: dict[tuple[str, bool], Edges] = {}
        self._views: dict[tuple[str, int], Tensor] = {}
        self.one = torch.ones(1, 1, 1, dtype=getattr(torch, dtype))
        self.zero = torch.zeros_like(self.one)
        self.nothing = self.one[:0]
        self.piece: Piece | None = None

    def lay_out(self, rest: dict[str, Any]) -> None:
        """A small activity, such as `rest`, lies in one piece; to be called before anything else has a place."""
        if self.counts or not fits(rest):
            return
        labels = [(label, 1) for label, _ in self.entries(rest)]
        for label, past in rest["history"].items():
            labels += [(label, delay) for delay in range(1, len(past) + 1)]
        self.piece = Piece(rest, labels, self.memories)
        self.buffers = {label: Buffer(array) for label, array in self.piece.arrays.items()}

    def width(self, label: str) -> int:
        """Units of the population (or release) that a label belongs to; the constant end of a bias has one."""
        return self.units[label.partition(".")[0]]

    def buffer(self, label: str) -> Buffer:
        """The place of a value, with a slot for this step and for every step that is remembered."""
        if label not in self.buffers:
            slots = self.memories.get(label, 0) + 1
            dtype = self.counts.get(label.removesuffix(COUNT), self.dtype) if label.endswith(COUNT) else self.dtype
            self.buffers[label] = Buffer(aligned.zeros((slots, *self.size, self.width(label)), dtype))
        return self.buffers[label]

    def state(self, label: str) -> Buffer:
        """The place of a neuron's state."""
        return self.buffer(self._state(label))

    def _state(self, label: str) -> str:
        """The label of a state's place. Where past values are remembered it is not theirs: before the first step
        nothing has arrived, but there is a state. Nor is that of a count what others read.
        """
        if label in self.counts:
            return label + COUNT
        return f"{label}|state" if label in self.memories else label

    def large(self, name: str) -> bool:
        """Are a population's states so many that they do not stay in the first cache?"""
        return math.prod(self.size) * self.units[name] >= LARGE

    def widen(self, activity: dict[str, Any]) -> bool:
        """Forget the counts of an activity that hold something else, and say so: kernels know the old places."""
        if not self.counts:
            return False
        found = {f"{name}.{state}": value for name, own in activity["state"].items() for state, value in own.items()}
        others = [label for label, dtype in self.counts.items() if not _fits(found[label].numpy(), dtype)]
        for label in others:
            del self.counts[label]
        return bool(others)

    def bounds(self, units: int) -> tuple[int, ...]:
        """The parts of a population: several for one network and one row; else replicas or rows are the parts."""
        return tiles.bounds(units, self._lanes) if self.size == (1, 1) else (0, units)

    def passing(self, label: str) -> Buffer:
        """The place of a value that is used up where it is made, part by part of a population."""
        own = self.bounds(self.width(label))
        if len(own) == 2:
            return self.buffer(label)
        if label not in self._passing:
            longest = -(-max(stop - start for start, stop in pairwise(own)) // tiles.ALIGNED) * tiles.ALIGNED
            self._passing[label] = Buffer(aligned.zeros((1, LANES, 1, longest), self.dtype), passing=True)
        return self._passing[label]

    def lists(self, label: str) -> Lists:
        """Lists of the units that are not zero, for every slot of the label."""
        if label not in self.listed:
            units = self.width(label)
            self.listed[label] = empty(self.memories.get(label, 0) + 1, self.size, self.bounds(units), self.dtype)
        return self.listed[label]

    def edges(self, synapses: Synapses, parted: bool) -> Edges:
        """The edges of a projection by pre neuron (and by part of the post population), sorted once."""
        key = synapses.name, parted
        if key not in self._edges:
            given, delay, units = synapses.edges, synapses.delay, synapses.post.units
            assert given is not None
            steps = delay.numpy() if isinstance(delay, Tensor) else delay
            size, own = (self.size[0], units, synapses.pre.units), self.bounds(units) if parted else (0, units)
            self._edges[key] = Edges(given.post.numpy(), given.pre.numpy(), steps, size, own)
        return self._edges[key]

    def view(self, label: str, step: int) -> Tensor:
        """The values `[R, B, N]` of a step as a tensor that shares the place."""
        buffer = self.buffer(label)
        key = label, step % buffer.slots
        if key not in self._views:
            self._views[key] = torch.from_numpy(buffer.at(step))
        return self._views[key]

    # ---- states -----------------------------------------------------------------------------------------------------

    def load(self, activity: dict[str, Any], clock: int) -> None:
        """Take over the activity of a state whose next step is `clock`."""
        if self.piece is None or not self.piece.load(activity, clock):
            for label, value in self.entries(activity):
                self.view(label, clock - 1).copy_(value)
            for label, past in activity["history"].items():
                for delay, value in enumerate(past, start=1):
                    self.view(label, clock - delay).copy_(value)
        for label, lists in self.listed.items():
            for slot, values in enumerate(self.buffer(label).array):
                lists.take(values, slot)

    def entries(self, activity: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """States, releases and traces of an activity by the labels of their places."""
        for name, states in activity["state"].items():
            yield from ((self._state(f"{name}.{state}"), value) for state, value in states.items())
        for name, states in activity["release"].items():
            yield from ((f"release/{name}.{state}", value) for state, value in states.items())
        yield from activity["trace"].items()

    def spread(self, label: str) -> None:
        """Write values that were listed only to their own place."""
        for slot, values in enumerate(self.buffer(label).array):
            self.listed[label].give(values, slot)

    def store(self, activity: dict[str, Any], clock: int) -> dict[str, Any]:
        """The activity before step `clock`, in the structure of `activity`, copied."""
        if self.piece is not None:
            return self.piece.store(clock)

        def kept(label: str, step: int) -> Tensor:
            return self.view(label, step).to(self.one.dtype, copy=True)

        last = clock - 1
        return {
            "state": {
                name: {state: kept(self._state(f"{name}.{state}"), 0) for state in states}
                for name, states in activity["state"].items()
            },
            "release": {
                name: {state: kept(f"release/{name}.{state}", last) for state in states}
                for name, states in activity["release"].items()
            },
            "trace": {label: kept(label, last) for label in activity["trace"]},
            "history": {
                label: tuple(kept(label, clock - delay) for delay in range(1, len(past) + 1))
                for label, past in activity["history"].items()
            },
        }


class Now:
    """The values of a step by label, as `Moment.now` has them, written in place."""

    def __init__(self, work: Workspace, step: int):
        self._work, self._step = work, step

    def __contains__(self, label: str) -> bool:
        return label in self._work.buffers

    def __getitem__(self, label: str) -> Tensor:
        return self._work.view(label, self._step)

    def get(self, label: str, default: Any = None) -> Any:
        return default if label not in self._work.buffers else self[label]

    def __setitem__(self, label: str, value: Tensor) -> None:
        self[label].copy_(value)


class WorkMoment(Moment):
    """A step whose values lie in a workspace."""

    def __init__(self, work: Workspace, learned: dict[str, Any], clock: int):
        super().__init__({"history": {}}, learned, clock, work.zero, work.one)
        self._work = work
        self.now = Now(work, clock)  # type: ignore[assignment]

    def read(self, name: str, delay: int) -> Tensor:
        if delay:
            return self._work.view(name, self.clock - delay)
        return super().read(name, delay)
