"""A scalar step function as straight-line text: run once on symbols, which write down what is done to them.

A step has no branches and no loops (`specialise.rebind` refuses them), so one run on symbols sees all of it. The result
is a list of operations in the words of `neurosim.vocabulary`, each computed once, for machines that need the source of
what they compile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from neurosim.backends.specialise import Machine, rebind
from neurosim.surrogate import Surrogate

Operand: TypeAlias = "str | float | bool"  # the name of a value, or a number


@dataclass(frozen=True)
class Operation:
    """`name` = `word`(*`operands`); the words of arithmetic are `add sub mul div neg lt le gt ge eq ne and or not`."""

    name: str
    word: str
    operands: tuple[Operand, ...]


@dataclass
class Straight:
    """A step as straight-line code: names of its `inputs`, `operations` in order, and its `results`."""

    inputs: tuple[str, ...]
    operations: list[Operation] = field(default_factory=list)
    results: tuple[Operand, ...] = ()
    _known: dict[tuple[str, tuple[Operand, ...]], str] = field(default_factory=dict)

    def value(self, word: str, *operands: Any) -> Symbol:
        """The value of an operation; the same operation on the same operands is written once."""
        plain = tuple(_operand(operand) for operand in operands)
        key = word, plain
        if key not in self._known:
            self._known[key] = f"v{len(self.operations)}"
            self.operations.append(Operation(self._known[key], word, plain))
        return Symbol(self, self._known[key])

    def needed(self, results: Sequence[int]) -> list[Operation]:
        """The operations that the results at these places depend on."""
        wanted = {self.results[index] for index in results}
        kept = []
        for operation in reversed(self.operations):
            if operation.name in wanted:
                kept.append(operation)
                wanted |= set(operation.operands)
        return kept[::-1]


def _operand(value: Any) -> Operand:
    return value.name if isinstance(value, Symbol) else value


class Symbol:
    """A value that is not known yet."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, straight: Straight, name: str):
        self.straight, self.name = straight, name

    def __neg__(self) -> Symbol:
        return self.straight.value("neg", self)

    def __invert__(self) -> Symbol:
        return self.straight.value("not", self)


def _binary(word: str, reflected: bool) -> Callable[[Symbol, Any], Symbol]:
    def operation(self: Symbol, other: Any) -> Symbol:
        pair = (other, self) if reflected else (self, other)
        return self.straight.value(word, *pair)

    return operation


_OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "and": "and", "or": "or"}
for _name, _word in _OPERATORS.items():
    setattr(Symbol, f"__{_name}__", _binary(_word, reflected=False))
    setattr(Symbol, f"__r{_name}__", _binary(_word, reflected=True))
for _word in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Symbol, f"__{_word}__", _binary(_word, reflected=False))

_RECORDED = ("where", "exp", "log", "tanh", "sqrt", "abs", "min", "max", "power", "sigmoid", "heaviside")


def straight_line(step: Callable[..., Any], inputs: Sequence[str], surrogate: Surrogate | None = None) -> Straight:
    """`step` on the symbols `inputs`, with the surrogate's derivative (0 without one) written out."""
    straight = Straight(tuple(inputs))
    words: dict[str, Callable[..., Any]] = {word: _recorder(straight, word) for word in _RECORDED}
    words |= {"stop_gradient": lambda x: x, "fill": lambda x, value: value}
    derivative = None if surrogate is None else rebind(surrogate.derivative, Machine("symbols", words))
    words["pseudo_derivative"] = lambda x: 0.0 if derivative is None else derivative(x, *surrogate.constants())  # type: ignore[union-attr]
    symbols = [Symbol(straight, name) for name in inputs]
    results = rebind(step, Machine("symbols", words))(*symbols)
    straight.results = tuple(_operand(one) for one in (results if isinstance(results, tuple) else (results,)))
    return straight


def _recorder(straight: Straight, word: str) -> Callable[..., Any]:
    return lambda *operands: straight.value(word, *operands)
