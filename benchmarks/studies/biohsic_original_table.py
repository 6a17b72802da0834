"""The table of the study `biohsic_original.py`.

python benchmarks/studies/biohsic_original_table.py [docs/results/biohsic_original.json]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

RERUN = {  # the authors' code, run again with its own initial weights and one data order (mean of epochs 16 to 25)
    "linear:frozen:255": 91.3, "linear:published:255": 90.5, "linear:repository:255": 91.2, "linear:exact:255": 95.2,
    "linear:frozen:1": 91.7, "linear:published:1": 95.6, "linear:exact:1": 98.1,
    "xor:frozen:255": 71.0, "xor:published:255": 89.8, "xor:repository:255": 91.9, "xor:exact:255": 74.2,
    "xor:frozen:1": 70.9, "xor:published:1": 99.9, "xor:exact:1": 99.7,
}  # fmt: skip
HEAD = (
    "| task | hidden layers | inputs divided by | replicas | epochs 16-25: mean (sd over 5 orders) | original's re-run "
    "| distance (sd) | from rest | final epoch: mean ± sd over replicas |\n|---|---|---|---|---|---|---|---|---|"
)


def late(curves: list[list[float]], groups: int) -> np.ndarray:
    """Mean over epochs 16 to 25 and the replicas of a group, in per cent, `[groups]`."""
    accuracy = 100 * np.asarray(curves)[16:26]
    return accuracy.reshape(len(accuracy), groups, -1).mean((0, 2))


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results/biohsic_original.json")
    cells = json.loads(path.read_text())
    print(HEAD)
    for cell, result in sorted(cells.items()):
        task, rule, divide_by, replicas = cell.split(":")
        means, rest = (late(result[start], result["groups"]) for start in ("training", "rest"))
        final = 100 * np.asarray(result["training"])[-1]
        again = RERUN.get(f"{task}:{rule}:{divide_by}")
        distance = "" if again is None else f"{abs(means.mean() - again) / means.std(ddof=1):.1f}"
        print(
            f"| {task} | {rule} | {divide_by} | {replicas} | {means.mean():.1f} ({means.std(ddof=1):.1f}) "
            f"| {again or ''} | {distance} "
            f"| {rest.mean():.1f} ({rest.std(ddof=1):.1f}) | {final.mean():.1f} ± {final.std(ddof=1):.1f} |"
        )


if __name__ == "__main__":
    main()
