"""A phase as a program: kernels in the order of a step, with torch where a library does better or no kernel exists.

Runs of kernels form tables for the compiled machine; what stays with torch (a large matrix product, a convolution, a
rule without a kernel) stands between them as a Python call. Without such calls the whole time loop is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from neurosim.backends.cpu.kernels import block_of
from neurosim.backends.cpu.machine import drive
from neurosim.backends.cpu.writer import Kernel
from neurosim.types import Array

Call = Callable[[int], None]  # of the clock
Share = tuple[int, int, int, int]  # replicas r0..r1, rows b0..b1

PARALLEL_WORK = 20_000  # units x rows x steps below which threads cost more than they bring


@dataclass
class Program:
    """`operations` in the order of a step: kernels, and Python calls for what has none (`reasons` say what and why)."""

    operations: list[Kernel | Call] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    _segments: list[Array | Call] | None = None

    @property
    def kernels(self) -> list[Kernel]:
        return [operation for operation in self.operations if isinstance(operation, Kernel)]

    @property
    def compiled(self) -> bool:
        """Is the whole time loop compiled?"""
        return len(self.kernels) == len(self.operations)

    def add(self, operation: Kernel | Call, reason: str = "") -> None:
        self.operations.append(operation)
        if reason and reason not in self.reasons:
            self.reasons.append(reason)

    def segments(self) -> list[Array | Call]:
        """Kernels that follow each other as one table."""
        if self._segments is None:
            self._segments, waiting = [], list[Kernel]()
            for operation in (*self.operations, None):
                if isinstance(operation, Kernel):
                    waiting.append(operation)
                    continue
                if waiting:
                    self._segments.append(block_of(waiting))
                    waiting = []
                if operation is not None:
                    self._segments.append(operation)
        return self._segments

    def feed(self, drives: dict[str, Array], clock: int) -> None:
        """This run's drives and first step."""
        for kernel in self.kernels:
            for name in kernel.drives:
                kernel.feed(name, drives[name])
            for place in kernel.starts:
                kernel.block[place] = clock

    def run(self, clock: int, steps: int, shares: Sequence[Share]) -> None:
        """Run `steps` steps from `clock`; the shares in parallel where all of it is compiled."""
        segments = self.segments()
        if self.compiled:
            table = segments[0] if segments else None
            if table is not None:
                run_shares(table, clock, clock + steps, shares)
            return
        r1, b1 = max(share[1] for share in shares), max(share[3] for share in shares)
        for t in range(clock, clock + steps):
            for segment in segments:
                if callable(segment):
                    segment(t)
                else:
                    drive(segment, t, t + 1, 0, r1, 0, b1)


_pool: dict[int, ThreadPoolExecutor] = {}


def run_shares(table: Any, start: int, stop: int, shares: Sequence[Share]) -> None:
    if len(shares) == 1:
        drive(table, start, stop, *shares[0])
        return
    pool = _pool.setdefault(len(shares), ThreadPoolExecutor(len(shares)))
    for done in [pool.submit(drive, table, start, stop, *share) for share in shares]:
        done.result()


def shares_of(replicas: int, batch: int, work: int, split_rows: bool) -> list[Share]:
    """Equal parts for torch's number of threads: of the replicas, or of the rows where nothing sums over them.

    Parts never meet, so any number of threads gives the same bits.
    """
    threads = torch.get_num_threads() if work >= PARALLEL_WORK else 1
    if replicas >= threads or not split_rows:
        return [(a, b, 0, batch) for a, b in _parts(replicas, min(threads, replicas))]
    return [(0, replicas, a, b) for a, b in _parts(batch, min(threads, batch))]


def _parts(count: int, parts: int) -> list[tuple[int, int]]:
    edges = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))
