"""Philox4x32-10 for one address, or for a vector of neighbouring ones, with the same bits as `neurosim.random`."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neurosim.backends.elementary import cos64, log64
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


# A normal number from two uniform ones (Box and Muller 1958), by arithmetic alone and in two loops, each of which runs
# as vectors: 1,000 numbers take 4.7 us where libm takes 34. (LLVM leaves a loop over both parts scalar.)
@numba.njit
def length(radius):  # type: ignore[no-untyped-def]
    """sqrt(-2 log radius)."""
    return math.sqrt(-2.0 * log64(radius))


@numba.njit
def share(angle):  # type: ignore[no-untyped-def]
    """cos(2 pi angle)."""
    return cos64(_TURN * angle)


@numba.njit
def _normal64(element, step, sample, replica, k0, k1):  # type: ignore[no-untyped-def]
    w0, w1, w2, w3 = words(element, step, sample, replica, k0, k1)
    radius = (np.float64((w0 << _21) | (w1 >> _11)) + 1.0) * _FINE
    angle = np.float64((w2 << _21) | (w3 >> _11)) * _FINE
    return length(radius) * share(angle)


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


# ---- neighbours ------------------------------------------------------------------------------------------------------

LANES = 32  # elements side by side, four vectors of 512 bits: 1.12 ns each, with two vectors 1.21
BLOCK = 8 * LANES  # normal numbers made together: their uniform ones stay in the first cache

_WORD = ir.IntType(64)
_WORDS = ir.VectorType(_WORD, LANES)


@cache
def uniforms(dtype: str) -> Any:
    """(address, element, step, sample, replica, k0, k1, cut): `LANES` uniform numbers of neighbouring elements are
    stored; for `cut` see `_philox`.

    Written for LLVM: its vectoriser takes a product of 64 bits for dear where one of 32 by 32 is meant, and stays
    scalar (1,000 numbers: 8.4 us, this way 1.1).
    """

    @intrinsic
    def fill(typing_context, address, element, step, sample, replica, k0, k1, cut):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            address, *counter = arguments
            high, low, _, _ = _neighbours(builder, *counter)
            if dtype == "float32":
                whole = builder.lshr(high, _all(int(_8)))
                real, fine = ir.VectorType(ir.FloatType(), LANES), float(_COARSE)
            else:
                whole = _fraction(builder, high, low)
                real, fine = ir.VectorType(ir.DoubleType(), LANES), _FINE
            number = builder.fmul(builder.sitofp(whole, real), real([fine] * LANES))
            builder.store(number, builder.inttoptr(address, real.as_pointer())).align = np.dtype(dtype).itemsize
            return context.get_dummy_value()

        return types.void(types.int64, *(types.uint64,) * 7), generate

    return fill


@intrinsic
def pairs(typing_context, address, element, step, sample, replica, k0, k1, cut):  # type: ignore[no-untyped-def]
    """Store two uniform numbers for each of `LANES` neighbouring elements: radii in (0, 1], and `BLOCK` float64 further
    on angles in [0, 1).
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address, *counter = arguments
        w = _neighbours(builder, *counter)
        real = ir.VectorType(ir.DoubleType(), LANES)
        radius, angle = (builder.sitofp(_fraction(builder, *two), real) for two in (w[:2], w[2:]))
        for place, number in enumerate((builder.fadd(radius, real([1.0] * LANES)), angle)):
            at = builder.add(address, _WORD(place * BLOCK * 8))
            scaled = builder.fmul(number, real([_FINE] * LANES))
            builder.store(scaled, builder.inttoptr(at, real.as_pointer())).align = 8
        return context.get_dummy_value()

    return types.void(types.int64, *(types.uint64,) * 7), generate


def _fraction(builder: Any, high: Any, low: Any) -> Any:
    """53 bits of two words."""
    return builder.or_(builder.shl(high, _all(int(_21))), builder.lshr(low, _all(int(_11))))


def _neighbours(builder: Any, element: Any, *others: Any) -> tuple[Any, ...]:
    """The words of `LANES` elements from `element` on."""
    first = builder.add(_spread(builder, element), _WORDS(list(range(LANES))))
    return _philox(builder, first, *(_spread(builder, one) for one in others))


def _all(value: int) -> Any:
    return _WORDS([value] * LANES)


def _spread(builder: Any, value: Any) -> Any:
    """A number in all lanes."""
    one = builder.insert_element(ir.Constant(_WORDS, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _philox(builder: Any, c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any, cut: Any) -> tuple[Any, ...]:
    """The four words. Upper halves are cut off where a product reads them, which costs nothing there.

    At the end they are cut off with `cut`, the same mask, but read from memory: where LLVM knows that nobody asks for
    the upper half of a product, it drops the cut before it and is left with one of 64 bits (1.36 instead of 1.23 ns).
    """
    lower = _all(MASK)
    for turn in range(ROUNDS):
        first = builder.mul(builder.and_(c0, lower), _all(MULTIPLIERS[0]))
        second = builder.mul(builder.and_(c2, lower), _all(MULTIPLIERS[1]))
        c0 = builder.xor(builder.xor(builder.lshr(second, _all(int(_32))), c1), k0)
        c2 = builder.xor(builder.xor(builder.lshr(first, _all(int(_32))), c3), k1)
        c1, c3 = second, first
        if turn < ROUNDS - 1:
            k0, k1 = builder.add(k0, _all(WEYL[0])), builder.add(k1, _all(WEYL[1]))
    return tuple(builder.and_(one, cut) for one in (c0, c1, c2, c3))
