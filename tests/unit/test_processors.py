"""Threads of a team go to processors of their own."""

import os
import threading

import pytest

from neurosim.backends.cpu import processors
from neurosim.backends.cpu.processors import apart, here


@pytest.fixture
def system(monkeypatch):
    """Four processors, of which three may be used; this thread is on number 1."""
    told, place = [], [1]

    def tell(thread, allowed):
        told.append(set(allowed))
        if place[0] not in allowed:
            place[0] = min(allowed)

    monkeypatch.setattr(processors, "_where", lambda: place[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {0, 1, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", tell, raising=False)
    return told


def test_a_thread_leaves_what_is_taken_and_may_go_back(system):
    taken = {1, 0}
    apart(taken)
    assert here() == 3
    assert taken == {0, 1, 3}
    assert system == [{3}, {0, 1, 3}]


@pytest.mark.parametrize("taken", [{0}, {0, 1, 3}])
def test_a_thread_stays_where_nobody_is_and_where_all_is_taken(system, taken):
    expected = taken | {1}
    apart(taken)
    assert (here(), taken, system) == (1, expected, [])


def test_where_the_system_refuses(system, monkeypatch):
    """A thread that fails here would let the others wait for ever."""

    def refuse(thread, allowed):
        raise PermissionError("not in this container")

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    taken = {1}
    apart(taken)
    assert (here(), taken) == (1, {1})


def test_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(processors, "_where", None)
    taken = {-1}
    apart(taken)
    assert (here(), taken) == (-1, {-1})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not let a thread choose")
def test_what_a_thread_may_use_stays_as_it_was():
    allowed, found = os.sched_getaffinity(0), []

    def go():
        apart({here()})
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert found == [allowed]
    assert os.sched_getaffinity(0) == allowed
