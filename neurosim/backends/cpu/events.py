"""Recording events of a run: a kernel lists them, and between stretches of steps the list is taken away.

A kernel cannot make its list longer, so a stretch is as many steps as fit if every unit were active in each of them.
"""

from __future__ import annotations

import numpy as np

from neurosim.backends.cpu import aligned
from neurosim.backends.cpu.lists import FIRST_EVENT, Lists, record_events
from neurosim.backends.tape import Tape
from neurosim.recorder import Probe

CAPACITY = 2**24  # events of a stretch over all replicas and rows; memory that is never written is never taken


class EventRecorder:
    """Where a population's value is not zero, step after step, for one probe."""

    def __init__(self, probe: Probe, dtype: str, size: tuple[int, int, int], lists: Lists, steps: int):
        """`size` is (replicas, batch, units), `steps` are those of the phase."""
        self.probe = probe
        replicas, batch, units = size
        self.stretch = max(1, min(steps, CAPACITY // (replicas * batch * units)))
        self.bounds = lists.bounds
        self._counts = aligned.zeros((replicas, batch, lists.parts, 16), np.int64)  # a pair of lines each
        self.count = self._counts[..., 0]
        self.rows = np.empty((replicas, batch, self.stretch * units, 2), np.int32)
        self.kernel = record_events(dtype, (batch, units), lists, self._counts, self.rows, self.stretch)

    def begin(self, clock: int) -> None:
        """A stretch begins at `clock`."""
        self.count[...] = 0
        self.kernel.block[self.kernel.places[FIRST_EVENT]] = clock

    def take(self, tape: Tape) -> None:
        """Hand what was listed to the tape, in the order of time."""
        clock = int(self.kernel.block[self.kernel.places[FIRST_EVENT]])
        lists = np.argwhere(self.count)
        found = np.empty((int(self.count.sum()), 4), np.int64)
        begin = 0
        for r, b, part in lists:
            count, first = self.count[r, b, part], self.stretch * self.bounds[part]
            own, kept = found[begin : begin + count], self.rows[r, b, first : first + count]
            np.add(kept[:, 0], clock, out=own[:, 0])
            own[:, 1], own[:, 2], own[:, 3] = r, b, kept[:, 1]
            begin += count
        if len(lists) > 1:  # each is in the order of time (30,000 events of one: 0.1 ms, sorted 2.4)
            found = found[np.argsort(found[:, 0], kind="stable")]
        tape.keep_events(self.probe, found)
