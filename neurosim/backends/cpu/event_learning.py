"""Learning at the synapses of neurons that spiked, found by the lists from which spikes are delivered.

Where every term of a rule has a spike in it, nothing is remembered per synapse and no transform makes something of
nothing, a step changes the rows of the post neurons that spiked and the columns of the pre neurons whose spikes
arrived, and nothing else. Such weights lie by post neuron: a post spike changes a run of memory, with vectors (0.2 ns a
synapse), and a pre spike reads and changes one entry per post neuron (1.1 ns, a line of the cache read and written).
By pre neuron a post spike costs 1.4 ns a synapse and a pre spike 0.7. So post neurons have to spike as often as pre
neurons for this to pay. Spikes are counted, and where they do not, the next phase keeps its weights by pre neuron; the
bits are the same.

What a listed spike changes is often known before the step: no post spike is in it, and no trace of now. Then the kernel
that delivers it changes the weights that it reads, and they pass through the cache once. It keeps the old ones; the row
of a post neuron that spikes in this step begins from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosim.backends.cpu import machine
from neurosim.backends.cpu.factors import Place, spiking
from neurosim.backends.cpu.lists import Lists, name_lists, visit
from neurosim.backends.cpu.plasticity import Text, begun, idle, spikes
from neurosim.backends.cpu.synaptic import Synaptic
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.backends.resolve import Synapses
from neurosim.constraint import Bounds
from neurosim.rule import OfComponent, SynapseNoise, Term, ThreeFactorRule
from neurosim.types import Array

ENOUGH = 1000  # spikes after which it is decided
TOGETHER = 4  # rows in which a listed spike is delivered at once
ROW = "?"  # stands for the number of one of these


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


def learn_from_list(
    dtype: str, synaptic: Synaptic, lists: Lists, delay: int, visits: Array, replaced: Array | None = None
) -> Kernel:
    """The kernel of a step of learning; `lists` are those of the pre neurons' spikes, which arrive after `delay` steps,
    and `visits [R, 2]` int64 counts spikes of pre and of post neurons. `replaced`: the weights of listed spikes were
    changed when these were delivered.
    """
    return _Listed(begun(dtype, synaptic), synaptic).by_list(lists, delay, visits, replaced)


def deliver_and_learn(
    dtype: str,
    synaptic: Synaptic,
    lists: Lists,
    delay: int,
    out: Buffer,
    bias: Array | None,
    first: bool,
    replaced: Array,
) -> Kernel:
    """The kernel that delivers listed spikes, `o_i += sum_j w_ij x_j`, and changes the weights that it reads as if no
    post neuron spiked in this step. `replaced` takes the old ones: where one spikes, the learning puts them back.
    """
    return _Listed(begun(dtype, synaptic), synaptic).with_delivery(lists, delay, out, bias, first, replaced)


def known_early(synaptic: Synaptic) -> bool:
    """Is what a listed spike changes known when it is delivered, where the post neuron does not spike?"""
    pairs = [
        (post, pre)
        for posts, pres in zip(synaptic.posts, synaptic.pres, strict=True)
        for post, pre in zip(posts, pres, strict=True)
    ]
    listed = [(post, pre) for post, pre in pairs if pre.spikes and not post.spikes]
    known = all(post.early and (pre.early or not pre.made) for post, pre in listed)
    return bool(listed) and known and (synaptic.modulator is None or synaptic.modulator.early)


def dearer(visits: Array, posts: int, pres: int) -> bool:
    """Would the weights better lie by pre neuron, after these spikes? Only if it is clear: changing costs a program."""
    arrived, fired = visits.sum(0).tolist()
    return bool(arrived > ENOUGH and 2 * fired * pres < arrived * posts)


class _Listed(Text):
    """Weights `[R, P, Q]`, one row of a batch."""

    def _named(self) -> tuple[list[list[str]], list[list[str]], str, dict[tuple[int, int], str]]:
        """The names of post and pre factors, of the modulator and the gains."""
        synaptic = self.synaptic
        post = [[self._place(one, "post") for one in terms] for terms in synaptic.posts]
        pre = [[self._place(one, "pre") for one in terms] for terms in synaptic.pres]
        m = self._place(synaptic.modulator, "post")
        gain = {
            (c, k): self._gain(c, k, term.gain)
            for c, component in enumerate(self.rule.components)
            for k, term in enumerate(component.terms)
        }
        return post, pre, m, gain

    @staticmethod
    def _listed(pre: Place) -> bool:
        """Is it the spike that is listed?"""
        return pre.spikes and not pre.made

    def _factors(self, end: str, depth: int) -> None:
        for name in self.rows[end]:
            self.writer.row(name, f"{name}_at", f"r * {'P' if end == 'post' else 'Q'}", depth)

    def with_delivery(
        self, lists: Lists, delay: int, out: Buffer, bias: Array | None, first: bool, replaced: Array
    ) -> Kernel:
        writer, (post, pre, m, gain) = self.writer, self._named()
        fired = spikes(self.synaptic.posts, post)
        arrived = {name: f"{name}[j]" for name in spikes(self.synaptic.pres, pre)}
        arrived |= {pre[c][k]: "spike" for c, k in gain if self._listed(self.synaptic.pres[c][k])}
        writer.line("count = real(earlier + t - first)")
        writer.place("o_at", out.array)
        writer.address("replaced_at", replaced)
        writer.line("for r in range(r0, r1):")
        writer.line("b = 0", 2)
        self._factors("post", 2)
        self._factors("pre", 2)
        name_lists(writer, lists, str(delay), depth=2)
        writer.row("o", "o_at", "r * P", 2)
        writer.row("replaced", "replaced_at", "r * P * Q", 2)
        _count(writer)
        change = self._change(post, pre, m, gain, fired, ROW, arrived)
        # Four rows at once, each of whose sums waits for itself only; their old weights lie side by side.
        for many, begin, end in ((TOGETHER, "0", f"P - P % {TOGETHER}"), (1, f"P - P % {TOGETHER}", "P")):
            writer.line(f"for n in range({begin}, {end}, {many}):", 2)
            for name in ("w", *self.arrays):
                writer.row(name, f"{name}_at", "(r * P + n) * Q", 3)
            for k in range(many):
                writer.line(f"total{k} = {'real(0)' if first else f'o[u(n + {k})]'}", 3)
                for name in self.rows["post"]:
                    writer.line(f"{name}_h{k} = {name}[u(n + {k})]", 3)
            writer.line("place = n * arrived", 3)
            visit(writer, 3, "l")
            writer.line("j = u(listed[u(head + l)])", 5)
            writer.line("spike = held[u(l)]", 5)
            for k in range(many):
                writer.line(f"total{k} += w[j + u({k} * Q)] * spike", 5)
                writer.line(f"replaced[u(place + {k})] = w[j + u({k} * Q)]", 5)
            for k in range(many):
                self._lines(f"i = j + u({k} * Q)", [line.replace(ROW, str(k)) for line in change], 5)
            writer.line(f"place += {many}", 5)
            for k in range(many):
                writer.line(f"o[u(n + {k})] = total{k}", 3)
        if bias is not None:
            writer.array("bias", bias)
            writer.line("for n in range(P):", 2)
            writer.line("o[u(n)] += bias[u(r * P + n)]", 3)
        return writer.done()

    def by_list(self, lists: Lists, delay: int, visits: Array, replaced: Array | None) -> Kernel:
        writer, (post, pre, m, gain) = self.writer, self._named()
        fired, arrived = spikes(self.synaptic.posts, post), spikes(self.synaptic.pres, pre)
        row = self._change(post, pre, m, gain, ())
        column = self._change(post, pre, m, gain, fired)
        writer.scope["wide"] = machine.wide
        writer.head.append("wide()")
        writer.line("count = real(earlier + t - first)")
        writer.line("every = t == full  # weights may start outside their bounds: all are visited once")
        writer.array("visits", visits, "integers")
        writer.line("for r in range(r0, r1):")
        self._factors("post", 2)
        self._factors("pre", 2)
        if arrived:
            writer.line("b = 0", 2)
            name_lists(writer, lists, str(delay), depth=2)
            _count(writer)
            writer.line("visits[u(2 * r)] += arrived", 2)
        if replaced is not None:
            writer.address("replaced_at", replaced)
            writer.row("replaced", "replaced_at", "r * P * Q", 2)
        writer.line("for n in range(P):", 2)  # then columns: 15 entries of a row are in two pages, of a column in 15
        writer.line("h = u(n)", 3)
        for name in self.rows["post"]:
            writer.line(f"{name}_h = {name}[h]", 3)
        for name in ("w", *self.arrays):
            self.writer.row(name, f"{name}_at", "(r * P + n) * Q", 3)
        writer.line(f"if every or {' or '.join(f'{name}_h != real(0)' for name in fired)}:", 3)
        writer.line("visits[u(2 * r + 1)] += 1", 4)
        writer.line("for k in range(Q):", 4)
        if replaced is None:
            self._lines("i = u(k)", row, 5)
        else:
            self._lines("i = u(k)", self._change(post, pre, m, gain, arrived), 5)
            self._again(row)
        if arrived and replaced is None:
            writer.line("else:", 3)
            visit(writer, 4, "l")
            self._lines("i = u(listed[u(head + l)])", column, 6)
        return writer.done()

    def _again(self, row: list[str]) -> None:
        """The synapses of row n whose spikes arrived, from what their weights were before."""
        writer = self.writer
        writer.line(f"many = {TOGETHER} if n < P - P % {TOGETHER} else 1", 4)
        writer.line("place = n // many * many * arrived + n % many", 4)
        visit(writer, 4, "l")
        writer.line("i = u(listed[u(head + l)])", 6)
        self._lines("w[i] = replaced[u(place)]", row, 6)
        writer.line("place += many", 6)

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
        row: str = "",
        known: Mapping[str, str] = {},
    ) -> list[str]:
        """A synapse's change and update in a `row` that has a name. Terms with a factor that is `silent` (0) are left
        out; pre factors that are `known` have a name of their own.
        """
        last = len(self.rule.components) - 1
        products = [
            self._product(
                f"{post[last][k]}_h{row}" if post[last][k] else "",
                known.get(name, f"{name}[i]") if name else "",
                gain[last, k],
            )
            for k, name in enumerate(pre[last])
            if post[last][k] not in silent and name not in silent
        ]
        change = " + ".join(products) or "real(0)"
        return self._update(f"{m}_h{row} * ({change})" if m else change)


def _count(writer: Writer) -> None:
    """`arrived`, the number of spikes in the lists that have a name."""
    writer.line("arrived = 0", 2)
    writer.line("for s in range(lists):", 2)
    writer.line("arrived += np.int64(listed[u(begin[u(s)] + s * apart)])", 3)
