"""Two tasks in the plane share this: the arrays of the original code, and splits of generated points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurosim.task import Dataset, Split
from neurosim.types import Array, ConfigurationError, positive

from .split import check_sizes

Generate = Callable[[str, int], tuple[Array, Array]]  # (split name, number of points) -> x [n, 2], y [n]
ORIGINAL_SIZES = {"train": 900, "test": 100}
TEST_SIZE = 2000


def original_arrays() -> dict[str, Array]:
    """`lin_x, lin_y, lin_w, xor_x, xor_y` (1000 points each, float32) as the original code made them.

    Source: `data.py` of github.com/darsnack/biological-hsic (MIT licence; Daruwalla and Lipasti 2024), run with JAX's
    threefry generator (not partitionable) and the keys 42 (points) and 24 (weight).
    """
    with np.load(Path(__file__).with_name("original.npz"), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def check_points(task: str, original: bool, train: int, validation: int, test: int | None, divide_by: float) -> None:
    """One sentence for sizes that are no positive integers, or that the original arrays do not have."""
    if not isinstance(original, bool):
        raise ConfigurationError(f"task {task}: original is {original!r}; it must be true or false")
    check_sizes(task, train=train, validation=validation, **({} if test is None else {"test": test}))
    positive(divide_by, f"task {task}: divide_by")
    given = {"train": train, "test": ORIGINAL_SIZES["test"] if test is None else test}
    if original and given != ORIGINAL_SIZES:
        raise ConfigurationError(
            f"task {task} with original=true has train 900 and test 100 points (test null means 100); "
            f"asked for train {given['train']} and test {given['test']}"
        )


def dataset(
    name: str, generate: Generate, original: str | None, sizes: tuple[int, int, int | None], divide_by: float
) -> Dataset:
    """Three splits of `generate`; with `original` ("lin", "xor") its first 900 and last 100 rows are train and test."""
    train, validation, test = sizes
    splits = {"validation": generate("validation", validation)}
    if original is None:
        splits["train"] = generate("train", train)
        splits["test"] = generate("test", TEST_SIZE if test is None else test)
    else:
        arrays = original_arrays()
        x, y = arrays[f"{original}_x"].astype(np.float64), arrays[f"{original}_y"]
        splits["train"], splits["test"] = (x[:900], y[:900]), (x[900:], y[900:])
    made = {key: Split(x / divide_by, y.astype(np.int64)) for key, (x, y) in splits.items()}
    return Dataset(name, made["train"], made["validation"], made["test"], classes=2, shape=(2,))
