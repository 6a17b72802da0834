"""What the tasks share: sizes that are checked, stratified splits, scaling."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from neurosim.random import Stream
from neurosim.types import Array, ConfigurationError


def check_sizes(task: str, **sizes: Any) -> None:
    """ConfigurationError unless every size is an integer >= 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigurationError(f"task {task}: {name} is {size!r}; it must be an integer >= 1")


def check_available(task: str, available: int, **sizes: int) -> None:
    """ConfigurationError unless the sizes together fit into the `available` examples."""
    total = sum(sizes.values())
    if total > available:
        parts = " + ".join(f"{name} {size}" for name, size in sizes.items())
        raise ConfigurationError(f"task {task}: {parts} = {total} examples; only {available} are available")


def stratified(labels: Array, sizes: tuple[int, ...], stream: Stream) -> list[Array]:
    """Disjoint sorted index arrays of the given sizes, each with the classes in proportion (to one or two examples).

    Every class is put in random order (`stream`, sample = class); its i-th of n members gets the rank (i + 1/2) / n.
    The examples in the order of their ranks are cut into the splits; what is left over is not used.
    """
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = stream.permutation(len(members), sample=int(label)).numpy()
        rank[members[order]] = (np.arange(len(members)) + 0.5) / len(members)
    ordered = np.lexsort((labels, rank))
    edges = np.cumsum((0, *sizes))
    return [np.sort(ordered[start:stop]) for start, stop in pairwise(edges)]


def scaled(x: Array, largest: float, scale: str) -> Array:
    """Float64 values in [0, 1] (`scale` "unit": x / largest) or in [-1, 1] ("symmetric": 2 x / largest - 1)."""
    unit = x.astype(np.float64) / largest
    return 2.0 * unit - 1.0 if scale == "symmetric" else unit


def array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.numpy())
