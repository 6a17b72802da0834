"""Measuring contenders at the same work side by side: warm-up outside, repeats in turn, medians, results checked.

A contender whose results are not those of the work has done something else: its row is void, however fast it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

SHORTEST = 0.05  # seconds of a repeat
Values = Mapping[str, Any]  # what a contender found: numbers or arrays by name
LEAST = 3  # repeats of which a median says something
LONG = 60.0  # seconds by the clock of a repeat that are too many for LEAST of them


class Failed(Exception):
    """A contender could not do the work; says why."""


class Sample(NamedTuple):
    """One repeat: seconds by the clock, seconds of CPU over all threads, what was found, and the most memory that the
    contender's process has had so far, in bytes (nan where it has no process of its own).
    """

    wall: float
    cpu: float
    values: Values
    peak: float = math.nan


@dataclass(frozen=True)
class Contender:
    """`sample()` does the work once. `own` marks the backends of this package."""

    name: str
    sample: Callable[[], Sample]
    own: bool = False


@dataclass(frozen=True)
class Check:
    """A result is right if no entry is further than `tolerance` times the largest entry of `expected` from it."""

    expected: Any
    tolerance: float

    def wrong(self, name: str, found: Any) -> str:
        """What is wrong, or ""."""
        expected, got = np.asarray(self.expected, float), np.asarray(found, float)
        if got.shape != expected.shape:
            return f"{name} has shape {got.shape} instead of {expected.shape}"
        allowed = self.tolerance * np.abs(expected).max(initial=0.0)
        distance = np.abs(got - expected).max(initial=0.0)
        if distance <= allowed:
            return ""
        if expected.ndim == 0:
            return f"{name} is {float(got):.5g} instead of {float(expected):.5g} (+- {allowed:.2g})"
        return f"{name} is wrong by {distance:.3g} (allowed: {allowed:.2g})"


@dataclass
class Row:
    """A contender's repeats, in seconds, and its peak memory; `void` says why they do not count, or is ""."""

    name: str
    own: bool
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    values: Values = field(default_factory=dict)
    void: str = ""
    peak: float = math.nan


def in_process(name: str, run: Callable[[], Any], read: Callable[[Any], Values], own: bool = False) -> Contender:
    """A contender that runs here: `run()` is timed, `read(its result)` is not.

    A short run is made again until `SHORTEST` seconds are over, and its time is the mean: else a repeat of some
    milliseconds would be that of caches which another contender has just filled.
    """

    def sample() -> Sample:
        runs, wall, cpu = 0, time.perf_counter(), time.process_time()
        while runs == 0 or time.perf_counter() - wall < SHORTEST:
            result = run()
            runs += 1
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return Sample(wall / runs, cpu / runs, read(result))

    return Contender(name, sample, own)


def void_reason(values: Values, checks: Mapping[str, Check]) -> str:
    """Why these results do not count, or ""; every check needs its value."""
    for name, check in checks.items():
        reason = check.wrong(name, values[name]) if name in values else f"{name} is missing"
        if reason:
            return reason
    return ""


def measure(
    contenders: Sequence[Contender], checks: Mapping[str, Check], repeats: int = 5, seconds: float = 60.0,
    long: float = LONG,
) -> list[Row]:  # fmt: skip
    """Every contender `repeats` times, in turn, after one run each that is not counted. Whoever has used up `seconds`
    by the clock sits out, but not before `LEAST` repeats of it count, or one where a repeat takes longer than `long`.
    The results of every run are checked; who is void is asked no more.
    """
    rows = [Row(one.name, one.own) for one in contenders]
    spent, last = [0.0] * len(rows), [0.0] * len(rows)
    for turn in range(repeats + 1):
        for index, (row, contender) in enumerate(zip(rows, contenders, strict=True)):
            enough = turn > (1 if last[index] > long else LEAST)
            if row.void or (enough and spent[index] > seconds):
                continue
            started = time.perf_counter()
            try:
                sample = contender.sample()
            except Failed as error:
                row.void = f"it failed: {error}"
                continue
            row.values, row.peak = sample.values, sample.peak
            row.void = void_reason(row.values, checks)
            last[index] = time.perf_counter() - started
            spent[index] += last[index]
            if turn:
                row.wall.append(sample.wall)
                row.cpu.append(sample.cpu)
    return rows
