"""Transforms and constraints that look at neighbouring synapses, written down: run once on symbols instead of tensors.

They are torch, so what is written down is what the reference does: `change / (layout.row_sum(change * change).sqrt() +
epsilon)` becomes a sum over a row, and a division by it. `passes.py` makes loops of that. What a transform may do to a
tensor here is arithmetic, comparisons, the functions of `FUNCTIONS`, and all of `Layout`; anything else stays torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.backends.symbolic import Line, Lines, Symbol, Value
from neurosim.types import Array, ConfigurationError

REDUCTIONS = ("row_sum", "row_max", "total_max", "total_percentile", "block_sum")


class Untraced(Exception):
    """A transform does to its tensors what has no word here."""


class Tensors(Lines):
    """Straight-line code on symbols that stand for tensors."""

    def _append(self, line: Line) -> Symbol:
        super()._append(line)
        return TensorSymbol(self, len(self.all) - 1)


class TensorSymbol(Symbol):
    """A tensor `[R, ...]` shaped like the weight, or that broadcasts against it."""

    __slots__ = ()

    @classmethod
    def __torch_function__(cls, function: Any, kinds: Any, given: Any = (), named: Any = None) -> Value:
        name = getattr(function, "__name__", repr(function))
        if name not in FUNCTIONS:
            raise Untraced(name)
        return FUNCTIONS[name](*given, **(named or {}))


def _word(name: str) -> Callable[..., Value]:
    def word(*given: Value) -> Value:
        owner = next(one for one in given if isinstance(one, Symbol))
        return owner.lines.add(name, *given)

    return word


_where, _max = _word("where"), _word("max")


def _clamp(x: Value, min: float | None = None, max: float | None = None) -> Value:
    value: Value = x if min is None else _where(x < min, min, x)
    return value if max is None else _where(value > max, max, value)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    **{name: _word(name) for name in ("where", "abs", "sqrt", "exp", "log", "tanh", "sigmoid")},
    "maximum": _max, "minimum": _word("min"), "relu": lambda x: _max(x, 0.0), "clamp": _clamp,
    "square": lambda x: x * x, "pow": lambda x, y: x**y,
    "ones_like": lambda x: 1.0, "zeros_like": lambda x: 0.0, "full_like": lambda x, value: value,
}  # fmt: skip
for _name in ("abs", "sqrt", "exp", "log", "tanh", "sigmoid", "relu", "clamp", "square", "pow"):
    setattr(TensorSymbol, _name, FUNCTIONS[_name])


class Neighbours:
    """The `Layout` of symbols; `lone`: a synapse is the only one of its neuron (one to one, a `bias`)."""

    def __init__(self, lines: Lines, lone: bool, bias: bool):
        self.lines, self.lone, self.bias = lines, lone, bias
        self.arrays: list[Array] = []  # of numbers per pre neuron

    def row_sum(self, x: Value) -> Value:
        return x if self.lone else self.lines.add("row_sum", x)

    def row_max(self, x: Value) -> Value:
        return x if self.lone else self.lines.add("row_max", x)

    def total_max(self, x: Value) -> Value:
        return self.lines.add("total_max", x)

    def total_percentile(self, x: Value, percent: float) -> Value:
        return self.lines.add("total_percentile", x, percent)

    def block_sum(self, x: Value, block: int, grouping: str = "row", seed: int = 0) -> tuple[Value, Value]:
        if self.lone:
            return x, 1.0
        return self.lines.add("block_sum", x, block, grouping, seed), self.lines.add(
            "block_size", block, grouping, seed
        )

    def from_pre(self, values: Any) -> Value:
        if self.bias:
            return 1.0
        if np.ndim(values) == 0:
            return float(values)
        self.arrays.append(np.asarray(values))
        return self.lines.add("from_pre", len(self.arrays) - 1)


@dataclass(frozen=True)
class Written:
    """What a transform makes of the `change` and the weight `w`, or a constraint of the new weight `value`."""

    inputs: tuple[str, ...]
    lines: list[Line]
    result: Value
    arrays: list[Array]

    def levels(self) -> list[int]:
        """How many sums over neighbours have to be complete, one after the other, before each line is known."""
        found: list[int] = []
        for line in self.lines:
            below = max((found[one.place] for one in line.arguments if isinstance(one, Symbol)), default=0)
            found.append(below + (line.operation in REDUCTIONS))
        return found


def written(update: Any, lone: bool, bias: bool) -> Written:
    """A transform or a constraint, traced; `Untraced` says what of it has no word."""
    lines = Tensors()
    layout = Neighbours(lines, lone, bias)
    inputs = ("change", "w") if hasattr(update, "update") else ("value",)
    arguments = [lines.argument(array=True) for _ in inputs]
    try:
        result = (update.update if hasattr(update, "update") else update.apply)(*arguments, layout)
    except (AttributeError, TypeError, ConfigurationError) as error:
        raise Untraced(str(error)) from error
    if not isinstance(result, Symbol):
        raise Untraced(f"its result is {result!r}")
    return Written(inputs, lines.all, result, layout.arrays)
