"""The words of `neurosim.vocabulary` as Triton text.

Division and square root of float32 are the rounded ones (Triton's own `/` is an approximation there), so that
arithmetic-only neurons keep the bits of the other backends. Triton has no tanh and no power.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from neurosim.backends.symbolic import Operation

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    "and": "&", "or": "|",
}  # fmt: skip
_CALLS = {
    "exp": "tl.exp", "log": "tl.log", "abs": "tl.abs", "min": "tl.minimum", "max": "tl.maximum", "where": "tl.where",
    "tanh": "tangent", "power": "raised", "pow": "raised", "sigmoid": "logistic",
}  # fmt: skip

# tanh by 1 - exp loses digits near 0; there Gauss' continued fraction, cut at 13, is exact to 1e-17 for |x| < 0.3.
LIBRARY = """\
@jit
def divided(x, y, SINGLE: tl.constexpr):
    if SINGLE:
        return tl.div_rn(x, y)
    else:
        return x / y


@jit
def root(x, SINGLE: tl.constexpr):
    if SINGLE:
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@jit
def tangent(x, one):
    size = tl.abs(x)
    small = tl.exp(-(size + size))
    square = x * x
    near = x / (one + square / (3 + square / (5 + square / (7 + square / (9 + square / (11 + square / 13))))))
    far = (one - small) / (one + small)
    return tl.where(size < 0.3, near, tl.where(x < 0, -far, far))


@jit
def raised(x, y, one):
    return tl.exp(y * tl.log(x))


@jit
def logistic(x, one):
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, one / (one + small), small / (one + small))
"""


class Writing:
    """Prints operations for reals of a dtype; `shape` is the text of a tile's shape."""

    def __init__(self, dtype: str, shape: str):
        self.single = dtype == "float32"
        self.real, self.shape = "tl.float32" if self.single else "tl.float64", shape

    def number(self, value: float | bool) -> str:
        """A number as a tile: in a bare one Triton would round a double to single precision here and there."""
        text = repr(float(value))
        text = {"inf": 'float("inf")', "-inf": 'float("-inf")', "nan": 'float("nan")'}.get(text, text)
        return f"tl.full({self.shape}, {text}, {self.real})"

    def operand(self, value: Any, names: Mapping[str, str]) -> str:
        return names.get(value, value) if isinstance(value, str) else self.number(value)

    def lines(self, operations: Iterable[Operation], names: Mapping[str, str]) -> list[str]:
        """One assignment per operation; `names` says what inputs and values are called in the kernel."""
        return [f"{names[one.name]} = {self._expression(one, names)}" for one in operations]

    def _expression(self, one: Operation, names: Mapping[str, str]) -> str:
        operands = [self.operand(value, names) for value in one.operands]
        if one.word in _INFIX:
            return f"({operands[0]}) {_INFIX[one.word]} ({operands[1]})"
        if one.word == "neg":
            return f"-({operands[0]})"
        if one.word == "invert":
            return f"({operands[0]}) == 0"
        if one.word == "truediv":
            return f"divided({operands[0]}, {operands[1]}, {self.single})"
        if one.word == "sqrt":
            return f"root({operands[0]}, {self.single})"
        if one.word == "heaviside":
            return f"tl.where({operands[0]} >= 0, {self.number(1.0)}, {self.number(0.0)})"
        if one.word in ("tanh", "power", "pow", "sigmoid"):
            operands.append(self.number(1.0))
        return f"{_CALLS[one.word]}({', '.join(operands)})"
