"""Learning over the steps of a chunk: which way a rule goes, and the way that is right for every rule."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from neurosim.backends.learning import mean_change
from neurosim.backends.reader import Reader
from neurosim.backends.resolve import Synapses
from neurosim.backends.triton.values import SliceMoment
from neurosim.backends.update import Update, make_updates
from neurosim.modulator import Feedback, Unmodulated
from neurosim.rule import ThreeFactorRule
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder


class Learn:
    """A rule as the reference carries it out, step by step in torch: right for every rule."""

    def __init__(self, builder: Builder, synapses: Synapses, rule: ThreeFactorRule):
        self.builder, self.synapses, self.rule, self.name = builder, synapses, rule, synapses.name
        local = builder.simulator.learning.local
        self.others = [other.name for other, _ in local if other is not synapses]
        self.parts = builder.simulator.learning.parts[synapses.name]

    def begin(self) -> None:
        """A phase begins."""

    def run(self, first: int, count: int) -> None:
        """Learn in the steps `first` to `first + count` of the chunk."""
        builder, learning = self.builder, self.builder.simulator.learning
        for step in range(first, first + count):
            moment = SliceMoment(builder.values, builder.learned, builder.clock + step, step)
            builder.eligibility = learning.step(
                moment, builder.eligibility, builder.learned, builder.context, builder.begins + step, self.others
            )
            builder.modulators |= moment.modulators

    def pointers(self) -> tuple[int, ...] | None:
        """Addresses that the kernels of a step were given and that the next phase may change; None: Python decides
        something in every step.
        """
        return None

    def end(self) -> None:
        """The phase is over."""


class Compiled(Learn):
    """What the compiled ways have in common: factors and third factors of many steps, and changes that gather."""

    @property
    def at_once(self) -> bool:
        """Is every step's change made in that step?"""
        return self.rule.when == "step"

    def formed(self, first: int, count: int) -> range:
        """The steps of the chunk, among these, in which a change is formed."""
        if self.at_once or self.rule.accumulate != "last":
            return range(first, first + count)
        last = self.builder.context.phase.steps - 1 - self.builder.begins
        return range(last, last + 1) if first <= last < first + count else range(first, first)

    def reader(self, first: int, count: int) -> Reader:
        """Factors `[R, count * B, N]` of many steps."""
        builder = self.builder
        moment = SliceMoment(builder.values, builder.learned, builder.clock + first, first, count)
        return Reader(builder.plan, self.synapses, moment, count * builder.values.size[1])

    def third_factor(self, first: int, count: int) -> Tensor | None:
        """`[R, count * B, P]`, or None where it is 1."""
        builder, learning = self.builder, self.builder.simulator.learning
        if isinstance(self.rule.modulator, Unmodulated):
            return None
        many = type(self.rule.modulator) is Feedback  # reads nothing but its neuron, and remembers nothing
        steps, width = ([first], count) if many else (list(range(first, first + count)), 1)
        replicas, batch = builder.values.size
        context: Any = SimpleNamespace(
            batch=width * batch, signals=builder.context.signals, phase=builder.context.phase
        )
        found = []
        for step in steps:
            moment = SliceMoment(builder.values, builder.learned, builder.clock + step, step, width)
            at = builder.begins + step
            m = learning.modulator(self.synapses, self.rule, moment, builder.learned, context, at)
            found.append(m.expand(replicas, width * batch, self.synapses.post.units))
        if self.builder.watched(self.name):
            builder.modulators[self.name] = found[-1]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def gather(self, part: str, change: Tensor, steps: int) -> None:
        """Add to the change that waits."""
        waiting = self.builder.learned["change"][self.name]
        if part in waiting:
            change, steps = waiting[part]["sum"] + change, waiting[part]["steps"] + steps
        self.builder.learned["change"][self.name] = {**waiting, part: {"sum": change, "steps": steps}}

    def ends(self, first: int, count: int) -> bool:
        """Is the phase's last step among these?"""
        return self.builder.begins + first + count == self.builder.context.phase.steps

    def make_due(self) -> None:
        """In the phase's last step, make the change that is due."""
        rule, context, learned = self.rule, self.builder.context, self.builder.learned
        if rule.when == "phase" or (rule.when == "sample" and context.trial_end):
            waiting = learned["change"][self.name]
            learned["change"][self.name] = {}
            make_updates(
                [self._update(part, waiting[part.name]) for part in self.parts if part.name in waiting], learned
            )

    def _update(self, part: Any, waiting: dict[str, Any]) -> Update:
        return self.synapses, part, mean_change(self.rule, waiting["sum"], waiting["steps"])
