"""The words a step function may use; here they are plain Python (NumPy), so a step runs on floats as it is written.

A step imports these names and uses nothing else but arithmetic, comparisons, indexing and other functions of the same
kind. `backends/specialise.py` gives the names their meaning on another machine (torch, numba).

Scalar words work element by element. Words that start with `row_` reduce or reorder the LAST axis, so that one array
function on `[..., N, H]` runs batched in torch and on 2-D arrays in numba. Names shadow builtins on purpose.

`sqrt`, `row_sum`, `row_mean` and `row_softmax` take torch tensors as they are: laterals are called on them directly.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where `condition` holds, else `no`. Under torch at least one branch must be an array (else: no dtype)."""
    return np.where(condition, yes, no)[()]


def exp(x: Any) -> Any:
    """e to the power x."""
    return np.exp(x)


def log(x: Any) -> Any:
    """Natural logarithm."""
    return np.log(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


def sqrt(x: Any) -> Any:
    """Square root."""
    return x.sqrt() if hasattr(x, "sqrt") else np.sqrt(x)


def abs(x: Any) -> Any:
    """Absolute value."""
    return np.abs(x)


def min(x: Any, y: Any) -> Any:
    """The smaller of two values."""
    return np.minimum(x, y)


def max(x: Any, y: Any) -> Any:
    """The larger of two values."""
    return np.maximum(x, y)


def power(x: Any, y: Any) -> Any:
    """x to the power y."""
    return np.power(x, y)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), written so that it cannot overflow."""
    small = np.exp(-np.abs(x))
    return np.where(np.asarray(x) >= 0, 1.0 / (1.0 + small), small / (1.0 + small))[()]


def stop_gradient(x: Any) -> Any:
    """x; no derivative passes through it."""
    return x


def heaviside(x: Any) -> Any:
    """1 where x >= 0, else 0; its backward is the neuron's surrogate (0 without one)."""
    return np.where(np.asarray(x) >= 0, 1.0, 0.0)[()]


def pseudo_derivative(x: Any) -> Any:
    """The derivative that the neuron's surrogate gives heaviside at x; 0 without a surrogate."""
    return np.zeros(np.shape(x))[()]


def fill(x: Any, value: Any) -> Any:
    """`value` (a number) in the shape and dtype of x."""
    return np.full(np.shape(x), value, dtype=float)[()]


def row_sum(x: Any) -> Any:
    """Sum over the last axis: [..., H] -> [...]."""
    return x.sum(-1)


def row_mean(x: Any) -> Any:
    """Mean over the last axis: [..., H] -> [...]."""
    return x.mean(-1)


def row_max(x: Any) -> Any:
    """Largest value of the last axis: [..., H] -> [...]."""
    return np.max(x, -1)


def row_sort(x: Any) -> Any:
    """Last axis in ascending order: [..., H] -> [..., H]."""
    return np.sort(x, -1)


def row_rank(x: Any) -> Any:
    """Rank along the last axis as a float, 0 for the largest; among equals the lower index comes first."""
    return np.argsort(np.argsort(-np.asarray(x), -1, kind="stable"), -1, kind="stable").astype(float)


def row_top_k(x: Any, k: Any) -> Any:
    """1 for the k largest of the last axis, 0 elsewhere; among equals the lower index wins."""
    return np.where(row_rank(x) < k, 1.0, 0.0)


def row_softmax(x: Any) -> Any:
    """exp(x) / sum(exp(x)) over the last axis, shifted by the maximum."""
    if hasattr(x, "softmax"):
        return x.softmax(-1)
    raised = np.exp(x - np.max(x, -1, keepdims=True))
    return raised / np.sum(raised, -1, keepdims=True)


def matmul(x: Any, y: Any) -> Any:
    """Matrix product of the last two axes: [..., A, B] x [..., B, C] -> [..., A, C]."""
    return np.matmul(x, y)


def transpose(x: Any) -> Any:
    """Last two axes exchanged: [..., A, B] -> [..., B, A]."""
    return np.swapaxes(x, -1, -2)


SCALAR_WORDS = (
    where,
    exp,
    log,
    tanh,
    sqrt,
    abs,
    min,
    max,
    power,
    sigmoid,
    stop_gradient,
    heaviside,
    pseudo_derivative,
    fill,
)
ARRAY_WORDS = (row_sum, row_mean, row_max, row_sort, row_rank, row_top_k, row_softmax, matmul, transpose)
WORDS: dict[Any, str] = {word: word.__name__ for word in SCALAR_WORDS + ARRAY_WORDS}
