"""Memory of large arrays that were handed out and that nobody holds any more, given to the next of that size.

An array of a megabyte that is new in every run is new to the system as well: its pages are zeroed one by one when they
are first touched, and taken back when it is freed. For weights of 784 x 500 that took as long as to change them (0.1 of
0.2 ms); forward and backward through 512 units took 0 to 11,000 page faults a run.
"""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np

from neurosim.backends.cpu.aligned import room_for, within
from neurosim.types import Array

LEAST = 2**16  # bytes from which memory is kept: what is smaller stays with the allocator anyway
LARGEST = 2**26  # bytes of an array up to which it is
MOST = 2**28  # bytes that wait in all, at most; the oldest go first

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
    """An array that nobody else holds, with anything in it; it begins with a line of the cache.

    Arrays in it, views of them and tensors that share them all hold it, so what is still read anywhere (a recording,
    torch's graph) is never written to.
    """
    size = room_for(shape, dtype)
    if not LEAST <= size <= LARGEST:
        return within(np.empty(size, np.uint8), shape, dtype)  # NumPy asks for large pages, torch does not
    with _lock:
        place = next((n for n, one in enumerate(_free) if one.nbytes == size), None)
        memory = np.empty(size, np.uint8) if place is None else _free.pop(place)
    return within(np.asarray(_Lease(memory)), shape, dtype)
