"""The equation of `neurosim.rule` in torch, once, for every rule and every connectivity (see `synapse.py` for the
shapes, `reader.py` for the values at the two ends, `update.py` for what becomes of a change).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.moment import Moment
from neurosim.backends.plan import Plan
from neurosim.backends.reader import Reader
from neurosim.backends.resolve import Synapses, per_synapse
from neurosim.backends.specialise import for_torch
from neurosim.backends.synapse import BiasOperation, Operation
from neurosim.backends.update import Part, Update, make_updates
from neurosim.lateral import Pullback
from neurosim.modulator import View
from neurosim.phase import Phase
from neurosim.random import Stream
from neurosim.rule import GradientRule, OfComponent, OfWeight, PerSynapse, SynapseNoise, Term, ThreeFactorRule
from neurosim.types import ConfigurationError, Tensor

if TYPE_CHECKING:
    from neurosim.backends.reference import Context


PER_SYNAPSE = 4  # axes of a modulator [R, B, P, Q]; a bias has no such synapses and stays as it is


class Learning:
    """All plastic projections of a plan: their memories, one step of learning, and one step of gradient descent."""

    def __init__(self, plan: Plan, operations: Mapping[str, Operation], dtype: torch.dtype, device: torch.device):
        self.plan, self.dtype, self.device = plan, dtype, device
        self.operations = operations
        self.parts = {s.name: self._parts(s) for s in plan.plastic()}
        self.local = [(s, s.projection.rule) for s in plan.plastic() if isinstance(s.projection.rule, ThreeFactorRule)]
        self.gradient = [(s, s.projection.rule) for s in plan.plastic() if isinstance(s.projection.rule, GradientRule)]
        self.tied = {s.name: s.projection.tied for s in plan.synapses.values() if s.projection.tied is not None}
        self.one = torch.ones(1, 1, 1, dtype=dtype, device=device)
        self.size = {name: self._sizes_of_signs(name, *tied) for name, tied in self.tied.items()}
        self.gains = self._gains()
        self.normals: Callable[[Stream, int, int], Tensor] = self._normals

    def _normals(self, stream: Stream, step: int, count: int) -> Tensor:
        """Numbers `[R, count]` of a stream at a step."""
        return stream.normal(self.plan.replica_ids[:, None], 0, step, torch.arange(count))

    def _sizes_of_signs(self, name: str, source: str, how: str) -> Tensor | None:
        """|w| of a projection tied by sign (None for a transpose); ConfigurationError where the tie does not fit."""
        tied, other = self.plan.synapses[name], self.plan.synapses[source]
        if tied.kind != other.kind or tied.kind not in ("dense", "one_to_one"):
            raise ConfigurationError(
                f"projection {name!r} ({tied.kind}) cannot be tied to {source!r} ({other.kind}): "
                "both must be dense, or both one-to-one"
            )
        if tied.weight_shape != other.weight_shape[::-1]:
            raise ConfigurationError(
                f"projection {name!r} has shape {tied.weight_shape}, but the transpose of {source!r}, "
                f"to which it is tied, has {other.weight_shape[::-1]}"
            )
        return self.plan.initial_weight(name).abs().to(self.device, self.dtype) if how == "sign" else None

    def _gains(self) -> dict[tuple[str, str, int, int], Any]:
        """Per-synapse gains in the layout of the weight, by (projection, part, component, term)."""
        return {
            (synapses.name, part.name, c, k): self._numbers(
                synapses,
                part.name,
                term.gain.value if part.name == "weight" or term.gain.bias is None else term.gain.bias,
                "a PerSynapse gain",
            )
            for synapses, rule in self.local
            for part in self.parts[synapses.name]
            for c, component in enumerate(rule.components)
            for k, term in enumerate(component.terms)
            if isinstance(term.gain, PerSynapse)
        }

    def _numbers(self, synapses: Synapses, part: str, value: Any, what: str) -> Any:
        """A number, or numbers per synapse (of a bias: per unit) in the layout of the weight."""
        if np.ndim(value) == 0:
            return float(value)
        owner = f"{what} of projection {synapses.name!r}"
        if part == "weight":
            return per_synapse(synapses, value, self.plan.replicas, owner).to(self.device, self.dtype)
        units = (synapses.bias_units,)
        if np.shape(value) not in (units, (self.plan.replicas, *units)):
            raise ConfigurationError(
                f"{owner} has shape {np.shape(value)}, but its bias has shape {units}; "
                "give one number, bias_transforms of its own, or no bias"
            )
        return torch.as_tensor(np.asarray(value, dtype=np.float64)).to(self.device, self.dtype)

    def _parts(self, synapses: Synapses) -> tuple[Part, ...]:
        rule = synapses.projection.rule
        parts = [self._part(synapses, "weight", self.operations[synapses.name], rule.chain)]
        if synapses.has_bias:
            parts.append(self._part(synapses, "bias", BiasOperation(synapses.bias_units), rule.bias_chain))
        return tuple(parts)

    def _part(self, synapses: Synapses, name: str, operation: Operation, chain: tuple[Any, ...]) -> Part:
        steps = tuple(for_torch(transform.step) if transform.pointwise else None for transform in chain)
        constants = tuple(
            tuple(self._numbers(synapses, name, value, type(transform).__name__) for value in transform.constants())
            if transform.pointwise
            else ()
            for transform in chain
        )
        return Part(name, operation, chain, steps, constants)

    # ---- memories ---------------------------------------------------------------------------------------------------

    def activity(self, batch: int) -> dict[str, Any]:
        """Eligibilities at rest: one tensor per component with memory, an empty one per component without."""
        result: dict[str, Any] = {}
        for synapses, rule in self.local:
            if any(component.has_memory or read_later(rule, index) for index, component in enumerate(rule.components)):
                result[synapses.name] = {
                    part.name: tuple(self.one[:0] for _ in rule.components) for part in self.parts[synapses.name]
                }
        return result

    def learned(self, weight: Mapping[str, Tensor], bias: Mapping[str, Tensor]) -> dict[str, Any]:
        """Memories that outlive a trial: accumulated changes, transforms, counts of updates, modulators."""
        start = {"weight": weight, "bias": bias}
        memory: dict[str, Any] = {"change": {}, "transform": {}, "modulator": {}, "count": {}}
        for synapses in self.plan.plastic():
            name = synapses.name
            memory["count"][name] = 0
            memory["change"][name] = {}
            memory["transform"][name] = {
                part.name: tuple(
                    {slot: torch.zeros_like(start[part.name][name]) for slot in transform.memory}
                    for transform in part.chain
                )
                for part in self.parts[name]
            }
            if isinstance(synapses.projection.rule, ThreeFactorRule):
                memory["modulator"][name] = synapses.projection.rule.modulator.init()
        return memory

    def begin(self, learned: dict[str, Any], gradient: list[Any]) -> dict[str, Any]:
        """A copy (of the dictionaries, not of the tensors) that a phase may write to; gradient weights become
        leaves.
        """
        running = {kind: dict(values) for kind, values in learned.items()}
        for synapses, _ in gradient:
            for part in self.parts[synapses.name]:
                running[part.name][synapses.name] = running[part.name][synapses.name].detach().requires_grad_()
        return running

    def effective_weight(self, synapses: Synapses, learned: Mapping[str, Any], context: Context) -> Tensor:
        """The weight that delivers: its own (this phase's perturbation and its transfer included) or a tied one."""
        tied = self.tied.get(synapses.name)
        if tied is None:
            weight: Tensor = learned["weight"][synapses.name]
            noise = context.perturbation(self, synapses).get("weight") if synapses.name in self.parts else None
            weight = weight if noise is None else weight + noise
            transfer = synapses.projection.transfer
            return weight if transfer is None else torch.as_tensor(for_torch(transfer.fn)(weight, *transfer.constants))
        source: Tensor = learned["weight"][tied[0]]
        if synapses.kind == "dense":
            source = source.transpose(-1, -2)
        size = self.size[synapses.name]
        return source if size is None else size * torch.sign(source)

    def effective_bias(self, synapses: Synapses, learned: Mapping[str, Any], context: Context) -> Tensor:
        """The bias that delivers, this phase's perturbation included."""
        bias: Tensor = learned["bias"][synapses.name]
        noise = context.perturbation(self, synapses).get("bias") if synapses.name in self.parts else None
        return bias if noise is None else bias + noise

    def perturbation(self, synapses: Synapses, context: Context) -> dict[str, Tensor]:
        """Noise on the weights (and biases) of a projection whose rule has `SynapseNoise`, drawn once per phase."""
        rule = synapses.projection.rule
        sd = rule.perturbation if isinstance(rule, ThreeFactorRule) else None
        if sd is None or not context.phase.noise:
            return {}
        result = {}
        for part in self.parts[synapses.name]:
            stream = Stream(self.plan.seed, f"perturbation/{synapses.name}/{part.name}")
            shape = context.learned[part.name][synapses.name].shape
            if synapses.edges is not None and part.name == "weight":
                counts = enumerate(synapses.edges.counts)
                normal = torch.cat([stream.normal(r, 0, context.clock, torch.arange(n)) for r, n in counts])
            else:
                normal = self.normals(stream, context.clock, math.prod(shape[1:]))
            result[part.name] = (sd * normal.reshape(shape)).to(self.device, self.dtype)
        return result

    # ---- one time step ----------------------------------------------------------------------------------------------

    def step(
        self,
        moment: Moment,
        old: Mapping[str, Any],
        learned: dict[str, Any],
        context: Context,
        step: int,
        elsewhere: Collection[str] = (),
    ) -> dict[str, Any]:
        """Every local rule once: eligibility, modulator, change; update what is due. Returns the new eligibilities.

        All changes use the weights of the start of the step: updates are collected and made at the end. Rules of the
        projections `elsewhere` are left out: a compiled backend has them.
        """
        eligibility, updates = dict(old), list[Update]()
        last = step == context.phase.steps - 1
        for synapses, rule in self.local:
            if synapses.name in elsewhere:
                continue
            ends = last and (rule.when != "sample" or context.trial_end)
            if not context.learns(synapses.name):
                if ends and rule.when == "sample":  # what earlier phases of the trial gathered is due all the same
                    updates.extend(self.waiting(synapses, rule, learned))
                continue
            due = rule.when == "step" or ends
            forming = due or last or rule.accumulate != "last"
            m = (
                self.modulator(synapses, rule, moment, learned, context, step)
                if forming or rule.modulator.every_step
                else None
            )
            reader = Reader(self.plan, synapses, moment, context.batch)
            for part in self.parts[synapses.name]:
                values = None
                if synapses.name in old:
                    values = self._eligibility(reader, part, rule, old[synapses.name][part.name], learned, context)
                    eligibility[synapses.name] = {**eligibility[synapses.name], part.name: values}
                if m is not None and forming and (part.name == "weight" or m.dim() < PER_SYNAPSE):
                    change = self._change(reader, part, rule, m, values, learned, context)
                    updates.extend(self._accumulate(synapses, part, rule, change, due, learned))
        make_updates(updates, learned)
        return eligibility

    def modulator(
        self,
        synapses: Synapses,
        rule: ThreeFactorRule,
        moment: Moment,
        learned: dict[str, Any],
        context: Context,
        step: int,
    ) -> Tensor:
        """The third factor of a projection in this step, behind the pullback of a lateral: one number, `[R, B, P]`, or
        `[R, B, P, Q]`.
        """
        name, post = synapses.name, synapses.post
        reader = Reader(self.plan, synapses, moment, context.batch)
        view = View(
            post=lambda factor: reader.post(factor),  # no bound method: its __self__ would open the whole step
            pre=lambda factor: reader.pre(factor)(synapses.delay if isinstance(synapses.delay, int) else 0),
            weight=learned["weight"][name],
            signals=context.signals,
            phase=context.phase.name,
            step=step,
            clock=moment.clock,
            first=step == 0,
            last=step == context.phase.steps - 1,
            permutation=lambda stream, n: Stream(self.plan.seed, f"{stream}/{name}").permutation(
                n, replica=self.plan.replica_ids.to(self.device), step=moment.clock
            ),
            specialise=for_torch,
        )
        m, learned["modulator"][name] = rule.modulator.update(view, learned["modulator"][name])
        m = self.spread(synapses, m, context.batch)
        if rule.modulator.of_output and post.lateral is not None and not isinstance(post.lateral, Pullback):
            m = moment.pull_back(post, m.expand(self.plan.replicas, context.batch, post.units))
        # What is recorded is a value per neuron: of one per synapse, its norm over the neuron's inputs.
        moment.modulators[name] = m if m.dim() < PER_SYNAPSE else torch.linalg.vector_norm(m, dim=-1)
        return torch.as_tensor(m)

    def spread(self, synapses: Synapses, m: Tensor, batch: int) -> Tensor:
        """A third factor in its full shape (one number stays one); ConfigurationError where it does not fit."""
        size: tuple[int, ...] = (self.plan.replicas, batch, synapses.post.units)
        size = (*size, synapses.pre.units) if m.dim() == PER_SYNAPSE and synapses.kind == "dense" else size
        if not m.dim() or m.shape == size:
            return m
        try:
            return m.expand(size)
        except RuntimeError as error:
            raise ConfigurationError(
                f"the modulator of projection {synapses.name!r} has shape {tuple(m.shape)}; it must broadcast to "
                f"{size} (replicas, batch, post neurons; in a dense projection also with pre neurons)"
            ) from error

    def _gain(
        self,
        term: Term,
        where: tuple[int, int],
        part: Part,
        synapses: Synapses,
        learned: Mapping[str, Any],
        context: Context,
    ) -> Any:
        """The gain of the term at `where` (component, term), in the shape of the weight, or None."""
        if isinstance(term.gain, OfWeight):
            return for_torch(term.gain.fn)(learned[part.name][synapses.name], *term.gain.constants)
        if isinstance(term.gain, PerSynapse):
            return self.gains[synapses.name, part.name, *where]
        if isinstance(term.gain, SynapseNoise):
            return context.perturbation(self, synapses).get(part.name, 0.0)
        return None

    def _eligibility(
        self,
        reader: Reader,
        part: Part,
        rule: ThreeFactorRule,
        old: tuple[Tensor, ...],
        learned: Mapping[str, Any],
        context: Context,
    ) -> tuple[Tensor, ...]:
        operation, new = part.operation, list[Tensor]()
        for index, component in enumerate(rule.components):
            total: Any = 0.0
            if component.has_memory and old[index].numel():
                decay = (
                    math.exp(-self.plan.dt / component.tau)
                    if component.tau is not None
                    else operation.post(reader.post(component.decay))
                )
                total = decay * old[index]
            for product in self._products(reader, part, rule, index, (old, new), learned, context):
                total = total + product
            new.append(total)
        return tuple(new)

    def _products(
        self,
        reader: Reader,
        part: Part,
        rule: ThreeFactorRule,
        index: int,
        components: tuple[Sequence[Tensor], Sequence[Tensor]],
        learned: Mapping[str, Any],
        context: Context,
    ) -> Iterator[Tensor]:
        """post x pre x gain of each term of the component `index`; `components` are the values before and after."""
        operation = part.operation
        for position, term in enumerate(rule.components[index].terms):
            product = operation.post(reader.post(term.post)) * operation.pre(reader.end(part, term.pre))
            if isinstance(term.gain, OfComponent):
                gain = components[term.gain.read == "after"][term.gain.index]
                yield product * gain if gain.numel() else torch.zeros_like(product)
            else:
                gain = self._gain(term, (index, position), part, reader.synapses, learned, context)
                spread = operation.spread(gain) if isinstance(gain, Tensor) else gain
                yield product if gain is None else product * spread

    def _change(
        self,
        reader: Reader,
        part: Part,
        rule: ThreeFactorRule,
        m: Tensor,
        eligibility: tuple[Tensor, ...] | None,
        learned: Mapping[str, Any],
        context: Context,
    ) -> Tensor:
        """reduce_b( share( m e ) ): by one matrix product per term where no memory and no reduction forbids it."""
        operation = part.operation
        if eligibility is None and m.dim() < PER_SYNAPSE and rule.share == "sum" and rule.reduce != "sequential":
            change: Any = 0.0
            for position, term in enumerate(rule.components[-1].terms):
                product = operation.outer(m * reader.post(term.post), reader.end(part, term.pre))
                where = (len(rule.components) - 1, position)
                gain = self._gain(term, where, part, reader.synapses, learned, context)
                change = change + (product if gain is None else product * gain)
            total: Tensor = change
            return total / context.batch if rule.reduce == "mean" else total
        nothing = tuple(self.one[:0] for _ in rule.components)
        if rule.share_of == "term":
            summands = self._products(reader, part, rule, 0, (nothing, ()), learned, context)
        else:
            summands = iter((eligibility or self._eligibility(reader, part, rule, nothing, learned, context))[-1:])
        spread = operation.post(m) if 0 < m.dim() < PER_SYNAPSE else m
        rows: Any = 0.0  # [B, *weight]
        for summand in summands:
            rows = rows + operation.share(spread * summand, rule.share)
        joined: Tensor = rows
        if rule.reduce == "sequential":
            return joined
        return joined.mean(0) if rule.reduce == "mean" else joined.sum(0)

    def _accumulate(
        self, synapses: Synapses, part: Part, rule: ThreeFactorRule, change: Tensor, due: bool, learned: dict[str, Any]
    ) -> list[Update]:
        """Add to G; return the update if one is due (and G is then empty again)."""
        if rule.when == "step":
            return [(synapses, part, change)]
        waiting = learned["change"][synapses.name]
        if part.name in waiting:
            change = waiting[part.name]["sum"] + change
        steps = 1 + (waiting[part.name]["steps"] if part.name in waiting else 0)
        if not due:
            learned["change"][synapses.name] = {**waiting, part.name: {"sum": change, "steps": steps}}
            return []
        learned["change"][synapses.name] = {name: value for name, value in waiting.items() if name != part.name}
        return [(synapses, part, mean_change(rule, change, steps))]

    def waiting(self, synapses: Synapses, rule: ThreeFactorRule, learned: dict[str, Any]) -> list[Update]:
        """The update from what was gathered so far, if anything was."""
        waiting = learned["change"][synapses.name]
        learned["change"][synapses.name] = {}
        return [
            (synapses, part, mean_change(rule, waiting[part.name]["sum"], waiting[part.name]["steps"]))
            for part in self.parts[synapses.name]
            if part.name in waiting
        ]

    # ---- gradient baselines -----------------------------------------------------------------------------------------

    def gradient_rules(self, phase: Phase) -> list[tuple[Synapses, GradientRule]]:
        """The gradient rules that run in this phase."""
        learn = phase.learn
        return [(s, rule) for s, rule in self.gradient if (learn if isinstance(learn, bool) else s.name in learn)]

    def read_out(self, gradient: list[Any]) -> str:
        """The label of what the loss of gradient rules is made of."""
        output = self.plan.network[gradient[0][1].output]
        return f"{output.name}.{output.axon}"

    def descend(
        self, learned: dict[str, Any], gradient: list[Any], recorded: Tensor, context: Context
    ) -> dict[str, Any]:
        """One update of every gradient rule from the loss of what the output did in the phase, `[T, R, B, N]`."""
        rule = gradient[0][1]
        value = rule.decoder(recorded, self.plan.dt)
        if rule.target not in context.signals:
            raise ConfigurationError(
                f"a gradient rule reads the signal {rule.target!r}; "
                f"the phase carries: {', '.join(context.signals) or 'none'}"
            )
        loss = task_loss(value, context.signals[rule.target], rule.loss).mean(-1).sum()  # replicas do not meet: sum
        leaves = [(s, part, learned[part.name][s.name]) for s, _ in gradient for part in self.parts[s.name]]
        changes: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if loss.requires_grad:  # else no plastic weight reaches the output in this phase
            # Of -loss: the change itself, without another array as large as the weight.
            changes = torch.autograd.grad(-loss, [leaf for _, _, leaf in leaves], allow_unused=True)
        with torch.no_grad():
            for synapses, part, leaf in leaves:
                learned[part.name][synapses.name] = leaf.detach()
            made = [
                torch.zeros_like(leaf) if change is None else change
                for (_, _, leaf), change in zip(leaves, changes, strict=True)
            ]
            make_updates([(s, part, change) for (s, part, _), change in zip(leaves, made, strict=True)], learned)
        return learned


def task_loss(value: Tensor, target: Tensor, loss: str) -> Tensor:
    """Loss `[R, B]`: "cross_entropy" -sum target log softmax(value), or "mse" 0.5 sum (value - target)^2, over
    outputs.
    """
    if loss == "cross_entropy":
        return -(target * torch.log_softmax(value, -1)).sum(-1)
    return 0.5 * ((value - target) ** 2).sum(-1)


def mean_change(rule: ThreeFactorRule, change: Tensor, steps: int) -> Tensor:
    return change / steps if rule.accumulate == "mean" else change


def read_later(rule: ThreeFactorRule, index: int) -> bool:
    """Does a later component read component `index`? Then its value is kept, memory or not."""
    return any(
        isinstance(term.gain, OfComponent) and term.gain.index == index
        for component in rule.components
        for term in component.terms
    )
