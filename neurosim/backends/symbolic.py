"""A scalar step as straight-line code: run once on symbols, which write down what is done to them.

A step has no branches and no loops (`specialise.rebind` refuses them), so one run on symbols sees all of it. A value
stands once, however often it is written. `derivative.py` derives such code, `triton/` writes it out as source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurosim import vocabulary
from neurosim.backends.specialise import Machine, rebind
from neurosim.surrogate import Surrogate
from neurosim.types import ConfigurationError
from neurosim.vocabulary import SCALAR_WORDS

Function = Callable[..., Any]
Value = Any  # a Symbol or a plain number

OPERATORS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "truediv": "{} / {}", "pow": "{} ** {}", "neg": "-{}",
    "le": "{} <= {}", "lt": "{} < {}", "ge": "{} >= {}", "gt": "{} > {}", "eq": "{} == {}", "ne": "{} != {}",
    "and": "{} & {}", "or": "{} | {}", "invert": "~{}",
}  # fmt: skip
STEP_WORDS = {word.__name__: getattr(vocabulary, word.__name__) for word in SCALAR_WORDS}


class Symbol:
    """The value of one line. Arithmetic and comparisons write further lines."""

    __slots__ = ("lines", "place")

    def __init__(self, lines: Lines, place: int):
        self.lines, self.place = lines, place

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise ConfigurationError("a step branches on a value; write where(condition, yes, no)")

    def __neg__(self) -> Value:
        return self.lines.add("neg", self)

    def __invert__(self) -> Value:
        return self.lines.add("invert", self)


def _written(operation: str, turned: bool) -> Function:
    def method(self: Symbol, other: Value) -> Value:
        pair = (other, self) if turned else (self, other)
        return self.lines.add(operation, *pair)

    return method


for _name in OPERATORS:
    if _name not in ("neg", "invert"):
        setattr(Symbol, f"__{_name}__", _written(_name, turned=False))
    if _name in ("add", "sub", "mul", "truediv", "pow", "and", "or"):
        setattr(Symbol, f"__r{_name}__", _written(_name, turned=True))


@dataclass(frozen=True)
class Line:
    """`operation` of `arguments` (symbols, numbers); `array`: is the result an array, or a number like a constant?"""

    operation: str
    arguments: tuple[Value, ...]
    array: bool


class Lines:
    """Straight-line code in the making; a line that is there already is not written again."""

    def __init__(self) -> None:
        self.all: list[Line] = []
        self._known: dict[Any, Symbol] = {}

    def argument(self, array: bool) -> Symbol:
        return self._append(Line("argument", (), array))

    def add(self, operation: str, *arguments: Value) -> Value:
        """The value of a line, or of what is equal to it (1 x, x + 0, -(-x))."""
        short = _shortened(operation, arguments)
        if short is not None:
            return short[0]
        key = (operation, *(("line", a.place) if isinstance(a, Symbol) else (type(a), repr(a)) for a in arguments))
        if key not in self._known:
            self._known[key] = self._append(Line(operation, arguments, any(self.is_array(a) for a in arguments)))
        return self._known[key]

    def is_array(self, value: Value) -> bool:
        return isinstance(value, Symbol) and self.all[value.place].array

    def _append(self, line: Line) -> Symbol:
        self.all.append(line)
        return Symbol(self, len(self.all) - 1)

    def words(self) -> dict[str, Function]:
        """The scalar words, written down."""
        return {name: self._word(name) for name in STEP_WORDS}

    def _word(self, name: str) -> Function:
        return lambda *arguments: self.add(name, *arguments)


def is_number(value: Value, wanted: float) -> bool:
    return not isinstance(value, Symbol) and value == wanted


def _shortened(operation: str, arguments: Sequence[Value]) -> tuple[Value] | None:
    """The value that a line only repeats, in a tuple; None where it has to be written."""
    if operation == "mul":
        for one, other in (arguments, arguments[::-1]):
            if is_number(one, 1.0):
                return (other,)
    if operation == "add":
        for one, other in (arguments, arguments[::-1]):
            if is_number(one, 0.0):
                return (other,)
    if operation == "neg" and isinstance(arguments[0], Symbol):
        inner = arguments[0].lines.all[arguments[0].place]
        return (inner.arguments[0],) if inner.operation == "neg" else None
    return None


@dataclass
class Trace:
    """A step that was run with symbols."""

    names: tuple[str, ...]
    lines: Lines
    results: tuple[Value, ...]


def trace(step: Function, arrays: Sequence[int], words: Mapping[str, Function] | None = None) -> Trace:
    """Run `step` once with symbols; `arrays` are the places of those arguments that are arrays under torch, `words`
    have another meaning than to be written down.
    """
    lines = Lines()
    names = step.__code__.co_varnames[: step.__code__.co_argcount]
    arguments = [lines.argument(array=place in arrays) for place in range(len(names))]
    results = rebind(step, Machine("a trace", {**lines.words(), **(words or {})}))(*arguments)
    return Trace(names, lines, tuple(results) if isinstance(results, tuple) else (results,))


def needed(lines: Sequence[Line], wanted: Sequence[int]) -> list[int]:
    """The lines on which others depend, in their order."""
    waiting, found = list(wanted), set[int]()
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting.extend(a.place for a in lines[place].arguments if isinstance(a, Symbol))
    return sorted(found)


@dataclass(frozen=True)
class Operation:
    """`name` = `word`(*`operands`): names of values, or numbers. Words are those of `OPERATORS` and of a step."""

    name: str
    word: str
    operands: tuple[Any, ...]


@dataclass(frozen=True)
class Straight:
    """A step by names: those of its `inputs`, and its `results` (a name, or a number)."""

    lines: Sequence[Line]
    inputs: tuple[str, ...]
    results: tuple[Any, ...]

    def needed(self, results: Sequence[int]) -> list[Operation]:
        """The operations that the results at these places depend on, in order."""
        names = {name: place for place, name in enumerate(self.inputs)}
        wanted = [self.results[place] for place in results]
        places = [names[one] if one in names else int(one[1:]) for one in wanted if isinstance(one, str)]
        return [
            Operation(self.name(place), line.operation, tuple(self.operand(one) for one in line.arguments))
            for place, line in ((place, self.lines[place]) for place in needed(self.lines, places))
            if line.operation != "argument"
        ]

    @property
    def operations(self) -> list[Operation]:
        """All that the results depend on."""
        return self.needed(range(len(self.results)))

    def name(self, place: int) -> str:
        return self.inputs[place] if place < len(self.inputs) else f"v{place}"

    def operand(self, value: Value) -> Any:
        return self.name(value.place) if isinstance(value, Symbol) else value


def straight_line(step: Function, inputs: Sequence[str], surrogate: Surrogate | None = None) -> Straight:
    """`step` on the symbols `inputs`, with the surrogate's derivative (0 without one) written out."""
    words: dict[str, Function] = {"stop_gradient": lambda x: x, "fill": lambda x, value: value}

    def pseudo_derivative(x: Symbol) -> Value:
        if surrogate is None:
            return 0.0
        machine = Machine("a trace", {**x.lines.words(), **words})
        return rebind(surrogate.derivative, machine)(x, *surrogate.constants())

    words["pseudo_derivative"] = pseudo_derivative
    found = trace(step, range(len(inputs)), words)
    straight = Straight(found.lines.all, tuple(inputs), ())
    return Straight(straight.lines, straight.inputs, tuple(straight.operand(one) for one in found.results))
