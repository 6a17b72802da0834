"""Threads that share one network: they meet in every step, and are used while they bring something."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.backends.cpu.machine import drive, drive_together, offering
from neurosim.types import Array

OFFER = offering()
CHUNK = 0.002  # s of simulation between two looks at the clock, at first: to call a thread costs some 0.05 ms
LONGEST = 0.008  # the same while each stretch takes as long as the one before
RARELY = 512  # chunks at most from one trial of the slower way to the next

_pools: dict[int, ThreadPoolExecutor] = {}
_meeting = threading.Lock()  # a team must not wait for threads that another team keeps


def pool(workers: int) -> ThreadPoolExecutor:
    """Threads that live as long as the process."""
    return _pools.setdefault(workers, ThreadPoolExecutor(workers))


@dataclass(frozen=True)
class Team:
    """The calls of every thread in a step."""

    tables: Sequence[Array]

    def run(self, start: int, stop: int) -> None:
        """All threads from step `start` to `stop`; the caller is the first of them."""
        lanes = len(self.tables)
        flags = np.zeros(lanes * 8, np.int64)
        rest = lanes, flags.ctypes.data, OFFER
        with _meeting:
            workers = pool(lanes - 1)
            waiting = [
                workers.submit(drive_together, self.tables[lane], start, stop, lane, *rest) for lane in range(1, lanes)
            ]
            drive_together(self.tables[0], start, stop, 0, *rest)
            for done in waiting:
                done.result()


class Pace:
    """Chooses between one thread and several by the clock: where others use the cores, a thread that is late holds up
    all (50 times slower was measured). The way that was slower is tried again now and then, at growing intervals.
    """

    def __init__(self) -> None:
        self.per_step = [0.0, 0.0]  # s, of one thread and of all, when last measured
        self.wait, self.interval = 0, 4  # chunks until the slower way is tried again
        self.chunk = CHUNK

    def run(self, team: Team, calls: Any, clock: int, steps: int) -> None:
        """Run `steps` steps from `clock`."""
        stop = clock + steps
        while clock < stop:
            way = self._way()
            length = self.chunk if way == self._better() else CHUNK
            count = min(stop - clock, max(8, int(length / (self.per_step[way] or CHUNK / 16))))
            began = time.perf_counter()
            if way:
                team.run(clock, clock + count)
            else:
                drive(calls, clock, clock + count, 0, 1, 0, 1)
            self._measured(way, (time.perf_counter() - began) / count)
            clock += count

    def _way(self) -> int:
        """0: one thread; 1: all."""
        if 0.0 in self.per_step:
            return 1 if self.per_step[1] == 0.0 else 0
        return self._better() if self.wait else 1 - self._better()

    def _better(self) -> int:
        return int(self.per_step[1] < self.per_step[0])

    def _measured(self, way: int, seconds: float) -> None:
        known, better = 0.0 not in self.per_step, self._better()
        if known and way == better:
            self.chunk = min(LONGEST, 2 * self.chunk) if seconds < 1.5 * self.per_step[way] else CHUNK
        self.per_step[way] = seconds
        if not known:
            return
        if self.wait:
            self.wait -= 1
            return
        changed = better != self._better()
        self.interval = 4 if changed else min(RARELY, 2 * self.interval)
        self.wait = self.interval
