"""The backends beside other simulators, at the same work in the same process group, results checked.

    python benchmarks/compare.py [name ...] [--threads 1 2] [--repeats 3] [--quick] [--output docs/results/benchmarks]

Writes <output>.json (every repeat) and, from it, <output>.md; prints the tables. A work measured again replaces its own
numbers and no others, so that a broken off run can be gone on with. With one thread the ratios are of CPU time, which
does not count what else the machine does; with more, of time by the clock. Peers that are not installed are skipped by
name, with the command that installs them. `--small` only shows that everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import biohsic
import page
import torch
from peers import PACKAGES, installed, notes, on_one, peers_of

from neurosim.benchmark import (
    GPU,
    WORKS,
    Measured,
    Recipe,
    apart,
    backend_of,
    markdown,
    measure,
    usual,
    work,
)  # fmt: skip
from neurosim.benchmark.balanced import Cuba
from neurosim.benchmark.layers import APART, ThreeFactor
from neurosim.benchmark.streamed import Streamed
from neurosim.benchmark.works import THREADED

STUDIES: dict[str, Callable[[bool], Any]] = {
    "biohsic_original": lambda small: biohsic.Protocol(presentations=3) if small else biohsic.Protocol(),
    "xor_job": lambda small: biohsic.MainJob(),
    "streamed": lambda small: Streamed(Cuba(400 if small else 4_000), parts=1 if small else 5),
}
ALSO_ON_TWO = (*THREADED, "biohsic_original")
QUICK = {"repeats": 1, "seconds": 10.0}
PACKAGE_NAMES = ("numpy", "numba", *PACKAGES)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def circumstances(threads: int) -> dict[str, Any]:
    """Machine, versions and load."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"), "processor": processor(), "cores": os.cpu_count(),
        "python": platform.python_version(), "threads": threads, "load": round(os.getloadavg()[0], 1),
        **{name: installed(name) or "not installed" for name in PACKAGE_NAMES},
    }  # fmt: skip


def contenders(name: str, threads: int, small: bool) -> tuple[Any, list[Recipe], list[str]]:
    """A work, who does it, and who does not and why."""
    wanted = STUDIES[name](small) if name in STUDIES else work(name, small)
    if isinstance(wanted, Streamed):
        return wanted, wanted.recipes("cpu", threads), []
    ours = [backend_of(wanted, "cpu", threads)]
    if threads > 1:  # beside it in the same run: are several threads quicker?
        ours.append(on_one(backend_of(wanted, "cpu")))
    if name in STUDIES:
        return wanted, [*ours, backend_of(wanted, "reference", threads)], []
    peers, reasons = peers_of(name, wanted, threads)
    return wanted, [*ours, *apart_too(wanted, threads), *peers], reasons


def apart_too(wanted: Any, threads: int) -> list[Recipe]:
    """Three-factor learning is shown both ways: all samples in one call, and a call for each."""
    if not isinstance(wanted, ThreeFactor):
        return []
    given = replace(wanted), "cpu"
    return [Recipe(f"neurosim cpu, {APART}", ThreeFactor.__module__, "call_per_sample", given, True, threads)]


def one(name: str, threads: int, repeats: int, seconds: float, small: bool) -> tuple[Measured, float]:
    """All contenders at one work; and the peak of a process that does nothing."""
    wanted, recipes, reasons = contenders(name, threads, small)
    nothing = Recipe("nothing", "neurosim.benchmark.isolated", "nothing")
    with apart([nothing, *recipes]) as (empty, *others):
        base = empty.sample().peak
        rows = measure(others, wanted.checks, repeats, seconds)
    clock = "cpu" if threads == 1 else "wall"
    return Measured(name, wanted, rows, wanted.limit(), reasons, clock, notes(name, wanted)), base


def key(name: str, threads: int) -> str:
    return name if threads == 1 else f"{name}, {threads} threads"


def refused(name: str) -> str:
    """Why a work cannot be run here, or ""."""
    if name in GPU and not torch.cuda.is_available():
        return f"{name} ({GPU[name]}): skipped, it needs a GPU, and torch sees none here"
    return f"{name} ({GPU[name]}): skipped, no backend of this package runs it on a GPU yet" if name in GPU else ""


def planned(names: list[str], threads: list[int] | None) -> list[tuple[str, int]]:
    """Works with their threads: those asked for, or one, and two as well for those of `ALSO_ON_TWO`."""
    return [
        (name, count)
        for name in names
        for count in (threads if threads is not None else (1, 2) if name in ALSO_ON_TWO else (1,))
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*usual(), *STUDIES], metavar="name")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="who used them up sits out, after 3 repeats")
    parser.add_argument("--quick", action="store_true", help="one repeat each")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1, for some works 2 as well")
    parser.add_argument("--small", action="store_true", help="tiny works, to see that all contenders run")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from the JSON")
    parser.add_argument("--output", type=Path, default=Path("docs/results/benchmarks"))
    given = parser.parse_args()
    allowed = (*WORKS, *STUDIES, *GPU)
    for name in given.names:
        if name not in allowed:
            parser.error(f"there is no benchmark {name!r}; allowed: {', '.join(allowed)}")
    if given.quick:
        given.repeats, given.seconds = QUICK["repeats"], QUICK["seconds"]
    return given


def main() -> None:
    given = arguments()
    target = given.output.with_suffix(".json")
    kept = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for name, threads in [] if given.page else planned(given.names, given.threads):
        if reason := refused(name):
            print(reason, flush=True)
            continue
        around = circumstances(threads)
        measured, empty = one(name, threads, given.repeats, given.seconds, given.small)
        around["empty_process_mb"] = round(empty / 1e6)
        kept[key(name, threads)] = {**measured.json(), "around": around}
        target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print("\n".join(markdown(key(name, threads), kept[key(name, threads)])), flush=True)
    page.write(target)


if __name__ == "__main__":
    main()
