"""Stopping without loss: SIGINT, SIGTERM and SIGUSR1 ask a run to save and end."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")  # SIGUSR1 is what Slurm's --signal sends before the time limit


class Stopper:
    """Context in which the signals only set `requested`; a second SIGINT interrupts at once.

    Handlers are our own, because a job started in the background or by a batch system ignores SIGINT from its start.
    Outside the main thread nothing is installed (Python allows none there).
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                if hasattr(signal, name):
                    number = getattr(signal, name)
                    self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number)
