"""benchmarks/: who takes part, verdicts and the page that is written from the JSON."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neurosim.benchmark import GPU, WORKS, Recipe, apart, measure, work
from neurosim.benchmark.report import HEAD

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scripts():
    """The modules of benchmarks/ by name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import compare
        import goals
        import page
        import peers
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return {"compare": compare, "goals": goals, "page": page, "peers": peers}


@pytest.fixture
def on_path(monkeypatch):
    """Processes of their own find the modules of benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def row(name, seconds, own=False, void="", peak=100, wall=None):
    wall = seconds if wall is None else wall
    return {"name": name, "own": own, "void": void, "cpu": [seconds], "wall": [wall], "peak": peak}


def entry(*rows, limit=1.0, clock="cpu", threads=1):
    around = {"date": "then", "processor": "P", "cores": 2, "python": "3", "threads": threads, "load": 0.1}
    return {
        "about": "about", "unit": "s", "clock": clock, "rows": list(rows), "limit": {"value": limit, "of": "nothing"},
        "skipped": [], "around": around,
    }  # fmt: skip


# ---- who takes part -------------------------------------------------------------------------------------------------


def test_every_peer_that_is_not_installed_is_skipped_by_name_with_its_command(scripts, monkeypatch):
    peers = scripts["peers"]
    monkeypatch.setattr(peers, "installed", lambda package: None if package == "nest-simulator" else "1.0")
    monkeypatch.setattr(peers.shutil, "which", lambda program: program)
    recipes, reasons = peers.peers_of("coba", work("coba", small=True), 1)
    assert [recipe.name for recipe in recipes] == ["Brian2 C++", "Brian2 Cython"]
    assert reasons == ["NEST is not installed: nest-simulator 3.10.0; pip install nest-simulator==3.10.0"]


def test_without_a_compiler_the_program_is_skipped(scripts, monkeypatch):
    peers = scripts["peers"]
    monkeypatch.setattr(peers, "installed", lambda package: "1.0")
    monkeypatch.setattr(peers.shutil, "which", lambda program: None)
    _, reasons = peers.peers_of("coba", work("coba", small=True), 1)
    assert reasons[0] == "Brian2 C++ needs a C++ compiler (g++), and there is none"


def test_threads_are_told_to_those_that_have_them(scripts, monkeypatch):
    peers = scripts["peers"]
    monkeypatch.setattr(peers, "installed", lambda package: "1.0")
    monkeypatch.setattr(peers.shutil, "which", lambda program: program)
    recipes, _ = peers.peers_of("cuba_4k", work("cuba_4k", small=True), 2)
    told = {recipe.name: (recipe.threads, recipe.arguments[1:]) for recipe in recipes}
    assert told == {
        "Brian2 C++": (2, (2,)), "Brian2 C++, 1 thread": (1, (1,)), "Brian2 Cython": (1, ()), "NEST": (2, (2,)),
    }  # fmt: skip
    assert peers.peers_of("cuba_1m", work("cuba_1m", small=True), 1) == ([], [])


def test_every_work_has_peers_and_every_peer_a_function(scripts):
    peers = scripts["peers"]
    for package in peers.PACKAGES.values():
        assert f"{package.name}=={package.version}" in package.command
    for chosen in peers.PEERS.values():
        for peer in chosen:
            assert peer.package in peers.PACKAGES
            source = (ROOT / "benchmarks" / f"{peer.module}.py").read_text()
            assert f"\ndef {peer.function}(" in source


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("dense", ["torch_peers.layer_steps", "torch_peers.layer_batched"]),
        (
            "three_factor_32",
            [f"torch_peers.{one}" for one in ("outer_products", "outer_products_in_place", "factorised")],
        ),
        ("reservoir", ["torch_peers.torch_csr", "torch_peers.torch_dense", "torch_peers.scipy_csr"]),
        ("gradient_512", ["gradient_peers.gradient"]),
    ],
)
def test_peers_in_plain_torch_do_the_same_work(scripts, on_path, name, functions):
    recipes = [Recipe(one, *one.split("."), (work(name, small=True),)) for one in functions]
    with apart(recipes) as contenders:
        rows = measure(contenders, work(name, small=True).checks, repeats=1)
    assert [row.void for row in rows] == [""] * len(functions)


@pytest.mark.parametrize("name", ["gradient_512", "three_factor_1"])
def test_peers_that_are_installed_agree_or_their_note_says_why_not(scripts, on_path, name):
    peers, one = scripts["peers"], work(name, small=True)
    recipes, _ = peers.peers_of(name, one, 1)
    notes = peers.notes(name, one)
    with apart(recipes) as contenders:
        rows = measure(contenders, one.checks, repeats=1)
    assert rows
    for row in rows:
        assert "it failed" not in row.void
        assert bool(row.void) == ("cannot agree" in notes.get(row.name, ""))


def test_a_peer_with_another_surrogate_is_void(scripts, on_path):
    other = replace(work("gradient_512", small=True), slope=10.0)
    with apart([Recipe("torch", "gradient_peers", "gradient", (other,))]) as contenders:
        (row,) = measure(contenders, work("gradient_512", small=True).checks, repeats=1)
    assert row.void.startswith("gradient is wrong by ")


def test_notes_are_of_those_that_take_part(scripts, monkeypatch):
    peers = scripts["peers"]
    monkeypatch.setattr(peers.shutil, "which", lambda program: program)
    monkeypatch.setattr(peers, "installed", lambda package: None if package == "nest-simulator" else "1.0")
    assert list(peers.notes("stdp", work("stdp", small=True))) == ["BindsNET PostPre"]
    assert peers.notes("coba", work("coba", small=True)) == {}
    monkeypatch.setattr(peers, "installed", lambda package: "1.0")
    assert list(peers.notes("stdp", work("stdp", small=True))) == ["NEST", "BindsNET PostPre"]
    named = {peer.name for chosen in peers.PEERS.values() for peer in chosen if peer.note}
    assert len(named) == len(peers.NOTES)


def test_beside_two_threads_the_backend_has_one_as_well(scripts, monkeypatch):
    compare = scripts["compare"]
    monkeypatch.setattr(compare, "peers_of", lambda name, one, threads: ([], []))
    for name, others in (("coba", []), ("biohsic_original", ["neurosim reference"])):
        _, recipes, _ = compare.contenders(name, 2, True)
        assert [one.name for one in recipes] == ["neurosim cpu", "neurosim cpu, 1 thread", *others]
        assert [one.threads for one in recipes][:2] == [2, 1]
        assert all(one.own for one in recipes)
    assert [one.name for one in compare.contenders("coba", 1, True)[1]] == ["neurosim cpu"]


def test_a_gpu_work_is_skipped_with_a_sentence(scripts, monkeypatch):
    compare = scripts["compare"]
    monkeypatch.setattr(compare.torch.cuda, "is_available", lambda: False)
    for name in GPU:
        assert compare.refused(name).endswith("skipped, it needs a GPU, and torch sees none here")
    monkeypatch.setattr(compare.torch.cuda, "is_available", lambda: True)
    assert "no backend of this package runs it on a GPU yet" in compare.refused("gpu_scan")
    assert compare.refused("coba") == ""


def test_networks_are_run_on_two_threads_too(scripts):
    planned = scripts["compare"].planned
    assert planned(["cuba_20k", "dense"], None) == [("cuba_20k", 1), ("cuba_20k", 2), ("dense", 1)]
    on_two = [name for name, threads in planned(list(WORKS), None) if threads == 2]
    assert on_two == ["cuba_4k", "cuba_20k", "cuba_100k", "coba", "brunel"]
    assert planned(["coba"], [2]) == [("coba", 2)]


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_faster_is_the_smallest_ratio_to_the_best_peer_that_counts(scripts):
    faster = scripts["goals"].Faster
    entries = {
        "a": entry(row("o", 1.0, own=True), row("P x", 3.0), row("Q x", 2.5), row("V", 0.1, void="wrong")),
        "b": entry(row("o", 1.0, own=True), row("P x", 2.0)),
    }
    assert str(faster(("a", "b"), 2.0).judge(entries)) == "reached: 2.50 / 2.00 x"
    assert str(faster(("a", "b"), 2.1).judge(entries)) == "missed: 2.50 / 2.00 x"
    assert str(faster(("a",), 2.9, ("P",)).judge(entries)) == "reached: 3.00 x"
    assert str(faster(("b",), 2.9, ("Q",)).judge(entries)) == "open: no such peer counts at b"
    assert str(faster(("c",), 1.0).judge(entries)) == "open: c was not measured"


def test_a_void_row_of_ours_reaches_nothing(scripts):
    entries = {"a": entry(row("o", 1.0, own=True, void="rate is 3"), row("P", 3.0))}
    assert str(scripts["goals"].Faster(("a",), 2.0).judge(entries)) == "missed: no row of ours counts at a"


def test_other_goals(scripts):
    goals = scripts["goals"]
    entries = {
        "a": entry(row("o", 1.2, own=True), limit=1.0), "big": entry(row("o", 6.0, own=True, peak=17_000)),
        "w, 2 threads": threaded(1.6, 2.0), "same, 2 threads": threaded(1.01, 1.0),
        "slow, 2 threads": threaded(1.6, 1.5), "alone, 2 threads": entry(row("o", 9.0, own=True), clock="wall"),
        "shrinks": entry(row("1 s", 1.0, own=True, peak=500), row("4 s", 1.0, own=True, peak=400)),
        "flat": entry(row("1 s", 1.0, own=True, peak=400), row("4 s", 1.0, own=True, peak=401)),
        "grows": entry(row("1 s", 1.0, own=True, peak=400), row("4 s", 1.0, own=True, peak=500)),
    }  # fmt: skip
    for test, said in (
        (goals.NearLimit("a", 1.2), "reached: 1.20 x"),
        (goals.NearLimit("a", 1.15), "missed: 1.20 x"),
        (goals.Below("a", 1.2), "reached: 1.2 s"),
        (goals.Below("a", 1.1), "missed: 1.2 s"),
        (goals.ThreadsHelp(("w",)), "reached: 1.25 x as fast"),
        (goals.ThreadsHelp(("w", "same")), "reached: 1.25 / 0.99 x as fast"),
        (goals.ThreadsHelp(("w", "slow")), "missed: 1.25 / 0.94 x as fast"),
        (goals.ThreadsHelp(("alone",)), "open: no row of ours on one thread at alone, 2 threads"),
        (goals.ThreadsHelp(("a",)), "open: a, 2 threads was not measured"),
        (goals.Linear({"a": 100_000, "big": 1_000_000}, 2.0), "reached: 12.0 / 6.0 us per neuron and simulated second"),
        (goals.Linear({"a": 1_000_000, "big": 1_000_000}, 2.0), "missed: 1.2 / 6.0 us per neuron and simulated second"),
        (goals.Memory("flat"), "reached: 400 / 401 MB"),
        (goals.Memory("grows"), "missed: 400 / 500 MB"),
        (goals.Memory("shrinks"), "reached: 500 / 400 MB"),
        (goals.Memory("big", 16e9), "missed: 17,000 MB"),
        (goals.Memory("big", 18e9), "reached: 17,000 MB"),
    ):
        assert str(test.judge(entries)) == said


def threaded(two, one):
    """An entry of ours on two threads and on one: seconds by the clock."""
    rows = row("o", 9.0, own=True, wall=two), row("o, 1 thread", 0.1, own=True, wall=one)
    return entry(*rows, row("P", 9.0, wall=3.0), clock="wall", threads=2)


def test_our_row_on_one_thread_reaches_no_goal_for_two(scripts):
    entries = {"w, 2 threads": threaded(2.0, 1.0)}
    assert str(scripts["goals"].Faster(("w, 2 threads",), 3.0).judge(entries)) == "missed: 1.50 x"
    entries["w, 2 threads"]["rows"][0]["void"] = "rate is 3"
    assert str(scripts["goals"].Faster(("w, 2 threads",), 1.0).judge(entries)).startswith("missed: no row of ours")


def test_a_goal_says_whether_it_is_exceeded(scripts):
    goals = scripts["goals"]
    entries = {"a": entry(row("o", 1.0, own=True), row("P", 2.3))}
    goal = goals.Goal("a", "2 x", goals.Faster(("a",), 2.0), further="2.5 x", stretch=goals.Faster(("a",), 2.5))
    assert (str(goal.test.judge(entries)), goal.beyond(entries)) == ("reached: 2.30 x", "2.5 x: missed")
    entries["a"]["rows"][1]["cpu"] = [2.6]
    assert goal.beyond(entries) == "2.5 x: reached"
    assert goal.beyond({}) == "2.5 x: open"
    assert goals.Goal("a", "2 x", goals.Faster(("a",), 2.0)).beyond(entries) == ""


def test_goals_beyond_the_goals_are_those_of_the_plan(scripts):
    stretched = {goal.work: (goal.further, goal.stretch) for goal in scripts["goals"].GOALS if goal.further}
    assert {work: further for work, (further, _) in stretched.items()} == {
        "CUBA 4k / 20k / 100k": "2.5 x", "CUBA 20k / 100k": "4 x", "reservoir": "200 us per step",
        "BioHSIC XOR, published protocol": "20 s",
    }  # fmt: skip
    assert stretched["CUBA 20k / 100k"][1].keys == ("cuba_20k, 2 threads", "cuba_100k, 2 threads")


def test_what_is_moved_for_a_neuron_is_computed_from_the_limits(scripts):
    goals = scripts["goals"]
    (goal,) = (one for one in goals.GOALS if "linear" in one.wanted)
    sizes = {"cuba_4k": 0.04, "cuba_20k": 0.3, "cuba_100k": 4.0}
    entries = {name: entry(row("o", 1.0, own=True), limit=limit) for name, limit in sizes.items()}
    assert goals.limit_of(goal, entries).endswith("costs 10.0 / 15.0 / 40.0 us")
    del entries["cuba_20k"]
    assert goals.limit_of(goal, entries) == "cuba_20k was not measured"


def test_goals_name_works_that_there_are(scripts):
    goals, known = scripts["goals"], {*WORKS, *scripts["compare"].STUDIES}
    for test in [one for goal in goals.GOALS for one in (goal.test, goal.stretch) if one is not None]:
        keys = next(getattr(test, name) for name in ("keys", "names", "sizes", "key") if hasattr(test, name))
        keys = (keys,) if isinstance(keys, str) else tuple(keys)
        assert {key.partition(",")[0] for key in keys} <= known
    assert all(goal.limits for goal in goals.GOALS)
    assert set(goals.LIMITS) <= {goal.limits for goal in goals.GOALS}


# ---- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_made_from_the_json(scripts):
    entries = {"coba": entry(row("neurosim cpu", 1.0, own=True), row("NEST", 2.0), row("Bad", 0.1, void="rate is 9"))}
    text = scripts["page"].page(entries)
    assert "| COBA | 2 x the best peer | reached: 2.00 x |" in text
    assert "| Brunel | 2 x the best peer | open: brunel was not measured |" in text
    assert "| CUBA network of 1,000,000 neurons | on a GPU | open: gpu_cuba_1m needs a GPU | | |" in text
    assert "| neurosim cpu | 1 | 1 | 1 | 1 | 100 | 2.00 x | 1.00 x |" in text
    assert "| Bad | VOID: rate is 9 |" in text
    assert "Measured then: P, 2 cores, 1 thread, load 0.1" in text
    entries["coba"]["rows"][1]["cpu"] = [1.5]
    assert "| COBA | 2 x the best peer | missed: 1.50 x |" in scripts["page"].page(entries)
    table = [line for line in text.splitlines() if line.startswith("| contender")]
    assert table[0].count("|") == len(HEAD[2:]) + 1


def test_the_page_lists_rows_with_few_repeats(scripts):
    often, once = row("neurosim cpu", 1.0, own=True), row("NEST", 2.0)
    often["cpu"] = often["wall"] = [1.0, 1.0, 1.0]
    twice = {**row("Brian2 C++", 2.0), "cpu": [2.0, 2.0]}
    entries = {"coba": entry(often, row("Bad", 1.0, void="wrong")), "cuba_100k, 2 threads": entry(often, once, twice)}
    text = scripts["page"].page(entries)
    assert "\n- cuba_100k, 2 threads: NEST (1), Brian2 C++ (2)\n\n## Tables" in text
    assert "- coba:" not in text
    del entries["cuba_100k, 2 threads"]
    assert "(1)" not in scripts["page"].page(entries)


def test_the_page_has_notes_below_the_table_and_stretch_goals(scripts):
    entries = {"reservoir": entry(row("neurosim cpu", 190.0, own=True), row("torch CSR", 200.0))}
    assert "| reservoir | faster than the best peer | reached: 1.05 x | 200 us per step: reached |" in (
        scripts["page"].page(entries)
    )
    entries["reservoir"]["notes"] = {"torch CSR": "it is another"}
    assert "1.00 x | 200.00 x |\n\n- torch CSR: it is another.\n\nMeasured then" in scripts["page"].page(entries)


def test_the_committed_page_is_that_of_the_committed_json(scripts):
    results = ROOT / "docs" / "results"
    entries = json.loads((results / "benchmarks.json").read_text())
    assert (results / "benchmarks.md").read_text() == scripts["page"].page(entries)


def test_a_work_measured_again_replaces_its_own_numbers_only(scripts, monkeypatch, tmp_path):
    compare = scripts["compare"]
    target = tmp_path / "out.json"
    target.write_text(json.dumps({"coba": entry(row("old", 1.0, own=True)), "dense": entry(row("old", 1.0, own=True))}))
    monkeypatch.setattr(compare, "peers_of", lambda name, one, threads: ([], ["X is not installed"]))
    monkeypatch.setattr(sys, "argv", ["compare.py", "dense", "gpu_scan", "--small", "--quick", "--output", str(target)])
    compare.main()
    kept = json.loads(target.read_text())
    assert kept["coba"]["rows"][0]["name"] == "old"
    (own,) = kept["dense"]["rows"]
    assert (own["name"], own["void"], len(own["cpu"])) == ("neurosim cpu", "", 1)
    assert own["peak"] >= kept["dense"]["around"]["empty_process_mb"] > 0
    page = target.with_suffix(".md").read_text()
    assert "Left out: X is not installed." in page
    assert page == scripts["page"].page(kept)
