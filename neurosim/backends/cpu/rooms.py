"""Memory of large arrays that were handed out and that nobody holds any more, given to the next of that size.

An array of a megabyte that is new in every run is new to the system as well: its pages are zeroed one by one when they
are first touched, and taken back when it is freed. For weights of 784 x 500 that took as long as to change them (0.1 of
0.2 ms).
"""

from __future__ import annotations

import math
from threading import RLock
from typing import Any

import numpy as np

from neurosim.backends.cpu.aligned import LINE
from neurosim.types import Array

LEAST = 2**16  # bytes from which memory is kept: what is smaller stays with the allocator anyway
MOST = 2**26  # bytes that wait in all, at most; the oldest go first

_free: list[Array] = []
_lock = RLock()  # an array may be dropped anywhere, by the garbage collector in here too


class _Lease:
    """Holds memory for the arrays that are views of it; when the last of them is gone, it waits for the next."""

    def __init__(self, memory: Array):
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        with _lock:
            _free.append(self.memory)
            while sum(one.nbytes for one in _free) > MOST:
                del _free[0]


def room(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array that nobody else holds, with anything in it; a large one begins with a line of the cache."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not LEAST <= size <= MOST:
        return np.empty(shape, dtype)
    with _lock:
        place = next((n for n, one in enumerate(_free) if one.nbytes == size), None)
        memory = _aligned(size) if place is None else _free.pop(place)
    found: Array = np.asarray(_Lease(memory)).view(dtype).reshape(shape)
    return found


def _aligned(size: int) -> Array:
    whole = np.empty(size + LINE, np.uint8)
    begin = -whole.ctypes.data % LINE
    return whole[begin : begin + size]
