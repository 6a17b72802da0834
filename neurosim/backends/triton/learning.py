"""Learning: the equation of `neurosim.rule` over the steps of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurosim.backends.resolve import Synapses
from neurosim.backends.triton.values import SliceMoment
from neurosim.rule import ThreeFactorRule

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder


class Learn:
    """A rule as the reference carries it out, step by step in torch: right for every rule."""

    def __init__(self, builder: Builder, synapses: Synapses, rule: ThreeFactorRule):
        self.builder, self.synapses, self.rule = builder, synapses, rule
        local = builder.simulator.learning.local
        self.others = [other.name for other, _ in local if other is not synapses]

    def begin(self) -> None:
        """A phase begins."""

    def run(self, first: int, count: int) -> None:
        builder, learning = self.builder, self.builder.simulator.learning
        for step in range(first, first + count):
            moment = SliceMoment(builder.values, builder.learned, builder.clock + step, step)
            at = builder.begins + step
            builder.eligibility = learning.step(
                moment, builder.eligibility, builder.learned, builder.context, at, self.others
            )
            builder.modulators |= moment.modulators

    def end(self) -> None:
        """The phase is over."""


def learn_operation(builder: Builder, synapses: Synapses, rule: ThreeFactorRule, recorded: bool) -> Learn:
    """What carries out the rule of a projection."""
    return Learn(builder, synapses, rule)
