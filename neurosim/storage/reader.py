"""A trace back as NumPy arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.storage.files import reading, text
from neurosim.storage.index import INDEX, dataset_names, open_segments, segment_files
from neurosim.types import Array, ConfigurationError

TRIAL_COLUMNS = ("sample", "replica", "epoch", "phase", "label", "start", "stop")


@dataclass(frozen=True)
class Trace:
    """What a run recorded, read when asked for.

    `files` are read one after the other along the first axis of every dataset; `attributes` are the root attributes
    (config, seed, dt in ms, backend, ...); `lost` names segments that were open when the run was killed, whose
    recordings are gone.
    """

    files: tuple[Path, ...]
    attributes: dict[str, Any]
    lost: tuple[str, ...] = ()

    @property
    def dt(self) -> float:
        return float(self.attributes["dt"])

    @property
    def names(self) -> list[str]:
        """Paths of all datasets."""
        names: dict[str, None] = {}
        for path in self.files:
            with reading(path) as file:
                names.update(dict.fromkeys(dataset_names(file)))
        return list(names)

    def array(self, name: str) -> Array:
        """One whole dataset by its path, for instance "learning/hidden/weight"."""
        parts = []
        for path in self.files:
            with reading(path) as file:
                if name in file:
                    parts += _pieces(path, file[name])
        if not parts:
            raise ConfigurationError(f"the trace has no {name!r}; it has: {', '.join(self.names) or 'nothing'}")
        joined: Array = np.concatenate(parts)
        return joined.view(joined.dtype.str)  # without the mark that h5py puts on byte strings

    def group_attributes(self, name: str) -> dict[str, Any]:
        for path in self.files:
            with reading(path) as file:
                if name in file:
                    return {key: text(value) for key, value in file[name].attrs.items()}
        raise ConfigurationError(f"the trace has no {name!r}; it has: {', '.join(self.names) or 'nothing'}")

    @property
    def populations(self) -> list[str]:
        """Populations whose spikes were recorded."""
        return sorted({name.split("/")[1] for name in self.names if name.startswith("spikes/")})

    @property
    def replicas(self) -> Array:
        """Numbers of the replicas that were recorded."""
        return np.atleast_1d(self.attributes["replicas"])

    def neurons(self, population: str) -> int:
        self._check_spikes(population)
        return int(self.group_attributes(f"spikes/{population}")["neurons"])

    def spikes(self, population: str) -> tuple[Array, Array]:
        """Times in ms and node ids (replica * N + neuron) of a population, ordered by time."""
        self._check_spikes(population)
        return self.array(f"spikes/{population}/timestamps"), self.array(f"spikes/{population}/node_ids")

    def _check_spikes(self, population: str) -> None:
        if population not in self.populations:
            raise ConfigurationError(
                f"no spikes of {population!r} were recorded; spikes are there of: "
                f"{', '.join(self.populations) or 'no population'}"
            )

    def report(self, population: str, field: str) -> tuple[Array, Array]:
        """Times in ms `[F]` and values `[F, R, N]` of a recorded state, port or output."""
        for name in (f"report/{population}", f"report/{population}_{field}"):
            if f"{name}/data" in self.names and self.group_attributes(name)["field"] == field:
                data = self.array(f"{name}/data")
                return self.array(f"{name}/time"), data.reshape(len(data), len(self.replicas), -1)
        raise ConfigurationError(
            f"the trace has no {field!r} of population {population!r}; it has: {', '.join(self.names)}"
        )

    def learning(self, projection: str, field: str) -> tuple[Array, Array]:
        """Times in ms `[F]` and values `[F, R, ...]` of a projection's weight, bias, eligibility or modulator."""
        return self.array(f"learning/{projection}/{field}_time"), self.array(f"learning/{projection}/{field}")

    @property
    def trials(self) -> Array:
        """Structured array: sample, replica, epoch, phase, label, start and stop (ms); a row per sample and replica."""
        columns = {name: self.array(f"trials/{name}") for name in TRIAL_COLUMNS}
        columns["phase"] = np.char.decode(columns["phase"], "utf-8")
        rows = np.empty(len(columns["start"]), [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            rows[name] = column
        return rows

    @property
    def metrics(self) -> dict[str, Array]:
        """Columns of the learning curves."""
        columns = {name.split("/")[1]: self.array(name) for name in self.names if name.startswith("metrics/")}
        words = {name: np.char.decode(value, "utf-8") for name, value in columns.items() if value.dtype.kind == "S"}
        return columns | words

    def raster(self, population: str, *, epoch: int | None = None, phase: str | None = None) -> Array:
        """Spikes as booleans `[T, trials, R, N]`, of all trials or one epoch or phase; trials must be equally long."""
        trials = self.trials
        chosen = trials["replica"] == self.replicas[0]
        if epoch is not None:
            chosen &= trials["epoch"] == epoch
        if phase is not None:
            chosen &= trials["phase"] == phase
        begin = np.rint(trials["start"][chosen] / self.dt).astype(int)
        length = np.rint(trials["stop"][chosen] / self.dt).astype(int) - begin
        if not len(begin) or np.any(length != length[0]):
            what = "do not exist" if not len(begin) else "are not equally long"
            raise ConfigurationError(f"recorded trials with epoch={epoch}, phase={phase} {what}; choose others")
        times, nodes = self.spikes(population)
        neurons = self.neurons(population)
        raster = np.zeros((length[0], len(begin), len(self.replicas), neurons), bool)
        step = np.rint(times / self.dt).astype(int) - 1
        trial = np.searchsorted(begin, step, side="right") - 1
        inside = (trial >= 0) & (step < (begin + length)[trial])
        step, trial, node = step[inside], trial[inside], nodes[inside].astype(int)
        row = np.searchsorted(self.replicas, node // neurons)
        raster[step - begin[trial], trial, row, node % neurons] = True
        return raster


def read_trace(path: Path | str) -> Trace:
    """Read a run folder, its `trace.h5` or an exported file.

    A folder whose run was killed has no index yet; its closed segments are read instead, and `lost` names the open one.
    Anything that is not a whole trace of ours is a ConfigurationError of one sentence.
    """
    path = Path(path)
    if not path.is_dir():
        return _whole(path)
    if (path / INDEX).exists():
        return _whole(path / INDEX)
    segments = tuple(segment_files(path))
    if not segments:
        raise ConfigurationError(f"{path} holds no trace: neither {INDEX} nor closed segments in trace/")
    lost = tuple(segment.name for segment in open_segments(path))
    return Trace(segments, _attributes(segments[0]), lost)


def _whole(path: Path) -> Trace:
    attributes = _attributes(path)
    for name in json.loads(attributes.get("segments", "[]")):
        # HDF5 reads zeros where a virtual dataset's file is missing or damaged, so they are looked at here.
        with reading(path.parent / name):
            pass
    lost = tuple(segment.name for segment in open_segments(path.parent)) if "segments" in attributes else ()
    return Trace((path,), attributes, lost)


def _attributes(path: Path) -> dict[str, Any]:
    with reading(path) as file:
        return {name: text(value) for name, value in file.attrs.items()}


def _pieces(path: Path, data: h5py.Dataset) -> list[Array]:
    """A dataset of the file `path`; that of an index segment by segment.

    Read through the index, HDF5 would hold all segments open at once, half a megabyte for each.
    """
    sources = data.virtual_sources() if data.is_virtual else []
    if not sources:
        return [np.asarray(data[...])]
    parts = []
    for source in sources:
        with reading(path.parent / source.file_name) as file:
            parts.append(np.asarray(file[source.dset_name][...]))
    return parts
