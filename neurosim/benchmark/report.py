"""The table of a measurement: time, peak memory, ratio to the quickest peer, ratio to what the machine can do at best.

Tables are made from an entry, the dictionary that is written to JSON, so that a page cannot differ from its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurosim.benchmark.measure import Row
from neurosim.benchmark.work import Limit, Work

HEAD = (
    "work",
    "unit",
    "contender",
    "CPU",
    "wall",
    "lowest",
    "repeats",
    "peak MB",
    "against best peer",
    "against limit",
)

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """One work with the rows of its contenders; `skipped` says which peers did not take part, and why; `notes` what is
    to be known of a contender, by its name. Ratios are of `clock`: "cpu" where all have one thread, else "wall".
    """

    name: str
    work: Work
    rows: Sequence[Row]
    limit: Limit
    skipped: Sequence[str] = ()
    clock: str = "cpu"
    notes: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The entry: times in the unit of the work."""
        scale = self.work.scale
        rows = [
            {
                "name": row.name, "own": row.own, "void": row.void,
                "cpu": [_rounded(one * scale) for one in row.cpu], "wall": [_rounded(one * scale) for one in row.wall],
                "peak": None if math.isnan(row.peak) else round(row.peak / 1e6),
            }
            for row in self.rows
        ]  # fmt: skip
        limit = {"value": _rounded(self.limit[0] * scale), "of": self.limit[1]}
        return {
            "about": self.work.about, "unit": self.work.unit, "clock": self.clock, "rows": rows, "limit": limit,
            "skipped": list(self.skipped), "notes": dict(self.notes),
        }  # fmt: skip


def _rounded(number: float) -> float | None:
    """Six significant digits; None where there is no number (JSON has no nan)."""
    return float(f"{number:.6g}") if math.isfinite(number) else None


def median(row: Entry, clock: str) -> float:
    return float(np.median(row[clock]))


def counts(row: Entry) -> bool:
    """Does a row have valid repeats?"""
    return not row["void"] and bool(row["cpu"])


def best(entry: Entry, chosen: Callable[[Entry], bool]) -> Entry | None:
    """The quickest of the rows that count and are `chosen`."""
    valid = [row for row in entry["rows"] if counts(row) and chosen(row)]
    return min(valid, key=lambda row: median(row, entry["clock"]), default=None)


def best_own(entry: Entry) -> Entry | None:
    return best(entry, lambda row: row["own"])


def best_peer(entry: Entry, names: Sequence[str] = ()) -> Entry | None:
    """The quickest peer, or the quickest of those whose name, or its first word, is among `names`."""
    return best(entry, lambda row: not row["own"] and (not names or _called(row["name"], names)))


def _called(name: str, names: Sequence[str]) -> bool:
    return name in names or name.partition(" ")[0] in names


def lines(name: str, entry: Entry) -> Iterable[list[str]]:
    """Cells of the table. A ratio to the quickest peer above 1 says how many times quicker a row is."""
    peer, clock, limit = best_peer(entry), entry["clock"], entry["limit"]["value"]
    for row in entry["rows"]:
        cells = [name, entry["unit"], row["name"]]
        if not counts(row):
            yield [*cells, f"VOID: {row['void'] or 'no repeat counts'}", *[""] * 6]
            continue
        own = median(row, clock)
        times = median(row, "cpu"), median(row, "wall"), min(row[clock])
        memory = "-" if row.get("peak") is None else str(row["peak"])
        ahead = "-" if peer is None else f"{median(peer, clock) / own:.2f} x"
        above = "-" if limit is None else f"{own / limit:.2f} x"
        yield [*cells, *(f"{one:.4g}" for one in times), str(len(row["cpu"])), memory, ahead, above]


def markdown(name: str, entry: Entry) -> Iterable[str]:
    """The lines of a Markdown section: the table of a work."""
    yield f"### {name}: {entry['about']}"
    yield ""
    limit = entry["limit"]
    value = "" if limit["value"] is None else f"{limit['value']:.4g} "
    ratios = "CPU time" if entry["clock"] == "cpu" else "time by the clock"
    yield f"In {entry['unit']}; ratios are of {ratios}. Limit: {value}({limit['of']})."
    for reason in entry["skipped"]:
        yield f"Left out: {reason}."
    yield ""
    yield "| " + " | ".join(HEAD[2:]) + " |"
    yield "|" + "---|" * len(HEAD[2:])
    for cells in lines(name, entry):
        yield "| " + " | ".join(cells[2:]) + " |"
    yield ""
    for contender, note in entry.get("notes", {}).items():
        yield f"- {contender}: {note}."
    if entry.get("notes"):
        yield ""
