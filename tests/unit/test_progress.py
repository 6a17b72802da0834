"""Progress: a bar where there is a terminal, one plain line per epoch elsewhere, nothing when quiet."""

import io

from rich.console import Console

from neurosim.progress import RunProgress


def lines(terminal: bool) -> str:
    screen = io.StringIO()
    with RunProgress(Console(file=screen, force_terminal=terminal, width=120), total=4) as progress:
        for _ in range(4):
            progress.advance()
        progress.epoch(1, 2, 0.5, 0.875)
    return screen.getvalue()


def test_plain_without_a_terminal():
    assert lines(terminal=False) == "epoch 1/2: validation loss 0.5000, accuracy 87.50 %\n"


def test_a_bar_in_a_terminal():
    shown = lines(terminal=True)
    assert "4/4" in shown
    assert "epoch 1/2" in shown
    assert "87.50 %" in shown


def test_quiet_has_no_console():
    with RunProgress(None, total=1) as progress:
        progress.advance()
        progress.epoch(1, 1, 0.0, 1.0)
