"""Which results of a scalar step are whole numbers within known bounds: counts of steps that are left, spikes.

Found by interval arithmetic over the step's straight-line code (`symbolic.py`), so that no neuron has to say it and no
backend has to trust a name: what is always 0 or 1 may be kept as a bit, a count of at most 255 in a byte. Numbers here
are never -0, which a byte does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from neurosim.backends.symbolic import Line, Symbol, Trace, trace

Range = tuple[int, int] | None  # least and greatest; None: it may be any number
EXACT = 2**24  # float32 holds all whole numbers up to here
SIZES = {"uint8": 255, "uint16": 65535}


def range_of(value: Any) -> Range:
    """The bounds of a number or an array that is whole everywhere."""
    values = np.asarray(value, dtype=float)
    whole = bool(np.isfinite(values).all() and (values == np.floor(values)).all() and (abs(values) <= EXACT).all())
    negative_zero = bool(((values == 0.0) & np.signbit(values)).any())
    return (int(values.min()), int(values.max())) if values.size and whole and not negative_zero else None


def _hull(x: Range, y: Range) -> Range:
    return None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))


def _product(x: Range, y: Range) -> Range:
    if x is None or y is None or x[0] < 0 or y[0] < 0:  # 0 times a negative number is -0
        return None
    return x[0] * y[0], x[1] * y[1]


_RULES: dict[str, Callable[..., Range]] = {
    "add": lambda x, y: None if x is None or y is None else (x[0] + y[0], x[1] + y[1]),
    "sub": lambda x, y: None if x is None or y is None else (x[0] - y[1], x[1] - y[0]),
    "mul": _product,
    "min": lambda x, y: None if x is None or y is None else (min(x[0], y[0]), min(x[1], y[1])),
    "max": lambda x, y: None if x is None or y is None else (max(x[0], y[0]), max(x[1], y[1])),
    "where": lambda condition, yes, no: _hull(yes, no),
    "heaviside": lambda x: (0, 1),
    "stop_gradient": lambda x: x,
    "fill": lambda x, value: value,
}


@cache
def _traced(step: Callable[..., Any]) -> Trace:
    return trace(step, ())


def results(step: Callable[..., Any], arguments: Sequence[Range]) -> tuple[Range, ...]:
    """The bounds of a step's results, given those of its arguments."""
    traced = _traced(step)
    found: list[Range] = list(arguments)

    def bounds(value: Any) -> Range:
        return found[value.place] if isinstance(value, Symbol) else range_of(value)

    for line in traced.lines.all[len(arguments) :]:
        found.append(_bounded(line, [bounds(one) for one in line.arguments]))
    return tuple(bounds(one) for one in traced.results)


def _bounded(line: Line, arguments: list[Range]) -> Range:
    rule = _RULES.get(line.operation)
    made = rule(*arguments) if rule is not None else None
    return made if made is not None and max(abs(made[0]), abs(made[1])) <= EXACT else None


def counts(step: Callable[..., Any], states: int, constants: Sequence[Any]) -> dict[int, str]:
    """The states, by place, that stay whole numbers from 0 to 255 ("uint8") or 65,535 ("uint16") if they begin so."""
    others = _traced(step).lines.all[states:]
    unknown = sum(line.operation == "argument" for line in others) - len(constants)
    rest = [*[None] * unknown, *(range_of(value) for value in constants)]
    found: dict[int, str] = {}
    for dtype in SIZES:
        assumed = found | {place: dtype for place in range(states) if place not in found}
        while True:
            given = [(0, SIZES[assumed[place]]) if place in assumed else None for place in range(states)]
            got = results(step, [*given, *rest])[:states]
            left = {k: kind for k, kind in assumed.items() if _within(got[k], SIZES[kind])}
            if left == assumed:
                break
            assumed = left
        found |= {place: kind for place, kind in assumed.items() if kind == dtype and place not in found}
    return found


def _within(found: Range, most: int) -> bool:
    return found is not None and found[0] >= 0 and found[1] <= most


def binary(step: Callable[..., Any], states: int) -> tuple[bool, ...]:
    """For each result behind the states: is it always 0 or 1?"""
    arguments = sum(line.operation == "argument" for line in _traced(step).lines.all)
    return tuple(_within(one, 1) for one in results(step, [None] * arguments)[states:])
