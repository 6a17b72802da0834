"""One thread or several: by a clock that the test moves."""

from itertools import pairwise

import numpy as np
import pytest

from neurosim.backends.cpu import team
from neurosim.backends.cpu.team import CHUNK, LONGEST, Pace


class Clock:
    """A step costs `one` s on one thread and `all` s on several; `calls` are what ran: (way, steps)."""

    def __init__(self, one, every):
        self.now, self.cost, self.calls = 0.0, [one, every], []

    def run(self, start, stop):  # several threads
        self.spend(1, stop - start)

    def drive(self, calls, start, stop, *share):  # one thread
        self.spend(0, stop - start)

    def spend(self, way, steps):
        self.calls.append((way, steps))
        self.now += steps * self.cost[way]


@pytest.fixture
def clock(monkeypatch):
    made = Clock(20e-6, 10e-6)
    monkeypatch.setattr(team, "drive", made.drive)
    monkeypatch.setattr(team.time, "perf_counter", lambda: made.now)
    return made


def steps_by_way(clock):
    return [sum(steps for way, steps in clock.calls if way == one) for one in (0, 1)]


@pytest.mark.parametrize("quick", [0, 1])
def test_the_quicker_way_does_nearly_all(clock, quick):
    clock.cost = [10e-6, 20e-6] if quick == 0 else [20e-6, 10e-6]
    Pace().run(clock, np.zeros(0), 5, 200_000)
    ways = steps_by_way(clock)
    assert sum(ways) == 200_000
    assert ways[quick] > 0.98 * 200_000
    trials = [place for place, (way, _) in enumerate(clock.calls) if way != quick]
    assert len(trials) >= 4
    waited = [b - a for a, b in pairwise(trials) if b - a > 1]  # a trial is two calls: the first one is not measured
    assert waited == sorted(waited)
    assert waited[-1] > waited[0] > 4


def test_what_changes_is_found_out(clock):
    pace = Pace()
    pace.run(clock, np.zeros(0), 0, 20_000)
    clock.cost, clock.calls = [20e-6, 1000e-6], []  # somebody else takes a core
    pace.run(clock, np.zeros(0), 20_000, 40_000)
    ways = steps_by_way(clock)
    assert ways[1] < LONGEST / 10e-6 + 100  # one stretch, and a few steps now and then
    assert ways[0] > 0.95 * 40_000


@pytest.mark.parametrize("when", [1, 2, 5, 9])
def test_a_stretch_that_is_held_up_changes_nothing(clock, when):
    """The quicker way goes on where one of its stretches took three times as long."""
    pace = Pace()
    pace.run(clock, np.zeros(0), 0, 20_000)
    spend, ahead = clock.spend, []

    def late(way, steps):
        spend(way, steps)
        ahead.append(way)
        clock.now += 2 * steps * clock.cost[way] if len(ahead) == when else 0.0

    clock.spend, clock.calls = late, []
    pace.run(clock, np.zeros(0), 20_000, 20_000)
    assert steps_by_way(clock)[1] > 0.97 * 20_000


def test_a_trial_that_was_held_up_is_made_again(clock):
    """Three stretches of the quicker way were late; it is found out soon that it is the quicker one all the same."""
    pace = Pace()
    clock.cost = [20e-6, 60e-6]
    pace.run(clock, np.zeros(0), 0, 20_000)
    assert pace._better() == 0
    clock.cost, clock.calls, pace.wait = [20e-6, 10e-6], [], 0
    pace.run(clock, np.zeros(0), 20_000, 20_000)
    assert steps_by_way(clock)[1] > 0.97 * 20_000


def test_stretches_grow_while_nothing_happens(clock):
    pace = Pace()
    pace.run(clock, np.zeros(0), 0, 50_000)
    assert pace.chunk == LONGEST
    assert max(steps for _, steps in clock.calls) == pytest.approx(LONGEST / 10e-6, abs=1)
    clock.cost = [20e-6, 18e-6]
    clock.calls = []
    pace.wait = 8
    pace.run(clock, np.zeros(0), 50_000, 4_000)
    lengths = [steps for way, steps in clock.calls if way == 1]
    assert lengths[1] == pytest.approx(CHUNK / 18e-6, abs=1)  # it took 1.8 times as long: look more often
    assert lengths[3] == pytest.approx(2 * CHUNK / 18e-6, abs=1)  # that is what it takes now
