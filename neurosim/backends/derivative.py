"""The derivative of a scalar step, as another scalar step in the same words: its vector-Jacobian product.

    cotangents of old states and inputs = (d results / d arguments)^T  cotangents of new states and outputs

A step is run once with symbols in the place of numbers; what it does becomes straight-line code in which a value stands
once, however often it is written. Reverse accumulation over these lines gives the product, and only the lines that
reach it are kept. The result is the text of a function in the words of `neurosim.vocabulary`, so that `specialise.py`
gives it to torch, to numba or to Triton as it does a step.

Rules of derivation are those of torch's autograd: `heaviside` has the surrogate's derivative (the word
`pseudo_derivative`, bound where the function is specialised), nothing passes `stop_gradient`, a condition, `fill` or
`pseudo_derivative`; `abs` has 0 at 0; where two arrays are equal, `min` and `max` give half to each, and where an
array is equal to a number, all to the array.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from types import FunctionType
from typing import Any

from neurosim import vocabulary
from neurosim.backends.specialise import Machine, rebind
from neurosim.types import ConfigurationError
from neurosim.vocabulary import SCALAR_WORDS

Function = Callable[..., Any]
Value = Any  # a Symbol or a plain number

_OPERATORS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "truediv": "{} / {}", "pow": "{} ** {}", "neg": "-{}",
    "le": "{} <= {}", "lt": "{} < {}", "ge": "{} >= {}", "gt": "{} > {}", "eq": "{} == {}", "ne": "{} != {}",
    "and": "{} & {}", "or": "{} | {}", "invert": "~{}",
}  # fmt: skip
_WORDS = {word.__name__: getattr(vocabulary, word.__name__) for word in SCALAR_WORDS}


@dataclass(frozen=True)
class Pullback:
    """`function(*arguments read, *cotangents taken) -> cotangents given`, all by place: `reads` and `gives` are places
    among the arguments of the step, `takes` places among its results. `text` is its source. Where `gives` is empty,
    nothing passes and there is no need to call it.
    """

    function: Function
    text: str
    reads: tuple[int, ...]
    takes: tuple[int, ...]
    gives: tuple[int, ...]


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


for _name in _OPERATORS:
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
        return {name: self._word(name) for name in _WORDS}

    def _word(self, name: str) -> Function:
        return lambda *arguments: self.add(name, *arguments)


def _number(value: Value, wanted: float) -> bool:
    return not isinstance(value, Symbol) and value == wanted


def _shortened(operation: str, arguments: Sequence[Value]) -> tuple[Value] | None:
    """The value that a line only repeats, in a tuple; None where it has to be written."""
    if operation == "mul":
        for one, other in (arguments, arguments[::-1]):
            if _number(one, 1.0):
                return (other,)
    if operation == "add":
        for one, other in (arguments, arguments[::-1]):
            if _number(one, 0.0):
                return (other,)
    if operation == "neg" and isinstance(arguments[0], Symbol):
        inner = arguments[0].lines.all[arguments[0].place]
        return (inner.arguments[0],) if inner.operation == "neg" else None
    return None


# ---- rules of derivation: (g, result, *arguments) -> the part of g that goes to one argument -------------------------


def _of_base(g: Value, result: Value, x: Value, y: Value) -> Value:
    plain = not isinstance(y, Symbol)
    if plain:
        return g * (y * x ** (y - 1)) if y != 0 else 0.0
    return _where(y == 0.0, 0.0, g * (y * _call("power", x, y - 1.0)))


def _of_exponent(g: Value, result: Value, x: Value, y: Value) -> Value:
    return _where((_symbolic(x, y) == 0.0) & (y >= 0.0), 0.0, g * (result * _call("log", _symbolic(x, y))))


def _symbolic(x: Value, like: Symbol) -> Value:
    return x if isinstance(x, Symbol) else like.lines.add("fill", like, x)


def _call(word: str, *arguments: Value) -> Value:
    return next(a for a in arguments if isinstance(a, Symbol)).lines.add(word, *arguments)


def _where(condition: Value, yes: Value, no: Value) -> Value:
    return _call("where", condition, yes, no)


def _chosen(word: str, first: bool) -> Function:
    """min and max, to the first or to the second argument."""

    def rule(g: Value, result: Value, x: Value, y: Value) -> Value:
        mine, other = (x, y) if first else (y, x)
        lines = g.lines
        if lines.is_array(mine) and lines.is_array(other):
            lost = mine > other if word == "min" else mine < other
            return _where(mine == other, 0.5 * g, _where(lost, 0.0, g))
        return _where(mine <= other if word == "min" else mine >= other, g, 0.0)

    return rule


_RULES: Mapping[str, tuple[Function | None, ...]] = {
    "add": (lambda g, r, x, y: g, lambda g, r, x, y: g),
    "sub": (lambda g, r, x, y: g, lambda g, r, x, y: -g),
    "mul": (lambda g, r, x, y: g * y, lambda g, r, x, y: g * x),
    "truediv": (lambda g, r, x, y: g / y, lambda g, r, x, y: -(g * (r / y))),
    "neg": (lambda g, r, x: -g,),
    "pow": (_of_base, _of_exponent),
    "power": (_of_base, _of_exponent),
    "where": (None, lambda g, r, c, x, y: _where(c, g, 0.0), lambda g, r, c, x, y: _where(c, 0.0, g)),
    "exp": (lambda g, r, x: g * r,),
    "log": (lambda g, r, x: g / x,),
    "tanh": (lambda g, r, x: g * (1.0 - r * r),),
    "sqrt": (lambda g, r, x: g / (2.0 * r),),
    "sigmoid": (lambda g, r, x: g * (1.0 - r) * r,),
    "abs": (lambda g, r, x: _where(x > 0.0, g, _where(x < 0.0, -g, 0.0)),),
    "min": (_chosen("min", True), _chosen("min", False)),
    "max": (_chosen("max", True), _chosen("max", False)),
    "heaviside": (lambda g, r, x: g * _call("pseudo_derivative", x),),
}


def _active(lines: Lines, sources: Sequence[int], surrogate: bool) -> set[int]:
    """Lines whose value depends on the sources in a way that can be derived."""
    found = set(sources)
    for place, line in enumerate(lines.all):
        if line.operation in _RULES and (surrogate or line.operation != "heaviside"):
            taken = zip(line.arguments, _RULES[line.operation], strict=True)
            if any(rule and isinstance(a, Symbol) and a.place in found for a, rule in taken):
                found.add(place)
    return found


def _accumulate(lines: Lines, active: set[int], seeds: Mapping[int, Value]) -> dict[int, Value]:
    """Cotangents by line, from those of some lines (`seeds`), last line first."""
    cotangents = {place: g for place, g in seeds.items() if place in active}
    for place in range(max(cotangents, default=-1), -1, -1):
        if place not in cotangents or lines.all[place].operation == "argument":
            continue
        line, result = lines.all[place], Symbol(lines, place)
        g = cotangents[place]
        for argument, rule in zip(line.arguments, _RULES[line.operation], strict=True):
            if rule is None or not isinstance(argument, Symbol) or argument.place not in active:
                continue
            part = rule(g, result, *line.arguments)
            if not _number(part, 0.0):
                old = cotangents.get(argument.place)
                cotangents[argument.place] = part if old is None else old + part
    return cotangents


# ---- from a step to its pullback -------------------------------------------------------------------------------------


@dataclass
class Trace:
    """A step that was run with symbols."""

    names: tuple[str, ...]
    lines: Lines
    results: tuple[Value, ...]


def trace(step: Function, arrays: Sequence[int]) -> Trace:
    """Run `step` once with symbols; `arrays` are the places of those arguments that are arrays under torch."""
    lines = Lines()
    names = step.__code__.co_varnames[: step.__code__.co_argcount]
    arguments = [lines.argument(array=place in arrays) for place in range(len(names))]
    results = rebind(step, Machine("a derivative", lines.words()))(*arguments)
    return Trace(names, lines, tuple(results))


@cache
def passed_on(step: Function) -> Mapping[int, int]:
    """Results of a step that are one of its arguments, unchanged: place of the result -> place of the argument."""
    found = trace(step, range(step.__code__.co_argcount))
    arguments = range(len(found.names))
    return {
        place: value.place
        for place, value in enumerate(found.results)
        if isinstance(value, Symbol) and value.place in arguments
    }


@cache
def pullback(
    step: Function,
    states: int,
    inputs: Sequence[int],
    outside: Sequence[int],
    surrogate: bool = True,
    numbers: Sequence[int] = (),
    through_time: bool = True,
) -> Pullback:
    """The pullback of `step`, whose first `states` arguments and results are the states.

    `inputs`: places of the arguments whose cotangents are wanted besides those of the states; `outside`: places of the
    results (states among them) whose cotangents come from outside in any step. Cotangents of states are taken and given
    where something arrives there from later steps, found by going round until no state is added; with `through_time`
    False they are not. `surrogate` False: nothing passes `heaviside`. `numbers`: places of the arguments that are plain
    numbers under torch and not arrays (constants that are the same for all neurons; see the ties of min and max). All
    places are tuples (results are kept).
    """
    arrays = [place for place in range(step.__code__.co_argcount) if place not in numbers]
    carried: set[int] = set()
    while True:
        found = trace(step, arrays)
        takes = tuple(sorted(carried | set(outside)))
        given = {place: found.lines.argument(array=True) for place in takes}
        sources = [*(range(states) if through_time else ()), *inputs]
        active = _active(found.lines, sources, surrogate)
        seeds: dict[int, Value] = {}
        for place, g in given.items():
            value = found.results[place]
            if isinstance(value, Symbol):
                seeds[value.place] = seeds[value.place] + g if value.place in seeds else g
        cotangents = _accumulate(found.lines, active, seeds)
        gives = tuple(place for place in sources if place in cotangents)
        more = {place for place in gives if place < states} - carried
        if not more:
            return _made(step, found, given, {place: cotangents[place] for place in gives})
        carried |= more


def _made(step: Function, found: Trace, given: Mapping[int, Symbol], results: Mapping[int, Value]) -> Pullback:
    lines = found.lines.all
    needed = _needed(lines, [value.place for value in results.values()])
    reads = tuple(place for place in range(len(found.names)) if place in needed)
    own = {place: _safe(name) for place, name in enumerate(found.names)}
    own |= {g.place: f"g{result}_" for result, g in given.items()}
    fresh = (f"t{number}_" for number in count())
    body = []
    for place in needed:
        if lines[place].operation != "argument":
            own[place] = next(fresh)
            body.append(f"    {own[place]} = {_spelled(lines[place], own)}")
    arguments = [own[place] for place in reads] + [own[g.place] for g in given.values()]
    name = f"{step.__name__}_pullback"
    given_back = "".join(f"{own[value.place]}, " for value in results.values())
    text = "\n".join([f"def {name}({', '.join(arguments)}):", *body, f"    return ({given_back.rstrip()})", ""])
    return Pullback(_function(name, text), text, reads, tuple(given), tuple(results))


def _needed(lines: Sequence[Line], wanted: Sequence[int]) -> list[int]:
    """The lines on which others depend, in their order."""
    waiting, found = list(wanted), set[int]()
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting.extend(a.place for a in lines[place].arguments if isinstance(a, Symbol))
    return sorted(found)


def _safe(name: str) -> str:
    """An argument must not hide a word."""
    return f"{name}_" if name in _WORDS else name


def _spelled(line: Line, names: Mapping[int, str]) -> str:
    arguments = [names[a.place] if isinstance(a, Symbol) else f"({a!r})" for a in line.arguments]
    if line.operation in _OPERATORS:
        return _OPERATORS[line.operation].format(*arguments)
    return f"{line.operation}({', '.join(_bare(a) for a in arguments)})"


def _bare(argument: str) -> str:
    return argument[1:-1] if argument.startswith("(") else argument


_numbered: Iterator[int] = count()


def _function(name: str, text: str) -> Function:
    """The function of a text, with the words of the vocabulary; `inspect` finds its source."""
    file = f"<{name} {next(_numbered)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope: dict[str, Any] = {**_WORDS, "__name__": __name__}
    exec(compile(text, file, "exec"), scope)
    made = scope[name]
    assert isinstance(made, FunctionType)
    return made
