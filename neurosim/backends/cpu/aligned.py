"""Arrays that begin with a line of the cache: a vector of 64 bytes across two lines is read and written at half the
speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.types import Array

LINE = 64  # bytes


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """As `numpy.zeros`."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    room = np.zeros(size + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    made: Array = room[begin : begin + size].view(dtype).reshape(shape)
    return made
