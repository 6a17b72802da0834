"""The text of one traced transform (`traced.py`): what is gathered over a synapse's neighbours, and what is read of it.

A line is written in every pass over the synapses that needs it; a sum is gathered in one pass and read in the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.backends.cpu.selection import of_rank
from neurosim.backends.cpu.traced import REDUCTIONS, Written
from neurosim.backends.elementary import select
from neurosim.backends.symbolic import OPERATORS, Line, Symbol, Value, needed
from neurosim.backends.words_numba import words
from neurosim.types import Array

if TYPE_CHECKING:
    from neurosim.backends.cpu.passes import SynapseText

COMPARISONS = ("le", "lt", "ge", "gt", "eq", "ne", "and", "or", "invert")
LOGIC = ("and", "or", "invert")


@dataclass
class Pass:
    """One loop over the synapses of a replica: the `lines` of one synapse, what comes before and after all of them."""

    lines: list[str]
    head: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)


class Section:
    """The lines of one traced transform, in the passes in which they are needed."""

    def __init__(self, text: SynapseText, name: str, made: Written):
        self.text, self.writer, self.name, self.made = text, text.writer, name, made
        self.levels = made.levels()
        self.places = needed(made.lines, [made.result.place])
        self.numbers: dict[float, str] = {}
        self.reads: dict[int, str] = {}  # what stands for a line in every pass
        self.known: dict[int, set[int]] = {}  # lines that have a name, by pass
        self.blocks: dict[tuple[Any, ...], tuple[str, Array]] = {}

    # ---- one line ---------------------------------------------------------------------------------------------------

    def text_of(self, value: Value, into: Pass) -> str:
        """A value at the synapse at hand; lines that it needs are added to the pass."""
        if not isinstance(value, Symbol):
            return self._number(float(value))
        place, line = value.place, self.made.lines[value.place]
        if line.operation == "argument":
            return {"change": "change", "w": "w[i]", "value": "value"}[self.made.inputs[place]]
        if line.operation == "block_size" and place not in self.reads:
            self.reads[place] = self._block_size(*line.arguments)
        if line.operation == "from_pre" and place not in self.reads:
            self.reads[place] = self._from_pre(place, self.made.arrays[line.arguments[0]])
        if place in self.reads:
            return self.reads[place]
        name, known = f"{self.name}_{place}", self.known.setdefault(id(into), set())
        if place not in known:
            into.lines.append(f"{name} = {self._made(line, into)}")
            known.add(place)
        return name

    def _made(self, line: Line, into: Pass) -> str:
        parts = []
        for k, one in enumerate(line.arguments):
            part = self.text_of(one, into)
            compared = isinstance(one, Symbol) and self.made.lines[one.place].operation in COMPARISONS
            if compared and line.operation not in LOGIC and (line.operation, k) != ("where", 0):
                self.writer.scope["select"] = select
                part = f"select({part}, real(1), real(0))"
            parts.append(part)
        if line.operation in OPERATORS and line.operation != "pow":
            return OPERATORS[line.operation].format(*parts)
        word = "power" if line.operation == "pow" else line.operation
        self.writer.scope[f"word_{word}"] = words(self.writer.dtype)[word]
        return f"word_{word}({', '.join(parts)})"

    def _number(self, value: float) -> str:
        if value not in self.numbers:
            name = f"{self.name}_n{len(self.numbers)}_"
            self.numbers[value] = self.writer.constants(name, (value,), 1)[0]
        return self.numbers[value]

    def _from_pre(self, place: int, values: Array) -> str:
        name = f"{self.name}_pre{place}"
        self.writer.array(name, np.ascontiguousarray(values, self.writer.real))
        self.text.by_row = True
        return f"{name}[{'i' if self.text.one_to_one else 'u(j)'}]"

    # ---- over neighbours --------------------------------------------------------------------------------------------

    def reduce(self, into: Pass, level: int) -> None:
        """Gather, in this pass, what is known when it is over."""
        for place in self.places:
            line = self.made.lines[place]
            if line.operation in REDUCTIONS and self.levels[place] == level + 1:
                name = f"{self.name}_s{place}"
                into.lines.append(f"{name}_e = {self.text_of(line.arguments[0], into)}")
                self.reads[place] = getattr(self, f"_{line.operation}")(name, into, *line.arguments[1:])

    def _row(self, name: str, offset: str) -> str:
        return f"{name} = carray(reals({name}_at + ({offset}) * {self.writer.real.itemsize}), (1,))"

    def _row_sum(self, name: str, into: Pass) -> str:
        return self._by_post(name, into, "real(0)", f"{name}[h] += {name}_e")

    def _row_max(self, name: str, into: Pass) -> str:
        self.writer.scope["select"] = select
        larger = f"({name}_e > {name}[h]) | ({name}_e != {name}_e)"  # what is no number stays none, as in torch
        return self._by_post(name, into, "real(-np.inf)", f"{name}[h] = select({larger}, {name}_e, {name}[h])")

    def _by_post(self, name: str, into: Pass, start: str, line: str) -> str:
        """One number for each post neuron: over rows side by side, which are vectors."""
        replicas, _, posts, _ = self.text.synaptic.size
        self.writer.address(f"{name}_at", np.zeros((replicas, posts), self.writer.real))
        self.text.in_replica.append(self._row(name, "r * P"))
        into.head += ["for n in range(P):", f"    {name}[u(n)] = {start}"]
        into.lines.append(line)
        return f"{name}[h]"

    def _total_max(self, name: str, into: Pass) -> str:
        self._row_max(name, into)
        more = f"({name}[u(n)] > {name}_all) | ({name}[u(n)] != {name}[u(n)])"
        into.tail += [f"{name}_all = real(-np.inf)", "for n in range(P):"]
        into.tail.append(f"    {name}_all = select({more}, {name}[u(n)], {name}_all)")
        return f"{name}_all"

    def _total_percentile(self, name: str, into: Pass, percent: float) -> str:
        """By a copy of what is compared."""
        text, synaptic = self.text, self.text.synaptic
        replicas, _, posts, pres = synaptic.size
        self.writer.address(f"{name}_at", np.zeros_like(synaptic.weight))
        self.writer.scope["of_rank"] = of_rank
        text.arrays.append(name)
        into.lines.append(f"{name}[i] = {name}_e")
        counts = np.full(replicas, posts * pres)
        if text.sparse:
            assert synaptic.pointer is not None
            counts = np.diff(synaptic.pointer[::pres])
        places = [round(percent / 100.0 * (count - 1)) for count in counts.tolist()]
        self.writer.array(f"{name}_k", np.array(places, np.int64), "integers")
        begin, end = ("start[u(r * Q)]", "start[u(r * Q + Q)]") if text.sparse else ("r * Q * P", "(r + 1) * Q * P")
        into.tail += [
            f"many, {name}_v = {end} - {begin}, real(0)",
            "if many > 0:",
            f"    compared = carray(reals({name}_at + ({begin}) * {self.writer.real.itemsize}), (many,))",
            f"    {name}_v = of_rank(compared, {name}_k[u(r)])",
        ]
        return f"{name}_v"

    def _block_sum(self, name: str, into: Pass, block: int, grouping: str, seed: int) -> str:
        replicas, _, posts, pres = self.text.synaptic.size
        if grouping == "row" and not self.text.sparse:  # pre neurons after each other: the same block for a whole row
            own = self._row_blocks(block)
            count = -(-pres // block)
            self.writer.address(f"{name}_at", np.zeros((replicas, count, posts), self.writer.real))
            self.writer.number(f"{name}_count", count)
            self.text.in_replica.append(self._row(name, f"r * {name}_count * P"))
            self.text.in_row.append(f"{name}_j = u(j // {own} * P)")
            into.head += [f"for n in range({name}_count * P):", f"    {name}[u(n)] = real(0)"]
            into.lines.append(f"{name}[{name}_j + h] += {name}_e")
            return f"{name}[{name}_j + h]"
        own, begins = self._groups(block, grouping, seed)
        self.writer.array(name, np.zeros(max(int(begins[-1]), 1), self.writer.real))
        into.head += [
            f"for n in range({own}_begin[u(r)], {own}_begin[u(r + 1)]):",
            f"    {name}[u(n)] = real(0)",
        ]
        into.lines.append(f"{name}[u({own}[i])] += {name}_e")
        return f"{name}[u({own}[i])]"

    def _block_size(self, block: int, grouping: str, seed: int) -> str:
        if grouping == "row" and not self.text.sparse:
            own = self._row_blocks(block)
            self.text.in_row.append(f"{own}_size = real(min({own}, Q - j // {own} * {own}))")
            return f"{own}_size"
        own, _ = self._groups(block, grouping, seed)
        return f"{own}_size[u({own}[i])]"

    def _row_blocks(self, block: int) -> str:
        """The number that says how many pre neurons make a block."""
        key = (block,)
        if key not in self.blocks:
            name = f"{self.name}_block{len(self.blocks)}"
            self.writer.number(name, block)
            self.blocks[key] = name, np.zeros(0)
        return self.blocks[key][0]

    def _groups(self, block: int, grouping: str, seed: int) -> tuple[str, Array]:
        """The name of the synapses' blocks, numbered one replica after the other, and where each replica begins."""
        key = block, grouping, seed
        if key not in self.blocks:
            synaptic, name = self.text.synaptic, f"{self.name}_block{len(self.blocks)}"
            assert synaptic.groups is not None
            own, begins = synaptic.groups(block, grouping, seed)
            sizes = np.bincount(own.reshape(-1), minlength=max(int(begins[-1]), 1)).astype(self.writer.real)
            self.writer.address(f"{name}_at", np.ascontiguousarray(own, np.int32))
            self.writer.array(f"{name}_size", sizes)
            self.writer.array(f"{name}_begin", begins.astype(np.int64), "integers")
            self.text.groups.append(name)
            self.blocks[key] = name, begins
        return self.blocks[key]
