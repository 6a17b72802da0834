"""MNIST's file format "idx", and data sets that come as four such files."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np

from neurosim.random import Stream
from neurosim.task import Dataset, Split
from neurosim.types import Array, ConfigurationError, choice

from .split import check_available, check_sizes, scaled, stratified

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
AVAILABLE = {"train": 60000, "test": 10000}
UNSIGNED_BYTE = 8
DIMENSIONS = range(1, 5)

# SHA-256 of the (unpacked) test labels. The data sets share their file names, so a folder is asked which one it holds.
KNOWN_LABELS = {
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "MNIST",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "Fashion-MNIST",
}


def read_idx(path: Path) -> Array:
    """Array (uint8, read only) of an idx file, packed with gzip (by its first two bytes) or not.

    Format: two zero bytes, type 8 (unsigned byte), number of dimensions, each length as a big-endian 32-bit integer,
    data. ConfigurationError, one sentence, for a file that cannot be read, is damaged, is no idx file or has a wrong
    length.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); get a fresh copy of the file") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, UNSIGNED_BYTE]) or content[3] not in DIMENSIONS:
        raise ConfigurationError(
            f"{path} starts with {content[:4].hex(' ') or 'nothing'}; an idx file of bytes has 00 00 08 and 01 to 04"
        )
    start = 4 + 4 * content[3]
    header = np.frombuffer(content[4 : start if len(content) >= start else 4], dtype=">u4")
    shape = tuple(int(length) for length in header)
    expected = start + math.prod(shape)
    if len(content) < start or len(content) != expected:
        raise ConfigurationError(
            f"{path} has {len(content)} bytes, but its header says {expected}, shape {shape}; get a fresh copy of it"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def find_file(folder: Path, name: str) -> Path | None:
    """`name` in `folder`, packed or not, also in the spelling train-images.idx3-ubyte."""
    dotted = name.replace("-idx", ".idx")
    candidates = (folder / (stem + ending) for stem in (name, dotted) for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def find_folder(
    title: str, folder: str | None, subfolders: tuple[str, ...], system: tuple[str, ...], help: str
) -> Path:
    """The folder that holds the four files: `folder` if given and nothing else; else $NEUROSIM_DATA/<subfolder>, then
    $NEUROSIM_DATA, then the `system` folders. ConfigurationError says where it looked and how to get the data set."""
    if folder is not None:
        places = [Path(folder).expanduser()]
    else:
        root = os.environ.get("NEUROSIM_DATA")
        places = [] if not root else [*(Path(root, sub) for sub in subfolders), Path(root)]
        places += [Path(place) for place in system]
    for place in places:
        if all(find_file(place, name) for name in FILES):
            return place
    looked = ", ".join(map(str, places)) or "no folder, because NEUROSIM_DATA is not set"
    raise ConfigurationError(f"{title} was not found (looked in {looked}): {help}, or set task.folder or NEUROSIM_DATA")


def read_pair(folder: Path, images: str, labels: str) -> tuple[Array, Array]:
    """Images `[n, 28, 28]` and labels `[n]`, both uint8; ConfigurationError unless they fit together."""
    paths = (find_file(folder, images), find_file(folder, labels))
    if paths[0] is None or paths[1] is None:
        raise ConfigurationError(f"{folder} does not hold {images} and {labels}")
    x, y = read_idx(paths[0]), read_idx(paths[1])
    if x.ndim != 3 or x.shape[1:] != (28, 28) or y.ndim != 1 or len(x) != len(y):
        raise ConfigurationError(f"{folder} holds images {x.shape} and labels {y.shape}; allowed: (n, 28, 28) and (n,)")
    if y.size and y.max() > 9:
        raise ConfigurationError(f"{paths[1]} has the label {y.max()}; allowed: 0 to 9")
    return x, y


def check_title(title: str, folder: Path) -> None:
    """ConfigurationError if the folder is known to hold another data set than `title`."""
    path = find_file(folder, FILES[3])
    if path is None:
        return
    labels = read_idx(path)
    content = bytes([0, 0, UNSIGNED_BYTE, 1]) + len(labels).to_bytes(4, "big") + labels.tobytes()
    held = KNOWN_LABELS.get(hashlib.sha256(content).hexdigest(), title)
    if held != title:
        raise ConfigurationError(f"{folder} holds {held}, not {title}; set task.folder to the folder of {title}")


def check_images(name: str, train: int, validation: int, test: int, scale: str) -> None:
    """One sentence for sizes or a scale that are not allowed, before any file is read."""
    check_sizes(name, train=train, validation=validation, test=test)
    check_available(name, AVAILABLE["train"], train=train, validation=validation)
    check_available(name, AVAILABLE["test"], test=test)
    choice(scale, ("unit", "symmetric"), f"task {name}: scale")


def load_images(name: str, folder: Path, sizes: tuple[int, int, int], scale: str, seed: int) -> Dataset:
    """Train and validation from the training files, test from the test files, each stratified, chosen by the seed."""
    x, y = read_pair(folder, FILES[0], FILES[1])
    x_test, y_test = read_pair(folder, FILES[2], FILES[3])
    check_available(name, len(y), train=sizes[0], validation=sizes[1])
    check_available(name, len(y_test), test=sizes[2])
    train, validation = stratified(y, sizes[:2], Stream(seed, "task/images/split"))
    (test,) = stratified(y_test, sizes[2:], Stream(seed, "task/images/test"))
    parts = ((x, y, train), (x, y, validation), (x_test, y_test, test))
    splits = [Split(scaled(a[i], 255.0, scale)[:, None], b[i].astype(np.int64)) for a, b, i in parts]
    return Dataset(name, splits[0], splits[1], splits[2], classes=10, shape=(1, 28, 28))
