"""The equation of `neurosim.rule` as one kernel per weight: eligibility, change, transforms, bounds in one pass.

Rows of a weight belong to one pre neuron; a row whose pre factors are all zero is passed over where nothing decays in
it. Where every term has a spike in it and the transforms leave a zero change alone, only synapses of neurons that
spiked are visited.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurosim.backends.cpu.factors import Place
from neurosim.backends.cpu.passes import SynapseText, all_lines
from neurosim.backends.cpu.synaptic import Synaptic
from neurosim.backends.cpu.writer import Kernel, Writer
from neurosim.constraint import Bounds
from neurosim.rule import OfComponent, OfWeight, PerSynapse, SynapseNoise

SHORT = (
    64  # post neurons below which updates are made for all rows at once: loops over short rows cost their beginnings
)
# In the block: earlier updates, first step of a batch that forms a change, step that visits all, steps that formed one.
COUNT, FORM, FULL, FORMED = 4, 5, 6, 7


def spikes(places: list[list[Place]], names: list[list[str]]) -> list[str]:
    """The names of the factors that are spikes."""
    pairs = zip((one for terms in places for one in terms), (one for terms in names for one in terms), strict=True)
    return sorted({name for place, name in pairs if place.spikes})


def events(synaptic: Synaptic) -> bool:
    """May synapses of neurons that did not spike be passed over when the change of a step is formed?

    Every term has a spike in it, and nothing is remembered per synapse.
    """
    if synaptic.kind != "dense" or synaptic.kept or synaptic.change is not None:
        return False
    ends = zip(synaptic.posts, synaptic.pres, strict=True)
    return all(post.spikes or pre.spikes for posts, pres in ends for post, pre in zip(posts, pres, strict=True))


def stays(synaptic: Synaptic) -> bool:
    """Does a synapse whose change is 0 keep its weight? (Weights out of their bounds are visited once.)"""
    bounded = all(isinstance(constraint, Bounds) for constraint in synaptic.constraints)
    return bounded and all(map(idle, synaptic.chain))


def idle(transform: Any) -> bool:
    """Does the transform leave a change of 0 alone, whatever the weight and the time?"""
    if transform.memory or not transform.pointwise:
        return False
    weights, counts = (-1.3, 0.0, 0.7), (0.0, 1.0, 1000.0)
    constants = transform.constants()
    return not any(np.any(transform.step(0.0, weight, count, *constants)[0]) for weight in weights for count in counts)


def learn(dtype: str, synaptic: Synaptic) -> Kernel:
    """The kernel of a step of learning."""
    return Text(begun(dtype, synaptic), synaptic).kernel()


def apply(dtype: str, synaptic: Synaptic) -> Kernel:
    """The kernel that makes a gathered change in the last step of a batch: w <- C(w + T(G)), G <- 0."""
    return Text(begun(dtype, synaptic), synaptic).update()


def begun(dtype: str, synaptic: Synaptic) -> Writer:
    writer = Writer(dtype)
    for name, value in zip("BPQ", synaptic.size[1:], strict=True):
        writer.number(name, value)
    writer.start("first")
    writer.number("earlier", 0)
    writer.number("form", 0)
    writer.number("full", 0)
    writer.number("formed", 1)
    writer.position()
    writer.address("w_at", synaptic.weight)
    return writer


class Text(SynapseText):
    """Writes the kernel of a step."""

    def __init__(self, writer: Writer, synaptic: Synaptic):
        super().__init__(writer, synaptic)
        self.names: dict[tuple[int, int], str] = {}
        self.rows: dict[str, list[str]] = {"post": [], "pre": []}
        self.by_events = False  # are the loops over the neurons that spiked?
        self.updates_apart = False  # after all rows

    # ---- arguments --------------------------------------------------------------------------------------------------

    def _place(self, place: Place | None, end: str) -> str:
        """The name of a factor's value, "" for the constant 1."""
        if place is None or place.buffer is None:
            return ""
        key = id(place.buffer), place.delay
        if key not in self.names:
            name = f"{end}{len(self.names)}"
            self.writer.place(f"{name}_at", place.buffer.array, str(place.delay))
            self.names[key] = name
            self.rows[end].append(name)
        name = self.names[key]
        if name.startswith(end):
            return name
        # The same neuron may be at both ends: the same place under another name.
        twin = f"{end}_{name}"
        if twin not in self.rows[end]:
            self.writer.place(f"{twin}_at", place.buffer.array, str(place.delay))
            self.rows[end].append(twin)
        return twin

    # ---- text -------------------------------------------------------------------------------------------------------

    def kernel(self) -> Kernel:
        writer, synaptic = self.writer, self.synaptic
        self._edges()
        post = [[self._place(one, "post") for one in terms] for terms in synaptic.posts]
        pre = [[self._place(one, "pre") for one in terms] for terms in synaptic.pres]
        m = self._place(synaptic.modulator, "post")
        decay = [self._place(one, "post") for one in synaptic.decays]
        for number, index in enumerate(synaptic.kept):
            writer.address(f"e{index}_at", synaptic.memories[number])
        gain = {
            (c, k): self._gain(c, k, term.gain)
            for c, component in enumerate(self.rule.components)
            for k, term in enumerate(component.terms)
        }
        gathers = synaptic.change is not None
        self.by_events = events(synaptic)
        scratch = synaptic.change if gathers else np.zeros_like(synaptic.weight)
        writer.address("g_at", scratch)  # type: ignore[arg-type]
        passes = [] if gathers else self._passes("g[i] / real(B)" if self.rule.reduce == "mean" else "g[i]")
        update = all_lines(passes)
        short = not self.sparse and synaptic.size[2] < SHORT
        at_once = self.by_events and stays(synaptic)  # where a row's change is formed, the same few synapses
        self.updates_apart = not gathers and (len(passes) > 1 or (not at_once and (short or self.by_events)))
        body = self._eligibility(post, pre, m, decay, gain)
        writer.line("forms = since >= form")
        if gathers and not synaptic.kept:
            writer.line("if not forms:")
            writer.line("return", 2)
        writer.line("count = real(earlier + t - first)")
        writer.line("for r in range(r0, r1):")
        if self.by_events:
            self._spiked(post)
        self._each_row("w", "g")
        if not self.by_events:
            self._row(3, post, pre, body, update)
        else:
            self._arrived(pre)
            writer.line("if arrived:", 3)
            self._row(4, post, pre, body, update)
            writer.line("else:", 3)
            self._row(4, post, pre, body, update, listed=True)
        if self.updates_apart:
            self._make(passes)
        return writer.done()

    def update(self) -> Kernel:
        """The update alone, of a change that was gathered."""
        writer, synaptic = self.writer, self.synaptic
        assert synaptic.change is not None
        self._edges()
        writer.address("g_at", synaptic.change)
        passes = self._passes("g[i] / real(formed)" if self.rule.accumulate == "mean" else "g[i]")
        passes[-1].lines.append("g[i] = real(0)")
        writer.line("count = real(earlier + turn)")
        writer.line("if since != span - 1:")
        writer.line("return", 2)
        self._make(passes)
        return writer.done()

    def _row(
        self,
        depth: int,
        post: list[list[str]],
        pre: list[list[str]],
        body: list[str],
        update: list[str],
        listed: bool = False,
    ) -> None:
        """All synapses of a row (or, `listed`, those whose post neuron spiked): their change, then their update."""
        writer, synaptic = self.writer, self.synaptic
        self.listed = listed and not self.updates_apart
        if synaptic.change is None:
            self._loop(depth, ["g[i] = real(0)"])
        self.listed = listed
        newest = synaptic.modulator is not None and synaptic.modulator.newest and not synaptic.kept
        writer.line(f"for b in range({'B - 1' if newest else '0'}, B):", depth)
        self._batch_row(depth + 1)
        inner = depth + 1
        if not synaptic.kept and all(name for terms in pre for name in terms) and not self.one_to_one:
            values = sorted({f"{name}_j != real(0)" for terms in pre for name in terms})
            writer.line(f"if {' or '.join(values)}:", inner)
            inner += 1
        for name in self.rows["post"]:
            writer.row(name, f"{name}_at", "(r * B + b) * P", inner)
        for index in synaptic.kept:
            offset = "b * E" if self.sparse else "((r * B + b) * Q + j) * P"
            writer.row(f"e{index}", f"e{index}_at", offset, inner)
        if listed and self.updates_apart:
            self._name_list("b", inner)
        self._loop(inner, body)
        if update and not self.updates_apart:
            self._loop(depth, update)
        self.listed = False

    def _spiked(self, post: list[list[str]]) -> None:
        """List the post neurons that spiked in any row; those of each row, if updates come apart."""
        writer, names = self.writer, spikes(self.synaptic.posts, post)
        replicas, batch, posts, _ = self.synaptic.size
        lists = batch if self.updates_apart else 1
        writer.number("lists", lists)
        writer.address("list_at", np.zeros((replicas, lists, posts + 1), np.int32))  # how many, then which
        writer.line("for k in range(lists):", 2)
        self._name_list("k", 3, counted=False)
        writer.line("found = 0", 3)
        if names:
            writer.line("for n in range(P):", 3)
            writer.line(f"for b in range({'k, k + 1' if self.updates_apart else 'B'}):", 4)
            for name in names:
                writer.row(name, f"{name}_at", "(r * B + b) * P", 5)
            writer.line(f"if {' or '.join(f'{name}[u(n)] != real(0)' for name in names)}:", 5)
            writer.line("spiked[u(found)] = n", 6)
            writer.line("found += 1", 6)
            writer.line("break", 6)
        writer.line("count_of[u(0)] = found", 3)
        self._name_list("0", 2)

    def _name_list(self, number: str, depth: int, counted: bool = True) -> None:
        """Name a list of post neurons, `spiked`, and how many they are, `spikes`."""
        line = self.writer.line
        line(f"count_of = carray(indices(list_at + (r * lists + {number}) * (P + 1) * 4), (1,))", depth)
        line(f"spiked = carray(indices(list_at + ((r * lists + {number}) * (P + 1) + 1) * 4), (1,))", depth)
        if counted:
            line("spikes = np.int64(count_of[u(0)])", depth)

    def _arrived(self, pre: list[list[str]]) -> None:
        """Did a spike arrive from neuron j in any row? (Weights out of bounds are all visited once.)"""
        writer, names = self.writer, spikes(self.synaptic.pres, pre)
        writer.line("arrived = t == full", 3)
        if not names:
            return
        writer.line("for b in range(B):", 3)
        for name in names:
            writer.row(name, f"{name}_at", "(r * B + b) * Q", 4)
        writer.line(f"if {' or '.join(f'{name}[u(j)] != real(0)' for name in names)}:", 4)
        writer.line("arrived = True", 5)

    def _batch_row(self, depth: int) -> None:
        for name in self.rows["pre"]:
            units = "P" if self.one_to_one else "Q"
            self.writer.row(name, f"{name}_at", f"(r * B + b) * {units}", depth)
            if not self.one_to_one:
                self.writer.line(f"{name}_j = {name}[u(j)]", depth)

    def _gain(self, c: int, k: int, gain: Any) -> str:
        if isinstance(gain, OfWeight):
            name = f"gain{c}_{k}"
            self.writer.function(name, gain.fn)
            constants = self.writer.constants(f"{name}_", gain.constants, 1) if gain.constants else []
            return f"{name}({', '.join(['w[i]', *constants])})"
        if isinstance(gain, PerSynapse | SynapseNoise):
            return self._like_weight(f"gain{c}_{k}", self.synaptic.gains[c, k])
        if isinstance(gain, OfComponent):
            return f"new{gain.index}" if gain.read == "after" else f"old{gain.index}"
        return ""

    def _product(self, *parts: str) -> str:
        return " * ".join(part for part in parts if part) or "real(1)"

    def _eligibility(
        self,
        post: list[list[str]],
        pre: list[list[str]],
        m: str,
        decay: list[str],
        gain: dict[tuple[int, int], str],
    ) -> list[str]:
        lines = []
        for c, component in enumerate(self.rule.components):
            products = []
            for k in range(len(component.terms)):
                left = f"{post[c][k]}[h]" if post[c][k] else ""
                right = (f"{pre[c][k]}[i]" if self.one_to_one else f"{pre[c][k]}_j") if pre[c][k] else ""
                products.append(self._product(left, right, gain[c, k]))
            total = " + ".join(products)
            if c in self.synaptic.kept:
                lines.append(f"old{c} = e{c}[i]")
                if component.tau is not None:
                    name = self.writer.constants(f"decay{c}_", (math.exp(-self.synaptic.dt / component.tau),), 1)[0]
                    total = f"{name} * old{c} + {total}"
                elif decay[c]:
                    total = f"{decay[c]}[h] * old{c} + {total}"
            lines.append(f"new{c} = {total}")
            if c in self.synaptic.kept:
                lines.append(f"e{c}[i] = new{c}")
        last = f"new{len(self.rule.components) - 1}"
        share = " / real(B)" if self.rule.reduce == "mean" and self.synaptic.change is not None else ""
        lines.append("if forms:" if self.synaptic.change is not None else "if True:")
        lines.append(f"    g[i] += {self._product(f'{m}[h]' if m else '', last)}{share}")
        return lines
