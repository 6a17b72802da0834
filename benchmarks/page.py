"""The page of the benchmark, written from its JSON: goals with their verdicts, and a table for each work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from goals import GOALS, Entries, limit_of
from peers import PACKAGES

from neurosim.benchmark import GPU, WORKS, Entry, markdown
from neurosim.benchmark.measure import LEAST, LONG
from neurosim.benchmark.report import counts

INTRODUCTION = """\
# Benchmarks: the CPU backend beside other simulators

This page is written by `python benchmarks/compare.py` from [benchmarks.json](benchmarks.json), which has every repeat;
`python benchmarks/compare.py --page` writes it again. Own backends without a peer: `python -m neurosim bench`. How to
install the peers: [benchmarks/README.md](../../benchmarks/README.md).

How to read it. Contenders do the same work in turn, each in a process of its own, one run first that does not count;
numbers are medians. A run shorter than 50 ms is made again until they are over; its time is the mean. With one thread
ratios are of CPU time, with more of time by the clock; there `, 1 thread` ends the name of who is given one thread
only. Brian2's time is that of its own time loop (its C++ program gives one number: CPU time on one thread, else time
by the clock). A ratio to the best peer above 1 is faster than it. The results of every repeat are checked, and a row
that does not agree is VOID: rates (8 % for CUBA; for COBA the 95 % interval of the rate between seeds, 20 %; 3 % for
Brunel; 6 % and some spikes for STDP, and 3 % of the mean weight), spikes of every neuron (layers, 5 %) and the
gradient's sum over the inputs of every neuron (forward and backward, 2 %), every entry of the weight change within 1 %
(three factors), every state within 1e-4 (reservoir), weights within 1e-3 (BioHSIC). Limits are measured beside each
work, on one thread: memory that has to move at the bandwidth of a copy of that size, or the matrix product. Peak MB is
the most resident memory of the process of a contender, as the system counts it, with the interpreter and all it has
loaded (Brian2's C++ program: that of the program alone)."""


def page(entries: Entries) -> str:
    """The whole document."""
    parts = [INTRODUCTION, "", *goals(entries), "", *few(entries), "", "## Tables", "", *tables(entries)]
    return "\n".join(parts).rstrip() + "\n"


def goals(entries: Entries) -> Iterator[str]:
    yield "## Goals of the plan and what was reached"
    yield ""
    yield "| work | goal | verdict | stretch | what the limit is |"
    yield "|---|---|---|---|---|"
    for goal in GOALS:
        cells = goal.work, goal.wanted, goal.test.judge(entries), goal.beyond(entries), limit_of(goal, entries)
        yield f"| {' | '.join(map(str, cells))} |"
    for name, about in GPU.items():
        if name not in entries:
            yield f"| {about} | on a GPU | open: {name} needs a GPU | | |"


def few(entries: Entries) -> Iterator[str]:
    """Which rows are no median of several repeats."""
    yield f"## Rows with fewer than {LEAST} repeats"
    yield ""
    yield f"They are no medians of {LEAST}. Where one repeat takes longer than {LONG:g} s by the clock, one is enough."
    yield ""
    for key in ordered(entries):
        rows = [row for row in entries[key]["rows"] if counts(row) and len(row["cpu"]) < LEAST]
        if rows:
            yield f"- {key}: " + ", ".join(f"{row['name']} ({len(row['cpu'])})" for row in rows)


def tables(entries: Entries) -> Iterator[str]:
    """In the order of the works, each with one thread first."""
    for name in ordered(entries):
        entry = entries[name]
        yield from markdown(name, entry)
        yield measured(entry)
        yield ""


def ordered(entries: Entries) -> list[str]:
    order = {name: place for place, name in enumerate(WORKS)}
    return sorted(entries, key=lambda name: (order.get(name.partition(",")[0], len(order)), name))


def measured(entry: Entry) -> str:
    """When, where and with what a work was measured."""
    around = entry["around"]
    versions = [f"{name} {around[name]}" for name in ("numpy", "numba", *PACKAGES) if around.get(name) not in (
        None, "not installed")]  # fmt: skip
    threads = "1 thread" if around["threads"] == 1 else f"{around['threads']} threads"
    load = around.get("load", "unknown")
    said = f"Measured {around['date']}: {around['processor']}, {around['cores']} cores, {threads}, load {load}"
    empty = around.get("empty_process_mb")
    memory = "" if empty is None else f"; a process with the package alone has {empty} MB"
    return f"{said}; CPython {around['python']}, {', '.join(versions)}{memory}."


def write(target: Path) -> None:
    """The page beside the JSON file `target`."""
    target.with_suffix(".md").write_text(page(json.loads(target.read_text(encoding="utf-8"))), encoding="utf-8")
