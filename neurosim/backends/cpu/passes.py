"""w <- C(w + T(G)) as text: loops over the synapses of one weight, as many as sums over neighbours need.

Pointwise transforms follow each other in one loop. A sum over neighbours is gathered in the loop that made what is
summed, and read in the next one; a maximum or percentile of the whole projection alike. What such transforms and
constraints do is written down by `traced.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.backends.cpu.section import Pass, Section
from neurosim.backends.cpu.synaptic import Synaptic
from neurosim.backends.cpu.traced import written
from neurosim.backends.cpu.writer import Writer


def all_lines(passes: list[Pass]) -> list[str]:
    """The lines of a single pass; none where there are more, which cannot stand in another loop."""
    return passes[0].lines if len(passes) == 1 else []


def asks_neighbours(synaptic: Synaptic) -> bool:
    """Does the update of a synapse wait for a sum over others?"""
    own = [one for one in synaptic.chain if not one.pointwise]
    made = (written(one, synaptic.lone, synaptic.bias) for one in (*own, *synaptic.constraints))
    return any(one.levels()[one.result.place] for one in made)


class SynapseText:
    """Writes loops over the synapses of one weight."""

    def __init__(self, writer: Writer, synaptic: Synaptic):
        self.writer, self.synaptic, self.rule = writer, synaptic, synaptic.rule
        self.sparse, self.one_to_one = synaptic.kind == "sparse", synaptic.kind == "one_to_one"
        self.arrays: list[str] = []  # like the weight, besides the weight and its change
        self.groups: list[str] = []  # like the weight, of whole numbers
        self.in_replica: list[str] = []  # what has to be known in a replica's loop
        self.in_row: list[str] = []  # and in a row's
        self.by_row = False  # does the update of a synapse depend on its pre neuron?
        self.listed = False  # is the loop over a list of neurons that spiked?

    # ---- loops ------------------------------------------------------------------------------------------------------

    def _edges(self) -> None:
        if self.sparse:
            assert self.synaptic.pointer is not None
            assert self.synaptic.post is not None
            self.writer.array("start", self.synaptic.pointer, "integers")
            self.writer.address("index_at", self.synaptic.post)
            self.writer.number("E", len(self.synaptic.weight))

    def _each_row(self, *own: str, rows: str = "Q") -> None:
        """Open the loop over the rows of a replica, one for each pre neuron, and name what lies in them."""
        writer = self.writer
        writer.line(f"for j in range({rows}):", 2)
        if self.sparse:
            writer.line("low = start[u(r * Q + j)]", 3)
            writer.line("high = start[u(r * Q + j + 1)]", 3)
            writer.line("index = carray(indices(index_at), (1,))", 3)
        for name in (*own, *self.arrays):
            self._own_row(name, 3)
        for name in self.groups:
            writer.line(f"{name} = carray(indices({name}_at + ({self._offset}) * 4), (1,))", 3)
        for line in self.in_row:
            writer.line(line, 3)

    @property
    def _offset(self) -> str:
        """Where a row begins in an array like the weight; edges of all replicas share one."""
        return "0" if self.sparse else "(r * Q + j) * P"

    def _own_row(self, name: str, depth: int) -> None:
        self.writer.row(name, f"{name}_at", self._offset, depth)

    def _loop(self, depth: int, lines: list[str], count: str = "P") -> None:
        writer = self.writer
        if self.sparse:
            writer.line("for n in range(low, high):", depth)
            writer.line("i = u(n)", depth + 1)
            writer.line("h = u(index[i])", depth + 1)
        elif self.listed:
            writer.line("for n in range(spikes):", depth)
            writer.line("i = u(spiked[u(n)])", depth + 1)
            writer.line("h = i", depth + 1)
        else:
            writer.line(f"for n in range({count}):", depth)
            writer.line("i = u(n)", depth + 1)
            writer.line("h = i", depth + 1)
        for line in lines:
            writer.line(line, depth + 1)

    def _make(self, passes: list[Pass]) -> None:
        """The update of every synapse of this share."""
        writer, alone = self.writer, len(passes) == 1
        if alone and not (self.sparse or self.by_row):
            # One loop over all replicas and rows (AdamW of 300 synapses in rows of ten: 7 us, so 1).
            for name in ("w", "g", *self.arrays):
                writer.row(name, f"{name}_at", "r0 * Q * P", 1)
            self._loop(1, passes[0].lines, "(r1 - r0) * Q * P")
            return
        writer.line("for r in range(r0, r1):")
        for line in self.in_replica:
            writer.line(line, 2)
        for one in passes:
            for line in one.head:
                writer.line(line, 2)
            self._each_row("w", "g")
            self._loop(3, one.lines)
            for line in one.tail:
                writer.line(line, 2)

    # ---- arguments --------------------------------------------------------------------------------------------------

    def _like_weight(self, name: str, value: Any) -> str:
        """A number, or an array like the weight, at this synapse."""
        if np.ndim(value) == 0:
            return self.writer.constants(name, (float(value),), 1)[0]
        self.writer.address(f"{name}_at", np.ascontiguousarray(value, dtype=self.writer.real))
        self.arrays.append(name)
        return f"{name}[i]"

    # ---- the update -------------------------------------------------------------------------------------------------

    def _passes(self, change: str) -> list[Pass]:
        """w <- C(w + T(`change`))."""
        return _Update(self, change).passes

    def _update(self, change: str) -> list[str]:
        """The same of one synapse that needs no neighbours."""
        (alone,) = self._passes(change)
        return alone.lines


class _Update:
    """Writes the passes of an update; `change` and, after the transforms, `value` are of the synapse at hand."""

    def __init__(self, text: SynapseText, change: str):
        self.text, self.writer, self.synaptic = text, text.writer, text.synaptic
        self.passes = [Pass([f"change = {change}"])]
        self.stored = change == "g[i]"  # does the array hold what `change` or `value` is now?
        for index, transform in enumerate(self.synaptic.chain):
            if transform.pointwise:
                self._pointwise(index, transform)
            else:
                self._traced(f"t{index}", transform)
        self._line("value = w[i] + change")
        self.stored = False
        for index, constraint in enumerate(self.synaptic.constraints):
            self._traced(f"bound{index}", constraint)
        self._line("w[i] = value")

    def _line(self, line: str) -> None:
        self.passes[-1].lines.append(line)

    def _pointwise(self, index: int, transform: Any) -> None:
        text, synaptic = self.text, self.synaptic
        self.writer.function(f"t{index}", transform.step)
        slots = []
        for number, slot in enumerate(synaptic.slots[index]):
            name = f"t{index}_m{number}"
            self.writer.address(f"{name}_at", slot)
            text.arrays.append(name)
            slots.append(f"{name}[i]")
        constants = [
            text._like_weight(f"t{index}_c{number}_", value) for number, value in enumerate(synaptic.constants[index])
        ]
        arguments = ["change", "w[i]", "count", *slots, *constants]
        self._line(f"{', '.join(['change', *slots])}, = t{index}({', '.join(arguments)})")
        self.stored = False

    def _traced(self, name: str, transform: Any) -> None:
        made = written(transform, self.synaptic.lone, self.synaptic.bias)
        own = "value" if len(made.inputs) == 1 else "change"
        section = Section(self.text, name, made)
        for level in range(section.levels[made.result.place] + 1):
            if level:
                self._open(own)
            section.reduce(self.passes[-1], level)
        self._line(f"{own} = {section.text_of(made.result, self.passes[-1])}")
        self.stored = False

    def _open(self, own: str) -> None:
        """Begin the next pass, with what this one has made."""
        array = "w[i]" if own == "value" else "g[i]"
        if not self.stored:
            self._line(f"{array} = {own}")
        self.passes.append(Pass([f"{own} = {array}"]))
        self.stored = True
