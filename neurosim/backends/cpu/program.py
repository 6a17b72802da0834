"""A phase as a program: kernels in the order of a step, with torch where a library does better or no kernel exists.

Runs of kernels form tables for the compiled machine; what stays with torch (a large matrix product, a convolution, a
rule without a kernel) stands between them as a Python call. Without such calls the whole time loop is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import torch

from neurosim.backends.cpu import tiles
from neurosim.backends.cpu.machine import drive
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.team import OFFER, Pace, Team, pool
from neurosim.backends.cpu.tiles import LANES
from neurosim.backends.cpu.writer import Kernel, Laid
from neurosim.types import Array

Call = Callable[[int], None]  # of the clock
Share = tuple[int, int, int, int]  # replicas r0..r1, rows b0..b1

PARALLEL_WORK = 20_000  # units x rows x steps below which threads cost more than they bring


@dataclass
class Program:
    """`operations` in the order of a step: kernels, and Python calls for what has none (`reasons` say what and why).

    `final` are the places of those that are made in a phase's last step only.
    """

    operations: list[Kernel | Call] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    final: set[int] = field(default_factory=set)
    pace: Pace = field(default_factory=Pace)
    _segments: dict[bool, list[Array | Call]] = field(default_factory=dict)
    _teams: dict[int, Team] = field(default_factory=dict)

    @property
    def kernels(self) -> list[Kernel]:
        return [operation for operation in self.operations if isinstance(operation, Kernel)]

    @cached_property
    def compiled(self) -> bool:
        """Is all of it compiled, the last step too? (Asked when it is complete.)"""
        return len(self.kernels) == len(self.operations)

    @cached_property
    def parted(self) -> bool:
        """Are there kernels that several threads share?"""
        return any(len(one.bounds) > 2 for one in self.kernels)

    @cached_property
    def whole(self) -> Array | None:
        """A step as one table, where no step is another and nothing is Python's."""
        return table(self.kernels) if self.compiled and not self.final and self.operations else None

    def add(self, operation: Kernel | Call, reason: str = "", final: bool = False) -> None:
        if final:
            self.final.add(len(self.operations))
        self.operations.append(operation)
        if reason and reason not in self.reasons:
            self.reasons.append(reason)

    def replace(self, old: Kernel, new: Sequence[Kernel]) -> None:
        """Put kernels in the place of one."""
        place = next(place for place, one in enumerate(self.operations) if one is old)
        self.operations[place : place + 1] = new
        self.final = {one + (len(new) - 1) * (one > place) for one in self.final}

    def segments(self, final: bool = False) -> list[Array | Call]:
        """A step (a phase's last one, if `final`): kernels that follow each other as one table, and calls."""
        if final not in self._segments:
            found, waiting = list[Array | Call](), list[Kernel]()
            chosen = [one for place, one in enumerate(self.operations) if final or place not in self.final]
            for operation in (*chosen, None):
                if isinstance(operation, Kernel):
                    waiting.append(operation)
                    continue
                if waiting:
                    found.append(table(waiting))
                    waiting = []
                if operation is not None:
                    found.append(operation)
            self._segments[final] = found
        return self._segments[final]

    def team(self, lanes: int) -> Team:
        """That many threads for one network, where all of it is compiled."""
        if lanes not in self._teams:
            every = [one for place, one in enumerate(self.operations) if place not in self.final]
            own = [one for one in every if isinstance(one, Kernel)]
            self._teams[lanes] = Team([table(own, lane, lanes) for lane in range(lanes)])
        return self._teams[lanes]

    @cached_property
    def users(self) -> dict[str, list[Kernel]]:
        """The kernels that read a drive, by its name."""
        found: dict[str, list[Kernel]] = {}
        for kernel in self.kernels:
            for name in kernel.drives:
                found.setdefault(name, []).append(kernel)
        return found

    @cached_property
    def starts(self) -> list[tuple[Array, int]]:
        """Where the clock of a run's first step is put."""
        return [(kernel.block, place) for kernel in self.kernels for place in kernel.starts]

    @cached_property
    def spans(self) -> list[tuple[Array, int]]:
        """Where the number of steps is put for which a batch is shown."""
        return [(kernel.block, place) for kernel in self.kernels for place in kernel.spans]

    def feed(self, drives: Mapping[str, Array | Laid], rows: int, names: Iterable[str] | None = None) -> None:
        """This run's drives, `rows` of which are shown at a time; only those of some `names`, if the others are where
        they were.
        """
        for name in self.users if names is None else names:
            for kernel in self.users.get(name, ()):
                kernel.feed(name, drives[name], rows)

    def begin(self, clock: int, span: int) -> None:
        """A run begins at `clock`, in which each batch is shown for `span` steps; its drives are there."""
        for block, place in self.starts:
            block[place] = clock
        for block, place in self.spans:
            block[place] = span

    def place(self, name: str, array: Array, first: int) -> None:
        """From now on, the drive `name` is an array that begins with step `first` of the run."""
        for kernel in self.users.get(name, ()):
            kernel.block[kernel.drives[name][0]] = array.ctypes.data - first * array.strides[0]

    def run(self, clock: int, steps: int, shares: Sequence[Share], end: int, lanes: int) -> None:
        """Run `steps` steps from `clock` of a phase that stops before `end`; while all of it is compiled, the shares in
        parallel, or a single one by `lanes` threads if it has parts.
        """
        whole = self.whole
        if whole is not None and lanes == 1:
            run_shares(whole, clock, clock + steps, shares)
            return
        segments, stop = self.segments(), clock + steps
        final = stop == end and bool(self.final)
        if not any(callable(segment) for segment in segments):
            for calls in segments:
                if lanes > 1 and list(shares) == [(0, 1, 0, 1)] and self.parted:
                    self.pace.run(self.team(lanes), calls, clock, stop - final - clock)
                else:
                    run_shares(calls, clock, stop - final, shares)
            clock = stop - final
        r1, b1 = max(share[1] for share in shares), max(share[3] for share in shares)
        for t in range(clock, stop):
            for segment in self.segments(final and t == stop - 1):
                if callable(segment):
                    segment(t)
                else:
                    drive(segment, t, t + 1, 0, r1, 0, b1)


def run_shares(calls: Any, start: int, stop: int, shares: Sequence[Share]) -> None:
    """Run a table's steps from `start` to `stop`: shares that never meet in parallel, each with its thread's calls."""
    if len(shares) == 1:
        drive(calls, start, stop, *shares[0])
        return
    workers, waiting = pool(len(shares)), []
    for lane, share in enumerate(shares):
        own = calls.copy()
        own[:, -1] = lane
        waiting.append(workers.submit(drive, own, start, stop, *share))
    for done in waiting:
        done.result()


class Threads:
    """Torch's number of threads. Where all of a program is compiled they are ours, and torch keeps to one.

    Behind an operation of its own, torch's threads wait by spinning for milliseconds on the cores that ours need: two
    threads took 17 instead of 3 ms of CPU for a batch of BioHSIC.
    """

    def __init__(self, program: Program):
        self.threads = torch.get_num_threads()
        self.alone = self.threads > 1 and program.compiled

    def __enter__(self) -> int:
        if self.alone:
            torch.set_num_threads(1)
        return self.threads

    def __exit__(self, *error: object) -> None:
        if self.alone:
            torch.set_num_threads(self.threads)


def shares_of(replicas: int, batch: int, work: int, split_rows: bool, threads: int | None = None) -> tuple[Share, ...]:
    """Equal parts for `threads` threads (None: torch's): of the replicas, or of the rows where nothing sums over them.

    Parts never meet, so any number of threads gives the same bits.
    """
    threads = min(LANES, torch.get_num_threads() if threads is None else threads) if work >= PARALLEL_WORK else 1
    return _shares(replicas, batch, threads, split_rows)


@cache
def _shares(replicas: int, batch: int, threads: int, split_rows: bool) -> tuple[Share, ...]:
    if replicas >= threads or not split_rows:
        return tuple((a, b, 0, batch) for a, b in _parts(replicas, min(threads, replicas)))
    return tuple((0, replicas, a, b) for a, b in _parts(batch, min(threads, batch)))


def lanes_of(units: int, threads: int) -> int:
    """How many of `threads` share one network of that many units, if it is a single one: any number gives the same
    bits.
    """
    return min(LANES, threads) if units >= tiles.SHARED and OFFER else 1


@cache
def _parts(count: int, parts: int) -> tuple[tuple[int, int], ...]:
    edges = [count * part // parts for part in range(parts + 1)]
    return tuple(pairwise(edges))
