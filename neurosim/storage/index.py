"""One file over all segments: `trace.h5` holds no recordings, only where they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.durable import PART, sync_folder
from neurosim.storage.files import reading, text, writing
from neurosim.types import Array

INDEX = "trace.h5"


def segment_number(path: Path) -> int:
    return int(path.stem)


def segment_files(folder: Path) -> list[Path]:
    """The closed segments of a run folder, oldest first."""
    return sorted((path for path in (folder / "trace").glob("*.h5") if path.stem.isdigit()), key=segment_number)


def open_segments(folder: Path) -> list[Path]:
    """Segments that a kill left unfinished."""
    return sorted((folder / "trace").glob(f"*.h5{PART}"))


def segment_state(path: Path) -> tuple[int, dict[str, str]]:
    """Clock (steps) at the end of a closed segment, and the first recorded field of each population."""
    with reading(path) as file:
        return int(file.attrs["stop_step"]), json.loads(text(file.attrs["reports"]))


def drop_segments_after(folder: Path, segment: int) -> list[str]:
    """Remove closed segments newer than number `segment` (the checkpoint's; -1: all), unfinished ones and the index.

    Returns the names of the removed segments, to be told to the user.
    """
    folder = Path(folder)
    dropped = [path for path in segment_files(folder) if segment_number(path) > segment] + open_segments(folder)
    (folder / INDEX).unlink(missing_ok=True)
    for path in dropped:
        path.unlink()
    if dropped:
        sync_folder(folder / "trace")
    return [path.name for path in dropped]


def write_index(folder: Path, attributes: Mapping[str, Any], metrics: Mapping[str, Array]) -> Path:
    """Write `folder/trace.h5`: virtual datasets over the closed segments, and `metrics` as real columns."""
    path = Path(folder) / INDEX
    segments = segment_files(Path(folder))
    names = [f"trace/{segment.name}" for segment in segments]
    with writing(path) as file:
        file.attrs.update({**attributes, "segments": json.dumps(names)})
        _link(file, segments)
        write_metrics(file, metrics)
    return path


def write_metrics(file: h5py.File, metrics: Mapping[str, Array]) -> None:
    """Columns of `/metrics`; words are stored as bytes of fixed length."""
    for name, column in metrics.items():
        values = np.asarray(column)
        file[f"metrics/{name}"] = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values


def _link(file: h5py.File, segments: list[Path]) -> None:
    sources: dict[str, list[tuple[str, tuple[int, ...], Any]]] = {}
    for segment in segments:
        with reading(segment) as part:
            for name in dataset_names(part):
                sources.setdefault(name, []).append((f"trace/{segment.name}", part[name].shape, part[name].dtype))
            copy_described(part, file)
    for name, parts in sources.items():
        _virtual(file, name, parts)


def dataset_names(file: h5py.File) -> list[str]:
    """Paths of the datasets that grow with time (a report's mapping does not)."""
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "/mapping/" not in name:
            names.append(name)

    file.visititems(note)
    return names


def copy_described(source: h5py.File, target: h5py.File) -> None:
    """Copy group attributes and report mappings; a report that goes on in `source` gets its frame times extended."""
    for kind in ("spikes", "report"):
        for name, group in source.get(kind, {}).items():
            path = f"{kind}/{name}"
            known = path in target
            own = target.require_group(path)
            if not known:
                _copy_attributes(group, own)
                if kind == "report":
                    source.copy(group["mapping"], own, "mapping")
            elif kind == "report":
                _extend_frames(own, group)


def _copy_attributes(source: Any, target: Any) -> None:
    for name in source.attrs:
        target.attrs.create(name, source.attrs[name], dtype=source.attrs.get_id(name).dtype)


def _extend_frames(target: h5py.Group, source: h5py.Group) -> None:
    begin, end, step = target["mapping/time"][...]
    next_begin, next_end, next_step = source["mapping/time"][...]
    joined = abs(next_begin - end) < 1e-6 * step and abs(next_step - step) < 1e-6 * step
    both = target.attrs["regular"] and source.attrs["regular"] and joined
    target.attrs["regular"] = np.uint8(bool(both))
    frames = round((end - begin) / step) + round((next_end - next_begin) / next_step)
    target["mapping/time"][...] = (begin, begin + frames * step, step)


def _virtual(file: h5py.File, name: str, parts: list[tuple[str, tuple[int, ...], Any]]) -> None:
    tail, dtype = parts[0][1][1:], parts[0][2]
    length = sum(shape[0] for _, shape, _ in parts)
    layout = h5py.VirtualLayout((length, *tail), dtype)
    row = 0
    for source, shape, _ in parts:
        if shape[0]:
            layout[row : row + shape[0]] = h5py.VirtualSource(source, name, shape)
            row += shape[0]
    data = file.create_virtual_dataset(name, layout)
    if name.startswith("spikes/") and name.endswith("timestamps"):
        data.attrs["units"] = "ms"
    if name.startswith("report/") and name.endswith("/data"):
        data.attrs["units"] = text(file[name.rpartition("/")[0]].attrs["units"])
