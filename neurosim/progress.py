"""Progress on the screen: a bar in a terminal, one plain line per epoch elsewhere, nothing when quiet."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunProgress:
    """Counts presentations; `epoch` announces the scores of a finished epoch."""

    def __init__(self, console: Console | None, total: int, done: int = 0):
        self._console = console
        self._bar: Progress | None = None
        self._task: Any = None
        if console is not None and console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=10),  # all columns fit into 80 characters
                MofNCompleteColumn(),
                TextColumn("{task.fields[scores]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("run", total=total, completed=done, epoch=0, scores="")

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """`count` presentations are done."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def epoch(self, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        """An epoch is done: its mean validation loss and accuracy over replicas."""
        scores = f"loss {loss:.4f}, accuracy {100 * accuracy:.2f} %"
        if self._bar is not None:
            self._bar.update(self._task, epoch=f"{epoch}/{epochs}", scores=scores)
        elif self._console is not None:
            self._console.print(f"epoch {epoch}/{epochs}: validation {scores}", highlight=False)
