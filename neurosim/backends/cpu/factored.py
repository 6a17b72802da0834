"""Rules whose change is formed at the end of a phase, by one product over its steps, with no eligibility in between.

It takes one component with a decay that is a number, or none, and weights that stay the same within the phase; see
`outer.py` for the equations, `formed.py` for the eligibility that the state carries on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.cpu import outer
from neurosim.backends.cpu.factors import Place
from neurosim.backends.cpu.formed import Formed, form
from neurosim.backends.cpu.learning import Plastic
from neurosim.backends.cpu.machine import drive
from neurosim.backends.cpu.passes import asks_neighbours
from neurosim.backends.cpu.plasticity import apply
from neurosim.backends.cpu.product import Kept, Product, Summand, inputs
from neurosim.backends.cpu.program import run_shares, shares_of
from neurosim.backends.cpu.rooms import room, tensor_room
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.writer import Kernel
from neurosim.backends.learning import mean_change
from neurosim.backends.moment import label
from neurosim.backends.resolve import Synapses
from neurosim.backends.simulator import State
from neurosim.backends.update import Part, Update
from neurosim.factor import Field, Trace
from neurosim.phase import Phase
from neurosim.rule import OfWeight, PerSynapse, ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu

# Synapses x rows x steps below which a kernel in every step costs less than what this does at the end.
LEAST_WORK = 2**19
MOST_BYTES = 2**28  # of the rows of a phase, which have to be kept


def chosen(simulator: Cpu, phase: Phase, batch: int, probed: tuple[str, ...]) -> tuple[str, ...]:
    """The projections whose rules run like this in a phase; `probed` are the keys of what is recorded."""
    return tuple(
        synapses.name
        for synapses, rule in simulator.learning.local
        if fits(synapses, rule)
        and f"{synapses.name}.eligibility" not in probed
        and _pays(simulator, synapses, rule, phase.steps, batch)
    )


def fits(synapses: Synapses, rule: ThreeFactorRule) -> bool:
    """Does the structure of the rule allow it?"""
    if rule.when == "step" or synapses.kind not in ("dense", "sparse") or len(rule.components) > 1:
        return False
    if synapses.projection.transfer is not None:  # kernels read the learned weight where the delivered one lies
        return False
    (component,) = rule.components
    # What a weight contributed to an eligibility stays as it was when the weight changes later.
    allowed = (PerSynapse,) if component.has_memory else (PerSynapse, OfWeight)
    return component.decay is None and all(
        term.gain is None or isinstance(term.gain, allowed) for term in component.terms
    )


def kept_steps(rule: ThreeFactorRule, steps: int) -> int:
    """Of how many steps, the last ones of a phase, the rows are needed."""
    return 1 if rule.accumulate == "last" and not rule.components[0].has_memory else steps


def _pays(simulator: Cpu, synapses: Synapses, rule: ThreeFactorRule, steps: int, batch: int) -> bool:
    rows = kept_steps(rule, steps) * batch
    posts, pres = synapses.post.units, synapses.pre.units
    replicas = simulator.plan.replicas
    size = len(synapses.edges.post) if synapses.edges is not None else replicas * posts * pres
    terms = len(rule.components[0].terms)
    kept = replicas * rows * (posts + pres) * terms * np.dtype(simulator.dtype_name).itemsize
    return rows * size >= LEAST_WORK and kept <= MOST_BYTES


class Factored(Plastic):
    """One projection whose rule runs as kernels that keep rows, and kernels that make the change from them."""

    def build(self) -> None:
        component = self.rule.components[0]
        self.decay = None if component.tau is None else math.exp(-self.builder.plan.dt / component.tau)
        self.last = self.rule.accumulate == "last"
        self.keeps: dict[Any, Kept] = {}
        self.clock = self.steps = self.kept_steps = 0
        self.too_dense = False  # did a product of torch have to replace one by lists?
        self.modulated = None if self.last else self._keep(self.modulator, self.synapses.post.units)
        self.summands = {
            part.name: [self._summand(part, k) for k in range(len(component.terms))] for part in self.parts
        }
        # Updates that wait for sums over the whole change have kernels of their own behind the product.
        waiting = [name for name, own in self.synaptic.items() if self.updates and asks_neighbours(own)]
        self.apply = {name: apply(self.builder.dtype, self.synaptic[name]) for name in waiting}
        self.products = {
            name: Product(
                self.builder.dtype,
                self.synaptic[name],
                summands,
                self.updates and name not in waiting,
                self._moves(name),
            )
            for name, summands in self.summands.items()
        }
        every = [one for summands in self.summands.values() for one in summands]
        self.before = [*(one.backwards.made for one in every), *(one.inputs.made for one in every)]
        self.table = table(self.before)
        self.eligibilities: Any = {}
        self.fresh: dict[str, Array] = {}  # weights that kernels change in place, for the state after a series

    def _moves(self, part: str) -> bool:
        """Do kernels read this weight where a state holds it? (Edges and biases lie in another order, or are few.)"""
        return part == "weight" and self.synapses.kind == "dense"

    def kernels(self) -> list[Kernel]:
        """What fills the factors, then what keeps them."""
        return [*self.factors.kernels, *(kept.kernel for kept in self.keeps.values())]

    def ends(self) -> list[Kernel]:
        return [product.kernel.made for product in self.products.values()]

    # ---- building ---------------------------------------------------------------------------------------------------

    def _keep(self, place: Place | None, units: int, first: Place | None = None) -> Kept | None:
        if place is None or place.buffer is None:
            return None
        key = id(place.buffer), place.delay, first and (id(first.buffer), first.delay)
        if key not in self.keeps:
            size = self.builder.work.size[1], units
            kernel = outer.keep(self.builder.dtype, size, place, first)
            self.keeps[key] = Kept(kernel, units, self.builder.work.nothing)
        return self.keeps[key]

    def _summand(self, part: Part, k: int) -> Summand:
        synaptic, term = self.synaptic[part.name], self.rule.components[0].terms[k]
        behind = self._behind(term.pre, part.name == "bias")
        spikes, filtered = (synaptic.pres[0][k], None) if behind is None else behind
        post = self._keep(synaptic.posts[0][k], synaptic.size[2])
        pre = self._keep(spikes, synaptic.size[3], None if filtered is None else filtered.first)
        backwards = outer.Backwards(self.builder.dtype, synaptic, post is not None, filtered, self.decay, self.last)
        gain = term.gain
        if isinstance(gain, PerSynapse):
            gain = self.builder.simulator.learning.gains[self.name, part.name, 0, k]
        listed = inputs(self.builder.dtype, synaptic, pre)
        return Summand(post, pre, filtered, backwards, listed, gain, self.builder.work.nothing)

    def _pre(self, factor: Any, bias: bool) -> Place:
        behind = self._behind(factor, bias)
        return super()._pre(factor, bias) if behind is None else behind[1].first

    def _behind(self, factor: Any, bias: bool) -> tuple[Place, outer.Filter] | None:
        """The spikes behind a trace, where they are remembered as long as they are late; else None."""
        memory, work = self.builder.work.memories, self.builder.work
        name, delay = self.synapses.pre.name, self.synapses.delay
        assert isinstance(delay, int)
        linear = isinstance(factor, Trace) and factor.mode != "nearest" and isinstance(factor.of, Field)
        if bias or not linear or factor.of.name != "spike" or kept_steps(self.rule, 2) == 1:
            return None
        before = factor.read == "before"
        spikes, late = label(name, factor.of), delay + before
        if memory.get(spikes, 0) < late:
            return None
        fade = math.exp(-self.builder.plan.dt / factor.tau)
        whole = fade if before else 1.0
        scales = whole, whole * (1.0 - fade if factor.mode == "mean" else 1.0)
        trace = Place(work.buffer(label(name, factor)), late)
        return Place(work.buffer(spikes), late, spikes=True), outer.Filter(trace, fade, scales)

    # ---- a run ------------------------------------------------------------------------------------------------------

    def begin(self, learned: dict[str, Any], eligibility: dict[str, Any], clock: int, steps: int) -> None:
        """Take over the memories of a state; make room for the rows, which the new state will own."""
        self._begin_transforms(learned)
        self.eligibilities = eligibility.get(self.name, {})
        self.clock, self.steps, self.kept_steps = clock, steps, kept_steps(self.rule, steps)
        self.earlier = learned["count"][self.name]
        replicas, batch = self.builder.work.size
        for kept in self.keeps.values():
            kept.rows = tensor_room((replicas, self.kept_steps, batch, kept.units), self.builder.work.one.dtype)
            block = kept.kernel.block
            block[outer.STEPS], block[outer.FORM] = self.kept_steps, steps - self.kept_steps
            block[outer.ROWS] = kept.rows.data_ptr()

    def forms(self, t: int) -> bool:
        return not self.last or t == self.clock + self.steps - 1

    def weights(self, learned: dict[str, Any]) -> None:
        """They change at the end only, and are handed over there."""

    def eligibility(self) -> Any:
        return self.eligibilities

    def end(self, learned: dict[str, Any], steps: int, due: bool) -> list[Update]:
        last = self.clock + self.steps - 1
        self._prepare()
        for product in self.products.values():
            product.begin(product.kernel, self.kept_steps)
        for kernel in self.before:
            kernel.begin(last, 1)
        replicas, batch = self.builder.work.size
        work = replicas * self.kept_steps * batch * self.synapses.post.units
        run_shares(self.table, last, last + 1, shares_of(replicas, batch, work, False))
        waiting = learned["change"][self.name]
        learned["change"][self.name] = {}
        formed = 1 if self.last else steps
        counts = {
            part.name: formed + (waiting[part.name]["steps"] if part.name in waiting else 0) for part in self.parts
        }
        made = due and self.updates
        gathered = {}
        for part in self.parts:
            start, product = self._start(part, waiting.get(part.name)), self.products[part.name]
            at_once = made and part.name not in self.apply
            found = product(last, start, at_once, counts[part.name], learned["count"][self.name])
            if made and not at_once:
                found = self._made(part.name, found, counts[part.name])
            gathered[part.name] = self._owned(part.name, found)
        self._keep_eligibility()
        if made:
            self._updated(learned, 1)
            for name, weight in gathered.items():
                learned[name][self.name] = weight
            if self.synapses.kind != "dense":  # written in place, too
                self.delivery.seen = learned["weight"][self.name], learned["bias"].get(self.name)
            return []
        if not due:
            learned["change"][self.name] = {
                name: {"sum": change, "steps": counts[name]} for name, change in gathered.items()
            }
            return []
        return [
            (self.synapses, part, mean_change(self.rule, gathered[part.name], counts[part.name])) for part in self.parts
        ]

    def _made(self, part: str, change: Tensor, formed: int) -> Tensor:
        """The new weight, by a kernel of its own."""
        own, kernel = self.synaptic[part].weight, self.apply[part]
        if self._moves(part):  # kernels read the weight where a state holds it
            own = room(own.shape, own.dtype)
            own[...] = self.delivery.weight
        self._place(part, own, change.numpy())
        self.prepare(part, formed)
        drive(table([kernel]), 0, 1, 0, self.builder.work.size[0], 0, self.builder.work.size[1])
        return torch.from_numpy(own).transpose(-1, -2) if self._moves(part) else torch.from_numpy(own.copy())

    def _place(self, part: str, weight: Array, change: Array) -> None:
        """Where the kernel of an update finds what it works on."""
        kernel = self.apply[part]
        for name, array in (("w_at", weight), ("g_at", change)):
            kernel.block[kernel.places[name]] = array.ctypes.data

    def _prepare(self) -> None:
        """Tell the kernels that go backwards where the rows of this run are."""
        replicas, batch = self.builder.work.size
        size = replicas, self.kept_steps, batch, self.synapses.post.units
        m_at = 0 if self.modulated is None else self.modulated.rows.data_ptr()
        for one in (one for summands in self.summands.values() for one in summands):
            if one.f.shape != size:
                one.f = torch.empty(size, dtype=self.builder.work.one.dtype)
            q_at = 0 if one.post is None else one.post.rows.data_ptr()
            one.backwards.set(K=self.kept_steps, q_at=q_at, m_at=m_at, f_at=one.f.data_ptr())

    def _start(self, part: Part, waiting: dict[str, Any] | None) -> Tensor | None:
        """What the change begins with: what earlier phases gathered, and what the eligibility at the start brings."""
        start: Tensor | None = None if waiting is None else waiting["sum"]
        (old,) = self.eligibilities.get(part.name, (self.builder.work.nothing,))
        if old.numel():
            left = torch.from_numpy(self.summands[part.name][0].backwards.own[0])
            brought = part.operation.share(part.operation.post(left) * old, "sum").sum(0)
            start = brought if start is None else start + brought
        if start is None:
            return None
        return torch.from_numpy(np.array(start.numpy() if part.name == "bias" else self._ordered(start), order="C"))

    # ---- batches one after the other --------------------------------------------------------------------------------

    def alone(self, state: State, rest: bool) -> str:
        if self.too_dense:
            return "torch forms a product"
        return "" if rest or self.decay is None else "an eligibility is carried from batch to batch"

    def remembered(self) -> list[Array]:
        """Nothing: with `rest` no eligibility is carried on, and else none is there."""
        return []

    def closing(self) -> list[Kernel]:
        return [*self.before, *(product.in_place.made for product in self.products.values()), *self.apply.values()]

    def begin_series(self, steps: int) -> None:
        self._prepare()
        for name, product in self.products.items():
            weight = self.synaptic[name].weight
            if self._moves(name):
                self.fresh[name] = weight = self.delivery.handed_over()
            formed = 1 if self.last else steps
            product.begin_series(self.kept_steps, weight, formed, self.earlier, self.synaptic[name].change)
            if name in self.apply:
                self.prepare(name, formed)
                self._place(name, weight, self._change(name))

    def end_series(self, learned: dict[str, Any], turns: int, steps: int) -> bool:
        if any(product.dense for product in self.products.values()):
            self.too_dense = True
            return False
        self._updated(learned, turns)
        for name in self.products:
            fresh = self.fresh.pop(name, None)
            weight = self.synaptic[name].weight
            learned[name][self.name] = (
                self._tensor(name, weight) if fresh is None else torch.from_numpy(fresh).transpose(-1, -2)
            )
        self.delivery.seen = learned["weight"][self.name], learned["bias"].get(self.name)
        self._keep_eligibility()
        return True

    # ---- states -----------------------------------------------------------------------------------------------------

    def _owned(self, part: str, found: Tensor) -> Tensor:
        """An array that nobody else holds, in the layout of the weight."""
        return found if part == "bias" or self._moves(part) else self._tensor(part, found.numpy())

    def _keep_eligibility(self) -> None:
        if self.decay is None:
            return
        self.eligibilities = Formed({part.name: self._maker(part) for part in self.parts})

    def _maker(self, part: Part) -> Callable[[], Tensor]:
        """What forms the eligibility, from nothing that a later run changes."""
        replicas, batch, posts, pres = self.synaptic[part.name].size
        size = replicas, self.kept_steps, batch, posts, pres
        terms = [one.rows() for one in self.summands[part.name]]
        (old,) = self.eligibilities.get(part.name, (self.builder.work.nothing,))
        start, decay, dtype = old if old.numel() else None, self.decay or 0.0, self.builder.work.one.dtype
        return lambda: form(part.operation, size, terms, decay, start, dtype)
