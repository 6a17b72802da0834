"""Arrays that begin with a pair of lines of the cache: a vector of 64 bytes across two lines is read and written at
half the speed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurosim.types import Array

LINE = 64  # bytes
PAIR = 2 * LINE  # is fetched together: two threads that write to its lines take them from each other


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """As `numpy.zeros`."""
    return within(np.zeros(room_for(shape, dtype), np.uint8), shape, dtype)


def room_for(shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes in which such an array finds its place."""
    return math.prod(shape) * int(np.dtype(dtype).itemsize) + PAIR


def within(room: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """That array, in a room of so many bytes."""
    begin = -room.ctypes.data % PAIR
    made: Array = room[begin : begin + len(room) - PAIR].view(dtype).reshape(shape)
    return made


def first_line(room: Array) -> int:
    """The first address in a room that begins a pair of lines."""
    address: int = room.ctypes.data
    return address + -address % PAIR
