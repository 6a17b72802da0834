"""Memory of large arrays that were handed out and that nobody holds any more, given to the next of that size.

An array of a megabyte that is new in every run is new to the system as well: its pages are zeroed one by one when they
are first touched, and taken back when it is freed. For weights of 784 x 500 that took as long as to change them (0.1 of
0.2 ms); forward and backward through 512 units took 0 to 11,000 page faults a run.
"""

from __future__ import annotations

import math
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
import torch

from neurosim.backends.cpu.aligned import first_line, room_for, within
from neurosim.types import Array

LEAST = 2**16  # bytes from which memory is kept: what is smaller stays with the allocator anyway
LARGEST = 2**26  # bytes of an array up to which it is
MOST = 2**28  # bytes that wait in all, at most; the oldest go first


class _Memory:
    """Some bytes, with the first address in it that begins a line of the cache."""

    def __init__(self, size: int):
        self.nbytes, self._array = size, np.empty(size, np.uint8)  # NumPy asks for large pages, torch does not
        self.begin = first_line(self._array)


_free: list[_Memory] = []
_lock = RLock()  # an array may be dropped anywhere, by the garbage collector in here too


class _Lease:
    """Holds memory for the arrays that are views of it; when the last of them is gone, it waits for the next."""

    def __init__(self, memory: _Memory, shape: tuple[int, ...], dtype: str):
        self._memory = memory
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype, "data": (memory.begin, False)}

    def __del__(self) -> None:
        with _lock:
            _free.append(self._memory)
            waiting = 0
            for one in _free:
                waiting += one.nbytes
            while waiting > MOST:
                waiting -= _free.pop(0).nbytes


def tensor_room(shape: tuple[int, ...], kind: torch.dtype) -> torch.Tensor:
    """As `room`, for a tensor."""
    if math.prod(shape) * kind.itemsize < LEAST:
        return torch.empty(shape, dtype=kind)  # torch too begins with a line of the cache, in a third of the time
    return torch.from_numpy(room(shape, str(kind).removeprefix("torch.")))


def room(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array that nobody else holds, with anything in it; it begins with a line of the cache.

    Arrays in it, views of them and tensors that share them all hold it, so what is still read anywhere (a recording,
    torch's graph) is never written to.
    """
    size, kind = _layout(shape, dtype)
    if not LEAST <= size <= LARGEST:
        return within(np.empty(size, np.uint8), shape, dtype)
    return np.asarray(_Lease(_memory(size), shape, kind))


def _memory(size: int) -> _Memory:
    with _lock:
        for place, one in enumerate(_free):
            if one.nbytes == size:
                return _free.pop(place)
    return _Memory(size)


@lru_cache(256)
def _layout(shape: tuple[int, ...], dtype: Any) -> tuple[int, str]:
    """Bytes, and NumPy's name of the type."""
    return room_for(shape, dtype), np.dtype(dtype).str
