"""One real step of the reference backend, taken again and again with one variable moved."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from neurosim.backends.learning import Learning
from neurosim.backends.reference import Context, Reference
from neurosim.inspect.entries import Entries
from neurosim.inspect.sums import Layer, Sums, Watched, WatchedMoment
from neurosim.types import Tensor

Path = tuple[str, ...]
AMOUNTS = (0.37, -2.3)  # by which a variable is moved: a threshold or an order hides one of them, seldom both


@dataclass(frozen=True)
class Variable:
    """Something that the learning step could see: a unit of a population's field (now, or `past` steps ago), or a named
    group. `path` finds it in the scene; `unit` None: all of it.
    """

    kind: str  # "now", "past", "signals", "learned", "eligibility"
    path: Path
    unit: int | None = None
    past: int = 0

    @property
    def population(self) -> str:
        return self.path[0].split(".")[0] if self.kind in ("now", "past") else ""

    @property
    def field(self) -> str:
        return self.path[0].partition(".")[2]


Outcome = dict[tuple[str, str], list[Tensor]]  # (projection, part) -> what the step left behind of it


class Scene:
    """A step's variables as copies of their own, and the learning step as a function of them."""

    after: dict[str, Any]  # what the last run learned

    def __init__(self, simulator: Reference, activity: Mapping[str, Any], context: Context, step: int, learned: Any):
        self.simulator, self.context, self.step = simulator, context, step
        self.sums, self.amount = Sums(), AMOUNTS[0]
        self.learning = _watched(simulator, self.sums)
        self.learned = _copied(learned)
        with torch.no_grad():
            _, self.moment = simulator.step(dict(activity), self.learning.begin(self.learned, []), context, step)
        batch = int(activity["batch"])
        self.values: dict[str, Any] = {
            "now": {name: _full(value, simulator.plan.replicas, batch) for name, value in self.moment.now.items()},
            "past": _copied(activity["history"]),
            "signals": _copied(context.signals),
            "learned": self.learned,
            "eligibility": _copied(activity["eligibility"]),
        }
        self.entries = {
            (name, part.name): Entries(synapses, part, self.learned[part.name][name], simulator.plan.replicas)
            for synapses, _ in self.learning.local
            for name, parts in ((synapses.name, self.learning.parts[synapses.name]),)
            for part in parts
        }
        self.base = self.run()
        self.sums.base, self.remembered = self.sums.taken, self.after["modulator"]

    def run(self, changed: Mapping[str, Any] | None = None, mode: str = "record", learn: Any = None) -> Outcome:
        """The learning step, with the variables of some kinds replaced; `learn` None: as the phase says."""
        values = {**self.values, **(changed or {})}
        learned = self.learning.begin(values["learned"], [])
        context = copy.copy(self.context)
        context.signals, context.learned = values["signals"], learned
        if learn is not None:
            context.phase = replace(context.phase, learn=learn)
        moment = WatchedMoment(self.sums, learned, self.moment.clock, self.simulator.zero, values["past"])
        moment.now = dict(values["now"])
        self.sums.start(mode)
        with torch.no_grad():
            eligibility = self.learning.step(moment, values["eligibility"], learned, context, self.step)
        self.after = learned
        return {key: list(_left(key, learned, eligibility)) for key in self.entries}

    def lively(self) -> Scene:
        """The same step with every field moved and every weight halved, away from rest and from bounds.

        In a silent moment a product of two fields moves with neither; here every field that is read at all shows.
        """
        other = copy.copy(self)
        halved = {name: 0.5 * weight for name, weight in self.learned["weight"].items()}
        everywhere = {
            kind: _replaced(self.values[kind], (), lambda value: _disturbed(value, None, AMOUNTS[0]))
            for kind in ("now", "past", "signals")
        }
        other.values = {**self.values, **everywhere, "learned": {**self.learned, "weight": halved}}
        other.base = other.run()
        return other

    def with_moved(self, variable: Variable) -> dict[str, Any]:
        """The values of the kind of a variable, with that variable moved in replica 0."""
        kind, tree = variable.kind, self.values[variable.kind]
        if kind == "past":
            steps = list(tree[variable.path[0]])
            steps[variable.past] = _disturbed(steps[variable.past], variable.unit, self.amount)
            return {kind: {**tree, variable.path[0]: tuple(steps)}}
        return {kind: _replaced(tree, variable.path, lambda value: _disturbed(value, variable.unit, self.amount))}

    def with_entries(self, kind: str, key: tuple[str, str], where: Tensor) -> dict[str, Any]:
        """The values of a kind, with the entries `where` of a projection's own weight or memory moved."""
        (name, part), entries = key, self.entries[key]
        paths = {
            "weight": ("learned", (part, name)),
            "transforms": ("learned", ("transform", name, part)),
            "gathered change": ("learned", ("change", name, part)),
            "eligibility": ("eligibility", (name, part)),
        }
        root, path = paths[kind]
        return {root: _replaced(self.values[root], path, lambda value: entries.disturbed(value, where, self.amount))}

    def changed(self, outcome: Outcome, key: tuple[str, str]) -> Tensor:
        """The entries of a weight or bias whose change or memory differs from the base run's."""
        entries, result = self.entries[key], torch.zeros_like(self.entries[key].row, dtype=torch.bool)
        for one, other in zip(self.base[key], outcome[key], strict=True):
            if one.numel():
                result |= entries.changed(one, other)
        return result


def _left(key: tuple[str, str], learned: Mapping[str, Any], eligibility: Mapping[str, Any]) -> Iterator[Tensor]:
    name, part = key
    yield learned[part][name]
    for slots in learned["transform"][name][part]:
        yield from slots.values()
    waiting = learned["change"][name].get(part)
    yield waiting["sum"] if waiting else torch.empty(0)
    yield from eligibility.get(name, {}).get(part, ())


def _watched(simulator: Reference, sums: Sums) -> Learning:
    """The simulator's learning, with the places watched where sums over a layer may be taken."""
    learning = Learning(simulator.plan, simulator.operations, simulator.dtype, simulator.device)
    learning.parts = {
        name: tuple(replace(part, operation=Layer(part.operation, sums, name)) for part in parts)
        for name, parts in learning.parts.items()
    }
    learning.local = [
        (synapses, replace(rule, modulator=Watched(rule.modulator, sums, synapses.name, synapses.post.units)))
        for synapses, rule in learning.local
    ]
    return learning


def _full(value: Tensor, replicas: int, batch: int) -> Tensor:
    return value.detach().expand(replicas, batch, value.shape[-1]).clone(memory_format=torch.contiguous_format)


def _copied(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(tree, Mapping):
        return {name: _copied(value) for name, value in tree.items()}
    return type(tree)(map(_copied, tree)) if isinstance(tree, tuple | list) else tree


def _disturbed(value: Tensor, unit: int | None, amount: float) -> Tensor:
    """A copy that differs in replica 0, at one unit of the last axis or everywhere, by another amount in each row."""
    if not value.numel():
        return value
    new = value.clone()
    part = new[0] if unit is None else new[0, ..., unit]
    part += amount * (1.0 + torch.arange(part.numel(), dtype=part.dtype).reshape(part.shape) / part.numel())
    return new


def _replaced(tree: Any, path: Path, change: Any) -> Any:
    """A copy of a nested structure with every floating tensor below `path` changed."""
    if path:
        return {**tree, path[0]: _replaced(tree[path[0]], path[1:], change)} if path[0] in tree else tree
    if isinstance(tree, Tensor):
        return change(tree) if tree.is_floating_point() else tree
    if isinstance(tree, Mapping):
        return {name: _replaced(value, (), change) for name, value in tree.items()}
    return tuple(_replaced(value, (), change) for value in tree) if isinstance(tree, tuple | list) else tree
