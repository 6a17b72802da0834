"""The value of a rank among many, for percentiles of a whole projection."""

from __future__ import annotations

import numba
import numpy as np

FEW = 2048  # values of which the one of a rank is found by a partition
SAMPLE, MARGIN = 1024, 64  # ranks in a sample are off by at most 16 (standard deviation)


@numba.njit(error_model="numpy", forceinline=True)
def of_rank(x, rank):  # type: ignore[no-untyped-def]
    """The value of `rank` (0: the smallest) of `x`, whose order is lost.

    A sorted sample says between which two values it lies, and only those in between are looked at again (Floyd, Rivest
    1975). 160,000 values: 0.3 ms, where a partition takes 4.
    """
    many = x.size
    while many > FEW:
        sample = np.sort(x[: many : many // SAMPLE])
        place = rank * sample.size // many
        low = sample[place - MARGIN] if place >= MARGIN else -np.inf
        high = sample[place + MARGIN] if place + MARGIN < sample.size else np.inf
        below, found = 0, 0
        for i in range(many):
            below += x[np.uint64(i)] < low
            found += (x[np.uint64(i)] >= low) & (x[np.uint64(i)] <= high)
        if rank < below or rank >= below + found:
            break
        if low == high:
            return x.dtype.type(low)
        if 2 * found > many:
            break
        place = 0
        for i in range(many):
            value = x[np.uint64(i)]
            x[np.uint64(place)] = value
            place += (value >= low) & (value <= high)
        rank, many = rank - below, found
    return np.partition(x[:many], rank)[rank]
