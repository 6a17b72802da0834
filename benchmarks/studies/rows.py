"""A table whose rows are commands: runs each, keeps its result, prints Markdown. Stopped, it goes on where it was."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.cli_run import run
from neurosim.interval import mean_and_interval


def measure(words: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Test accuracy at the last epoch of `run <words> seed=<s>`, `[seed][replica]`, and the minutes it took."""
    accuracy, started = [], time.time()
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            target = f"folder={folder}/run"
            result = run([*words.split(), f"seed={seed}", target, "quiet=true", "probe=none"])
            last = (result.metrics["epoch"] == result.epochs) & (result.metrics["split"] == "test")
            accuracy.append(result.metrics["accuracy"][last].tolist())
    return {"words": words, "seeds": list(seeds), "accuracy": accuracy, "minutes": (time.time() - started) / 60}


def table(title: str, rows: Mapping[str, str], seeds: Sequence[int], output: Path) -> str:
    """Measure every row that `output` does not hold yet; write it; return the Markdown table."""
    done = json.loads(output.read_text()) if output.exists() else {}
    for label, words in rows.items():
        if label not in done or done[label]["words"] != words:
            done[label] = measure(words, seeds)
            output.write_text(json.dumps({name: done[name] for name in rows if name in done}, indent=1) + "\n")
            print(line(label, done[label]), flush=True)
    return "\n".join([f"### {title}", "", HEAD, *(line(label, done[label]) for label in rows)])


COLUMNS = ("", "test accuracy (%)", "95 % interval", "worst (%)", "networks", "seeds", "`python -m neurosim run ...`")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def line(label: str, row: Mapping[str, Any]) -> str:
    """One row: over all replicas of all seeds; each seed has its own split, order, initial weights and noise."""
    flat = np.ravel(row["accuracy"])
    mean, half = mean_and_interval(flat)
    seeds = ", ".join(str(seed) for seed in row["seeds"])
    numbers = (f"{100 * mean:.2f}", f"± {100 * half:.2f}", f"{100 * flat.min():.2f}", str(len(flat)))
    command = f"`{row['words']}`"
    return f"| {' | '.join((label, *numbers, seeds, command))} |"
