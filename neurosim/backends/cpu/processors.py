"""Which processors threads run on. A thread that waits for another one on its own processor keeps that one from
running: a step of 20,000 CUBA neurons took 70 us in place of 11 while the system left both on one, which it did in
some processes for good.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress


def _asking() -> Callable[[], int] | None:
    """What says on which processor the calling thread is, where the system can tell and be told."""
    try:
        found = ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return None
    return found if hasattr(os, "sched_setaffinity") else None


_where = _asking()


def here() -> int:
    """The processor of the calling thread, -1: unknown."""
    return -1 if _where is None else _where()


def apart(taken: set[int]) -> None:
    """Go to a processor that is not `taken`, if this thread may use one, and take it. It may leave it again: what the
    thread is allowed to use stays as it was. Where the system refuses, the thread stays: others wait for it.
    """
    if _where is None:
        return
    if here() in taken:
        allowed = os.sched_getaffinity(0)
        if free := allowed - taken:
            with suppress(OSError):
                os.sched_setaffinity(0, free)
                os.sched_setaffinity(0, allowed)
    taken.add(here())
