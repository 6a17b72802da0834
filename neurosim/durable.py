"""Writing files so that a crash, a kill or a full disk leaves the old one or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from neurosim.types import ConfigurationError

PART = ".part"  # what an unfinished file's name ends with


def write_error(path: Path, error: OSError) -> ConfigurationError:
    """The sentence for a file that could not be written (full disk, no permission, no such folder)."""
    return ConfigurationError(f"cannot write {path}: {error.strerror or error}; what was saved before is untouched")


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(part: Path, path: Path) -> None:
    """Give a written, closed and fsynced `part` its name `path`, replacing what had it."""
    os.replace(part, path)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends well and leaves no trace when it does not.

    Written beside `path`, flushed, fsynced, renamed; then the folder is fsynced. An OSError becomes one
    ConfigurationError sentence.
    """
    part = path.with_name(path.name + PART)
    try:
        with open(part, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise write_error(path, error) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
