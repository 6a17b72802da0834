"""Measuring: what counts, what is void, and that the works find what they must."""

import importlib
import math
import time
from dataclasses import replace

import numpy as np
import pytest

from neurosim.benchmark import (
    GPU,
    LARGE,
    WORKS,
    Check,
    Contender,
    Failed,
    Measured,
    Recipe,
    Sample,
    apart,
    backend_of,
    in_process,
    limits,
    lines,
    markdown,
    measure,
    usual,
    void_reason,
    work,
)  # fmt: skip
from neurosim.benchmark.balanced import Brunel, Coba, Cuba, PoissonTrains
from neurosim.benchmark.report import best_own, best_peer
from neurosim.benchmark.streamed import Streamed
from neurosim.types import ConfigurationError

measuring = importlib.import_module("neurosim.benchmark.measure")  # `measure` is a function of the package
CHECKS = {"rate": Check(2.0, 0.1)}


def contender(name, seconds, rate, own=False):
    return Contender(name, lambda: Sample(2.0 * seconds, seconds, {"rate": rate}), own)


def test_a_row_that_disagrees_is_void_and_no_measure_for_others():
    rows = measure(
        [contender("right", 4.0, 2.1, own=True), contender("wrong", 1.0, 3.0), contender("peer", 8.0, 1.9)], CHECKS
    )
    assert [bool(row.void) for row in rows] == [False, True, False]
    assert rows[1].void == "rate is 3 instead of 2 (+- 0.2)"
    measured = Measured("some", work("dense", small=True), rows, (1.0, "nothing"), ("Another is not installed",))
    entry = measured.json()
    assert best_peer(entry)["name"] == "peer"
    assert best_own(entry)["name"] == "right"
    cells = list(lines("some", entry))
    assert cells[1][3].startswith("VOID: rate is 3")
    assert [row[-2:] for row in cells] == [["2.00 x", "4.00 x"], ["", ""], ["1.00 x", "8.00 x"]]
    text = "\n".join(markdown("some", entry))
    assert "Left out: Another is not installed." in text
    assert "VOID" in text


def test_ratios_are_of_the_clock_that_was_chosen():
    rows = measure([Contender("a", lambda: Sample(6.0, 1.0, {"rate": 2.0}), True), contender("b", 2.0, 2.0)], CHECKS)
    ratios = [
        next(iter(lines("x", Measured("x", work("dense", small=True), rows, (2.0, ""), clock=clock).json())))[-2:]
        for clock in ("cpu", "wall")
    ]
    assert ratios == [["2.00 x", "0.50 x"], ["0.67 x", "3.00 x"]]


def test_peers_are_chosen_by_name_or_first_word():
    rows = measure([contender(name, 1.0, 2.0) for name in ("torch, slow, in place", "torch, slow", "JAX scan")], CHECKS)
    entry = Measured("x", work("dense", small=True), rows, (1.0, "")).json()
    assert best_peer(entry, ("torch, slow",))["name"] == "torch, slow"
    assert best_peer(entry, ("JAX",))["name"] == "JAX scan"
    assert best_peer(entry, ("Norse",)) is None


def test_who_fails_is_void_and_asked_no_more():
    asked = []

    def failing():
        asked.append(1)
        raise Failed("no compiler")

    rows = measure([Contender("broken", failing), contender("right", 1.0, 2.0)], CHECKS, repeats=2)
    assert rows[0].void == "it failed: no compiler"
    assert len(asked) == 1
    assert [len(row.cpu) for row in rows] == [0, 2]
    cells = next(iter(lines("x", Measured("x", work("dense", small=True), rows, (1.0, "")).json())))
    assert cells[3] == "VOID: it failed: no compiler"


@pytest.mark.parametrize(
    ("repeats", "seconds", "long", "counted"),
    [(5, -1.0, 60.0, 3), (5, -1.0, -1.0, 1), (2, -1.0, 60.0, 2), (5, 60.0, 60.0, 5), (5, 60.0, -1.0, 5)],
)
def test_whoever_used_up_the_time_sits_out_after_three_repeats_or_a_long_one(repeats, seconds, long, counted):
    one = in_process("slow", lambda: None, lambda _: {"rate": 2.0})
    (row,) = measure([one], CHECKS, repeats, seconds, long)
    assert len(row.cpu) == counted


def holding(megabytes, rate=2.0):
    """A contender that fills so much memory when it is made."""
    held = np.ones(megabytes * 125_000)
    return in_process("holding", lambda: held, lambda _: {"rate": rate})


def leaving():
    raise SystemExit(3)


def failing():
    return in_process("failing", lambda: 1 / 0, lambda _: {})


def test_processes_of_their_own_have_their_own_peak_and_reasons():
    recipes = [
        Recipe("small", __name__, "holding", (1,)),
        Recipe("large", __name__, "holding", (200,)),
        Recipe("failing", __name__, "failing"),
        Recipe("leaving", __name__, "leaving"),
        Recipe("missing", "no_such_module", "make"),
    ]
    with apart(recipes) as contenders:
        small, large, wrong, gone, missing = measure(contenders, CHECKS, repeats=1)
    assert not small.void
    assert not large.void
    assert 150e6 < large.peak - small.peak < 250e6
    assert wrong.void == "it failed: ZeroDivisionError: division by zero"
    assert gone.void == "it failed: its process ended with code 3"
    assert missing.void == "it failed: ModuleNotFoundError: No module named 'no_such_module'"


def several():
    yield "one that is not installed"
    yield from (contender(name, 1.0, 2.0) for name in ("a", "b"))


def test_one_of_several_contenders_is_taken_by_name():
    assert Recipe("b", __name__, "several").make().name == "b"
    with pytest.raises(ConfigurationError, match="makes no contender 'c'"):
        Recipe("c", __name__, "several").make()


def test_a_backend_in_a_process_of_its_own_finds_the_same():
    one = work("reservoir", small=True)
    assert one.checks  # what has been computed here is not sent along
    recipe = backend_of(one, "cpu")
    assert "checks" not in vars(recipe.arguments[0])
    with apart([recipe]) as contenders:
        (row,) = measure(contenders, one.checks, repeats=1)
    assert (row.void, row.own) == ("", True)


@pytest.mark.parametrize("values", [{}, {"rate": np.ones(2)}, {"rate": np.nan}])
def test_results_that_are_not_there_are_void(values):
    one = Contender("empty", lambda: Sample(1.0, 1.0, values))
    assert measure([one], CHECKS)[0].void


def test_a_single_wrong_repeat_is_enough(monkeypatch):
    monkeypatch.setattr(measuring, "SHORTEST", 0.0)
    rates = iter([2.0, 2.0, 5.0, 2.0])
    (row,) = measure([in_process("moody", lambda: next(rates), lambda rate: {"rate": rate})], CHECKS, repeats=3)
    assert "rate is 5" in row.void
    assert list(rates) == [2.0]  # asked no more


def test_short_runs_are_made_again_and_their_time_is_the_mean(monkeypatch):
    monkeypatch.setattr(measuring, "SHORTEST", 0.02)
    runs = []
    sample = in_process("short", lambda: runs.append(time.sleep(0.004)), lambda _: {}).sample()
    assert 2 <= len(runs) <= 5
    assert 0.004 <= sample.wall < 0.02
    monkeypatch.setattr(measuring, "SHORTEST", 0.0)
    in_process("long", lambda: runs.clear(), lambda _: runs.append(1)).sample()
    assert len(runs) == 1


def test_repeats_are_in_turn_and_the_first_is_not_counted(monkeypatch):
    monkeypatch.setattr(measuring, "SHORTEST", 0.0)
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
    assert one.scale > 0
    seconds, what = one.limit()
    assert 0 < seconds < np.inf
    assert what


@pytest.mark.parametrize("name", ["dense", "three_factor_1", "reservoir"])
def test_the_reference_agrees(name):
    one = work(name, small=True)
    assert not measure([one.own("reference")], one.checks, repeats=1)[0].void


@pytest.mark.parametrize(("change", "said"), [({"slope": 10.0}, "gradient is wrong"), ({"spread": 0.45}, "rate is ")])
def test_a_wrong_gradient_or_wrong_spikes_are_seen(change, said):
    one = work("gradient_512", small=True)
    assert void_reason(replace(one, **change).own("cpu").sample().values, one.checks).startswith(said)


def test_a_wrong_simulation_is_seen():
    """The same work with another time constant, leak or weight is not the same work."""
    one, other = work("dense", small=True), work("layer_512", small=True)
    assert measure([one.own("cpu")], other.checks, repeats=1)[0].void


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (work("coba", small=True), Coba(500, steps=400, skip=10.0, probability=0.16, inh=20.0)),
        (work("brunel", small=True), Brunel(250, steps=400, skip=10.0, J=0.5, g=3.0)),
        (work("brunel", small=True), Brunel(250, steps=400, skip=10.0, J=0.5, eta=2.5)),
        (work("cuba_4k", small=True), Cuba(500, steps=200, inh=-4.0)),
    ],
)
def test_a_wrong_weight_or_drive_is_seen_in_the_rate(one, other):
    assert void_reason(other.own("cpu").sample().values, one.checks).startswith("rate is ")


def test_the_rate_counts_spikes_from_skip_on():
    late, whole = Coba(500, steps=400, skip=30.0), Coba(500, steps=400, skip=0.0)
    assert late.mean_rate(50) == pytest.approx(10.0)  # 50 spikes of 500 neurons in 10 ms
    assert whole.mean_rate(50) == pytest.approx(2.5)
    _, found = whole.run(simulator := whole.simulator("cpu"), simulator.init(1))
    spikes = sum(int((found.step[key] >= 300).sum()) for key in found)
    assert late.own("cpu").sample().values["rate"] == pytest.approx(late.mean_rate(spikes))


def test_poisson_trains_have_the_distribution_of_their_sum():
    source = PoissonTrains(20_000.0)
    constants = source.constants(0.1)
    uniform = (np.arange(1_000_000) + 0.5) / 1e6
    (counts,) = source.step(np.zeros_like(uniform), uniform, *constants)
    expected = [np.exp(-2.0) * 2.0**k / math.factorial(k) for k in range(10)]
    np.testing.assert_allclose(np.bincount(counts.astype(int))[:10] / 1e6, expected, atol=2e-6)
    with pytest.raises(ConfigurationError, match="must be at most 25000 Hz"):
        PoissonTrains(26_000.0).constants(0.1)


def test_streamed_spikes_are_those_of_one_run():
    cuba = Cuba(150, steps=300, rate=50.0)
    streamed = Streamed(cuba, stretch=100, parts=3)
    rate = streamed.own("cpu").sample().values["rate"]
    assert rate == pytest.approx(cuba.own("cpu").sample().values["rate"])
    assert [recipe.arguments[2] for recipe in streamed.recipes("cpu", 1)] == [1, 4]


def test_what_is_large_or_needs_a_gpu_is_not_run_unasked():
    assert set(WORKS) - set(usual()) == set(LARGE) == {"cuba_1m"}
    for name in GPU:
        with pytest.raises(ConfigurationError, match="needs a GPU"):
            work(name)


def test_unknown():
    with pytest.raises(ConfigurationError, match="there is no benchmark 'dens'; allowed: cuba_4k"):
        work("dens")


def test_limits_of_this_machine():
    assert 1e8 < limits.copy_bandwidth(1e6) < 1e13
    assert 0 < limits.matrix_product(8, 8, 8) < limits.matrix_product(512, 512, 512)
