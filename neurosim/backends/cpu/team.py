"""Threads that share one network: they meet in every step, and are used while they bring something."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.backends.cpu.machine import drive, drive_together, offering
from neurosim.backends.cpu.processors import apart, here
from neurosim.types import Array

OFFER = offering()
CHUNK = 0.002  # s of simulation between two looks at the clock, at first
LONGEST = 0.008  # the same while each stretch takes as long as the one before
RARELY = 128  # chunks at most from one trial of the slower way to the next

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
        flags = np.zeros(lanes * 16 + 16, np.int64)
        rest = lanes, flags.ctypes.data, OFFER
        with _meeting:
            workers, taken = pool(lanes - 1), {here()}

            def beside(lane: int) -> None:
                apart(taken)
                drive_together(self.tables[lane], start, stop, lane, *rest)

            waiting = [workers.submit(beside, lane) for lane in range(1, lanes)]
            drive_together(self.tables[0], start, stop, 0, *rest)
            for done in waiting:
                done.result()


class Pace:
    """Chooses between one thread and several by the clock: where others use the cores, a thread that is late holds up
    all (50 times slower was measured). The way that was slower is tried again now and then, at growing intervals.
    """

    def __init__(self) -> None:
        self.recent = deque[float](maxlen=3), deque[float](maxlen=3)  # s per step, of one thread and of all
        self.wait, self.interval = 0, 4  # chunks until the slower way is tried again
        self.chunk, self.last = CHUNK, 0

    def run(self, team: Team, calls: Any, clock: int, steps: int) -> None:
        """Run `steps` steps from `clock`."""
        stop = clock + steps
        while clock < stop:
            way = self._way()
            if way != self.last:  # its caches hold nothing yet: what it takes now says little
                clock = self._go(way, team, calls, clock, min(stop - clock, self._steps(way, CHUNK / 2)))
                self.last = way
            count = min(stop - clock, self._steps(way, self.chunk if way == self._better() else CHUNK))
            if count > 0:
                began = time.perf_counter()
                clock = self._go(way, team, calls, clock, count)
                self._measured(way, (time.perf_counter() - began) / count)

    def _steps(self, way: int, seconds: float) -> int:
        latest = self.recent[way][-1] if self.recent[way] else CHUNK / 16
        return max(8, int(seconds / latest))

    def _go(self, way: int, team: Team, calls: Any, clock: int, count: int) -> int:
        if way:
            team.run(clock, clock + count)
        else:
            drive(calls, clock, clock + count, 0, 1, 0, 1)
        return clock + count

    def _way(self) -> int:
        """0: one thread; 1: all."""
        for way in (1, 0):
            if not self.recent[way]:
                return way
        return self._better() if self.wait else 1 - self._better()

    def _better(self) -> int:
        return int(self._usual(1) < self._usual(0))

    def _usual(self, way: int) -> float:
        """What a step takes, s: the median of the last stretches, since any one may be held up; not yet known: 0."""
        found = sorted(self.recent[way])
        return found[len(found) // 2] if found else 0.0

    def _measured(self, way: int, seconds: float) -> None:
        known, better, usual = all(self.recent), self._better(), self._usual(way)
        self.recent[way].append(seconds)
        if not all(self.recent):
            return
        if not known or self._better() != better:
            self.wait = self.interval = 4
        elif way == better:
            self.chunk = min(LONGEST, 2 * self.chunk) if seconds < 1.5 * usual else CHUNK
            self.wait -= 1
        elif seconds > self._usual(better):  # else it may have been held up before: once more
            self.wait = self.interval = min(RARELY, 2 * self.interval)
