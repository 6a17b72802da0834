"""Tensor aliases with their shape letters, and the one exception for bad input.

Letters: T time steps, R replicas, B batch, N neurons, P post-synaptic neurons, Q pre-synaptic neurons, E edges.
Time is in ms. Activity is `[R, B, N]` inside a backend (`[T, R, B, N]` when recorded), weights are `[R, P, Q]`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

Tensor: TypeAlias = torch.Tensor
Array: TypeAlias = NDArray[Any]
Activity: TypeAlias = torch.Tensor  # [R, B, N]
Weight: TypeAlias = torch.Tensor  # dense [R, P, Q], one-to-one [R, N], convolution [R, out, in, kh, kw], sparse [E]
Number: TypeAlias = float | int
Parameter: TypeAlias = Any  # a number, an array [N] or [R, N], or a distribution: resolved by `compile`

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}


class ConfigurationError(ValueError):
    """What the user asked for cannot be: one sentence that says what was wrong and what is allowed."""


def choice(value: str, allowed: tuple[str, ...] | list[str], what: str) -> str:
    """Return `value` if it is one of `allowed`; else ConfigurationError, naming `what` and the allowed words."""
    if value not in allowed:
        raise ConfigurationError(f"{what} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def positive(value: Any, what: str, *, zero: bool = False) -> Any:
    """Return `value` if every number in it is finite and > 0 (>= 0 with `zero`); raise ConfigurationError otherwise."""
    allowed = f"a finite number {'>= 0' if zero else '> 0'}"
    numbers = numeric(value, what, allowed)
    low = numbers >= 0 if zero else numbers > 0
    if not bool(np.all(low & np.isfinite(numbers))):
        raise ConfigurationError(f"{what} is {value}; it must be {allowed}")
    return value


def within(value: Any, low: float, high: float, what: str, ends: str = "[]") -> Any:
    """Return `value` if every number in it lies in the interval; `ends` are its brackets, "(" or ")" for an open end.

    Raises ConfigurationError otherwise, naming `what`.
    """
    allowed = f"in {ends[0]}{low:g}, {high:g}{ends[1]}"
    numbers = numeric(value, what, f"a number {allowed}")
    above = numbers > low if ends[0] == "(" else numbers >= low
    below = numbers < high if ends[1] == ")" else numbers <= high
    if not bool(np.all(above & below)):
        raise ConfigurationError(f"{what} is {value}; it must be {allowed}")
    return value


def numeric(value: Any, what: str, allowed: str = "a number") -> Array:
    """`value` as a float64 array; ConfigurationError if it is a word, a truth value or anything else than numbers."""
    try:
        numbers = np.asarray(value)
        fits = numbers.dtype.kind in "iuf"
    except (TypeError, ValueError, RuntimeError):  # a ragged list; a tensor that asks for its gradient
        fits = False
    if not fits:
        raise ConfigurationError(f"{what} is {value!r}; it must be {allowed}")
    return numbers.astype(float)
