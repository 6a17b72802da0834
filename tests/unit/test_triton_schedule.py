"""Splitting the loop over time, and what is recorded of it."""

import torch

from neurosim.backends.triton.graphs import Graphs
from neurosim.backends.triton.schedule import Group, Operation, groups


def operation(name, reads="", writes="", log=None, pointers=()):
    def run(first, count):
        if log is not None:
            log.append((name, first, count))

    return Operation(name, run, set(reads.split()), set(writes.split()), pointers=lambda: pointers)


def names(found):
    return [([one.name for one in group.operations], group.whole) for group in found]


def test_a_chain_runs_all_steps_at_once():
    found = groups([operation("a", "", "x"), operation("b", "x", "y"), operation("c", "y", "z")])
    assert names(found) == [(["a"], True), (["b"], True), (["c"], True)]


def test_what_comes_back_stays_together_in_the_order_of_the_step():
    step = [
        operation("input", "", "x"),
        operation("from input", "x", "port"),
        operation("back", "h", "port"),
        operation("hidden", "port", "h"),
        operation("out", "h", "y"),
    ]
    assert names(groups(step)) == [
        (["input"], True),
        (["from input"], True),
        (["back", "hidden"], False),
        (["out"], True),
    ]


def test_one_that_reads_what_it_wrote_goes_step_by_step():
    assert names(groups([operation("trace", "e", "e")])) == [(["trace"], False)]


def test_what_writes_a_weight_in_every_step_stays_with_what_delivers_by_it():
    step = [
        operation("deliver", "x w", "port used"),
        operation("cells", "port", "y"),
        operation("learn", "y used", "w"),
    ]
    assert names(groups(step)) == [(["deliver", "cells", "learn"], False)]
    step[-1].writes.clear()  # at the end of the phase instead
    assert names(groups(step)) == [(["deliver"], True), (["cells"], True), (["learn"], True)]


def test_a_long_chain_needs_no_recursion():
    chain = [operation(str(k), str(k), str(k + 1)) for k in range(5000)]
    found = groups(chain)
    assert [group.operations[0].name for group in found] == [str(k) for k in range(5000)]


def test_steps_of_a_group_alternate():
    log = []
    Group((operation("a", log=log), operation("b", log=log)), whole=False).run(2)
    assert log == [("a", 0, 1), ("b", 0, 1), ("a", 1, 1), ("b", 1, 1)]


class Recording:
    """A graph that runs what it recorded."""

    made = 0

    def __init__(self, run):
        type(self).made += 1
        self.replay = run


def test_a_recording_is_made_the_second_time_and_replayed_after_it():
    log, Recording.made = [], 0
    group = Group((operation("a", log=log, pointers=(7,)), operation("b", log=log)), whole=False)
    graphs = Graphs(torch.device("cuda"), Recording)
    for _ in range(4):
        graphs.run(group, 3)
    assert Recording.made == 1
    assert len(log) == 4 * 6
    graphs.run(group, 2)  # another length
    assert Recording.made == 1
    assert len(log) == 4 * 6 + 4


def test_other_addresses_need_another_recording():
    log, Recording.made, where = [], 0, [1]
    one = Operation("a", lambda first, count: log.append(first), pointers=lambda: tuple(where))
    graphs = Graphs(torch.device("cuda"), Recording)
    for address in (1, 1, 2, 2, 1):
        where[:] = [address]
        graphs.run(Group((one,), whole=False), 1)
    assert Recording.made == 2
    assert len(log) == 5


def test_nothing_is_recorded_where_python_decides_or_without_a_gpu():
    Recording.made = 0
    decides = Group((operation("a", pointers=None),), whole=False)
    for device, group in (("cuda", decides), ("cpu", Group((operation("a"),), whole=False))):
        graphs = Graphs(torch.device(device), Recording)
        for _ in range(3):
            graphs.run(group, 1)
    assert Recording.made == 0
