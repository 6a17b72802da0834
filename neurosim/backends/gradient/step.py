"""A scalar step over all steps of a phase: what every backend's scan knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from neurosim.backends.derivative import Pullback, pullback
from neurosim.types import Tensor

Sources: TypeAlias = Sequence[Sequence[Tensor]]  # by port: what arrives there, to be added


class StepThroughTime:
    """The step of a neuron (or of a release, a trace): `model` has `step`, maybe `surrogate`; `states` and `ports` are
    their numbers. Places are those of the step: among its arguments states, ports, draws, constants; among its results
    states, outputs.
    """

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
