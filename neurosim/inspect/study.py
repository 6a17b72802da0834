"""What the certificate does with the scenes of a trial: it moves one variable after the other and notes what moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from neurosim.backends.moment import label
from neurosim.backends.needs import leaves
from neurosim.backends.resolve import Synapses
from neurosim.factor import One
from neurosim.inspect.entries import Entries
from neurosim.inspect.held import can_move, held, moved
from neurosim.inspect.scene import AMOUNTS, Outcome, Scene, Variable
from neurosim.inspect.sums import NORMALISERS, Sum
from neurosim.inspect.verdict import CLASSES, Certificate, Finding, Shared, widest
from neurosim.inspect.wiring import competitions, leaks, scalars
from neurosim.network import Network
from neurosim.rule import GradientRule, ThreeFactorRule
from neurosim.types import Tensor

GRADIENT = "the gradient of the loss needs the whole graph: every weight and activity of the network, at every step"


def local_rules(network: Network) -> list[tuple[str, ThreeFactorRule]]:
    return [(p.name, p.rule) for p in network.projections if isinstance(p.rule, ThreeFactorRule)]


@dataclass
class Notes:
    """What has been seen of one projection."""

    scopes: list[str] = field(default_factory=lambda: [CLASSES[0]])
    leaks: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)  # labels and signals that moved it
    sums: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # (step, which sum) -> what of it moved
    names: dict[tuple[int, int], Sum] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)  # sums over a whole projection, by a transform
    whole: int = 0  # values of a modulator of the layer that no sums explain


class Study:
    """Moves one variable after the other and notes what it did to every projection."""

    def __init__(self, network: Network):
        self.network = network
        self.rules = dict(local_rules(network))
        self.notes = {name: Notes() for name in self.rules}
        self.wiring: dict[str, None] = {}
        self.widths: dict[str, int] = {}

    def look(self, scene: Scene) -> None:
        """One step of a presentation."""
        self.scene = scene
        self.widths = {name: value.shape[-1] for name, value in scene.values["signals"].items()}
        self.wiring |= dict.fromkeys(leaks(scene))
        for taken in scene.sums.base:
            if taken.where == "transforms":  # asked for, so it is broadcast, whether or not it tips a threshold here
                self.notes[taken.projection].scopes.append("layer")
                self.notes[taken.projection].totals[taken.operation] = 1.0
        self._repeat()
        self._own_rules()
        self._held()
        for scene.amount in AMOUNTS:
            for variable in self._fields():
                self._move(variable)
            for name in scene.values["signals"]:
                self._signal(name)
            for key in scene.entries:
                self._own_memories(key)
            self._others()
        self._silent()

    # ---- what is moved ----------------------------------------------------------------------------------------------

    def _repeat(self) -> None:
        outcome = self.scene.run()
        for key in self._moved(outcome):
            self._leak(key[0], "something that changes from call to call: two equal steps differ")

    def _own_rules(self) -> None:
        """A weight changes only by the rule of its own projection (or by what that gathered earlier in the trial)."""
        self.scene.run(learn=())
        alone = self.scene.after
        for name in self.rules:
            self.scene.run(learn=(name,))
            for part in ("weight", "bias"):
                for other, value in self.scene.after[part].items():
                    if other != name and not torch.equal(value, alone[part][other]):
                        self._leak(name, f"the {part} of {other}, which its rule changes")

    def _fields(self) -> Iterator[Variable]:
        """Every field of every population: unit by unit where a rule may read it, else all at once."""
        plan = self.scene.simulator.plan
        ends = {end.name for name in self.rules for end in (plan.synapses[name].pre, plan.synapses[name].post)}
        for name, value in self.scene.values["now"].items():
            for unit in range(value.shape[-1]) if name.split(".")[0] in ends else (None,):
                yield Variable("now", (name,), unit)
        for name, steps in self.scene.values["past"].items():
            for past, value in enumerate(steps):
                for unit in range(value.shape[-1]) if name.split(".")[0] in ends else (None,):
                    yield Variable("past", (name,), unit, past)

    def _move(self, variable: Variable) -> None:
        scene, wide = self.scene, list[tuple[str, str]]()
        changed = scene.with_moved(variable)
        outcome = scene.run(changed)
        taken = scene.sums.taken
        for key, moved_entries in self._moved(outcome).items():
            self.notes[key[0]].read.add(variable.path[0])
            self._judge(key, self._scope(scene.entries[key], moved_entries, variable), self._name(variable), wide)
        self._memories(variable)
        self._resolve(
            wide, changed, taken, self._name(variable), lambda entries, mask: self._scope(entries, mask, variable)
        )

    def _judge(self, key: tuple[str, str], scope: str, what: str, wide: list[tuple[str, str]]) -> None:
        """Note a class or a leak; what reaches the layer is looked at again."""
        if scope == "foreign":
            self._leak(key[0], what)
        elif scope == "layer":
            wide.append(key)
        else:
            self.notes[key[0]].scopes.append(scope)

    def _resolve(
        self, wide: list[tuple[str, str]], changed: dict[str, Any], taken: list[Sum], what: str, scope: Any
    ) -> None:
        """Is what moved too much explained by sums over the layer, or by a modulator that declares itself so?"""
        scene = self.scene
        if not wide:
            return
        played, frozen = scene.run(changed, "play"), scene.run(changed, "freeze")
        for key in wide:
            notes, entries = self.notes[key[0]], scene.entries[key]
            if scope(entries, scene.changed(played, key)) not in ("foreign", "layer"):
                notes.scopes.append("layer")
                self._count(key[0], taken)
            elif scope(entries, scene.changed(frozen, key)) not in ("foreign", "layer"):
                notes.scopes.append("layer")
                notes.whole = scene.simulator.plan.synapses[key[0]].post.units
            else:
                self._leak(key[0], what)

    def _count(self, name: str, taken: list[Sum]) -> None:
        notes = self.notes[name]
        for index, (before, after) in enumerate(zip(self.scene.sums.base, taken, strict=True)):
            if before.projection == name and before.where != "transforms":
                one, other = (value.result for value in (before, after))
                one, other = (one[0], other[0]) if isinstance(one, tuple) else (one, other)
                spot = (self.scene.step, index)
                notes.sums[spot] = notes.sums.get(spot, torch.zeros_like(one, dtype=torch.bool)) | (one != other)
                notes.names[spot] = before

    def _memories(self, variable: Variable) -> None:
        """What a modulator remembers of neuron i must not come from another neuron, unless it is of the layer."""
        for name, rule in self.rules.items():
            synapses = self.scene.simulator.plan.synapses[name]
            if rule.modulator.scope in ("layer", "broadcast"):
                continue
            base, new = self.scene.remembered[name], self.scene.after["modulator"][name]
            for slot, value in new.items():
                if isinstance(value, Tensor) and value.shape == getattr(base.get(slot), "shape", None):
                    units = (value != base[slot]).reshape(-1, value.shape[-1]).any(0).nonzero().flatten().tolist()
                    own = [variable.unit] if variable.population == synapses.post.name else []
                    if [unit for unit in units if unit not in own]:
                        self._leak(name, f"{self._name(variable)}, kept in the modulator's memory {slot!r}")

    def _signal(self, name: str) -> None:
        outcome = self.scene.run(self.scene.with_moved(Variable("signals", (name,))))
        for projection, _ in self._moved(outcome):
            if name in self.rules[projection].modulator.signals():
                self.notes[projection].read.add(f"signal {name}")
                self.notes[projection].scopes.append("broadcast")
            else:
                self._leak(projection, f"signal {name!r}, which it does not declare")

    def _own_memories(self, key: tuple[str, str]) -> None:
        """Weights and memories of the synapses of one neuron, then of one input."""
        entries = self.scene.entries[key]
        for kind in ("weight", "transforms", "gathered change", "eligibility"):
            for ends, of in ((entries.row, "row"), (entries.column, "column")):
                for end in ends.unique().tolist():
                    self._move_entries(key, kind, (ends == end) & (entries.replica == 0), of, end)

    def _move_entries(self, key: tuple[str, str], kind: str, where: Tensor, of: str, end: int) -> None:
        scene, wide = self.scene, list[tuple[str, str]]()
        changed = scene.with_entries(kind, key, where)
        outcome = scene.run(changed)
        taken = scene.sums.taken

        def scope(entries: Entries, mask: Tensor) -> str:
            if bool((mask & (entries.replica != 0)).any()):
                return "foreign"
            if of == "row":
                return "layer" if bool((mask & (entries.row != end)).any()) else "synapse"
            return "neuron" if bool((mask & (entries.column != end)).any()) else "synapse"

        for other, mask in self._moved(outcome).items():
            if other[0] != key[0]:
                self._leak(other[0], f"the {kind} of {key[0]}")
            elif other[1] != key[1]:
                if of == "row" and scope(scene.entries[other], mask) != "synapse":
                    self._leak(key[0], f"the {kind} of other neurons")
            else:
                self._judge(other, scope(scene.entries[other], mask), f"the {kind} of other neurons", wide)
        self._resolve(wide, changed, taken, f"the {kind} of other neurons", scope)

    def _others(self) -> None:
        """Weights without a rule, and what the modulators of other projections remember."""
        learned = self.scene.learned
        paths = [("weight", name) for name in learned["weight"] if name not in self.rules]
        paths += [("bias", name) for name in learned["bias"] if name not in self.rules]
        paths += [("modulator", name) for name in learned["modulator"]]
        for path in paths:
            outcome = self.scene.run(self.scene.with_moved(Variable("learned", path)))
            for projection, _ in self._moved(outcome):
                if path != ("modulator", projection):
                    self._leak(projection, f"the {path[0]} of {path[1]}")

    def _silent(self) -> None:
        """Declared variables that moved nothing, once more in a moment where nothing is silent."""
        lively = self.scene.lively()
        for name, notes in self.notes.items():
            for one in self._declared(name, self.rules[name]) - notes.read:
                for variable in self._named(one):
                    for lively.amount in AMOUNTS:
                        outcome = lively.run(lively.with_moved(variable))
                        if any(bool(lively.changed(outcome, key).any()) for key in lively.entries if key[0] == name):
                            notes.read.add(one)

    def _named(self, name: str) -> Iterator[Variable]:
        """The variables behind the name of a declared one: a signal, or a field now and earlier."""
        if name.startswith("signal "):
            yield Variable("signals", (name.removeprefix("signal "),))
            return
        if name in self.scene.values["now"]:
            yield Variable("now", (name,))
        for past in range(len(self.scene.values["past"].get(name, ()))):
            yield Variable("past", (name,), None, past)

    def _held(self) -> None:
        """Arrays that rules carry with them."""
        for rule in self.rules.values():
            for path, array in held(rule):
                if can_move(array):
                    with moved(array):
                        outcome = self.scene.run()
                    for projection, _ in self._moved(outcome):
                        self._leak(projection, f"{path}, an array that its rule holds and does not declare")

    # ---- what it means ----------------------------------------------------------------------------------------------

    def _moved(self, outcome: Outcome) -> dict[tuple[str, str], Tensor]:
        """The weights and biases that moved, with the entries that did."""
        masks = {key: self.scene.changed(outcome, key) for key in self.scene.entries}
        return {key: mask for key, mask in masks.items() if bool(mask.any())}

    def _scope(self, entries: Entries, mask: Tensor, variable: Variable) -> str:
        """How far a unit of a population reaches, by the entries that it moved."""
        synapses = entries.synapses
        at_post, at_pre = (variable.population == end.name for end in (synapses.post, synapses.pre))
        bias_end = variable.population == "" and entries.part.name == "bias"
        if bool((mask & (entries.replica != 0)).any()) or not (at_post or at_pre or bias_end):
            return "foreign" if bool(mask.any()) else "synapse"
        own, inputs = torch.zeros_like(mask), torch.zeros_like(mask)
        if at_post:
            own = entries.row == entries.row_of(variable.unit or 0)
        if at_pre:
            column = entries.column == entries.column_of(variable.unit or 0)
            own = own | column
            inputs = torch.isin(entries.row, entries.row[column]) if entries.part.name == "weight" else ~own
        if bool((mask & ~own & ~inputs & (not bias_end)).any()):
            return "layer"
        if bool((mask & ~own & inputs).any()):
            return "neuron"
        return "neuron" if at_post and bool(mask.any()) and self._is_port(synapses, variable) else "synapse"

    def _is_port(self, synapses: Synapses, variable: Variable) -> bool:
        neuron = synapses.post.neuron
        name = variable.field.split("~")[0].split("|")[0]
        return name in (*neuron.ports, *neuron.teaching)

    def _name(self, variable: Variable) -> str:
        unit = "" if variable.unit is None else " of other neurons"
        return f"{variable.path[0]}{unit}"

    def _leak(self, projection: str, what: str) -> None:
        self.notes[projection].leaks[f"the rule of {projection} reads {what}"] = None

    # ---- the result -------------------------------------------------------------------------------------------------

    def certificate(self) -> Certificate:
        """What was found."""
        found = []
        for projection in self.network.projections:
            if isinstance(projection.rule, GradientRule):
                found.append(Finding(projection.name, projection.rule.name, "broadcast", (), (GRADIENT,)))
            elif projection.rule is not None:
                found.append(self._finding(projection.name, projection.rule))
        return Certificate(tuple(found), tuple(self.wiring))

    def _finding(self, name: str, rule: ThreeFactorRule) -> Finding:
        notes, projection = self.notes[name], self.network.projection(name)
        for unused in self._declared(name, rule) - notes.read:
            notes.leaks[f"the rule of {name} has {unused} declared but never used"] = None
        shared = [Shared(*item) for item in (notes.totals | self._sums(notes)).items()]
        if notes.whole:
            shared.append(Shared(f"every value of {type(rule.modulator).__name__}", float(notes.whole)))
        ports = {one.partition(".")[2].split("~")[0] for one in notes.read if one.startswith(f"{projection.post}.")}
        ports &= set(self.network[projection.post].neuron.teaching)
        wired = [Shared(what, float(values)) for what, values in competitions(self.network, projection, ports)]
        signals = [
            Shared(f"signal {one}", float(self.widths[one]), "sample")
            for one in rule.modulator.signals()
            if f"signal {one}" in notes.read
        ]
        single = [Shared(f"rate of {one}, a single neuron", 1.0) for one in scalars(self.network, projection, ports)]
        scope = widest([*notes.scopes, *(["layer"] if wired else []), *(["broadcast"] if single else [])])
        return Finding(name, rule.name, scope, (*shared, *wired, *single, *signals), tuple(notes.leaks))

    def _declared(self, name: str, rule: ThreeFactorRule) -> set[str]:
        projection = self.network.projection(name)
        labels = {f"signal {one}" for one in rule.modulator.signals()}
        for end, factors in ((projection.post, rule.post_factors()), (projection.pre, rule.pre_factors())):
            for factor in factors:
                if not isinstance(factor, One):
                    labels |= {label(end, leaf) for leaf in leaves(factor)}
        return labels

    def _sums(self, notes: Notes) -> dict[str, float]:
        """Numbers per step and sample, by where they are taken; of several steps the one with most."""
        steps: dict[int, dict[str, float]] = {}
        for (step, index), mask in notes.sums.items():
            taken = notes.names[step, index]
            steps.setdefault(step, {}).setdefault(taken.where, 0.0)
            steps[step][taken.where] += self._values(taken, mask)
        return max(steps.values(), key=lambda one: sum(one.values()), default={})

    def _values(self, taken: Sum, mask: Tensor) -> float:
        shape, batch = mask.shape, self.scene.context.batch
        count = float(mask[0].sum())
        if taken.operation in NORMALISERS:
            count /= shape[-1]
        # A lateral works sample by sample; a modulator may compare the rows of a batch, and keeps their axis if not.
        each = taken.where.startswith("pullback") or len(shape) > 2
        return count / batch if each and len(shape) > 1 and shape[1] == batch else count
