"""The activity of a small network in one piece of memory, so that it is copied at once: one by one, the values of a few
dozen units cost more in calls than in copying.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from neurosim.backends.cpu import aligned
from neurosim.types import Array, Tensor

MOST = 2**16  # bytes of an activity up to which it lies in one piece: what is kept of it keeps all of it


def values(activity: dict[str, Any]) -> list[Tensor]:
    """All tensors of an activity (but for eligibilities) in the order of its dictionaries."""
    found = [value for own in activity["state"].values() for value in own.values()]
    if activity["release"]:
        found += [value for own in activity["release"].values() for value in own.values()]
    found += activity["trace"].values()
    if activity["history"]:
        found += [value for past in activity["history"].values() for value in past]
    return found


class Copy:
    """An activity that was handed out, with the memory that its tensors are views of."""

    def __init__(self, activity: dict[str, Any], tensors: list[Tensor], memory: Array, clock: int | None):
        """`clock` None: it is the same at any clock."""
        self.memory, self._clock = memory, clock
        self._state, self._trace = activity["state"], activity["trace"]
        self._release, self._history = activity["release"], activity["history"]
        self._tensors, self._ids = tensors, [id(one) for one in tensors]

    @property
    def activity(self) -> dict[str, Any]:
        return {"state": self._state, "release": self._release, "trace": self._trace, "history": self._history}

    def holds(self, activity: dict[str, Any], clock: int) -> bool:
        """Is it this activity, tensor by tensor? What these hold is in `memory`, whoever wrote it."""
        if self._clock is not None and self._clock != clock:
            return False
        same = (
            activity["state"] is self._state
            and activity["trace"] is self._trace
            and activity["release"] is self._release
            and activity["history"] is self._history
        )
        return same and [id(one) for one in values(activity)] == self._ids


class Place(NamedTuple):
    """Where one tensor of an activity lies in the memory."""

    begin: int
    stop: int
    shape: tuple[int, ...]


class Piece:
    """Places by label in one memory, and copies of it in the structure of an activity."""

    def __init__(self, activity: dict[str, Any], labels: Sequence[tuple[str, int]], memories: dict[str, int]):
        """`activity` is one at rest; `labels` says of each of its `values` which it is of how many steps ago;
        `memories`: how many steps a label is remembered.
        """
        self._labels, self._slots = labels, {label: memories.get(label, 0) + 1 for label, _ in labels}
        shapes = {label: tuple(value.shape) for (label, _), value in zip(labels, values(activity), strict=True)}
        self._shapes = {label: (self._slots[label], *shape) for label, shape in shapes.items()}
        dtype = values(activity)[0].numpy().dtype
        self._begins: dict[str, int] = {}
        line, end = aligned.LINE // dtype.itemsize, 0
        for label, shape in self._shapes.items():
            self._begins[label] = end
            end += -(-math.prod(shape) // line) * line
        self.memory = aligned.zeros((end,), dtype)
        self.arrays = {label: self._array(self.memory, label) for label in shapes}
        self._names, self._period = _names(activity), math.lcm(*self._slots.values())
        self._layouts: dict[int, list[Place]] = {}
        self._rest = self._last = self._copy(self.memory.copy(), 0, None)
        for (label, _), value in zip(labels, values(activity), strict=True):
            self._array(self._rest.memory, label)[...] = value.numpy()

    @property
    def rest(self) -> dict[str, Any]:
        """The activity at rest; the same in every slot, so at any clock."""
        return self._rest.activity

    def _array(self, memory: Array, label: str) -> Array:
        begin, shape = self._begins[label], self._shapes[label]
        part: Array = memory[begin : begin + math.prod(shape)].reshape(shape)
        return part

    def load(self, activity: dict[str, Any], clock: int) -> bool:
        """Take over the activity of a state whose next step is `clock`, if it was copied from here."""
        for copy in (self._last, self._rest):
            if copy.holds(activity, clock):
                np.copyto(self.memory, copy.memory)
                return True
        return False

    def store(self, clock: int) -> dict[str, Any]:
        """The activity before step `clock`, copied."""
        self._last = self._copy(self.memory.copy(), clock, clock)
        return self._last.activity

    def _copy(self, memory: Array, turn: int, clock: int | None) -> Copy:
        """That memory as an activity."""
        turn %= self._period
        if turn not in self._layouts:
            self._layouts[turn] = [self._place(label, turn - delay) for label, delay in self._labels]
        places = self._layouts[turn]
        tensors = [torch.from_numpy(memory[begin:stop].reshape(shape)) for begin, stop, shape in places]
        found = iter(tensors)
        states, releases, traces, pasts = self._names
        activity = {
            "state": {name: dict(zip(own, found, strict=False)) for name, own in states},
            "release": {name: dict(zip(own, found, strict=False)) for name, own in releases},
            "trace": dict(zip(traces, found, strict=False)),
            "history": {name: tuple(islice(found, depth)) for name, depth in pasts},
        }
        return Copy(activity, tensors, memory, clock)

    def _place(self, label: str, step: int) -> Place:
        slots, *shape = self._shapes[label]
        size = math.prod(shape)
        begin = self._begins[label] + step % slots * size
        return Place(begin, begin + size, tuple(shape))


def _names(activity: dict[str, Any]) -> tuple[Any, ...]:
    """Of the sections: names, and what each has."""
    states, releases = ([(name, tuple(own)) for name, own in activity[part].items()] for part in ("state", "release"))
    history = [(name, len(past)) for name, past in activity["history"].items()]
    return states, releases, tuple(activity["trace"]), history


def fits(activity: dict[str, Any]) -> bool:
    """Is it small enough?"""
    return 0 < sum(value.numel() * value.element_size() for value in values(activity)) <= MOST
