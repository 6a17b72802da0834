"""Measuring: what counts, what is void, and that the works find what they must."""

import numpy as np
import pytest

from neurosim.benchmark import WORKS, Check, Contender, Measured, in_process, limits, lines, markdown, measure, work
from neurosim.benchmark.measure import Sample, fastest
from neurosim.types import ConfigurationError

CHECKS = {"rate": Check(2.0, 0.1)}


def contender(name, seconds, rate, own=False):
    return Contender(name, lambda: Sample(2.0 * seconds, seconds, {"rate": rate}), own)


def test_a_row_that_disagrees_is_void_and_no_measure_for_others():
    rows = measure(
        [contender("right", 4.0, 2.1, own=True), contender("wrong", 1.0, 3.0), contender("peer", 8.0, 1.9)], CHECKS
    )
    assert [bool(row.void) for row in rows] == [False, True, False]
    assert rows[1].void == "rate is 3 instead of 2 (+- 0.2)"
    assert fastest(rows, own=False).name == "peer"
    measured = Measured("some", work("dense", small=True), rows, (1.0, "nothing"), ("Another",))
    cells = list(lines(measured))
    assert cells[1][3].startswith("void: rate is 3")
    assert [row[-2:] for row in cells] == [["2.00 x", "4.00 x"], ["", ""], ["1.00 x", "8.00 x"]]
    text = "\n".join(markdown([measured]))
    assert "Not installed here: Another." in text
    assert "void" in text


@pytest.mark.parametrize("values", [{}, {"rate": np.ones(2)}, {"rate": np.nan}])
def test_results_that_are_not_there_are_void(values):
    one = Contender("empty", lambda: Sample(1.0, 1.0, values))
    assert measure([one], CHECKS)[0].void


def test_a_single_wrong_repeat_is_enough():
    rates = iter([2.0, 2.0, 5.0, 2.0])
    (row,) = measure([in_process("moody", lambda: next(rates), lambda rate: {"rate": rate})], CHECKS, repeats=3)
    assert "rate is 5" in row.void


def test_repeats_are_in_turn_and_the_first_is_not_counted():
    turns = []
    both = [in_process(name, lambda name=name: turns.append(name), lambda _: {"rate": 2.0}) for name in "ab"]
    rows = measure(both, CHECKS, repeats=2)
    assert "".join(turns) == "ababab"
    assert [len(row.cpu) for row in rows] == [2, 2]


def test_arrays_are_compared_entry_by_entry():
    check = Check(np.array([1.0, 10.0]), 0.01)
    assert not check.wrong("w", [1.09, 10.0])
    assert check.wrong("w", [1.2, 10.0]) == "w is wrong by 0.2 (allowed: 0.1)"


@pytest.mark.parametrize("name", WORKS)
def test_a_work_finds_what_it_must(name):
    one = work(name, small=True)
    (row,) = measure([one.own("cpu")], one.checks, repeats=1)
    assert not row.void
    seconds, what = one.limit()
    assert 0 < seconds < np.inf
    assert what


@pytest.mark.parametrize("name", ["dense", "three_factor_1", "reservoir"])
def test_the_reference_agrees(name):
    one = work(name, small=True)
    assert not measure([one.own("reference")], one.checks, repeats=1)[0].void


def test_a_wrong_simulation_is_seen():
    """The same work with another time constant, leak or weight is not the same work."""
    one, other = work("dense", small=True), work("layer_512", small=True)
    assert measure([one.own("cpu")], other.checks, repeats=1)[0].void


def test_unknown():
    with pytest.raises(ConfigurationError, match="there is no benchmark 'dens'; allowed: cuba_4k"):
        work("dens")


def test_limits_of_this_machine():
    assert 1e8 < limits.copy_bandwidth(1e6) < 1e13
    assert 0 < limits.matrix_product(8, 8, 8) < limits.matrix_product(512, 512, 512)
