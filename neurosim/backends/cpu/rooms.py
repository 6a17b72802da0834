"""Memory for large arrays that is used again once nobody holds them: new pages cost as much as writing them twice."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from neurosim.backends.cpu.aligned import LINE, room_for, within
from neurosim.types import Array

MOST_KEPT = 2**26  # bytes of an array up to which its memory is kept for the next one


def _holders(kept: dict[str, Array], name: str) -> int:
    return sys.getrefcount(kept[name])


ALONE = _holders({"": np.empty(0)}, "")  # of memory that only the dictionary holds


class Rooms:
    """Memory by name. Arrays in it, views of them and tensors that share them all hold it, so what is still read
    anywhere (a recording, torch's graph) is never written to.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array to be written to: in the memory of the last one, if it fits and is free, else in new memory."""
        size = room_for(shape, dtype)
        if name in self._kept and len(self._kept[name]) == size and _holders(self._kept, name) == ALONE:
            return within(self._kept[name], shape, dtype)
        room = np.empty(size, np.uint8)  # NumPy asks for large pages, torch does not
        self._kept.pop(name, None)
        if size <= MOST_KEPT + LINE:
            self._kept[name] = room
        return within(room, shape, dtype)
