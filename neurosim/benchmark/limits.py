"""What this machine can do at best, measured now: copying memory and multiplying matrices."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch


def best(run: Callable[[], object], repeats: int = 15) -> float:
    """The shortest CPU time of `run` in seconds."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def copy_bandwidth(size: float) -> float:
    """Bytes read and written per second when an array of `size` bytes is copied on one thread."""
    source = np.ones(max(int(size) // 8, 512))
    target = np.empty_like(source)
    times = max(1, int(2e8 // source.nbytes))

    def copies() -> None:
        for _ in range(times):
            np.copyto(target, source)

    return 2.0 * source.nbytes * times / best(copies, 5)


def matrix_product(rows: int, inner: int, columns: int, dtype: str = "float32") -> float:
    """Seconds of a dense matrix product [rows, inner] [inner, columns]."""
    kind = getattr(torch, dtype)
    a, b = torch.randn(rows, inner, dtype=kind), torch.randn(inner, columns, dtype=kind)
    out = torch.empty(rows, columns, dtype=kind)
    return best(lambda: torch.mm(a, b, out=out))
