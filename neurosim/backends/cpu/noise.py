"""Philox4x32-10 for one address, with the same bits as `neurosim.random`."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np

from neurosim.random import MASK, MULTIPLIERS, ROUNDS, WEYL

_MASK, _M0, _M1 = np.uint64(MASK), np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_W0, _W1, _32, _21, _11, _8 = (np.uint64(value) for value in (*WEYL, 32, 21, 11, 8))
_ROUNDS, _FINE, _COARSE, _TURN = ROUNDS, 2.0**-53, np.float32(2.0**-24), 2.0 * math.pi


@numba.njit(inline="always")
def words(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Four 32-bit words (in uint64) of the counter (element, step, sample, replica)."""
    for _ in range(_ROUNDS):
        first, second = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (second >> _32) ^ c1 ^ k0, second & _MASK, (first >> _32) ^ c3 ^ k1, first & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@numba.njit
def _uniform64(element, step, sample, replica, k0, k1):  # type: ignore[no-untyped-def]
    high, low, _, _ = words(element, step, sample, replica, k0, k1)
    return np.float64((high << _21) | (low >> _11)) * _FINE


@numba.njit
def _uniform32(element, step, sample, replica, k0, k1):  # type: ignore[no-untyped-def]
    high, _, _, _ = words(element, step, sample, replica, k0, k1)
    return np.float32(high >> _8) * _COARSE


@numba.njit
def _normal64(element, step, sample, replica, k0, k1):  # type: ignore[no-untyped-def]
    w0, w1, w2, w3 = words(element, step, sample, replica, k0, k1)
    radius = (np.float64((w0 << _21) | (w1 >> _11)) + 1.0) * _FINE
    angle = np.float64((w2 << _21) | (w3 >> _11)) * _FINE
    return math.sqrt(-2.0 * math.log(radius)) * math.cos(_TURN * angle)


@numba.njit
def _normal32(element, step, sample, replica, k0, k1):  # type: ignore[no-untyped-def]
    return np.float32(_normal64(element, step, sample, replica, k0, k1))


@cache
def uniform(dtype: str) -> Any:
    """Uniform in [0, 1), as `Stream.uniform`."""
    return _uniform32 if dtype == "float32" else _uniform64


@cache
def normal(dtype: str) -> Any:
    """Standard normal, as `Stream.normal`."""
    return _normal32 if dtype == "float32" else _normal64
