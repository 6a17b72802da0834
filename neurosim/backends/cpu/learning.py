"""Which rules run as kernels, their memories in the order in which kernels read them, and what is due at a phase's end.

A rule whose change is due in every step is one kernel: eligibility, change, transforms and bounds. One that gathers its
change over a phase has a kernel that gathers, and the reference's update at the end. What has no kernel stays with the
reference's `Learning.step`, and `show` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.cpu import wires
from neurosim.backends.cpu.delivery import Delivery
from neurosim.backends.cpu.event_learning import dearer, deliver_and_learn, known_early, learn_from_list
from neurosim.backends.cpu.factors import Factors, Place
from neurosim.backends.cpu.machine import drive
from neurosim.backends.cpu.modulators import modulator_place
from neurosim.backends.cpu.plasticity import COUNT, FORM, FORMED, FULL, apply, learn
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.synaptic import Synaptic
from neurosim.backends.cpu.traced import Untraced, written
from neurosim.backends.cpu.writer import Kernel
from neurosim.backends.learning import mean_change
from neurosim.backends.needs import CONSTANT
from neurosim.backends.simulator import State
from neurosim.backends.update import Part, Update, make_updates
from neurosim.constraint import Bounds
from neurosim.rule import SynapseNoise, ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.build import Builder


def why_not(builder: Builder, delivery: Delivery, rule: ThreeFactorRule) -> str:
    """Why the rule of a projection has no kernel, or ""."""
    synapses = delivery.synapses
    if delivery.weight is None:
        return delivery.reason
    if not isinstance(synapses.delay, int):
        return "its delay differs by synapse"
    if rule.reduce == "sequential":
        return "it takes the rows of a batch one after the other"
    if hasattr(rule.modulator, "pre_factors"):
        return "its modulator differs by synapse"
    return why_no_update(builder, delivery, rule) if rule.when == "step" else ""


def why_no_update(builder: Builder, delivery: Delivery, rule: ThreeFactorRule) -> str:
    """Why a change of weights has no kernel (a gathered one is then torch's, once), or ""."""
    for part in builder.simulator.learning.parts[delivery.synapses.name]:
        bias = part.name == "bias"
        lone = bias or delivery.synapses.kind == "one_to_one"
        traced = [transform for transform in part.chain if not transform.pointwise]
        for one in (*traced, *(() if bias else rule.constraints)):
            try:
                written(one, lone, bias)
            except Untraced as error:
                return f"{type(one).__name__} does what has no kernel: {error}"
    return ""


class Plastic:
    """One projection whose rule runs as kernels."""

    def __init__(self, builder: Builder, delivery: Delivery, rule: ThreeFactorRule):
        self.builder, self.delivery, self.rule = builder, delivery, rule
        self.synapses = delivery.synapses
        self.name = self.synapses.name
        self.parts = builder.simulator.learning.parts[self.name]
        self.modulator = modulator_place(builder, delivery, rule)
        self.factors = Factors(builder.work, builder.plan.dt, self.name)
        self.updates = not why_no_update(builder, delivery, rule)  # by a kernel
        self.transforms_remember = any(transform.memory for part in self.parts for transform in part.chain)
        self.noise: dict[str, Array] = {}  # of this phase, on weight and bias
        self.synaptic = {part.name: self._synaptic(part) for part in self.parts}
        self.earlier = 0  # updates before this run
        self.build()

    def build(self) -> None:
        """Write the kernels."""
        dtype = self.builder.dtype
        self.apply: dict[str, Kernel] = {}
        if self.updates and not self.at_once:
            self.apply = {part.name: apply(dtype, self.synaptic[part.name]) for part in self.parts}
        self.visits = np.zeros((self.builder.work.size[0], 2), np.int64)
        self.replaced: Array | None = None  # see `deliver_and_learn`
        self.learn: dict[str, Kernel] = {}
        self._with_delivery()
        self.learn = {part.name: self._learn(part.name) for part in self.parts}

    def _with_delivery(self) -> None:
        """Let the kernel that delivers listed spikes change the weights that it reads, where it knows how."""
        self.delivering: list[Kernel] = []
        delivery, synaptic = self.delivery, self.synaptic["weight"]
        if not delivery.by_post or delivery.listed is None or not known_early(synaptic):
            return
        old, out, first = delivery.listed
        lists = self.builder.work.lists(delivery.source)
        self.replaced = np.empty_like(synaptic.weight)  # memory that is never written to is never taken
        ends = lists, self._delay, out, delivery.bias, first, self.replaced
        self.delivering = [deliver_and_learn(self.builder.dtype, synaptic, *ends)]
        self.builder.result.replace(old, [*self.factors.early, *self.delivering])

    @property
    def at_once(self) -> bool:
        """Is every step's change made in that step?"""
        return self.rule.when == "step"

    def kernels(self) -> list[Kernel]:
        """What fills the factors, then what learns."""
        moved = self.factors.early if self.delivering else []
        filling = [one for one in self.factors.kernels if all(one is not other for other in moved)]
        return [*filling, *(self.learn[part.name] for part in self.parts), *self._handing_over()]

    def _handing_over(self) -> Iterator[Kernel]:
        """What makes delivered weights of learned ones, where these change within the phase."""
        if not (self.delivery.between and self.at_once):
            return
        transfer = self.synapses.projection.transfer
        function = None if transfer is None else (transfer.fn, transfer.constants)
        for part in self.parts:
            bias = part.name == "bias"
            weight = self.delivery.bias if bias else self.delivery.weight
            noise = self.noise.get(part.name)
            if weight is not None:
                given = weight, self.synaptic[part.name].weight, noise, None if bias else function
                yield wires.delivered(self.builder.dtype, *given)

    def ends(self) -> list[Kernel]:
        """What runs at the end of a phase."""
        return list(self.apply.values())

    def _learn(self, part: str) -> Kernel:
        builder = self.builder
        if part == "bias" or not self.delivery.by_post:
            return learn(builder.dtype, self.synaptic[part])
        lists = builder.work.lists(self.delivery.source)
        ends = lists, self._delay, self.visits, self.replaced
        return learn_from_list(builder.dtype, self.synaptic[part], *ends)

    # ---- building ---------------------------------------------------------------------------------------------------

    def _synaptic(self, part: Part) -> Synaptic:
        synapses, work, rule = self.synapses, self.builder.work, self.rule
        replicas, batch = work.size
        bias = part.name == "bias"
        kind = "dense" if bias else synapses.kind
        posts = [[self._post(term.post) for term in component.terms] for component in rule.components]
        pres = [[self._pre(term.pre, bias) for term in component.terms] for component in rule.components]
        decays = [None if one.decay is None else self._post(one.decay) for one in rule.components]
        weight = self.delivery.learned_bias if bias else self.delivery.learned
        assert weight is not None
        chain = part.chain if self.updates else ()
        synaptic = Synaptic(
            rule=rule,
            kind=kind,
            size=(replicas, batch, synapses.post.units, 1 if bias or kind == "one_to_one" else synapses.pre.units),
            weight=weight,
            posts=posts,
            pres=pres,
            decays=decays,
            modulator=self.modulator,
            chain=chain,
            constants=[tuple(self._laid(part, value) for value in values) for values in part.constants[: len(chain)]],
            gains=self._gains(part, weight),
            dt=self.builder.plan.dt,
            shown=any(one.key == f"{self.name}.eligibility" for one in self.builder.tape.probes),
            slots=[[np.zeros_like(weight) for _ in transform.memory] for transform in chain],
            change=None if self.at_once else np.zeros_like(weight),
            bias=bias,
            constraints=tuple(rule.constraints) if self.updates and not bias else (),
            groups=lambda block, grouping, seed: self._groups(part, block, grouping, seed),
        )
        if kind == "sparse":
            synaptic.post = self.delivery.post
            size = replicas * synapses.pre.units + 1
            levels = self.delivery.levels
            synaptic.pointer = levels[0].pointer.astype(np.int64) if levels else np.zeros(size, np.int64)
        shape: tuple[int, ...] = (batch, len(weight)) if kind == "sparse" else (replicas, batch, *synaptic.size[3:1:-1])
        if kind == "one_to_one":
            shape = (replicas, batch, synapses.post.units)
        synaptic.memories = [np.zeros(shape, work.dtype) for _ in synaptic.kept]
        return synaptic

    def _gains(self, part: Part, weight: Array) -> dict[tuple[int, int], Any]:
        """Numbers per synapse; one array for all terms that meet this phase's noise."""
        if self.rule.perturbation is not None:
            self.noise[part.name] = np.zeros_like(weight)
        found = {
            key[2:]: self._laid(part, value)
            for key, value in self.builder.simulator.learning.gains.items()
            if key[:2] == (self.name, part.name)
        }
        terms = ((c, k, term) for c, one in enumerate(self.rule.components) for k, term in enumerate(one.terms))
        return found | {(c, k): self.noise[part.name] for c, k, term in terms if isinstance(term.gain, SynapseNoise)}

    def _post(self, factor: Any) -> Place:
        return self.factors.place(self.synapses.post.name, factor, self.synapses.dendritic)

    def _pre(self, factor: Any, bias: bool) -> Place:
        if bias:
            return self.factors.place(CONSTANT, factor, 0)
        return self.factors.place(self.synapses.pre.name, factor, self._delay, integrated=True)

    @property
    def _delay(self) -> int:
        delay = self.synapses.delay
        assert isinstance(delay, int)
        return delay

    def _laid(self, part: Part, value: Any) -> Any:
        """A number, or numbers in the layout of the weight, in the order of the kernels."""
        if not isinstance(value, Tensor):
            return value
        if part.name == "bias":
            return value.expand(self.builder.work.size[0], -1).numpy().copy()
        return self._ordered(value).copy()

    def _ordered(self, value: Tensor) -> Array:
        """`[..., P, Q]` with the pre neuron first; edges sorted by it."""
        if self.delivery.by_post:
            array: Array = value.numpy()
        elif self.synapses.kind == "dense":
            array = value.transpose(-1, -2).numpy()
        elif self.synapses.kind == "sparse":
            array = value.numpy()[..., self.delivery.order]
        else:
            array = value.numpy()
        return array

    def _groups(self, part: Part, block: int, grouping: str, seed: int) -> tuple[Array, Array]:
        """The block of each synapse, numbered one replica after the other, and where each replica begins."""
        edges, replicas = self.synapses.edges, self.builder.work.size[0]
        operation: Any = part.operation
        if edges is not None:
            own = operation.groups(self.builder.work.one, block, grouping, seed)
            counts = [len(one.unique()) for one in own.split(list(edges.counts))]
        else:
            weight = torch.empty(replicas, *self.synapses.weight_shape)
            own = operation.groups(weight, block, grouping, seed)
            counts = [int(own.max()) + 1 if own.numel() else 0] * replicas
            own = own + torch.arange(replicas)[:, None, None] * counts[0]
        return self._ordered(own), np.concatenate([[0], np.cumsum(counts)])

    def _tensor(self, part: str, array: Array) -> Tensor:
        """A copy of a kernel's array in the layout of the weight."""
        if part == "bias" or self.synapses.kind == "one_to_one" or self.delivery.by_post:
            return torch.from_numpy(array.copy())
        if self.synapses.kind == "dense":
            return torch.from_numpy(array.copy()).transpose(-1, -2)
        back = np.empty_like(array)
        back[..., self.delivery.order] = array
        return torch.from_numpy(back)

    # ---- a run ------------------------------------------------------------------------------------------------------

    def begin(self, learned: dict[str, Any], eligibility: dict[str, Any], clock: int, steps: int) -> None:
        """Take over the memories of a state."""
        self.earlier = learned["count"][self.name]
        self._begin_transforms(learned)
        if self.delivery.between:
            self._begin_between(learned)
        for part in self.parts:
            synaptic, kernel = self.synaptic[part.name], self.learn[part.name]
            kept = eligibility.get(self.name, {}).get(part.name, ())
            for memory, index in zip(synaptic.memories, synaptic.kept, strict=True):
                self._load_eligibility(part.name, memory, kept[index] if kept else None)
            waiting = learned["change"][self.name].get(part.name)
            if synaptic.change is not None:
                change: Any = 0.0
                if waiting is not None:
                    change = waiting["sum"].numpy() if part.name == "bias" else self._ordered(waiting["sum"])
                synaptic.change[...] = change
            for one in (kernel, *self.delivering):
                one.block[COUNT] = self.earlier
            kernel.block[FULL] = -1 if self._within(synaptic) else clock
            kernel.block[FORM] = steps - 1 if self.rule.accumulate == "last" and not self.at_once else 0

    def _begin_between(self, learned: dict[str, Any]) -> None:
        """Take over weights that are not those delivered, and this phase's noise."""
        context, learning = self.builder.context, self.builder.simulator.learning
        noise = context.perturbation(learning, self.synapses) if self.noise else {}
        for part in self.parts:
            bias, given = part.name == "bias", learned[part.name][self.name]
            self.synaptic[part.name].weight[...] = given.numpy() if bias else self._ordered(given)
            if part.name in self.noise:
                one = noise.get(part.name)
                value: Any = 0.0 if one is None else one.numpy() if bias else self._ordered(one)
                self.noise[part.name][...] = value

    def _begin_transforms(self, learned: dict[str, Any]) -> None:
        if not self.transforms_remember:
            return
        for part in self.parts:
            slots_of = learned["transform"][self.name][part.name]
            for slots, arrays in zip(slots_of, self.synaptic[part.name].slots, strict=False):
                for slot, array in zip(slots.values(), arrays, strict=True):
                    array[...] = slot.numpy() if part.name == "bias" else self._ordered(slot)

    @staticmethod
    def _within(synaptic: Synaptic) -> bool:
        """Do all weights obey their bounds?"""
        bounds = [one for one in synaptic.constraints if isinstance(one, Bounds)]
        low = max((one.w_min for one in bounds if one.w_min is not None), default=-np.inf)
        high = min((one.w_max for one in bounds if one.w_max is not None), default=np.inf)
        weight = synaptic.weight
        return not bounds or bool(weight.size == 0 or (weight.min() >= low and weight.max() <= high))

    def _load_eligibility(self, part: str, memory: Array, value: Tensor | None) -> None:
        if value is None or not value.numel():
            memory[...] = 0.0
        elif part == "bias":
            memory[...] = value.transpose(-1, -2).numpy()
        else:
            memory[...] = self._ordered(value)

    def weights(self, learned: dict[str, Any]) -> None:
        """Write the weights of now."""
        for part in self.parts:
            if self.updates:
                learned[part.name][self.name] = self._tensor(part.name, self.synaptic[part.name].weight)
        if not self.delivery.between:
            weight, bias = (learned[part].get(self.name) for part in ("weight", "bias"))
            self.delivery.seen = weight, bias

    def eligibility(self) -> dict[str, Any]:
        """The eligibilities of now, in the reference's structure."""
        result = {}
        for part in self.parts:
            synaptic = self.synaptic[part.name]
            values = dict(zip(synaptic.kept, synaptic.memories, strict=True))
            nothing = self.builder.work.one[:0]
            result[part.name] = tuple(
                self._eligibility(part.name, values[index]) if index in values else nothing
                for index in range(len(self.rule.components))
            )
        return result

    def _eligibility(self, part: str, memory: Array) -> Tensor:
        if part == "bias":
            return torch.from_numpy(memory.copy()).transpose(-1, -2)
        return self._tensor(part, memory)

    def forms(self, t: int) -> bool:
        """Is a change formed in step t?"""
        return bool(t - self.builder.context.clock >= self.learn[self.parts[0].name].block[FORM])

    def third_factor(self, t: int) -> Tensor:
        """The modulator of step t."""
        if self.modulator is None or self.modulator.buffer is None:
            return self.builder.work.one
        return torch.from_numpy(self.modulator.buffer.at(t - self.modulator.delay).copy())

    def end(self, learned: dict[str, Any], steps: int, due: bool) -> list[Update]:
        """Write the memories back; the updates that torch has to make now."""
        if self.at_once:
            self._updated(learned, steps)
            if dearer(self.visits, self.synapses.post.units, self.synapses.pre.units):
                self.builder.simulator.by_pre.add(self.name)
            return []
        formed = 1 if self.rule.accumulate == "last" else steps
        waiting = learned["change"][self.name]
        counts = {
            part.name: formed + (waiting[part.name]["steps"] if part.name in waiting else 0) for part in self.parts
        }
        learned["change"][self.name] = {}
        if due and self.updates:
            self._apply(counts)
            self._updated(learned, 1)
            return []
        gathered = {part.name: self._tensor(part.name, self._change(part.name)) for part in self.parts}
        if not due:
            learned["change"][self.name] = {
                name: {"sum": change, "steps": counts[name]} for name, change in gathered.items()
            }
            return []
        return [
            (self.synapses, part, mean_change(self.rule, gathered[part.name], counts[part.name])) for part in self.parts
        ]

    def alone(self, state: State, rest: bool) -> str:
        """Why batches cannot follow each other in one call (each from rest, if `rest`), or ""."""
        sparse = self.synapses.kind == "sparse" and self.name in state.activity["eligibility"]
        return "eligibilities of edges are cleared between batches" if rest and sparse else ""

    def remembered(self) -> list[Array]:
        """Eligibilities, which are cleared before a batch that begins at rest."""
        return [memory for synaptic in self.synaptic.values() for memory in synaptic.memories]

    def closing(self) -> list[Kernel]:
        """What follows the last step of each batch."""
        return list(self.apply.values())

    def begin_series(self, steps: int) -> None:
        """Batches of `steps` steps follow one after the other; kernels make the updates between them."""
        for part in self.apply:
            self.prepare(part, 1 if self.rule.accumulate == "last" else steps)

    def end_series(self, learned: dict[str, Any], turns: int, steps: int) -> bool:
        """Write the memories back after `turns` batches; False if one of them has to be run for itself."""
        self._updated(learned, turns * steps if self.at_once else turns)
        return True

    def _change(self, part: str) -> Array:
        change = self.synaptic[part].change
        assert change is not None
        return change

    def _apply(self, counts: dict[str, int]) -> None:
        """Make the gathered change, by kernels."""
        for part in self.parts:
            self.prepare(part.name, counts[part.name])
        drive(table(list(self.apply.values())), 0, 1, 0, self.builder.work.size[0], 0, self.builder.work.size[1])

    def prepare(self, part: str, formed: int) -> None:
        """Tell the kernel of the update how many were made before, and over how many steps its change was gathered."""
        kernel = self.apply[part]
        kernel.begin(0, 1)
        kernel.block[COUNT], kernel.block[FORMED] = self.earlier, formed

    def _updated(self, learned: dict[str, Any], updates: int) -> None:
        """Write back what updates by kernels have changed."""
        self.weights(learned)
        learned["count"][self.name] += updates
        if not self.transforms_remember:
            return
        learned["transform"][self.name] = {
            part.name: tuple(
                {slot: self._tensor(part.name, array) for slot, array in zip(transform.memory, arrays, strict=True)}
                for transform, arrays in zip(part.chain, self.synaptic[part.name].slots, strict=True)
            )
            for part in self.parts
        }


def finish(builder: Builder, learned: dict[str, Any], steps: int) -> None:
    """Write all memories back and make the updates that are due at the end of a phase.

    What earlier phases of a trial gathered is due at its end also where a rule does not learn in the last one.
    """
    updates, trial_end, plastics = list[Update](), builder.context.trial_end, builder.plastic
    for synapses, rule in builder.simulator.learning.local:
        if trial_end and rule.when == "sample" and synapses.name not in builder.learns:
            updates += builder.simulator.learning.waiting(synapses, rule, learned)
    for plastic in plastics:
        due = plastic.rule.when == "phase" or (plastic.rule.when == "sample" and trial_end)
        updates += plastic.end(learned, steps, due)
    make_updates(updates, learned)
