"""Values of factors at the ends of a projection: a place where one exists, else a kernel that fills one every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurosim.backends.cpu.workspace import Workspace
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.backends.moment import label
from neurosim.backends.needs import CONSTANT
from neurosim.backends.symbolic import straight_line
from neurosim.factor import Apply, Coefficient, Factor, Field, One, Trace

AT_ZERO = ("add", "sub", "neg", "abs", "sqrt", "tanh", "min", "max")  # zero where all they are given is


@dataclass(frozen=True)
class Place:
    """The value of a factor: of `delay` steps ago in `buffer`, or the constant 1 (no buffer)."""

    buffer: Buffer | None
    delay: int = 0
    spikes: bool = False  # is it zero where its neuron does not spike, and so mostly?
    newest: bool = False  # is it zero in all rows of the batch but the last?
    made: bool = False  # does a kernel fill it?
    past: bool = False  # and read only what is known when the projection delivers?

    @property
    def early(self) -> bool:
        """Is the value known before the projection delivers?"""
        return self.buffer is None or self.delay > 0 or self.past


def spiking(factor: Factor) -> bool:
    """Is the factor zero wherever its neuron does not spike: a spike, or a function that is zero without one?"""
    if isinstance(factor, Field):
        return factor.name == "spike"
    if not isinstance(factor, Apply):
        return False
    silent = [spiking(one) for one in factor.arguments]
    return any(silent) and _zero_without(factor, silent)


def _zero_without(factor: Apply, silent: Sequence[bool]) -> bool:
    """Is the function zero where the arguments that are `silent` are, as it is written and whatever the others are?"""
    names = [f"x{k}" for k in range(len(factor.arguments) + len(factor.constants))]
    code = straight_line(factor.fn, names)
    zero: set[Any] = {0.0, *(name for name, none in zip(names, silent, strict=False) if none)}
    for one in code.operations:
        found = [operand in zero for operand in one.operands]
        needed = {"mul": any(found), "truediv": found[0], "where": all(found[1:])}
        if needed.get(one.word, one.word in AT_ZERO and all(found)):
            zero.add(one.name)
    return all(result in zero for result in code.results)


class Factors:
    """Places for the factors of one projection's rule; `kernels` are what fills them, in order, `early` those of them
    that may run before the projection delivers.
    """

    def __init__(self, work: Workspace, dt: float, owner: str):
        self.work, self.dt, self.owner = work, dt, owner
        self.kernels: list[Kernel] = []
        self.early: list[Kernel] = []
        self._made: dict[Any, Place] = {}

    def place(self, population: str, factor: Factor, delay: int, integrated: bool = False) -> Place:
        """Where the factor is found `delay` steps late (at the constant end of a bias, without delay). `integrated`:
        the population's step is made before the projection delivers (its traces are not).
        """
        if isinstance(factor, One) or (population == CONSTANT and isinstance(factor, Coefficient | Field)):
            return Place(None)
        if isinstance(factor, Field) or (isinstance(factor, Trace) and factor.read == "after"):
            return Place(self.work.buffer(label(population, factor)), delay, spiking(factor))
        key = population, repr(factor), delay
        if key not in self._made:
            self._made[key] = self._evaluated(population, factor, delay, integrated)
        return self._made[key]

    def _evaluated(self, population: str, factor: Factor, delay: int, integrated: bool) -> Place:
        units = self.work.width(f"{population}.")
        out = self.work.buffer(f"{population}.|{self.owner}|{len(self._made)}")
        writer = Writer(str(self.work.dtype))
        writer.number("B", self.work.size[1])
        writer.number("N", units)
        writer.place("o_at", out.array)
        rows: list[tuple[str, str]] = []
        text, late = self._expression(writer, rows, population, factor, delay, units)
        past = late >= (0 if integrated else 1)
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
        return Place(out, spikes=spiking(factor), made=True, past=past)

    def _expression(
        self, writer: Writer, rows: list[tuple[str, str]], population: str, factor: Factor, delay: int, units: int
    ) -> tuple[str, int]:
        """The value at unit i, and how many steps ago what it is made of was there: 0 for an output of now, -1 for a
        trace of now.
        """
        if isinstance(factor, One):
            return "real(1)", 1
        if isinstance(factor, Coefficient):
            if population == CONSTANT:
                return "real(1)", 1
            return writer.constants(f"k{len(writer.block)}_", (factor.values,), units)[0], 1
        if isinstance(factor, Apply):
            made = [self._expression(writer, rows, population, one, delay, units) for one in factor.arguments]
            name = f"f{len(writer.parts)}"
            writer.function(name, factor.fn)
            arguments = [text for text, _ in made]
            arguments += writer.constants(f"k{len(writer.block)}_", factor.constants, units)
            return f"{name}({', '.join(arguments)})", min(late for _, late in made)
        name, late = f"x{len(rows)}", delay
        before = isinstance(factor, Trace) and factor.read == "before"
        late += before
        source = label(population, factor)
        if source.startswith(CONSTANT + ".") and isinstance(factor, Field):
            return "real(1)", 1
        writer.place(f"{name}_at", self.work.buffer(source).array, str(late))
        rows.append((name, f"{name}_at"))
        if not before:
            return f"{name}[i]", late if late or isinstance(factor, Field) else -1
        assert isinstance(factor, Trace)
        fade = writer.constants(f"k{len(writer.block)}_", (math.exp(-self.dt / factor.tau),), units)[0]
        return f"{fade} * {name}[i]", late
