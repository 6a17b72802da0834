"""Values of factors at the ends of a projection: a place where one exists, else a kernel that fills one every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from neurosim.backends.cpu.workspace import Workspace
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.backends.moment import label
from neurosim.backends.needs import CONSTANT
from neurosim.factor import Apply, Coefficient, Factor, Field, One, Trace


@dataclass(frozen=True)
class Place:
    """The value of a factor: of `delay` steps ago in `buffer`, or the constant 1 (no buffer)."""

    buffer: Buffer | None
    delay: int = 0
    spikes: bool = False  # is it a spike, and so mostly zero?
    newest: bool = False  # is it zero in all rows of the batch but the last?
    past: bool = False  # does the kernel that fills it read values of earlier steps only?

    @property
    def early(self) -> bool:
        """Is the value known before the step begins?"""
        return self.buffer is None or self.delay > 0 or self.past


class Factors:
    """Places for the factors of one projection's rule; `kernels` are what fills them, in order, `early` those of them
    that may run before the step's first kernel.
    """

    def __init__(self, work: Workspace, dt: float, owner: str):
        self.work, self.dt, self.owner = work, dt, owner
        self.kernels: list[Kernel] = []
        self.early: list[Kernel] = []
        self._made: dict[Any, Place] = {}

    def place(self, population: str, factor: Factor, delay: int) -> Place:
        """Where the factor is found `delay` steps late (at the constant end of a bias, without delay)."""
        if isinstance(factor, One) or (population == CONSTANT and isinstance(factor, Coefficient | Field)):
            return Place(None)
        if isinstance(factor, Field) or (isinstance(factor, Trace) and factor.read == "after"):
            spikes = isinstance(factor, Field) and factor.name == "spike"
            return Place(self.work.buffer(label(population, factor)), delay, spikes)
        key = population, repr(factor), delay
        if key not in self._made:
            self._made[key] = self._evaluated(population, factor, delay)
        return self._made[key]

    def _evaluated(self, population: str, factor: Factor, delay: int) -> Place:
        units = self.work.width(f"{population}.")
        out = self.work.buffer(f"{population}.|{self.owner}|{len(self._made)}")
        writer = Writer(str(self.work.dtype))
        writer.number("B", self.work.size[1])
        writer.number("N", units)
        writer.place("o_at", out.array)
        rows: list[tuple[str, str]] = []
        text, past = self._expression(writer, rows, population, factor, delay, units)
        writer.rows()
        writer.row("o", "o_at", "(r * B + b) * N")
        for name, address in rows:
            writer.row(name, address, "(r * B + b) * N")
        writer.line("for n in range(N):", 3)
        writer.line("i = u(n)", 4)
        writer.line(f"o[i] = {text}", 4)
        self.kernels.append(writer.done())
        if past:
            self.early.append(self.kernels[-1])
        return Place(out, past=past)

    def _expression(
        self, writer: Writer, rows: list[tuple[str, str]], population: str, factor: Factor, delay: int, units: int
    ) -> tuple[str, bool]:
        """The value at unit i, and whether it is one of earlier steps."""
        if isinstance(factor, One):
            return "real(1)", True
        if isinstance(factor, Coefficient):
            if population == CONSTANT:
                return "real(1)", True
            return writer.constants(f"k{len(writer.block)}_", (factor.values,), units)[0], True
        if isinstance(factor, Apply):
            made = [self._expression(writer, rows, population, one, delay, units) for one in factor.arguments]
            name = f"f{len(writer.parts)}"
            writer.function(name, factor.fn)
            arguments = [text for text, _ in made]
            arguments += writer.constants(f"k{len(writer.block)}_", factor.constants, units)
            return f"{name}({', '.join(arguments)})", all(past for _, past in made)
        name, late = f"x{len(rows)}", delay
        before = isinstance(factor, Trace) and factor.read == "before"
        late += before
        source = label(population, factor)
        if source.startswith(CONSTANT + ".") and isinstance(factor, Field):
            return "real(1)", True
        writer.place(f"{name}_at", self.work.buffer(source).array, str(late))
        rows.append((name, f"{name}_at"))
        if not before:
            return f"{name}[i]", late > 0
        assert isinstance(factor, Trace)
        fade = writer.constants(f"k{len(writer.block)}_", (math.exp(-self.dt / factor.tau),), units)[0]
        return f"{fade} * {name}[i]", True
