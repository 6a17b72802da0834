"""Who calls what in a step: kernels part by part of the populations, for one thread or for several that meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurosim.backends.cpu.writer import Kernel
from neurosim.types import Array

Call = tuple[int, int, int, int, int, int]  # function, block, n0, n1, part, lane
MEETING = (0, 0, 0, 0, 0, 0)


def groups(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """Neighbours that may be run together on one part of a population after the other: what arrives at it, its neurons
    and their spikes, while the cache holds them.
    """
    found: list[list[Kernel]] = []
    for kernel in kernels:
        together = found and kernel.bounds and found[-1][-1].bounds == kernel.bounds and not kernel.at_once
        if together:
            found[-1].append(kernel)
        else:
            found.append([kernel])
    return found


def table(kernels: Sequence[Kernel], lane: int = 0, lanes: int = 1) -> Array:
    """The calls `[K, 6]` of one of `lanes` threads in a step.

    Parts belong to threads; a kernel without parts is the first thread's. The threads meet before a kernel that reads
    what others wrote in the same step, around one without parts, and at the end of the step.
    """
    calls: list[Call] = []
    written = alone = False  # since the last meeting: by anyone, by the first thread for all
    for group in groups(kernels):
        first = group[0]
        if (written and (first.at_once or not first.bounds)) or (alone and first.bounds):
            calls.append(MEETING)
            written = alone = False
        if first.bounds:
            calls += _parts(group, lane, lanes)
        elif lane == 0:
            calls.append(_call(first, 0, first.units, 0, lane))
        written, alone = bool(first.bounds) or written, not first.bounds
    if lanes == 1:
        calls = [call for call in calls if call != MEETING]
    else:
        calls.append(MEETING)
    return np.array(calls, np.int64).reshape(-1, 6)


def _parts(group: list[Kernel], lane: int, lanes: int) -> list[Call]:
    bounds = group[0].bounds
    count = len(bounds) - 1
    own = range(count * lane // lanes, count * (lane + 1) // lanes)
    return [_call(kernel, bounds[k], bounds[k + 1], k, lane) for k in own for kernel in group]


def _call(kernel: Kernel, n0: int, n1: int, part: int, lane: int) -> Call:
    return kernel.address, kernel.block.ctypes.data, n0, n1, part, lane
