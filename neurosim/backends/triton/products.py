"""Rules without a memory per synapse, and rules with one decay for all: changes as matrix products over time and batch.

With e(t) = d e(t - 1) + x(t), x = sum_k post_k pre_k, and m(t) the third factor in the steps that form a change,

    sum_t m(t) e(t) = d M(0) e(-1) + sum_s M(s) x(s),    M(s) = sum_{t >= s} d^(t - s) m(t),

so that the eligibility itself is never formed but at the end of the phase, where it is part of the state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from neurosim.backends.resolve import Synapses
from neurosim.backends.triton.learning import Compiled
from neurosim.backends.update import Part, make_updates
from neurosim.rule import OfComponent, ThreeFactorRule
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder


def is_product(synapses: Synapses, rule: ThreeFactorRule) -> bool:
    """Is the change of a step a sum of outer products, or of decayed ones?"""
    plain = rule.share == "sum" and rule.share_of == "change" and rule.reduce != "sequential"
    if not plain or hasattr(rule.modulator, "pre_factors") or len(rule.components) > 1:
        return False
    component = rule.components[0]
    if any(isinstance(term.gain, OfComponent) for term in component.terms):
        return False
    if not component.has_memory:
        return True
    # A matrix product over time needs weights that stay, one delay, and a decay that is the same for all.
    return (
        synapses.kind == "dense"
        and rule.when != "step"
        and component.tau is not None
        and all(term.gain is None for term in component.terms)
    )


class Products(Compiled):
    """See the module."""

    def __init__(self, builder: Builder, synapses: Synapses, rule: ThreeFactorRule):
        super().__init__(builder, synapses, rule)
        tau = rule.components[0].tau
        self.decay = None if tau is None else math.exp(-builder.plan.dt / tau)

    def run(self, first: int, count: int) -> None:
        steps = self.formed(first, count)
        if self.decay is not None:
            self._decayed(first, count, steps)
        elif self.at_once:
            for step in steps:
                changes = {part.name: self._change(part, range(step, step + 1), None) for part in self.parts}
                make_updates([(self.synapses, part, changes[part.name]) for part in self.parts], self.builder.learned)
        elif len(steps):
            m = self.third_factor(steps.start, len(steps))
            for part in self.parts:
                self.gather(part.name, self._change(part, steps, m), len(steps))
        if self.ends(first, count):
            self.make_due()

    def _change(self, part: Part, steps: range, m: Tensor | None) -> Tensor:
        """reduce_b( sum over steps of m post pre ) of terms without memory."""
        builder, learning = self.builder, self.builder.simulator.learning
        reader = self.reader(steps.start, len(steps))
        if m is None:
            m = self.third_factor(steps.start, len(steps))
        total: Any = 0.0
        for position, term in enumerate(self.rule.components[0].terms):
            post = reader.post(term.post) if m is None else m * reader.post(term.post)
            product = part.operation.outer(post, reader.end(part, term.pre))
            gain = learning._gain(term, (0, position), part, self.synapses, builder.learned, builder.context)
            total = total + (product if gain is None else product * gain)
        return self._reduced(total)

    def _reduced(self, total: Tensor) -> Tensor:
        return total / self.builder.values.size[1] if self.rule.reduce == "mean" else total

    # ---- one decay --------------------------------------------------------------------------------------------------

    def _decayed(self, first: int, count: int, steps: range) -> None:
        d = self.decay
        assert d is not None
        reader = self.reader(first, count)
        waits = self._weights(first, count, steps)
        tail = d ** torch.arange(count - 1, -1, -1, dtype=torch.float64)
        kept = {}
        for part in self.parts:
            old = self.builder.eligibility[self.name][part.name][0]
            ends: Any = d**count * old if old.numel() else 0.0
            total: Any = 0.0
            for term in self.rule.components[0].terms:
                post, read = reader.post(term.post), reader.end(part, term.pre)
                if waits is not None:
                    total = total + part.operation.outer(waits.flatten(1, 2) * post, read)
                ends = ends + self._remembered(part, post, read, tail.to(post), count)
            if waits is not None:
                if old.numel():
                    total = total + self._from(part, d * waits[:, 0], old)
                self.gather(part.name, self._reduced(total), len(steps))
            kept[part.name] = (ends,)
        self.builder.eligibility = {**self.builder.eligibility, self.name: kept}

    def _weights(self, first: int, count: int, steps: range) -> Tensor | None:
        """M `[R, count, B, P]`; None where no change is formed."""
        if not len(steps):
            return None
        replicas, batch = self.builder.values.size
        m = self.third_factor(steps.start, len(steps))
        if m is None:
            m = self.builder.values.one.expand(replicas, len(steps) * batch, self.synapses.post.units)
        m = m.unflatten(1, (len(steps), batch))
        s, t = torch.arange(count)[:, None], torch.arange(steps.start - first, steps.stop - first)[None, :]
        powers = torch.where(t >= s, self.decay ** (t - s).clamp(min=0).double(), 0.0).to(m)  # type: ignore[operator]
        return torch.einsum("st,rtbp->rsbp", powers, m)

    def _remembered(self, part: Part, post: Tensor, read: Any, tail: Tensor, count: int) -> Tensor:
        """sum_s d^(last - s) post(s) pre(s) of every row, in the shape of the eligibility."""
        batch = self.builder.values.size[1]
        left = post.unflatten(1, (count, batch)) * tail[:, None, None]
        right = read(self.synapses.delay if part.name == "weight" else 0)
        right = right.expand(len(post), count * batch, -1).unflatten(1, (count, batch))
        return torch.einsum("rsbp,rsbq->rbpq", left, right)

    def _from(self, part: Part, weight: Tensor, old: Tensor) -> Tensor:
        """The part of the change that comes from the eligibility with which the chunk began."""
        total = torch.einsum("rbp,rbpq->rpq", weight, old)
        return total[..., 0] if part.name == "bias" else total


__all__ = ["Products", "is_product"]
