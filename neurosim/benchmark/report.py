"""The table of a measurement: time, ratio to the quickest peer, ratio to what the machine can do at best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neurosim.benchmark.measure import Row, fastest
from neurosim.benchmark.work import Limit, Work

HEAD = (
    "work",
    "unit",
    "contender",
    "CPU",
    "wall",
    "lowest",
    "repeats",
    "against best peer",
    "against limit",
)


@dataclass(frozen=True)
class Measured:
    """One work with the rows of its contenders; `skipped` are peers that are not installed."""

    name: str
    work: Work
    rows: Sequence[Row]
    limit: Limit
    skipped: Sequence[str] = ()

    def json(self) -> dict[str, object]:
        scale = self.work.scale
        rows = [
            {
                "name": row.name, "own": row.own, "void": row.void,
                "cpu": [round(one * scale, 6) for one in row.cpu], "wall": [round(one * scale, 6) for one in row.wall],
            }
            for row in self.rows
        ]  # fmt: skip
        limit = {"value": self.limit[0] * scale, "of": self.limit[1]}
        return {"about": self.work.about, "unit": self.work.unit, "rows": rows, "limit": limit, "skipped": self.skipped}


def lines(measured: Measured, clock: str = "cpu") -> Iterable[list[str]]:
    """Cells of the table; ratios are of `clock` ("cpu" for one thread, else "wall"). A ratio to the quickest peer above
    1 says how many times quicker a row is.
    """
    peer = fastest(measured.rows, own=False)
    for row in measured.rows:
        cells = [measured.name, measured.work.unit, row.name]
        if row.void:
            yield [*cells, f"void: {row.void}", *[""] * 5]
            continue
        scale = measured.work.scale
        times = row.median("cpu"), row.median("wall"), min(getattr(row, clock))
        ahead = f"{peer.median(clock) / row.median(clock):.2f} x" if peer is not None else "-"
        above = f"{row.median(clock) / measured.limit[0]:.2f} x"
        yield [*cells, *(f"{one * scale:.4g}" for one in times), str(len(row.cpu)), ahead, above]


def markdown(all_measured: Iterable[Measured], clock: str = "cpu") -> Iterable[str]:
    """The lines of a Markdown document: a table for each work."""
    for measured in all_measured:
        yield f"### {measured.name}: {measured.work.about}"
        yield ""
        yield f"In {measured.work.unit}. Limit: {measured.limit[0] * measured.work.scale:.4g} ({measured.limit[1]})."
        if measured.skipped:
            yield f"Not installed here: {', '.join(measured.skipped)}."
        yield ""
        yield "| " + " | ".join(HEAD[2:]) + " |"
        yield "|" + "---|" * len(HEAD[2:])
        for cells in lines(measured, clock):
            yield "| " + " | ".join(cells[2:]) + " |"
        yield ""
