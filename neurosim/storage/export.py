"""A trace as one file for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.durable import replacing
from neurosim.storage.files import extend, reading, writing
from neurosim.storage.index import copy_described, dataset_names
from neurosim.storage.reader import Trace, read_trace
from neurosim.types import ConfigurationError

COPY_BYTES = 2**24


def export(source: Path | str, target: Path | str, *, overwrite: bool = False) -> Path:
    """Write the trace of a run folder (or trace file) as `target`: `.h5` (SONATA, no virtual datasets), `.csv` or
    `.npz`.

    The SONATA file has state reports in float32, as the format wants; all else, and the npz (every dataset under its
    path), keeps the dtype of the run. The CSV has the spikes: time in ms, node, population, replica, neuron. A file
    that is there already is a ConfigurationError, unless `overwrite`.
    """
    target = Path(target)
    trace = read_trace(source)
    writers: dict[str, Callable[[Trace, Path], None]] = {".h5": _sonata, ".csv": _table, ".npz": _arrays}
    if target.suffix not in writers:
        raise ConfigurationError(f"cannot export to {target.name!r}; the name must end in one of {', '.join(writers)}")
    if not target.parent.is_dir():
        raise ConfigurationError(f"cannot export to {target}: there is no folder {target.parent}")
    if target.resolve() in [path.resolve() for path in trace.files]:
        raise ConfigurationError(f"cannot export {target} onto itself")
    if target.exists() and not overwrite:
        raise ConfigurationError(f"{target} is there already; give another name, or overwrite=true to replace it")
    writers[target.suffix](trace, target)
    return target


def _sonata(trace: Trace, target: Path) -> None:
    with writing(target) as file:
        file.attrs.update({name: value for name, value in trace.attributes.items() if name != "segments"})
        file.attrs.update({"magic": np.uint32(0x0A7A), "version": np.array([0, 1], np.uint32)})
        for path in trace.files:
            with reading(path) as piece:
                copy_described(piece, file)
                for name in dataset_names(piece):
                    _copy(piece[name], file, name)


def _copy(source: h5py.Dataset, file: h5py.File, name: str) -> None:
    """Append a dataset to its namesake in `file`, a bounded piece at a time; data of reports as float32."""
    report = name.startswith("report/") and name.endswith("/data")
    rows = max(1, COPY_BYTES // max(1, source.dtype.itemsize * int(np.prod(source.shape[1:]))))
    for start in range(0, max(1, len(source)), rows):
        piece = source[start : start + rows]
        extend(file, name, piece.astype(np.float32) if report else piece)
    for attribute, value in source.attrs.items():
        file[name].attrs[attribute] = value


def _table(trace: Trace, target: Path) -> None:
    if not trace.populations:
        raise ConfigurationError(
            f"cannot export to {target.name!r}: a .csv holds spikes, and the trace has none; "
            "an .h5 or .npz file holds everything"
        )
    with replacing(target) as binary:
        lines = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(["time", "node", "population", "replica", "neuron"])
        for population in trace.populations:
            neurons = trace.neurons(population)
            for time, node in zip(*trace.spikes(population), strict=True):
                table.writerow([float(time), int(node), population, int(node) // neurons, int(node) % neurons])
        lines.detach()  # flushes, and leaves the file open for the fsync


def _arrays(trace: Trace, target: Path) -> None:
    arrays: dict[str, Any] = {name: trace.array(name) for name in trace.names}
    with replacing(target) as binary:
        np.savez_compressed(binary, **arrays)
