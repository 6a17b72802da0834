"""Elementary functions for numba by arithmetic alone: a loop over them runs as vectors, where libm is called number by
number. Imported by `words_numba` only.

e^x = 2^n e^r with |r| <= ln(2) / 2; 2^n in two factors, for it may be below the smallest normal number. The
coefficients for e^r in float64 are those of Sun's fdlibm (1993), the others those of Moshier's Cephes library (1992).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload


@intrinsic
def select(typing_context, condition, yes, no):  # type: ignore[no-untyped-def]
    """`yes if condition else no` of numbers, both of them known: never a branch, which may keep a loop scalar."""
    kind = typing_context.unify_types(yes, no)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        ends = (context.cast(builder, one, own, kind) for one, own in zip(arguments[1:], (yes, no), strict=True))
        return builder.select(arguments[0], *ends)

    return kind(types.boolean, yes, no), generate


def _numbers(kind: Any, *values: float) -> tuple[Any, ...]:
    return tuple(kind(value) for value in values)


# ---- float32 ---------------------------------------------------------------------------------------------------------

_HIGHEST, _LOWEST, _HALF, _ONE, _TWO = _numbers(np.float32, 89.0, -104.0, 0.5, 1.0, 2.0)  # e^x is inf, and 0
_LOG2_E, _LN2_HIGH, _LN2_LOW = _numbers(np.float32, 1.4426950408889634, 0.693359375, -2.12194440e-4)
_E = _numbers(
    np.float32, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1
)
_T = _numbers(np.float32, -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_SMALL = np.float32(0.625)  # |x| below which tanh is a polynomial


@numba.njit(error_model="numpy")
def exp32(x):  # type: ignore[no-untyped-def]
    """e^x in float32, within one unit in the last place. 0.9 ns a number where libm takes 3.4."""
    low = select(x < _HIGHEST, x, _HIGHEST)
    bound = select(low > _LOWEST, low, _LOWEST)
    n = np.floor(bound * _LOG2_E + _HALF)
    r = bound - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_E[0] * r + _E[1]) * r + _E[2]) * r + _E[3]) * r + _E[4]) * r + _E[5]
    whole = np.int32(n)
    half = whole >> np.int32(1)
    first = np.int32((half + np.int32(127)) << np.int32(23)).view(np.float32)
    second = np.int32((whole - half + np.int32(127)) << np.int32(23)).view(np.float32)
    result = (p * r * r + r + _ONE) * first * second
    return select(x != x, x, result)


@numba.njit(error_model="numpy")
def tanh32(x):  # type: ignore[no-untyped-def]
    """tanh x in float32, within two units in the last place. 1.0 ns a number where libm takes 10."""
    size, square = np.abs(x), x * x
    p = (((_T[0] * square + _T[1]) * square + _T[2]) * square + _T[3]) * square + _T[4]
    small = x + x * square * p
    large = _ONE - _TWO / (exp32(_TWO * size) + _ONE)
    return np.copysign(select(size < _SMALL, small, large), x)


# ---- float64 ---------------------------------------------------------------------------------------------------------

_LOG2_E64, _LN2_HIGH64, _LN2_LOW64 = 1.4426950408889634, 6.93147180369123816490e-1, 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 2^52: a number added to it is rounded to an integer, which its last bits then hold
_ROUND_BITS = np.float64(_ROUND).view(np.int64)


@numba.njit(error_model="numpy")
def exp64(x):  # type: ignore[no-untyped-def]
    """e^x in float64, within one unit in the last place. 1.2 ns a number where libm takes 4.4."""
    low = select(x < 710.0, x, 710.0)
    bound = select(low > -746.0, low, -746.0)
    rounded = bound * _LOG2_E64 + _ROUND
    n = rounded - _ROUND
    high, rest = bound - n * _LN2_HIGH64, n * _LN2_LOW64
    r = high - rest
    square = r * r
    p = ((4.13813679705723846039e-8 * square - 1.65339022054652515390e-6) * square + 6.61375632143793436117e-5) * square
    p = ((p - 2.77777777770155933842e-3) * square + 1.66666666666666019037e-1) * square
    c = r - p
    power = 1.0 - ((rest - r * c / (2.0 - c)) - high)
    whole = np.float64(rounded).view(np.int64) - _ROUND_BITS
    half = whole >> np.int64(1)
    first = np.int64((half + np.int64(1023)) << np.int64(52)).view(np.float64)
    second = np.int64((whole - half + np.int64(1023)) << np.int64(52)).view(np.float64)
    return select(x != x, x, power * first * second)


@numba.njit(error_model="numpy")
def tanh64(x):  # type: ignore[no-untyped-def]
    """tanh x in float64, within two units in the last place. 2.0 ns a number where libm takes 12."""
    size, square = np.abs(x), x * x
    p = (-9.64399179425052238628e-1 * square - 9.92877231001918586564e1) * square - 1.61468768441708447952e3
    q = ((square + 1.12811678491632931402e2) * square + 2.23548839060100448583e3) * square + 4.84406305325125486048e3
    polynomial = size < 0.625
    ratio = select(polynomial, p, 2.0) / select(polynomial, q, exp64(2.0 * size) + 1.0)
    return np.copysign(select(polynomial, x + x * square * ratio, 1.0 - ratio), x)


_SQUARE_ROOT_2 = 1.4142135623730951
_MANTISSA, _EXPONENT_OF_1 = np.int64(2**52 - 1), np.int64(1023 << 52)


@numba.njit(error_model="numpy")
def log64(x):  # type: ignore[no-untyped-def]
    """The natural logarithm of a normal number above zero in float64, within one unit in the last place."""
    bits = np.float64(x).view(np.int64)
    mantissa = np.int64((bits & _MANTISSA) | _EXPONENT_OF_1).view(np.float64)
    upper = mantissa > _SQUARE_ROOT_2
    f = select(upper, 0.5 * mantissa, mantissa) - 1.0
    k = np.float64((bits >> np.int64(52)) - np.int64(1023)) + select(upper, 1.0, 0.0)
    s = f / (2.0 + f)
    square = s * s
    p = ((1.479819860511658591e-1 * square + 1.531383769920937332e-1) * square + 1.818357216161805012e-1) * square
    p = ((p + 2.222219843214978396e-1) * square + 2.857142874366239149e-1) * square
    p = ((p + 3.999999999940941908e-1) * square + 6.666666666666735130e-1) * square
    half = 0.5 * f * f
    return k * _LN2_HIGH64 - ((half - (s * (half + p) + k * _LN2_LOW64)) - f)


_TWO_OVER_PI, _HALF_PI_HIGH, _HALF_PI_LOW = (
    6.36619772367581382433e-1,
    1.57079632673412561417,
    6.07710050650619224932e-11,
)


@numba.njit(error_model="numpy")
def cos64(x):  # type: ignore[no-untyped-def]
    """cos x in float64 for |x| below 1,000, right to 2^-52."""
    rounded = x * _TWO_OVER_PI + _ROUND
    n, quarter = rounded - _ROUND, np.float64(rounded).view(np.int64)
    r = (x - n * _HALF_PI_HIGH) - n * _HALF_PI_LOW
    square = r * r
    p = (
        (1.58969099521155010221e-10 * square - 2.50507602534068634195e-8) * square + 2.75573137070700676789e-6
    ) * square
    p = ((p - 1.98412698298579493134e-4) * square + 8.33333333332248946124e-3) * square - 1.66666666666666324348e-1
    sine = r + r * square * p
    q = (
        (-1.13596475577881948265e-11 * square + 2.08757232129817482790e-9) * square - 2.75573143513906633035e-7
    ) * square
    q = ((q + 2.48015872894767294178e-5) * square - 1.38888888888741095749e-3) * square + 4.16666666666666019037e-2
    cosine = 1.0 - (0.5 * square - square * square * q)
    odd, negative = (quarter & np.int64(1)) != 0, ((quarter + np.int64(1)) & np.int64(2)) != 0
    value = select(odd, sine, cosine)
    return select(negative, -value, value)


# ---- by type ---------------------------------------------------------------------------------------------------------


def exponential(x: Any) -> Any:
    """e^x of a number or an array."""
    return np.exp(x)


def hyperbolic_tangent(x: Any) -> Any:
    """tanh x of a number or an array."""
    return np.tanh(x)


@overload(exponential)
def _exponential(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: exp32(x)
    return (lambda x: exp64(x)) if x == types.float64 else (lambda x: np.exp(x))


@overload(hyperbolic_tangent)
def _hyperbolic_tangent(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: tanh32(x)
    return (lambda x: tanh64(x)) if x == types.float64 else (lambda x: np.tanh(x))
