"""What a rule may read at one end of a synapse: a value per neuron.

A factor belongs to an end ("post" or "pre"); a pre factor is read as it *arrives* (axonal delay), a post factor
`dendritic_delay` late. Factors are values (frozen, hashable): equal traces of several rules are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from neurosim.types import ConfigurationError, choice, positive

ENDS = ("post", "pre")


@dataclass(frozen=True)
class Field:
    """The state, port or output `name` of the neuron at `end`."""

    end: str
    name: str

    def __post_init__(self) -> None:
        choice(self.end, ENDS, "the end of a Field")


@dataclass(frozen=True)
class One:
    """The constant 1 at `end` (a bias has it as its pre factor)."""

    end: str

    def __post_init__(self) -> None:
        choice(self.end, ENDS, "the end of a One")


@dataclass(frozen=True)
class Trace:
    """An exponential memory `x` of a factor, one value per neuron; `tau` in ms, `of` a Field or a Trace (a cascade);
    tau inf, but for mode "mean", never forgets: a sum since the start.

    Every step, with a = exp(-dt / tau) and f the value of `of`:

    - mode "sum": x <- a x + f (all-to-all pairing);
    - mode "nearest": x <- f where f > 0, else a x (nearest-neighbour pairing);
    - mode "mean": x <- a x + (1 - a) f (a low-pass filter with gain 1: a rate trace).

    read "after" gives x with this step's event, "before" gives a x of the previous step: decayed to now, without it.
    """

    of: Field | Trace
    tau: float
    mode: str = "sum"
    read: str = "after"

    def __post_init__(self) -> None:
        if self.tau != math.inf or self.mode == "mean":
            positive(self.tau, "tau of a Trace (ms)")
        choice(self.mode, ("sum", "nearest", "mean"), "mode of a Trace")
        choice(self.read, ("after", "before"), "read of a Trace")
        if isinstance(self.of, Trace) and self.of.read != "after":
            raise ConfigurationError("a Trace of a Trace reads the inner one 'after' its update")

    @property
    def end(self) -> str:
        return self.of.end


@dataclass(frozen=True)
class Apply:
    """`fn(*arguments, *constants)` of factors of the same end; `fn` is a module-level scalar function of the
    vocabulary.
    """

    fn: Callable[..., object]
    arguments: tuple[Factor, ...]
    constants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len({argument.end for argument in self.arguments}) != 1:
            raise ConfigurationError("Apply takes factors of one end of the synapse, post or pre, not of both")

    @property
    def end(self) -> str:
        return self.arguments[0].end


@dataclass(frozen=True, eq=False)
class Coefficient:
    """A number of its own for each neuron at `end`, that does not change: `[N]`, `[R, N]` (a row per replica), or one
    number for all. A bias, which has no pre neuron, has 1 there.
    """

    end: str
    values: Any

    def __post_init__(self) -> None:
        choice(self.end, ENDS, "the end of a Coefficient")
        values = np.array(self.values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ConfigurationError(f"the values of a Coefficient are {self.values}; they must be finite")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)


Factor: TypeAlias = Field | One | Trace | Apply | Coefficient


def post(name: str) -> Field:
    """The field `name` of the post-synaptic neuron."""
    return Field("post", name)


def pre(name: str) -> Field:
    """The field `name` of the pre-synaptic neuron, as it arrives."""
    return Field("pre", name)


def traces(factor: Factor) -> Iterator[Trace]:
    """All traces that `factor` needs, inner ones first."""
    if isinstance(factor, Trace):
        yield from traces(factor.of)
        yield factor
    elif isinstance(factor, Apply):
        for argument in factor.arguments:
            yield from traces(argument)


def fields(factor: Factor) -> Iterator[Field]:
    """All fields that `factor` reads."""
    if isinstance(factor, Field):
        yield factor
    elif isinstance(factor, Trace):
        yield from fields(factor.of)
    elif isinstance(factor, Apply):
        for argument in factor.arguments:
            yield from fields(argument)
