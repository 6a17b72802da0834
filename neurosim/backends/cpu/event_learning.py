"""Learning at the synapses of neurons that spiked, found by the lists from which spikes are delivered.

Where every term of a rule has a spike in it, nothing is remembered per synapse and no transform makes something of
nothing, a step changes the rows of the post neurons that spiked and the columns of the pre neurons whose spikes
arrived, and nothing else. Such weights lie by post neuron: a post spike changes a run of memory, with vectors (0.4 ns a
synapse), and a pre spike reads and changes one entry per post neuron (1.7 ns). By pre neuron a post spike costs 1.4 ns
a synapse and a pre spike 0.7. So post neurons have to spike as often as pre neurons for this to pay. Spikes are
counted, and where they do not, the next phase keeps its weights by pre neuron; the bits are the same.
"""

from __future__ import annotations

from typing import Any

from neurosim.backends.cpu.lists import Lists, name_lists
from neurosim.backends.cpu.plasticity import Synaptic, Text, begun, idle, spikes
from neurosim.backends.cpu.writer import Kernel
from neurosim.backends.resolve import Synapses
from neurosim.constraint import Bounds
from neurosim.factor import Factor, Field
from neurosim.rule import OfComponent, SynapseNoise, Term, ThreeFactorRule
from neurosim.types import Array

ENOUGH = 1000  # spikes after which it is decided


def spiking(factor: Factor) -> bool:
    """Is the factor a spike?"""
    return isinstance(factor, Field) and factor.name == "spike"


def fits(synapses: Synapses, chain: tuple[Any, ...]) -> bool:
    """Does a rule with the transforms `chain` change synapses of neurons that spiked only, by numbers of its two ends?

    That the delivery is plain (dense, one delay, no tie, one row) is seen to by who asks.
    """
    rule = synapses.projection.rule
    if not isinstance(rule, ThreeFactorRule) or rule.when != "step" or rule.reduce == "sequential":
        return False
    terms = [term for component in rule.components for term in component.terms]
    return (
        not any(component.has_memory for component in rule.components)
        and all(map(_has_spike, terms))
        and any(spiking(term.post) for term in terms)
        and all(isinstance(constraint, Bounds) for constraint in rule.constraints)
        and not hasattr(rule.modulator, "pre_factors")
        and all(getattr(transform, "step", None) is not None and idle(transform) for transform in chain)
    )


def _has_spike(term: Term) -> bool:
    return (spiking(term.post) or spiking(term.pre)) and not isinstance(term.gain, OfComponent | SynapseNoise)


def learn_from_list(dtype: str, synaptic: Synaptic, lists: Lists, visits: Array) -> Kernel:
    """The kernel of a step of learning; `lists` are those of the pre neurons' spikes, and `visits [R, 2]` int64 counts
    spikes of pre and of post neurons.
    """
    return _Listed(begun(dtype, synaptic), synaptic).by_list(lists, visits)


def dearer(visits: Array, posts: int, pres: int) -> bool:
    """Would the weights better lie by pre neuron, after these spikes? Only if it is clear: changing costs a program."""
    arrived, fired = visits.sum(0).tolist()
    return bool(arrived > ENOUGH and 2 * fired * pres < arrived * posts)


class _Listed(Text):
    """Weights `[R, P, Q]`, one row of a batch."""

    def by_list(self, lists: Lists, visits: Array) -> Kernel:
        writer, synaptic = self.writer, self.synaptic
        post = [[self._place(one, "post") for one in terms] for terms in synaptic.posts]
        pre = [[self._place(one, "pre") for one in terms] for terms in synaptic.pres]
        m = self._place(synaptic.modulator, "post")
        gain = {
            (c, k): self._gain(c, k, term.gain)
            for c, component in enumerate(self.rule.components)
            for k, term in enumerate(component.terms)
        }
        fired, arrived = spikes(synaptic.posts, post), spikes(synaptic.pres, pre)
        if arrived:
            delay = next(place.delay for places in synaptic.pres for place in places if place.spikes)
            names = lists, str(delay)
        row = self._change(post, pre, m, gain, ())
        column = self._change(post, pre, m, gain, fired)
        writer.line("count = real(earlier + t - first)")
        writer.line("every = t == full  # weights may start outside their bounds: all are visited once")
        writer.array("visits", visits, "integers")
        writer.line("for r in range(r0, r1):")
        for end, units in (("post", "P"), ("pre", "Q")):
            for name in self.rows[end]:
                writer.row(name, f"{name}_at", f"r * {units}", 2)
        if arrived:
            writer.line("b = 0", 2)
            name_lists(writer, *names, depth=2)
            writer.line("for s in range(lists):", 2)
            writer.line("visits[u(2 * r)] += listed[u(s)]", 3)
        writer.line("for n in range(P):", 2)  # then columns: 15 entries of a row are in two pages, of a column in 15
        writer.line("h = u(n)", 3)
        for name in self.rows["post"]:
            writer.line(f"{name}_h = {name}[h]", 3)
        for name in ("w", *self.arrays):
            self.writer.row(name, f"{name}_at", "(r * P + n) * Q", 3)
        writer.line(f"if every or {' or '.join(f'{name}_h != real(0)' for name in fired)}:", 3)
        writer.line("visits[u(2 * r + 1)] += 1", 4)
        writer.line("for k in range(Q):", 4)
        self._lines("i = u(k)", row, 5)
        if arrived:
            writer.line("else:", 3)
            writer.line("for s in range(lists):", 4)
            writer.line("for k in range(begin[u(s)], begin[u(s)] + listed[u(s)]):", 5)
            self._lines("i = u(listed[u(lists + k)])", column, 6)
        return writer.done()

    def _lines(self, index: str, lines: list[str], depth: int) -> None:
        for line in (index, *lines):
            self.writer.line(line, depth)

    def _change(
        self,
        post: list[list[str]],
        pre: list[list[str]],
        m: str,
        gain: dict[tuple[int, int], str],
        silent: tuple[str, ...] | list[str],
    ) -> list[str]:
        """A synapse's change and update; terms with a post factor that is `silent` (0) are left out."""
        last = len(self.rule.components) - 1
        products = [
            self._product(f"{post[last][k]}_h" if post[last][k] else "", f"{name}[i]" if name else "", gain[last, k])
            for k, name in enumerate(pre[last])
            if post[last][k] not in silent
        ]
        change = " + ".join(products) or "real(0)"
        return self._update(f"{m}_h * ({change})" if m else change)
