"""A finished (or interrupted) run, back in Python."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from neurosim.checkpoint import load
from neurosim.inspect.credit import read_credit
from neurosim.recorder import coefficient_of_variation, peristimulus_histogram, rates
from neurosim.storage import Trace, read_trace
from neurosim.types import Array, ConfigurationError

METRICS = np.dtype([("epoch", "i8"), ("replica", "i8"), ("split", "U16"), ("loss", "f8"), ("accuracy", "f8")])


@dataclass(frozen=True)
class Run:
    """What a run folder holds; each part is read when first asked for, a missing one is a ConfigurationError."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        path = self.folder / "config.yaml"
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{path} cannot be read as YAML") from error
        if not isinstance(config, dict):
            raise ConfigurationError(f"{path} is no configuration: it must hold names with values")
        return config

    @cached_property
    def metrics(self) -> Array:
        """Structured array with the columns epoch, replica, split, loss and accuracy (a part of 1)."""
        return read_metrics(self.folder / "metrics.csv")

    @cached_property
    def credit(self) -> Array:
        """What the credit monitor measured: see `neurosim.inspect.credit` for the columns."""
        return read_credit(self.folder / "credit.csv")

    @cached_property
    def recordings(self) -> Trace:
        """Spikes, reports, learning variables and trials: see `neurosim.storage.Trace`."""
        return read_trace(self.folder)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Learned weights `[R, P, Q]` of the last checkpoint by projection."""
        tensors, _ = load(self.folder / "checkpoint.npz")
        found = tensors.get("learned", {}).get("weight", {})
        return {name: np.asarray(value) for name, value in found.items()}

    def rates(self, population: str, *, epoch: int | None = None, phase: str | None = "test") -> Array:
        """Mean rate in Hz `[R, N]` over the recorded trials of a phase ("test", "train", None: all) or epoch."""
        raster = self.recordings.raster(population, epoch=epoch, phase=phase)
        mean: Array = rates(raster, self.recordings.dt).mean(0)
        return mean

    def cv(self, population: str, *, epoch: int | None = None, phase: str | None = "test") -> Array:
        """CV of the inter-spike intervals `[R, N]`: its mean over trials with two intervals or more, NaN where there
        is none.

        Intervals across trials do not count: a trial may start from rest.
        """
        raster = self.recordings.raster(population, epoch=epoch, phase=phase)
        values = coefficient_of_variation(raster.reshape(len(raster), -1), self.recordings.dt).reshape(raster.shape[1:])
        count = np.isfinite(values).sum(0)
        return np.where(count, np.nansum(values, 0) / np.maximum(count, 1), np.nan)

    def psth(
        self, population: str, bin_width: float, *, epoch: int | None = None, phase: str | None = "test"
    ) -> tuple[Array, Array]:
        """Peri-stimulus time histogram over trials: bin starts `[K]` and `bin_width` in ms, rates in Hz `[K, R, N]`."""
        raster = self.recordings.raster(population, epoch=epoch, phase=phase)
        steps, trials, replicas, neurons = raster.shape
        bins, values = peristimulus_histogram(raster.reshape(steps, trials, -1), self.recordings.dt, bin_width)
        return bins, values.reshape(len(bins), replicas, neurons)


def open_run(folder: Path | str) -> Run:
    """Open a run folder. One that no run wrote (no `config.yaml`) is a ConfigurationError."""
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        what = "has no config.yaml" if folder.is_dir() else "does not exist"
        raise ConfigurationError(f"{folder} is not a run folder: it {what}")
    return Run(folder)


def read_metrics(path: Path) -> Array:
    """A `metrics.csv` as a structured array; a damaged one is a ConfigurationError that names the first bad line."""
    if not path.is_file():
        raise ConfigurationError(f"there is no {path}: the run has not finished an epoch")
    assert METRICS.names is not None
    with open(path, encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.DictReader(lines)
        missing = [name for name in METRICS.names if name not in (table.fieldnames or ())]
        if missing:
            raise ConfigurationError(f"{path} is not a metrics file: it has no column {', '.join(missing)}")
        rows = []
        for row in table:
            try:
                numbers = (
                    int(row["epoch"]),
                    int(row["replica"]),
                    row["split"],
                    float(row["loss"]),
                    float(row["accuracy"]),
                )
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"{path} is damaged in line {table.line_num}") from error
            rows.append(numbers)
    return np.array(rows, METRICS)
