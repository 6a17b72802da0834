"""Streaming recordings into closed segments."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from neurosim.durable import PART, publish, write_error
from neurosim.recorder import Recording
from neurosim.storage.files import SCHEMA, SCHEMA_VERSION, Output, extend
from neurosim.storage.index import segment_files, segment_number, segment_state, write_index
from neurosim.types import Array, ConfigurationError

REQUIRED = ("package_version", "commit", "config", "seed", "dt", "backend", "device", "dtype")
LEARNING = ("weight", "bias", "eligibility", "modulator")  # fields of a projection; all others belong to populations
BATCHED = ("eligibility", "modulator")  # of these, the ones with a batch axis after the replica axis
PHASE = "S32"
SORTING = h5py.enum_dtype({"none": 0, "by_id": 1, "by_time": 2}, basetype="i4")
SPIKE_BYTES = 16  # a float64 time and a uint64 node


@dataclass(frozen=True)
class TrialInfo:
    """What one recording showed: `sample` and `label` are numbers, `[B]` or `[R, B]` (where replicas see another
    order).

    `steps` is the length of the recorded interval and `first_step` the simulator's clock at its start; both are read
    off the recording when None, which is right if one of its probes keeps every step.
    """

    sample: ArrayLike
    epoch: int
    phase: str
    label: ArrayLike = -1
    steps: int | None = None
    first_step: int | None = None


class TraceWriter:
    """Streams recordings into `folder/trace/<k>.h5`, one segment per checkpoint, and indexes them in `folder/trace.h5`.

    `attributes` must name package_version, commit, config (YAML), seed, dt (ms), backend, device and dtype. `replicas`
    are the rows of the recordings' replica axis to keep (None: recordings have no such axis). The rows of a batch are
    laid out one after the other on one time axis that runs on over all trials; a weight, which a batch shares, keeps
    the times of the batch's first row. `units` maps "target.field" to a unit for the reports.

    The open segment ends in `.part`; a closed one is fsynced and renamed, so a kill loses at most the open one. A
    writer on a folder with closed segments goes on after the last of them. Memory is bounded by one recording.
    """

    def __init__(
        self,
        folder: Path,
        attributes: Mapping[str, Any],
        replicas: Sequence[int] | None = (0,),
        units: Mapping[str, str] | None = None,
    ) -> None:
        missing = [name for name in REQUIRED if name not in attributes]
        if missing:
            raise ConfigurationError(f"trace attributes lack {', '.join(missing)}; needed: {', '.join(REQUIRED)}")
        self.folder = Path(folder)
        self.attributes = dict(attributes)
        self.dt = float(attributes["dt"])
        self.kept = (0,) if replicas is None else tuple(replicas)
        self._has_axis = replicas is not None
        self.units = dict(units or {})
        closed = segment_files(self.folder)
        self.segment = segment_number(closed[-1]) if closed else -1
        self._clock, self._reports = segment_state(closed[-1]) if closed else (0, {})
        self._output: Output | None = None
        self._file: h5py.File | None = None

    @property
    def path(self) -> Path:
        """The segment that is open, or would be opened next."""
        return self.folder / "trace" / f"{self.segment + 1}.h5"

    def append(self, recording: Recording, trial: TrialInfo) -> None:
        """Add one recording, `[T, R, B, N]` for populations; the clock moves on by its steps times its batch size."""
        sample, label = np.broadcast_arrays(self._per_row(trial.sample), self._per_row(trial.label))
        first, steps = _interval(recording, trial)
        values = {key: self._kept_rows(key, value, sample.shape[1]) for key, value in recording.items()}

        def write() -> None:
            file = self._open()
            for key, value in values.items():
                local = np.asarray(recording.step[key]) - first + 1
                self._variable(file, key, value, local, steps)
            self._trials(file, trial, sample, label, steps)

        self._guarded(write)
        self._clock += steps * sample.shape[1]

    def close_segment(self) -> None:
        """Close, fsync and rename the open segment, if there is one."""
        if self._file is None:
            return
        self._guarded(self._publish)

    def finish(self, metrics: Mapping[str, Array] | None = None) -> Path:
        """Close the open segment and write `trace.h5`, the index over all, with `metrics` as columns of `/metrics`."""
        self.close_segment()
        return write_index(self.folder, self._root(), metrics or {})

    def _per_row(self, value: ArrayLike) -> Array:
        """Sample numbers or labels as `[kept replicas, B]`."""
        rows = np.atleast_1d(np.asarray(value, dtype=np.int64))
        if rows.ndim == 2 and self._has_axis:
            rows = rows[list(self.kept)]
        return np.broadcast_to(rows, (len(self.kept), rows.shape[-1]))

    def _kept_rows(self, key: str, value: Array, batch: int) -> Array:
        """The kept replicas of one variable, `[T, R, ...]`, after a look at its name and batch axis."""
        if "/" in key:
            raise ConfigurationError(f"{key!r} cannot be recorded: a name in a trace must not contain '/'")
        value = value[:, list(self.kept)] if self._has_axis else value[:, None]
        if not _shared(key) and value.shape[2] != batch:
            raise ConfigurationError(f"{key} has {value.shape[2]} batch rows; the trial names {batch} samples")
        return value

    def _root(self) -> dict[str, Any]:
        sonata = {"magic": np.uint32(0x0A7A), "version": np.array([0, 1], np.uint32)}
        own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "replicas": np.array(self.kept, np.int64)}
        return {**self.attributes, **sonata, **own}

    def _open(self) -> h5py.File:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._output = Output(self.path.with_name(self.path.name + PART), "w+")
            self._file = h5py.File(self._output, "w")
            self._file.attrs.update({**self._root(), "segment": self.segment + 1, "start_step": self._clock})
        return self._file

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; where the disk refused, drop the open segment and say so in one sentence."""
        path = self.path
        try:
            action()
            if self._output is not None:
                self._output.check()
        except Exception as error:
            cause = self._output.error if self._output is not None and self._output.error is not None else error
            if not isinstance(cause, OSError):
                raise
            self.abandon()
            raise write_error(path, cause) from error

    def abandon(self) -> None:
        """Drop the open segment, if there is one."""
        if self._output is None:
            return
        self._output.error = self._output.error or OSError("abandoned")  # what HDF5 still wants to write goes nowhere
        if self._file is not None:
            self._file.close()
        self._output.close()
        self.path.with_name(self.path.name + PART).unlink(missing_ok=True)
        self._file = self._output = None

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def _publish(self) -> None:
        assert self._file is not None
        assert self._output is not None
        for group in self._file.get("report", {}).values():
            _frame_times(group, self.dt)
        self._file.attrs.update({"stop_step": self._clock, "reports": json.dumps(self._reports)})
        self._file.close()
        self._output.check()
        os.fsync(self._output.fileno())
        self._output.close()
        publish(self.path.with_name(self.path.name + PART), self.path)
        self._file = self._output = None
        self.segment += 1

    def _variable(self, file: h5py.File, key: str, value: Array, local: Array, steps: int) -> None:
        """Write one variable; `local` are its rows' steps, counted from 1 within the trial."""
        target, _, field = key.rpartition(".")
        starts = self._clock + steps * np.arange(1 if _shared(key) else value.shape[2])
        when = (starts[:, None] + local) * self.dt
        rows = value if _shared(key) else np.moveaxis(value, 2, 0)
        if field == "spike":
            self._spikes(file, target, rows, when)
        elif field in LEARNING:
            extend(file, f"learning/{target}/{field}", value if _shared(key) else rows.reshape(-1, *rows.shape[2:]))
            extend(file, f"learning/{target}/{field}_time", when.ravel())
        else:
            self._report(file, key, rows, when)

    def _spikes(self, file: h5py.File, population: str, rows: Array, when: Array) -> None:
        """Events of a raster `[B, T, R, N]`, ordered by time; node id = replica * N + neuron."""
        neurons = rows.shape[-1]
        row, step, replica, neuron = np.nonzero(rows)
        nodes = np.array(self.kept)[replica] * neurons + neuron
        extend(file, f"spikes/{population}/timestamps", when[row, step].astype(np.float64))
        extend(file, f"spikes/{population}/node_ids", nodes.astype(np.uint64))
        group = file[f"spikes/{population}"]
        if "sorting" not in group.attrs:
            group.attrs.create("sorting", 2, dtype=SORTING)
            group.attrs["neurons"] = neurons
            group["timestamps"].attrs["units"] = "ms"

    def _report(self, file: h5py.File, key: str, rows: Array, when: Array) -> None:
        """A frame report; a population's first field is `/report/<population>`, others `<population>_<field>`."""
        population, _, field = key.rpartition(".")
        first = self._reports.setdefault(population, field)
        path = f"report/{population}" if field == first else f"report/{population}_{field}"
        neurons = rows.shape[-1]
        extend(file, f"{path}/data", rows.reshape(-1, len(self.kept) * neurons))
        extend(file, f"{path}/time", when.ravel())
        group = file[path]
        if "mapping" not in group:
            unit = self.units.get(key, "")
            group.attrs.update({"population": population, "field": field, "neurons": neurons, "units": unit})
            group["data"].attrs["units"] = unit
            _mapping(group.create_group("mapping"), self.kept, neurons)

    def _trials(self, file: h5py.File, trial: TrialInfo, sample: Array, label: Array, steps: int) -> None:
        """One row per sample and replica, samples outermost."""
        replicas, batch = sample.shape
        rows = replicas * batch
        start = np.repeat(self._clock + steps * np.arange(batch), replicas)
        columns = {
            "sample": sample.T.ravel(),
            "replica": np.tile(np.array(self.kept, np.int64), batch),
            "epoch": np.full(rows, trial.epoch, np.int64),
            "phase": np.full(rows, trial.phase.encode(), PHASE),
            "label": label.T.ravel(),
            "start": start * self.dt,
            "stop": (start + steps) * self.dt,
        }
        for name, column in columns.items():
            extend(file, f"trials/{name}", column)


def planned_bytes(
    shapes: Mapping[str, tuple[int, ...]], recordings: int, item_bytes: int = 8, spike_fraction: float = 0.05
) -> int:
    """Bytes that `recordings` recordings will take before compression.

    `shapes` has the shape of one recording by "target.field", with kept replicas only; `spike_fraction` is the part of
    raster entries taken to be spikes.
    """
    total = 0.0
    for key, shape in shapes.items():
        spikes = key.rpartition(".")[2] == "spike"
        total += float(np.prod(shape)) * (spike_fraction * SPIKE_BYTES if spikes else item_bytes)
    return int(np.ceil(total * recordings))


def _shared(key: str) -> bool:
    """Whether a variable is one for the whole batch."""
    field = key.rpartition(".")[2]
    return field in LEARNING and field not in BATCHED


def _interval(recording: Recording, trial: TrialInfo) -> tuple[int, int]:
    """Clock at the start and number of steps of a recording."""
    rows = [np.asarray(recording.step[key]) for key in recording if len(recording.step[key])]
    first = trial.first_step
    if first is None:
        first = min((int(step[0]) for step in rows), default=0)
    steps = trial.steps
    if steps is None:
        steps = max((int(step[-1]) for step in rows), default=first - 1) + 1 - first
    return first, steps


def _mapping(group: h5py.Group, kept: tuple[int, ...], neurons: int) -> None:
    """Which column of a report is which node. SONATA readers disagree on `index_pointer(s)`: both are there."""
    nodes = (np.array(kept)[:, None] * neurons + np.arange(neurons)).ravel().astype(np.uint64)
    group["node_ids"] = nodes
    group["node_ids"].attrs["sorted"] = np.uint8(np.all(np.diff(nodes.astype(np.int64)) > 0))
    group["index_pointer"] = np.arange(len(nodes) + 1, dtype=np.uint64)
    group["index_pointers"] = group["index_pointer"]
    group["element_ids"] = np.zeros(len(nodes), np.uint32)


def _frame_times(group: h5py.Group, dt: float) -> None:
    """SONATA's (start, stop, step) of a closed report. `regular` is 0 where frames are not equally spaced; then only
    the exact `time` beside `data` is right."""
    times = group["time"][...]
    gaps = np.diff(times)
    step = float(np.median(gaps)) if len(gaps) else dt
    group.attrs["regular"] = np.uint8(np.allclose(gaps, step, rtol=0, atol=1e-6 * dt))
    frames = group["mapping"].require_dataset("time", (3,), np.float64)
    frames[...] = (times[0], times[0] + len(times) * step, step) if len(times) else (0.0, 0.0, step)
    frames.attrs["units"] = "ms"
