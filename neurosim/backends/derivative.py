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

from neurosim.backends.symbolic import (
    OPERATORS,
    STEP_WORDS,
    Line,
    Lines,
    Symbol,
    Trace,
    Value,
    is_number,
    needed,
    trace,
)

Function = Callable[..., Any]


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
            if not is_number(part, 0.0):
                old = cotangents.get(argument.place)
                cotangents[argument.place] = part if old is None else old + part
    return cotangents


# ---- from a step to its pullback -------------------------------------------------------------------------------------


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
    places = needed(lines, [value.place for value in results.values()])
    reads = tuple(place for place in range(len(found.names)) if place in places)
    own = {place: _safe(name) for place, name in enumerate(found.names)}
    own |= {g.place: f"g{result}_" for result, g in given.items()}
    fresh = (f"t{number}_" for number in count())
    body = []
    for place in places:
        if lines[place].operation != "argument":
            own[place] = next(fresh)
            body.append(f"    {own[place]} = {_spelled(lines[place], own)}")
    arguments = [own[place] for place in reads] + [own[g.place] for g in given.values()]
    name = f"{step.__name__}_pullback"
    given_back = "".join(f"{own[value.place]}, " for value in results.values())
    text = "\n".join([f"def {name}({', '.join(arguments)}):", *body, f"    return ({given_back.rstrip()})", ""])
    return Pullback(_function(name, text), text, reads, tuple(given), tuple(results))


def _safe(name: str) -> str:
    """An argument must not hide a word."""
    return f"{name}_" if name in STEP_WORDS else name


def _spelled(line: Line, names: Mapping[int, str]) -> str:
    arguments = [names[a.place] if isinstance(a, Symbol) else f"({a!r})" for a in line.arguments]
    if line.operation in OPERATORS:
        return OPERATORS[line.operation].format(*arguments)
    return f"{line.operation}({', '.join(_bare(a) for a in arguments)})"


def _bare(argument: str) -> str:
    return argument[1:-1] if argument.startswith("(") else argument


_numbered: Iterator[int] = count()


def _function(name: str, text: str) -> Function:
    """The function of a text, with the words of the vocabulary; `inspect` finds its source."""
    file = f"<{name} {next(_numbered)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    scope: dict[str, Any] = {**STEP_WORDS, "__name__": __name__}
    exec(compile(text, file, "exec"), scope)
    made = scope[name]
    assert isinstance(made, FunctionType)
    return made
