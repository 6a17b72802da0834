"""A scalar step over all steps of a phase: what every backend's scan knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from torch.nn.functional import linear

from neurosim.backends.derivative import Pullback, pullback
from neurosim.types import Tensor


@dataclass(frozen=True)
class Product:
    """What a dense projection brings in all steps, x w^T, before it is formed: a scan may do that part by part."""

    x: Tensor  # [T, 1, B, Q]
    weight: Tensor  # [1, P, Q]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def requires_grad(self) -> bool:
        return self.x.requires_grad or self.weight.requires_grad

    def rows(self, first: int, stop: int) -> Tensor:
        """What is sent in some steps, steps and rows as one axis."""
        return self.x.detach()[first:stop].flatten(0, 2)

    def form(self, first: int, stop: int, out: Tensor) -> None:
        """What is brought in these steps, `[K, 1, B, P]`, without a graph."""
        torch.mm(self.rows(first, stop), self.weight.detach()[0].T, out=out.flatten(0, 2))

    def formed(self) -> Tensor:
        return linear(self.x[:, 0], self.weight[0])[:, None]


Source: TypeAlias = Tensor | Product
Sources: TypeAlias = Sequence[Sequence[Tensor]]  # by port: what arrives there, to be added
Arriving: TypeAlias = Sequence[Sequence[Source]]  # the same, products not yet formed


def formed(source: Source) -> Tensor:
    return source.formed() if isinstance(source, Product) else source


class StepThroughTime:
    """The step of a neuron (or of a release, a trace): `model` has `step`, maybe `surrogate`; `states` and `ports` are
    their numbers. Places are those of the step: among its arguments states, ports, draws, constants; among its results
    states, outputs.
    """

    forms_products: ClassVar[bool] = False  # may a source be a `Product`?

    def __init__(self, dtype: str, model: Any, constants: tuple[Any, ...], units: int, states: int, ports: int):
        self.dtype, self.model, self.constants, self.units = dtype, model, constants, units
        self.step, self.surrogate = model.step, getattr(model, "surrogate", None)
        self.states, self.ports = states, ports
        self.results = len(getattr(model, "outputs", ())) + states

    def pullback(self, inputs: tuple[int, ...], outside: tuple[int, ...], through_time: bool) -> Pullback:
        """The derivative from the results `outside` to the ports `inputs`."""
        first = self.step.__code__.co_argcount - len(self.constants)
        numbers = tuple(first + place for place, value in enumerate(self.constants) if np.ndim(value) == 0)
        ports = tuple(self.states + port for port in inputs)
        return pullback(self.step, self.states, ports, outside, self.surrogate is not None, numbers, through_time)
