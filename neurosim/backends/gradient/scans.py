"""What runs as a scan (`cpu/scan.py`, `triton/through.py`): neurons, releases, traces; and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.backends.components import components
from neurosim.backends.gradient.groups import readers, why_not
from neurosim.backends.needs import released_by
from neurosim.vocabulary import where

if TYPE_CHECKING:
    from neurosim.backends.reference import Reference


class Filter:
    """A trace as a step: its kinds are those of `neurosim.factor.Trace`."""

    outputs = ()

    def __init__(self, mode: str):
        self.step = {"sum": _sum_trace, "mean": _mean_trace, "nearest": _nearest_trace}[mode]


def _sum_trace(old: Any, value: Any, decay: Any, fresh: Any) -> tuple[Any, ...]:
    return (decay * old + value,)


def _mean_trace(old: Any, value: Any, decay: Any, fresh: Any) -> tuple[Any, ...]:
    return (decay * old + fresh * value,)


def _nearest_trace(old: Any, value: Any, decay: Any, fresh: Any) -> tuple[Any, ...]:
    return (where(value > 0.0, value, decay * old),)


class Scans:
    """The scans of a simulator and the order of its populations, made when they are first asked for.

    `scan` is the backend's class of a scan, `recurrent` what it has for populations that lead back to themselves.
    """

    def __init__(self, simulator: Reference, scan: Any, recurrent: Any = None):
        self.simulator, self.scan, self.recurrent = simulator, scan, recurrent
        self._made: dict[str, Any] = {}
        self._loops: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        self._orders: dict[tuple[str, ...], tuple[list[tuple[str, ...]], str]] = {}

    def order(self, silent: tuple[str, ...]) -> tuple[list[tuple[str, ...]], str]:
        """Populations and teaching ports in their order, those of a loop together; and what in a loop cannot be run
        that way, or "".
        """
        if silent not in self._orders:
            plan = self.simulator.plan
            before = readers(plan, silent)
            found = components(before)
            loops = [group for group in found if len(group) > 1 or group[0] in before[group[0]]]
            reasons = {
                group: why_not(plan, group) if self.recurrent else "no kernel on this backend" for group in loops
            }
            told = (f"{' and '.join(sorted(group))}, with {reason}" for group, reason in reasons.items() if reason)
            self._loops[silent], self._orders[silent] = set(loops), (found, "; ".join(told))
        return self._orders[silent]

    def loops(self, silent: tuple[str, ...]) -> set[tuple[str, ...]]:
        """The groups of the order that read themselves."""
        self.order(silent)
        return self._loops[silent]

    def neuron(self, name: str) -> Any:
        if name not in self._made:
            plan, units = self.simulator.plan, self.simulator.cells[name].units
            model = plan.neurons[name]
            constants = tuple(model.constants(plan.dt))
            sizes = units, len(model.states), len(model.ports)
            self._made[name] = self.scan(self.simulator.dtype_name, model, constants, *sizes)
        return self._made[name]

    def release(self, name: str) -> Any:
        label = released_by(name)
        if label not in self._made:
            plan, synapses = self.simulator.plan, self.simulator.plan.synapses[name]
            constants = tuple(synapses.release.constants(plan.dt))
            sizes = synapses.pre.units, len(synapses.release.states), 1
            self._made[label] = self.scan(self.simulator.dtype_name, synapses.release, constants, *sizes)
        return self._made[label]

    def trace(self, own: str, mode: str, decay: float, units: int) -> Any:
        if own not in self._made:
            constants = np.float64(decay), np.float64(1.0 - decay)
            self._made[own] = self.scan(self.simulator.dtype_name, Filter(mode), constants, units, 1, 1)
        return self._made[own]
