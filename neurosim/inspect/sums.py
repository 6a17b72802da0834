"""Sums over a layer, made visible: recorded where they are taken, and played back while something else is moved.

What is layer-wide reaches a synapse in three ways: a modulator that declares it (`scope = "layer"`), the pullback of
the population's lateral, and the `total_` sums of a transform's layout. In these places every reduction over the
neurons of the layer is one broadcast. With all of them played back, a neuron of its own is all that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neurosim.backends.moment import Moment
from neurosim.modulator import Memory, View
from neurosim.network import Population
from neurosim.types import Tensor

REDUCTIONS = {
    "sum", "mean", "amax", "amin", "max", "min", "prod", "var", "var_mean", "std", "median", "logsumexp", "argmax",
    "argmin", "linalg_vector_norm", "norm",
}  # fmt: skip
ORDERS = {"sort", "topk", "kthvalue", "argsort", "cumsum", "logcumsumexp"}
RANKED = {"topk", "kthvalue"}  # take a rank before the axis
NORMALISERS = {"_softmax", "_log_softmax"}  # of the shape of the layer, but one number is all that is shared


@dataclass(frozen=True)
class Sum:
    """One broadcast: the `projection` whose learning needs it, `where` it is taken, the operation and its result."""

    projection: str
    where: str
    operation: str
    result: Any


class Sums(TorchDispatchMode):
    """`mode` "record" keeps every sum over `units` neurons, "play" gives back those of `base`, "freeze" also the
    modulators that declare that they are of the layer.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode, self.projection, self.where, self.units = "record", "", "", 0
        self.taken: list[Sum] = []
        self.base: list[Sum] = []
        self.modulators: dict[tuple[str, str], Any] = {}

    def start(self, mode: str) -> None:
        """Begin a run of the learning step."""
        self.mode, self.taken = mode, []

    @contextmanager
    def over(self, units: int, where: str) -> Iterator[None]:
        """Inside, reductions over an axis of `units` entries are sums over the layer."""
        self.units, self.where = units, where
        with self:
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in REDUCTIONS | ORDERS | NORMALISERS or self.units not in _reduced(name, args, kwargs or {}):
            return result
        return self.take(name, result)

    def take(self, operation: str, result: Any) -> Any:
        """Keep a sum, or give back the one of the base run in its place."""
        if self.mode != "record":
            result = _copy(self.base[len(self.taken)].result)
        self.taken.append(Sum(self.projection, self.where, operation, _copy(result)))
        return result

    def whole(self, kind: str, value: Any) -> Any:
        """A modulator of the layer: kept, or given back whole in mode "freeze"."""
        key = (self.projection, kind)
        if self.mode == "record" and key not in self.modulators:
            self.modulators[key] = value
        return self.modulators[key] if self.mode == "freeze" else value


def _copy(result: Any) -> Any:
    return tuple(map(_copy, result)) if isinstance(result, tuple) else result.clone()


def _reduced(name: str, args: Any, kwargs: Any) -> list[int]:
    """The sizes of the axes that an operation reduces or orders."""
    shape = args[0].shape
    place = 2 if name in RANKED else 1  # of the axis among the arguments
    given = args[place] if len(args) > place else kwargs.get("dim", -1 if name in RANKED else list(range(len(shape))))
    dims = given if isinstance(given, int | list) else list(range(len(shape)))
    if isinstance(dims, bool) or dims is None:
        dims = -1
    return [shape[dim] for dim in ([dims] if isinstance(dims, int) else dims)] if shape else []


class Layer:
    """A layout (the operation of a weight or bias) whose sums over the whole projection are recorded."""

    def __init__(self, operation: Any, sums: Sums, projection: str):
        self._operation, self._sums, self._projection = operation, sums, projection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operation, name)

    def _take(self, name: str, value: Tensor) -> Tensor:
        self._sums.projection, self._sums.where = self._projection, "transforms"
        taken: Tensor = self._sums.take(name, value)
        return taken

    def total_max(self, x: Tensor) -> Tensor:
        return self._take("total_max", self._operation.total_max(x))

    def total_percentile(self, x: Tensor, percent: float) -> Tensor:
        return self._take("total_percentile", self._operation.total_percentile(x, percent))


class Watched:
    """A modulator whose sums over the layer are recorded, if it declares that it takes any."""

    def __init__(self, modulator: Any, sums: Sums, projection: str, units: int):
        self.modulator, self._sums, self._projection, self._units = modulator, sums, projection, units

    def __getattr__(self, name: str) -> Any:
        return getattr(self.modulator, name)

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        self._sums.projection = self._projection
        if self.modulator.scope != "layer":
            m, memory = self.modulator.update(view, memory)
            return m, memory
        with self._sums.over(self._units, type(self.modulator).__name__):
            m, memory = self.modulator.update(view, memory)
        return self._sums.whole("modulator", m), memory


class WatchedMoment(Moment):
    """A moment whose pullbacks through laterals are recorded; what the rules read is in `now` and `past`."""

    def __init__(self, sums: Sums, learned: dict[str, Any], clock: int, zero: Tensor, past: dict[str, Any]):
        super().__init__({"history": past}, learned, clock, zero, torch.ones_like(zero))
        self._sums = sums

    def pull_back(self, population: Population, g: Tensor) -> Tensor:
        with self._sums.over(population.shape[0], f"pullback of {type(population.lateral).__name__}"):
            result = super().pull_back(population, g)
        whole: Tensor = self._sums.whole("pullback", result)
        return whole


def lateral_values(lateral: Any, units: int, dtype: torch.dtype) -> int:
    """How many numbers the step of a lateral shares among `units` neurons, for one sample."""
    return _shared(lateral.step, type(lateral).__name__, units, (torch.linspace(0.1, 1.0, units, dtype=dtype),))


def pullback_values(lateral: Any, units: int, dtype: torch.dtype) -> int:
    """The same for its pullback, by which a modulator passes through it."""
    x, g = torch.linspace(0.1, 1.0, units, dtype=dtype), torch.linspace(1.0, -0.3, units, dtype=dtype)
    return _shared(lateral.pullback, type(lateral).__name__, units, (x, lateral.step(x), g))


def _shared(function: Any, name: str, units: int, arguments: tuple[Tensor, ...]) -> int:
    sums = Sums()
    with sums.over(units, name):
        function(*arguments)
    orders = any(taken.operation in ORDERS for taken in sums.taken)  # every neuron needs the values of all
    return units * orders + sum(taken.operation not in ORDERS for taken in sums.taken)
