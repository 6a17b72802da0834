"""The words of `neurosim.vocabulary` in numba. Imported by `specialise.for_numba` only, and so is numba.

Scalar words also take arrays where an array function needs them. Row words take 1-D and 2-D arrays. `matmul` is a loop,
because numba's own needs SciPy; a backend that multiplies large matrices hoists them out of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from neurosim.backends.elementary import exponential, hyperbolic_tangent, select


def compiled(function: Callable[..., Any]) -> Any:
    """numba's nopython mode with IEEE arithmetic (no fast-math) and division by zero as in NumPy.

    Always part of the kernel that calls it: functions that one source makes for several parameters (surrogates, ways of
    integration) have one name, and of two kernels from the cache the second would call the first one's.
    """
    return numba.njit(function, error_model="numpy", fastmath=False, forceinline=True)


def literal(dtype: str) -> Callable[[Any], Any]:
    """Floats in the source become numbers of `dtype`: numba computes `0.5 * float32` in float64, torch does not."""
    cast = np.dtype(dtype).type
    return lambda value: cast(value) if isinstance(value, float) else value


def with_constants(function: Any, constants: tuple[float, ...], dtype: str) -> Any:
    """x -> function(x, *constants)."""
    fixed = tuple(np.dtype(dtype).type(value) for value in constants)

    def bound(x: Any) -> Any:
        return function(x, *fixed)

    return compiled(bound)


def words(dtype: str) -> dict[str, Any]:
    """name -> compiled word; literals inside have `dtype`."""
    one, zero = np.dtype(dtype).type(1), np.dtype(dtype).type(0)

    def heaviside(x):  # type: ignore[no-untyped-def]
        return one if x >= zero else zero

    def pseudo_derivative(x):  # type: ignore[no-untyped-def]
        return zero * x

    def sigmoid(x):  # type: ignore[no-untyped-def]
        small = exponential(-np.abs(x))
        return _choose(x >= zero, one / (one + small), small / (one + small))

    made = {name: compiled(function) for name, function in _PLAIN.items()}
    return {
        **made,
        "heaviside": compiled(heaviside),
        "pseudo_derivative": compiled(pseudo_derivative),
        "sigmoid": compiled(sigmoid),
    }


def _choose(condition: Any, yes: Any, no: Any) -> Any:
    """where for scalars and arrays; numba takes the overload below."""
    return np.where(condition, yes, no)


@overload(_choose)
def _choose_overload(condition, yes, no):  # type: ignore[no-untyped-def]
    if isinstance(condition, types.Array):
        return lambda condition, yes, no: np.where(condition, yes, no)
    return lambda condition, yes, no: select(condition, yes, no)


def _fill(x: Any, value: Any) -> Any:
    return np.full_like(x, value)


@overload(_fill)
def _fill_overload(x, value):  # type: ignore[no-untyped-def]
    if isinstance(x, types.Array):
        return lambda x, value: np.full_like(x, value)
    return lambda x, value: value


def _rows(one_row: Any, reduces: bool) -> Callable[..., Any]:
    """A word on the last axis from its 1-D function: 1-D stays as it is, 2-D goes row by row.

    One that maps a row writes it in place, `one_row(x, out, ...)`: a temporary per row would cost as much as the rest
    (softmax of 300 rows of two: 26 us with three temporaries each).
    """
    row = compiled(one_row)

    def word(x: Any, *more: Any) -> Any:
        raise NotImplementedError("this word runs inside numba only")

    @overload(word, inline="never")
    def word_overload(x, *more):  # type: ignore[no-untyped-def]
        if reduces:
            return (lambda x, *more: row(x, *more)) if x.ndim == 1 else _reduce_rows
        return _map_row if x.ndim == 1 else _map_rows

    def _reduce_rows(x, *more):  # type: ignore[no-untyped-def]
        result = np.empty(x.shape[0], x.dtype)
        for i in range(x.shape[0]):
            result[i] = row(x[i], *more)
        return result

    def _map_row(x, *more):  # type: ignore[no-untyped-def]
        result = np.empty_like(x)
        row(x, result, *more)
        return result

    def _map_rows(x, *more):  # type: ignore[no-untyped-def]
        result = np.empty_like(x)
        for i in range(x.shape[0]):
            row(x[i], result[i], *more)
        return result

    return word


def _sum(x):  # type: ignore[no-untyped-def]
    total = x[0]
    for i in range(1, x.size):
        total += x[i]
    return total


_compiled_sum = compiled(_sum)


def _mean(x):  # type: ignore[no-untyped-def]
    return _compiled_sum(x) / x.dtype.type(x.size)


def _rank(x, out):  # type: ignore[no-untyped-def]
    order = np.argsort(-x, kind="mergesort")
    for position in range(x.size):
        out[order[position]] = position


_compiled_rank = compiled(_rank)


_u = np.uint64  # of an index: a signed one is tested for being negative, which keeps a loop scalar
FEW = 16  # up to which the k largest are kept in order while a row is read: 5 of 1,000 in 1.1 us, by a partition in 11


def _largest(x, out):  # type: ignore[no-untyped-def]
    """1 at the first of the largest, 0 elsewhere."""
    place = 0
    for i in range(x.size):
        out[_u(i)] = 0
        place = i if x[_u(i)] > x[_u(place)] else place
    out[_u(place)] = 1


_compiled_largest = compiled(_largest)


def _of_rank(x, room, count):  # type: ignore[no-untyped-def]
    """The `count`-th largest value, by one reading; `room` holds the largest so far, in order."""
    filled = 0
    for i in range(x.size):
        value = x[_u(i)]
        if filled == count and not value > room[_u(count - 1)]:
            continue
        filled = min(filled + 1, count)
        place = filled - 1
        while place > 0 and value > room[_u(place - 1)]:
            room[_u(place)] = room[_u(place - 1)]
            place -= 1
        room[_u(place)] = value
    return room[_u(count - 1)]


_compiled_of_rank = compiled(_of_rank)


def _top_k(x, out, k):  # type: ignore[no-untyped-def]
    """By the k-th largest value and a count of its equals: a stable sort of 2,000 units takes ten times as long."""
    count = min(np.int64(k), x.size)
    if count == 1:
        _compiled_largest(x, out)
        return
    if count < 1:
        out[:] = 0
        return
    value = _compiled_of_rank(x, out, count) if count <= FEW else np.partition(x, x.size - count)[x.size - count]
    left, equal = count, 0
    for i in range(x.size):
        left -= x[_u(i)] > value
        equal += x[_u(i)] == value
        out[_u(i)] = 1 if x[_u(i)] >= value else 0
    if equal > left:  # the first of them
        for i in range(x.size):
            left -= x[_u(i)] == value
            if x[_u(i)] == value and left < 0:
                out[_u(i)] = 0


def _sort(x, out):  # type: ignore[no-untyped-def]
    out[:] = np.sort(x)


def _softmax(x, out):  # type: ignore[no-untyped-def]
    largest = np.max(x)
    for i in range(x.size):
        out[i] = exponential(x[i] - largest)
    total = _compiled_sum(out)
    for i in range(x.size):
        out[i] /= total


def _matmul(x, y):  # type: ignore[no-untyped-def]
    result = np.zeros((x.shape[0], y.shape[1]), x.dtype)
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            for j in range(y.shape[1]):
                result[i, j] += x[i, k] * y[k, j]
    return result


_row_sum, _row_mean, _row_max = _rows(_sum, True), _rows(_mean, True), _rows(lambda x: np.max(x), True)
_row_sort, _row_rank, _row_softmax = _rows(_sort, False), _rows(_rank, False), _rows(_softmax, False)
_row_top_k = _rows(_top_k, False)

# For loops over rows (`cpu/rows.py`): function(row, out, *constants).
ROW_FUNCTIONS = {"row_sort": compiled(_sort), "row_rank": _compiled_rank, "row_top_k": compiled(_top_k)}

_PLAIN: dict[str, Callable[..., Any]] = {
    "where": lambda condition, yes, no: _choose(condition, yes, no),
    "exp": lambda x: exponential(x), "log": lambda x: np.log(x), "tanh": lambda x: hyperbolic_tangent(x),
    "sqrt": lambda x: np.sqrt(x),
    "abs": lambda x: np.abs(x), "min": lambda x, y: np.minimum(x, y), "max": lambda x, y: np.maximum(x, y),
    "power": lambda x, y: np.power(x, y), "stop_gradient": lambda x: x, "fill": lambda x, value: _fill(x, value),
    "row_sum": lambda x: _row_sum(x), "row_mean": lambda x: _row_mean(x), "row_max": lambda x: _row_max(x),
    "row_sort": lambda x: _row_sort(x), "row_rank": lambda x: _row_rank(x), "row_softmax": lambda x: _row_softmax(x),
    "row_top_k": lambda x, k: _row_top_k(x, k), "matmul": _matmul, "transpose": lambda x: x.T,
}  # fmt: skip
