"""Signals ask a run to stop, a second interrupt stops it at once, and the old handlers come back."""

import os
import signal
import threading

import pytest

from neurosim.stopper import Stopper


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_a_request(number):
    before = signal.getsignal(number)
    with Stopper() as stopper:
        assert stopper.requested is None
        os.kill(os.getpid(), number)
        assert stopper.requested == number
    assert signal.getsignal(number) is before


def test_the_second_interrupt_raises():
    with Stopper():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_interrupt_is_heard_again():
    """A shell starts background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopper() as stopper:
            os.kill(os.getpid(), signal.SIGINT)
            assert stopper.requested == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_installed():
    seen = []

    def work() -> None:
        with Stopper() as stopper:
            seen.append((stopper.requested, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
