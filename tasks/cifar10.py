"""CIFAR-10: 60,000 colour pictures of 32 x 32 pixels in ten classes, read from the standard batches."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.random import Stream
from neurosim.task import Dataset, Split
from neurosim.types import Array, ConfigurationError, choice

from .split import check_available, check_sizes, scaled, stratified

AVAILABLE = {"train": 50000, "test": 10000}
SHAPE = (3, 32, 32)  # channel (red, green, blue), row, column
PIXELS = 3 * 32 * 32
TRAIN, TEST = tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",)
SUBFOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10", "cifar-10")
HELP = "unpack cifar-10-python.tar.gz or cifar-10-binary.tar.gz of the CIFAR-10 page (Krizhevsky) into a folder"

# What a pickled batch may be made of: arrays of numbers, in the spellings of NumPy 1 and 2, and old strings.
TRUSTED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.numeric", "_frombuffer"): np._core.numeric._frombuffer,  # type: ignore[attr-defined]
    ("numpy.core.numeric", "_frombuffer"): np._core.numeric._frombuffer,  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that makes arrays, numbers, strings, lists and dictionaries, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin
        if (module, name) not in TRUSTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return TRUSTED[module, name]


def _latin(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


def read_batch(path: Path) -> tuple[Array, Array]:
    """Pixels `[n, 3072]` and labels `[n]`, uint8 and int64, of a pickled batch or a binary one (`.bin`).

    ConfigurationError, one sentence, for a file that cannot be read, is damaged or holds anything else.
    """
    try:
        pixels, labels = _binary(path) if path.suffix == ".bin" else _pickled(path)
    except Exception as error:  # a damaged pickle can raise anything
        raise ConfigurationError(f"{path} is no batch of CIFAR-10 ({error}); get a fresh copy of the file") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS):
        raise ConfigurationError(
            f"{path} holds pixels {pixels.dtype} {pixels.shape} for {len(labels)} labels; "
            f"allowed: uint8 (n, {PIXELS}) for n labels"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() <= 9):
        raise ConfigurationError(f"{path} has labels from {labels.min()} to {labels.max()}; allowed: 0 to 9")
    return pixels, labels


def _pickled(path: Path) -> tuple[Array, Array]:
    with path.open("rb") as file:
        batch = ArraysOnly(file, encoding="bytes").load()
    return np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)


def _binary(path: Path) -> tuple[Array, Array]:
    """Each example is one byte with the label, then the pixels."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if content.size == 0 or content.size % (PIXELS + 1):
        raise ValueError(f"{content.size} bytes are no multiple of {PIXELS + 1}")
    rows = content.reshape(-1, PIXELS + 1)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def find_batches(folder: Path) -> list[Path] | None:
    """The five training batches and the test batch in `folder`, pickled or binary; None if one is missing."""
    for ending in ("", ".bin"):
        paths = [folder / f"{name}{ending}" for name in (*TRAIN, *TEST)]
        if all(path.is_file() for path in paths):
            return paths
    return None


def places(folder: str | None) -> Iterator[Path]:
    """Where the batches may be: in `folder` and nowhere else if it is given, else under $NEUROSIM_DATA."""
    root = os.environ.get("NEUROSIM_DATA") if folder is None else folder
    if root:
        here = Path(root).expanduser()
        yield here
        for name in SUBFOLDERS:
            yield here / name
            yield from (here / name / inner for inner in SUBFOLDERS[:2])


@dataclass(frozen=True)
class Cifar10:
    """Ten classes of things and animals, shape (3, 32, 32): channel, row, column (Krizhevsky 2009).

    Not part of the package: the batches, as distributed for Python or in binary, are read from `folder`, else from
    $NEUROSIM_DATA (there, or in a sub-folder cifar-10-batches-py, cifar-10-batches-bin, cifar10 or cifar-10). `train`
    and `validation` come from the 50,000 training pictures, `test` from the 10,000 test pictures; the seed fixes the
    (stratified) choice. `scale` is "unit" (pixel / 255) or "symmetric" ([-1, 1]).
    """

    name: str = "cifar10"
    train: int = 40000
    validation: int = 10000
    test: int = 10000
    scale: str = "unit"
    folder: str | None = None

    def __post_init__(self) -> None:
        check_sizes(self.name, train=self.train, validation=self.validation, test=self.test)
        check_available(self.name, AVAILABLE["train"], train=self.train, validation=self.validation)
        check_available(self.name, AVAILABLE["test"], test=self.test)
        choice(self.scale, ("unit", "symmetric"), f"task {self.name}: scale")

    def load(self, seed: int) -> Dataset:
        batches = [read_batch(path) for path in self._files()]
        x, y = (np.concatenate(parts) for parts in zip(*batches[:-1], strict=True))
        x_test, y_test = batches[-1]
        check_available(self.name, len(y), train=self.train, validation=self.validation)
        check_available(self.name, len(y_test), test=self.test)
        train, validation = stratified(y, (self.train, self.validation), Stream(seed, "task/cifar10/split"))
        (test,) = stratified(y_test, (self.test,), Stream(seed, "task/cifar10/test"))
        parts = ((x, y, train), (x, y, validation), (x_test, y_test, test))
        splits = [Split(scaled(a[i], 255.0, self.scale).reshape(-1, *SHAPE), b[i]) for a, b, i in parts]
        return Dataset(self.name, splits[0], splits[1], splits[2], classes=10, shape=SHAPE)

    def _files(self) -> list[Path]:
        looked = list(places(self.folder))
        for place in looked:
            found = find_batches(place)
            if found is not None:
                return found
        where = f"under {looked[0]}" if looked else "in no folder, because NEUROSIM_DATA is not set"
        raise ConfigurationError(
            f"CIFAR-10 was not found (looked {where}): {HELP}, and set task.folder or NEUROSIM_DATA to it"
        )
