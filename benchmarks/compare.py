"""The backends beside other simulators, at the same work in the same process group, results checked.

    OMP_NUM_THREADS=1 python benchmarks/compare.py [name ...] [--repeats 5] [--output docs/results/benchmarks]

Writes <output>.json (every repeat) and prints the tables; a work measured again replaces its old numbers. With one
thread the ratios are of CPU time, which does not count what else the machine does; with more, of time by the clock.
Brian2's time is that of its own time loop. Peers that are not installed are skipped by name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import biohsic
import brian_peers
import gradient_peers
import torch
import torch_peers

from neurosim.benchmark import WORKS, Contender, Measured, markdown, measure, work

PEERS: dict[str, Callable[[Any], Iterable[Contender | str]]] = {
    "cuba_4k": brian_peers.cuba,
    "cuba_20k": brian_peers.cuba,
    "cuba_100k": brian_peers.cuba,
    "stdp": brian_peers.stdp,
    "dense": torch_peers.layer,
    "three_factor_1": torch_peers.three_factor,
    "three_factor_32": torch_peers.three_factor,
    "reservoir": torch_peers.reservoir,
    "layer_512": torch_peers.layer,
    "layer_2048": torch_peers.layer,
    "gradient_512": gradient_peers.layer_gradient,
    "gradient_2048": gradient_peers.layer_gradient,
}
STUDIES: dict[str, Callable[[], Any]] = {"biohsic_original": biohsic.Protocol, "xor_job": biohsic.MainJob}
PACKAGES = ("torch", "numpy", "scipy", "numba", "brian2", "snntorch", "norse")


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def circumstances(threads: int) -> dict[str, Any]:
    """Machine, versions and load."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"), "processor": processor(), "cores": os.cpu_count(),
        "python": platform.python_version(), "threads": threads, "load": round(os.getloadavg()[0], 1), **versions,
    }  # fmt: skip


def one(name: str, repeats: int, seconds: float) -> Measured:
    """All contenders at one work."""
    if name in STUDIES:
        wanted, skipped = STUDIES[name](), list[str]()
        contenders = [wanted.own("cpu"), wanted.own("reference")]
    else:
        wanted = work(name)
        found = list(PEERS[name](wanted))
        skipped = [peer for peer in found if isinstance(peer, str)]
        contenders = [wanted.own("cpu"), *(peer for peer in found if isinstance(peer, Contender))]
    return Measured(name, wanted, measure(contenders, wanted.checks, repeats, seconds), wanted.limit(), skipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*WORKS, *STUDIES], metavar="name")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="a contender that used them up sits out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("docs/results/benchmarks"))
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in (*WORKS, *STUDIES):
            parser.error(f"there is no benchmark {name!r}; allowed: {', '.join((*WORKS, *STUDIES))}")
    torch.set_num_threads(arguments.threads)
    target = arguments.output.with_suffix(".json")
    kept = json.loads(target.read_text()) if target.exists() else {}
    for name in arguments.names:
        around = circumstances(arguments.threads)
        measured = one(name, arguments.repeats, arguments.seconds)
        text = list(markdown([measured], "cpu" if arguments.threads == 1 else "wall"))
        key = name if arguments.threads == 1 else f"{name}, {arguments.threads} threads"
        kept[key] = {**measured.json(), "around": around, "table": text}
        target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print("\n".join(text), flush=True)


if __name__ == "__main__":
    main()
