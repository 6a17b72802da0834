"""HDF5 files that fail in one sentence."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.durable import PART, publish, write_error
from neurosim.types import Array, ConfigurationError

SCHEMA = "neurosim-trace"
SCHEMA_VERSION = 1
CHUNK_BYTES = 2**18
COMPRESSION = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
READ_ERRORS = (OSError, RuntimeError, KeyError)  # what h5py raises for damaged files


class Output(io.FileIO):
    """The byte file below an HDF5 file that is being written; remembers the first error instead of raising it.

    HDF5 cannot be told of a full disk: after a failed write its objects can neither be closed nor left, and the process
    dies of a segmentation fault at exit. So writes after the first error are dropped and `check` raises it.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self.error is None:
            try:
                done += super().write(view[done:]) or 0
            except OSError as error:
                self.error = error
        if self.error is not None:
            self.seek(len(view) - done, 1)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def text(value: Any) -> Any:
    """An HDF5 attribute or scalar as a plain Python value."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def extend(file: h5py.File, path: str, rows: Array) -> None:
    """Append `rows` along the first axis, creating the dataset (chunked, growing) when it is new.

    Only `/learning` is compressed: SONATA's own reader is built without the deflate filter.
    """
    if path not in file:
        width = max(1, rows.dtype.itemsize * int(np.prod(rows.shape[1:])))
        # A chunk takes its whole place on the disk, so a short recording gets short ones.
        count = min(4096, max(1, CHUNK_BYTES // width), max(64, len(rows)))
        chunk = (count, *(max(1, length) for length in rows.shape[1:]))
        shape, limit = (0, *rows.shape[1:]), (None, *rows.shape[1:])
        squeeze = COMPRESSION if path.startswith("learning/") else {}
        file.create_dataset(path, shape, rows.dtype, maxshape=limit, chunks=chunk, **squeeze)
    data = file[path]
    if data.shape[1:] != rows.shape[1:]:
        raise ConfigurationError(f"{path} was recorded with rows of shape {data.shape[1:]}, now with {rows.shape[1:]}")
    if len(rows):
        start = len(data)
        data.resize(start + len(rows), 0)
        data[start:] = rows


@contextmanager
def writing(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that becomes `path` when the block ends well and leaves no trace when it does not.

    A full disk is a ConfigurationError of one sentence.
    """
    part = path.with_name(path.name + PART)
    output = None
    try:
        with Output(part, "w+") as output:
            with h5py.File(output, "w") as file:
                yield file
            output.check()
            os.fsync(output.fileno())
        publish(part, path)
    except Exception as error:
        part.unlink(missing_ok=True)
        # After a lost write HDF5 reads zeros back, so any error may follow from it.
        cause = output.error if output is not None and output.error is not None else error
        if not isinstance(cause, OSError):
            raise
        raise write_error(path, cause) from error


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open one of our HDF5 files; a missing, foreign, corrupt or truncated one is a ConfigurationError sentence."""
    if not path.is_file():
        raise ConfigurationError(f"there is no trace file {path}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ConfigurationError(
            f"{path} is not a readable HDF5 file: it is corrupt, truncated or something else"
        ) from error
    with file:
        if text(file.attrs.get("schema", "")) != SCHEMA:
            raise ConfigurationError(f"{path} is an HDF5 file, but not a trace that neurosim wrote")
        found = text(file.attrs.get("schema_version", 0))
        if found != SCHEMA_VERSION:
            raise ConfigurationError(
                f"{path} has trace schema {found}; this version of neurosim reads {SCHEMA_VERSION}"
            )
        try:
            yield file
        except READ_ERRORS as error:
            raise ConfigurationError(f"{path} is damaged: {str(error).splitlines()[0].strip()}") from error
