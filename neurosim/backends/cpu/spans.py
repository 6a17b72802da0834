"""Parts of a phase: some steps at a time, so that what one part of the work reads is still in a cache."""

from __future__ import annotations

from itertools import pairwise

Span = tuple[int, int]  # steps first..stop

ROWS = 4096  # steps x rows of a product, from which on its parts are as quick as the whole
BYTES = 2**24  # and of what it brings: Python finds its code out of the cache behind each part (512 units: 64 or 62 ms)


def spans(first: int, stop: int, length: int) -> list[Span]:
    """Nearly equal spans of at most `length` steps."""
    count = -(-(stop - first) // length)
    return list(pairwise(first + (stop - first) * k // count for k in range(count + 1)))


def steps_of_product(rows: int, units: int, itemsize: int) -> int:
    """How many steps of so many rows a product is formed for at a time."""
    return max(1, max(ROWS, BYTES // (units * itemsize)) // rows)
