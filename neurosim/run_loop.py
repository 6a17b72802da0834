"""The loop: task -> learner -> scores -> run folder. Exact to resume, safe to stop."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from neurosim import checkpoint
from neurosim.durable import replacing
from neurosim.experiment import Experiment
from neurosim.inspect.credit import Row, read_credit, written
from neurosim.interval import mean_and_interval
from neurosim.learner import Score
from neurosim.memory import synapse_count
from neurosim.progress import RunProgress
from neurosim.random import Stream
from neurosim.recorder import Probe
from neurosim.run_figures import plot
from neurosim.run_folder import read_metrics
from neurosim.sequence import label_of
from neurosim.stopper import Stopper
from neurosim.storage import TraceWriter, TrialInfo, drop_segments_after, planned_bytes
from neurosim.task import Split
from neurosim.types import Array, ConfigurationError

COLUMNS = ("epoch", "replica", "split", "loss", "accuracy")
AT_ONCE, MOST_AT_ONCE = 0.1, 64  # seconds until a signal is heard; presentations that are encoded together
FILE_BYTES, PART_BYTES = 32_000, 12_000  # what HDF5 needs beside the numbers, for a file and each variable in it


class Interrupted(Exception):
    """A run was stopped by a signal after it had saved everything; `number` is the signal's."""

    def __init__(self, folder: Path, number: int):
        super().__init__(f"stopped; everything is saved. Go on with: python -m neurosim run resume={folder}")
        self.folder, self.number = folder, number


@dataclass(frozen=True)
class Result:
    """What a run gives: the metrics (structured array, see `open_run`), the folder, and the last epoch's summary."""

    folder: Path
    metrics: Array
    epochs: int

    def summary(self, split: str, column: str = "accuracy") -> tuple[float, float, float]:
        """Mean, half width of the 95 % interval and worst value over replicas at the last epoch."""
        last = self.metrics[(self.metrics["epoch"] == self.epochs) & (self.metrics["split"] == split)][column]
        mean, half = mean_and_interval(last)
        return float(mean), float(half), float(last.max() if column == "loss" else last.min())


class RunLoop:
    """One run in one folder, from its start or from its checkpoint.

    Making it finds out whether the run can be, and touches nothing on the disk (but what `resume` drops).
    """

    def __init__(self, experiment: Experiment, folder: Path, config: str, console: Console | None, resume: bool):
        self.experiment, self.folder, self.config, self.console = experiment, folder, config, console
        self.dataset, self.network = experiment.build()
        experiment.presentations(len(self.dataset.train))
        experiment.check_memory(self.network)
        self.learner = experiment.learner(self.network)
        self.train = self.dataset.train
        self.labels = _shuffled_labels(self.train, experiment) if experiment.shuffle_labels else self.train.y[None]
        self.per_epoch = experiment.presentations(len(self.train))
        self.rows: list[tuple[int, int, str, float, float]] = []
        self.epoch, self.presentation, self.several = 0, 0, 1
        self.probes = experiment.recorded.probes(self.network)
        self.training_probes = experiment.recorded.training_probes(self.network, experiment.settings.steps)
        if not resume:
            experiment.rehearse(self.dataset, self.learner)
        self.state = self._load() if resume else self.learner.init()
        self.credit = experiment.monitor(self.dataset, self.network) if experiment.credit else None
        self.credited = self._credited() if resume and experiment.credit else list[Row]()

    @cached_property
    def writer(self) -> TraceWriter:
        """Where recordings go; made when the first one is there, so that `folder` may be settled after the run is."""
        return TraceWriter(self.folder, self._attributes())

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        experiment = self.experiment
        self.folder.mkdir(parents=True, exist_ok=True)
        done = max(self.epoch - 1, 0) * self.per_epoch + self.presentation
        with Stopper() as stopper, RunProgress(self.console, experiment.epochs * self.per_epoch, done) as progress:
            if self.epoch == 0:
                self._finish_epoch(progress)
            while self.epoch <= experiment.epochs:
                order = experiment.order(len(self.train), self.epoch)
                while self.presentation < self.per_epoch:
                    before = self.presentation
                    self._show(order)
                    progress.advance(self.presentation - before)
                    if stopper.requested is not None:
                        self._save()
                        self.writer.abandon()
                        raise Interrupted(self.folder, int(stopper.requested))
                self._finish_epoch(progress)
        return self._finish()

    def _show(self, order: Array) -> None:
        """Show the next presentation, or the next ones where none of them is recorded."""
        recorded = self.presentation < self.experiment.recorded.presentations(self.epoch, self.experiment.epochs)
        if not (recorded and self.training_probes):
            self._show_several(order)
            return
        rows = self.experiment.rows(order, self.presentation)
        shown = (self.epoch - 1) * self.per_epoch + self.presentation
        labels, before = self._labels(rows), self.state.clock
        self.state, recording = self.learner.train(
            self.state,
            self.train.x[rows],
            labels,
            shown * self.experiment.batch,
            self.training_probes,
        )
        steps = self.state.clock - before
        trial = TrialInfo(rows[0], self.epoch, "train", label_of(labels[0]), steps, before)  # of replica 0
        self.writer.append(recording, trial)
        self.writer.close_segment()  # a file each, so that a stopped run leaves the same files as another
        self.presentation += 1

    def _show_several(self, order: Array) -> None:
        """As many presentations as take about `AT_ONCE` seconds, in one call: the bits do not depend on how many."""
        count = min(self.several, self.per_epoch - self.presentation)
        rows = np.concatenate([self.experiment.rows(order, self.presentation + k) for k in range(count)], axis=1)
        shown = (self.epoch - 1) * self.per_epoch + self.presentation
        started, batch = time.perf_counter(), self.experiment.batch
        self.state = self.learner.train_batches(self.state, self.train.x[rows], self._labels(rows), shown * batch)
        self.presentation += count
        if count == self.several:
            wanted = self.several * AT_ONCE / max(time.perf_counter() - started, 1e-6)
            self.several = max(1, min(2 * self.several, int(wanted), MOST_AT_ONCE))

    def _labels(self, rows: Array) -> Array:
        """Training labels of examples `rows [R or 1, B]`, `[R, B, ...]` where replicas differ in labels or order."""
        count = max(len(self.labels), len(rows))
        replica = np.arange(count)[:, None] if len(self.labels) > 1 else 0
        labels: Array = self.labels[replica, rows]
        return labels

    def _finish_epoch(self, progress: RunProgress) -> None:
        """Score, record, save; then the next epoch begins."""
        limit = self.experiment.evaluate_train
        splits = {
            "train": Split(self.train.x[:limit], self.labels[:, :limit]),
            "validation": _for_all(self.dataset.validation),
            "test": _for_all(self.dataset.test),
        }
        scores = {name: self.learner.evaluate(self.state, split.x, split.y) for name, split in splits.items()}
        for name, score in scores.items():
            for replica, (loss, accuracy) in enumerate(zip(*score, strict=True)):
                self.rows.append((self.epoch, replica, name, float(loss), float(accuracy)))
        self._record()
        if self.credit is not None:
            self.credited += self.credit.measure(self.state, self.epoch)
        shown: Score = scores["validation"]
        progress.epoch(self.epoch, self.experiment.epochs, float(shown.loss.mean()), float(shown.accuracy.mean()))
        self.epoch, self.presentation = self.epoch + 1, 0
        self._save()

    def _record(self) -> None:
        if not self.experiment.recorded.at(self.epoch, self.experiment.epochs) or not self.probes:
            return
        count = min(self.experiment.recorded.samples, len(self.dataset.test))
        x, y = self.dataset.test.x[:count], self.dataset.test.y[:count]
        _, recording = self.learner.respond(self.state, x, y[None], 0, self.probes)
        trial = TrialInfo(
            np.arange(count), self.epoch, "test", label_of(y), self.learner.settings.steps, self.state.clock
        )
        self.writer.append(recording, trial)
        self.writer.close_segment()

    def _finish(self) -> Result:
        metrics = read_metrics(self.folder / "metrics.csv")
        self.writer.finish({name: metrics[name] for name in COLUMNS})
        result = Result(self.folder, metrics, self.experiment.epochs)
        _write(self.folder / "result.json", json.dumps(self._summary(result), indent=2) + "\n")
        if self.console is not None:
            self.console.print(summary_table(result, self.experiment))
        return result

    def _summary(self, result: Result) -> dict[str, Any]:
        summary = {}
        for split in ("train", "validation", "test"):
            mean, half, worst = result.summary(split)
            summary[split] = {
                "accuracy": mean,
                "interval": None if np.isnan(half) else half,
                "worst": worst,
                "loss": result.summary(split, "loss")[0],
            }
        return {
            "epoch": result.epochs,
            "replicas": self.experiment.replicas,
            "vary": list(self.experiment.vary),
            **summary,
        }

    # ---- the folder -------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """metrics.csv and checkpoint.npz, each replaced as a whole; the checkpoint last, so it never runs ahead."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (epoch, replica, split, f"{loss:.9g}", f"{accuracy:.9g}")
            for epoch, replica, split, loss, accuracy in self.rows
        )
        _write(self.folder / "metrics.csv", text.getvalue())
        if self.credit is not None:
            _write(self.folder / "credit.csv", written(self.credited))
        _write(self.folder / "config.yaml", self.config)
        state = {"activity": self.state.activity, "learned": self.state.learned, "clock": self.state.clock}
        checkpoint.save(self.folder / "checkpoint.npz", state, {**self._identity(), **self._progress()})

    def _progress(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "presentation": self.presentation,
            "rows": [list(row) for row in self.rows],
            "segment": self.writer.segment,
        }

    def _identity(self) -> dict[str, Any]:
        experiment = self.experiment
        return {
            "code version": checkpoint.code_version(),
            "dtype": experiment.dtype,
            "backend": experiment.backend,
            "device": experiment.device,
        }

    def _load(self) -> Any:
        from_disk, meta = checkpoint.load(self.folder / "checkpoint.npz")
        for name, now in self._identity().items():
            if meta.get(name) != now:
                raise ConfigurationError(
                    f"{self.folder} was saved with {name} {meta.get(name)}, this is {name} {now}: "
                    "it would not go on bit for bit; start a new run"
                )
        self.epoch, self.presentation = int(meta["epoch"]), int(meta["presentation"])
        self.rows = [(int(e), int(r), str(s), float(loss), float(accuracy)) for e, r, s, loss, accuracy in meta["rows"]]
        drop_segments_after(self.folder, int(meta["segment"]))
        state = type(self.learner.init())(from_disk["activity"], from_disk["learned"], from_disk["clock"])
        return _to_device(state, self.experiment.device)

    def _credited(self) -> list[Row]:
        """Rows of finished epochs; the file may be one epoch ahead of the checkpoint."""
        rows = read_credit(self.folder / "credit.csv")
        return [row.item() for row in rows if row["epoch"] < self.epoch]

    def _attributes(self) -> dict[str, Any]:
        experiment = self.experiment
        version = checkpoint.code_version()
        return {
            "package_version": version.partition("+")[0],
            "source_hash": version.partition("+")[2],
            "commit": checkpoint.git_commit() or "unknown",
            "config": self.config,
            "seed": experiment.seed,
            "dt": experiment.dt,
            "backend": experiment.backend,
            "device": experiment.device,
            "dtype": experiment.dtype,
        }

    def planned(self) -> int:
        """Bytes that the trace will take at most."""
        recorded, epochs = self.experiment.recorded, range(self.experiment.epochs + 1)
        tests = sum(recorded.at(epoch, epochs[-1]) for epoch in epochs) if self.probes else 0
        shown = sum(min(self.per_epoch, recorded.presentations(epoch, epochs[-1])) for epoch in epochs)
        shown = shown if self.training_probes else 0
        samples = min(recorded.samples, len(self.dataset.test))
        total = sum(
            planned_bytes({probe.key: self._shape(probe, batch) for probe in probes}, count)
            + count * (FILE_BYTES + PART_BYTES * len(probes))
            for probes, batch, count in (
                (self.probes, samples, tests),
                (self.training_probes, self.experiment.batch, shown),
            )
        )
        index = FILE_BYTES + PART_BYTES * max(len(self.probes), len(self.training_probes))
        return total + (index if tests + shown else 0)

    def _shape(self, probe: Probe, batch: int) -> tuple[int, ...]:
        """Rows, and width of a row, of what a probe keeps of one recording in one replica."""
        steps = sum(stage.steps or self.learner.settings.steps for stage in self.network.trial)
        rows = -(-steps // probe.every)
        if self.network.has(probe.target):
            return rows, batch, self.network[probe.target].units
        synapses = self.learner.simulator.plan.synapses[probe.target]
        if probe.field == "modulator":
            return rows, batch, synapses.post.units
        if probe.field == "bias":
            return rows, synapses.bias_units
        return rows, batch if probe.field == "eligibility" else 1, synapse_count(synapses)


def run(
    experiment: Experiment, folder: Path, config: str, *, console: Console | None = None, resume: bool = False
) -> Result:
    """Run an experiment in `folder` (with its resolved `config` as YAML beside the results), or go on from its
    checkpoint.

    Writes config.yaml, metrics.csv, checkpoint.npz, trace/, trace.h5, result.json and figures/. Raises Interrupted
    after a signal (everything is saved), ConfigurationError for what cannot be.
    """
    loop = RunLoop(experiment, Path(folder), config, console, resume)
    result = loop.run()
    plot(result.folder)
    return result


def summary_table(result: Result, experiment: Experiment) -> Table:
    """The last epoch, mean and 95 % interval over replicas."""
    many = f"{experiment.replicas} replicas that differ in {', '.join(experiment.vary)}"
    few = "one replica" if experiment.replicas == 1 else f"{experiment.replicas} replicas"  # too few for an interval
    table = Table(title=f"epoch {result.epochs}, {many if experiment.replicas > 1 else 'one replica'}")
    for heading in ("split", "accuracy (%)", "95 % interval", "worst (%)", "loss"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split in ("train", "validation", "test"):
        mean, half, worst = result.summary(split)
        interval = few if np.isnan(half) else f"± {100 * half:.2f}"
        table.add_row(
            split, f"{100 * mean:.2f}", interval, f"{100 * worst:.2f}", f"{result.summary(split, 'loss')[0]:.4f}"
        )
    return table


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _to_device(tree: Any, device: str) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, Mapping):
        return {name: _to_device(value, device) for name, value in tree.items()}
    if isinstance(tree, tuple):
        moved = tuple(_to_device(value, device) for value in tree)
        return type(tree)(*moved) if hasattr(tree, "_fields") else moved
    return tree


def _shuffled_labels(split: Split, experiment: Experiment) -> Array:
    """The training labels `[R, n]` in a random order of their own in each replica.

    One order for all would not do: a network learns the chance majority of each cluster, all replicas the same one.
    """
    replicas = torch.arange(experiment.replicas)
    order = Stream(experiment.seed, "shuffled labels").permutation(len(split), replica=replicas)
    labels: Array = split.y[order.numpy()]
    return labels


def _for_all(split: Split) -> Split:
    """A split with its labels in front of an axis for replicas: the same for all of them."""
    return Split(split.x, split.y[None])
