"""The loop: task -> learner -> scores -> run folder. Exact to resume, safe to stop."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from neurosim import checkpoint
from neurosim.adapter import Decoder, Encoder
from neurosim.durable import replacing
from neurosim.interval import mean_and_interval
from neurosim.learner import Score, Settings, SimulatorLearner
from neurosim.network import Network
from neurosim.progress import RunProgress
from neurosim.random import Stream, check_seed
from neurosim.recorder import Probe
from neurosim.run_figures import plot
from neurosim.run_folder import read_metrics
from neurosim.stopper import Stopper
from neurosim.storage import TraceWriter, TrialInfo, drop_segments_after, planned_bytes
from neurosim.task import Dataset, Split, Task
from neurosim.types import Array, ConfigurationError, choice, positive

COLUMNS = ("epoch", "replica", "split", "loss", "accuracy")
VARY = ("init", "order")
FILE_BYTES, PART_BYTES = 32_000, 12_000  # what HDF5 needs beside the numbers, for a file and each variable in it
PRESENTATIONS = ("windows", "batches")


class Interrupted(Exception):
    """A run was stopped by a signal after it had saved everything; `number` is the signal's."""

    def __init__(self, folder: Path, number: int):
        super().__init__(f"stopped; everything is saved. Go on with: python -m neurosim run resume={folder}")
        self.folder, self.number = folder, number


@dataclass(frozen=True)
class Recorded:
    """What of the test set is recorded: `samples` of them, at "first_last" | "last" | "all" | "none" epochs, in
    replica 0.

    `variables` are "target.field" names; None: the axon of every population on the forward path, and plastic weights.
    """

    samples: int = 20
    epochs: str = "first_last"
    variables: tuple[str, ...] | None = None
    every: int = 1

    def __post_init__(self) -> None:
        choice(self.epochs, ("first_last", "last", "all", "none"), "epochs of the probe")
        positive(self.samples, "samples of the probe")
        positive(self.every, "every of the probe")

    def at(self, epoch: int, epochs: int) -> bool:
        """Is epoch `epoch` of `epochs` recorded?"""
        return {"first_last": epoch in (0, epochs), "last": epoch == epochs, "all": True, "none": False}[self.epochs]

    def probes(self, network: Network) -> tuple[Probe, ...]:
        """The probes for a network."""
        if self.variables is not None:
            for name in self.variables:
                if name.endswith((".modulator", ".eligibility")):
                    raise ConfigurationError(
                        f"the probe cannot record {name}: it shows test samples, without learning, so that none is "
                        "formed; in Python, give Simulator.run a Probe and a Phase that learns"
                    )
            return tuple(Probe(*_target_and_field(name), every=self.every) for name in self.variables)
        forward = network.forward()
        names = dict.fromkeys(name for projection in forward for name in (projection.pre, projection.post))
        activity = [Probe(name, network[name].axon, self.every) for name in names]
        return (*activity, *(Probe(p.name, "weight", every=10**9) for p in forward if p.rule is not None))


def _target_and_field(name: str) -> tuple[str, str]:
    target, dot, variable = name.partition(".")
    if not dot or not variable:
        raise ConfigurationError(f'a probe variable is {name!r}; write "population.field" or "projection.weight"')
    return target, variable


@dataclass(frozen=True)
class Experiment:
    """Everything that defines a run.

    `network(inputs, classes)` builds the description, `scheme` attaches the rules. Training shows `presentation`
    "windows" (of `batch` consecutive samples of the shuffled order, sliding by one) or "batches" (disjoint) for
    `epochs`, at most `limit` of them an epoch. `vary` says in what replicas differ: "init" (always) and, if named, the
    "order" of the data: each replica its own, or `orders` different ones, each shared by a group of neighbouring
    replicas. `shuffle_labels` is a null: training labels dealt to random samples, anew in each replica; chance.
    """

    task: Task
    network: Callable[[int, int], Network]
    scheme: Callable[[Network], Network]
    encoder: Encoder
    decoder: Decoder
    settings: Settings
    epochs: int
    batch: int
    presentation: str = "windows"
    limit: int | None = None
    vary: tuple[str, ...] = ("init",)
    orders: int | None = None
    shuffle_labels: bool = False
    evaluate_train: int = 500
    seed: int = 0
    replicas: int = 10
    dt: float = 1.0
    dtype: str = "float32"
    device: str = "cpu"
    backend: str = "reference"
    recorded: Recorded = field(default_factory=Recorded)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "replicas", "evaluate_train"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is {value!r}; it must be a whole number >= 1")
        choice(self.presentation, PRESENTATIONS, "presentation")
        for word in self.vary:
            choice(word, VARY, "an entry of vary")
        if "init" not in self.vary:
            raise ConfigurationError(
                f"vary is {list(self.vary)}; replicas always differ in init: name it, alone or with order"
            )
        check_seed(self.seed)
        positive(self.dt, "dt (ms)")
        if self.limit is not None:
            positive(self.limit, "limit")
        if self.orders is not None and (self.orders < 1 or self.replicas % self.orders):
            raise ConfigurationError(f"orders is {self.orders}; it must divide the number of replicas, {self.replicas}")

    def build(self) -> tuple[Dataset, Network]:
        """Load the task and describe the network, rules attached."""
        dataset = self.task.load(self.seed)
        return dataset, self.scheme(self.network(dataset.inputs, dataset.classes))

    def learner(self, network: Network) -> SimulatorLearner:
        """The learner that carries the network."""
        return SimulatorLearner(
            network,
            self.encoder,
            self.decoder,
            self.settings,
            batch=self.batch,
            dt=self.dt,
            replicas=self.replicas,
            seed=self.seed,
            dtype=self.dtype,
            device=self.device,
            backend=self.backend,
        )

    def presentations(self, examples: int) -> int:
        """Number of training presentations in an epoch; ConfigurationError if a batch does not fit."""
        if self.batch > examples:
            raise ConfigurationError(f"batch is {self.batch}, but the training split has {examples} examples")
        count = examples - self.batch + 1 if self.presentation == "windows" else examples // self.batch
        return count if self.limit is None else min(count, self.limit)

    def rows(self, order: Array, presentation: int) -> Array:
        """Which training examples a presentation shows: `[R or 1, batch]`, from the epoch's order `[R or 1, n]`."""
        start = presentation if self.presentation == "windows" else presentation * self.batch
        return order[:, start : start + self.batch]

    def order(self, examples: int, epoch: int) -> Array:
        """The shuffled order of an epoch, `[1, n]`, or `[R, n]` if the replicas vary in it."""
        count = 1 if "order" not in self.vary else self.orders or self.replicas
        order = Stream(self.seed, "order").permutation(examples, replica=torch.arange(count), step=epoch)
        return order.repeat_interleave(self.replicas // count if count > 1 else 1, 0).numpy()


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
    """One run in one folder, from its start or from its checkpoint."""

    def __init__(self, experiment: Experiment, folder: Path, config: str, console: Console | None, resume: bool):
        self.experiment, self.folder, self.config, self.console = experiment, folder, config, console
        self.dataset, self.network = experiment.build()
        self.learner = experiment.learner(self.network)
        self.train = self.dataset.train
        self.labels = _shuffled_labels(self.train, experiment) if experiment.shuffle_labels else self.train.y[None]
        self.per_epoch = experiment.presentations(len(self.train))
        self.rows: list[tuple[int, int, str, float, float]] = []
        self.epoch, self.presentation = 0, 0
        self.probes = experiment.recorded.probes(self.network) if experiment.recorded.epochs != "none" else ()
        self.state = self._load() if resume else self.learner.init()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.writer = TraceWriter(folder, self._attributes())

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        experiment = self.experiment
        done = max(self.epoch - 1, 0) * self.per_epoch + self.presentation
        with Stopper() as stopper, RunProgress(self.console, experiment.epochs * self.per_epoch, done) as progress:
            if self.epoch == 0:
                self._finish_epoch(progress)
            while self.epoch <= experiment.epochs:
                order = experiment.order(len(self.train), self.epoch)
                while self.presentation < self.per_epoch:
                    self._show(order)
                    progress.advance()
                    if stopper.requested is not None:
                        self._save()
                        self.writer.abandon()
                        raise Interrupted(self.folder, int(stopper.requested))
                self._finish_epoch(progress)
        return self._finish()

    def _show(self, order: Array) -> None:
        rows = self.experiment.rows(order, self.presentation)
        shown = (self.epoch - 1) * self.per_epoch + self.presentation
        self.state = self.learner.train_step(
            self.state, self.train.x[rows], self._labels(rows), shown * self.experiment.batch
        )
        self.presentation += 1

    def _labels(self, rows: Array) -> Array:
        """Training labels of examples `rows [R or 1, B]`, `[R, B]` where replicas differ in labels or order."""
        count = max(len(self.labels), len(rows))
        labels = np.broadcast_to(self.labels, (count, self.labels.shape[1]))
        return np.take_along_axis(labels, np.broadcast_to(rows, (count, rows.shape[1])), 1)

    def _finish_epoch(self, progress: RunProgress) -> None:
        """Score, record, save; then the next epoch begins."""
        limit = self.experiment.evaluate_train
        splits = {
            "train": Split(self.train.x[:limit], self.labels[:, :limit]),
            "validation": self.dataset.validation,
            "test": self.dataset.test,
        }
        scores = {name: self.learner.evaluate(self.state, split.x, split.y) for name, split in splits.items()}
        for name, score in scores.items():
            for replica, (loss, accuracy) in enumerate(zip(*score, strict=True)):
                self.rows.append((self.epoch, replica, name, float(loss), float(accuracy)))
        self._record()
        shown: Score = scores["validation"]
        progress.epoch(self.epoch, self.experiment.epochs, float(shown.loss.mean()), float(shown.accuracy.mean()))
        self.epoch, self.presentation = self.epoch + 1, 0
        self._save()

    def _record(self) -> None:
        if not self.experiment.recorded.at(self.epoch, self.experiment.epochs) or not self.probes:
            return
        count = min(self.experiment.recorded.samples, len(self.dataset.test))
        x, y = self.dataset.test.x[:count], self.dataset.test.y[:count]
        _, recording = self.learner.respond(self.state, x, y, 0, self.probes)
        trial = TrialInfo(np.arange(count), self.epoch, "test", y, self.learner.settings.steps, self.state.clock)
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

    def _attributes(self) -> dict[str, Any]:
        experiment = self.experiment
        version = checkpoint.code_version()
        return {
            "package_version": version.partition("+")[0],
            "commit": version.partition("+")[2],
            "config": self.config,
            "seed": experiment.seed,
            "dt": experiment.dt,
            "backend": experiment.backend,
            "device": experiment.device,
            "dtype": experiment.dtype,
        }

    def planned(self) -> int:
        """Bytes that the trace will take at most."""
        epochs = sum(
            self.experiment.recorded.at(epoch, self.experiment.epochs) for epoch in range(self.experiment.epochs + 1)
        )
        samples = min(self.experiment.recorded.samples, len(self.dataset.test))
        shapes = {
            probe.key: (-(-self.learner.settings.steps // probe.every), samples, self.network[probe.target].units)
            for probe in self.probes
            if self.network.has(probe.target)
        }
        parts = FILE_BYTES + PART_BYTES * len(self.probes)
        return planned_bytes(shapes, epochs) + epochs * parts + (parts if epochs else 0)


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
    table = Table(title=f"epoch {result.epochs}, {many if experiment.replicas > 1 else 'one replica'}")
    for heading in ("split", "accuracy (%)", "95 % interval", "worst (%)", "loss"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split in ("train", "validation", "test"):
        mean, half, worst = result.summary(split)
        interval = "one replica" if np.isnan(half) else f"± {100 * half:.2f}"
        table.add_row(
            split, f"{100 * mean:.2f}", interval, f"{100 * worst:.2f}", f"{result.summary(split, 'loss')[0]:.4f}"
        )
    return table


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _shuffled_labels(split: Split, experiment: Experiment) -> Array:
    """The training labels `[R, n]` in a random order of their own in each replica.

    One order for all would not do: a network learns the chance majority of each cluster, all replicas the same one.
    """
    replicas = torch.arange(experiment.replicas)
    order = Stream(experiment.seed, "shuffled labels").permutation(len(split), replica=replicas)
    labels: Array = split.y[order.numpy()]
    return labels


def _to_device(tree: Any, device: str) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.to(device)
    if isinstance(tree, dict):
        return {name: _to_device(value, device) for name, value in tree.items()}
    if isinstance(tree, tuple):
        moved = tuple(_to_device(value, device) for value in tree)
        return type(tree)(*moved) if hasattr(tree, "_fields") else moved
    return tree
