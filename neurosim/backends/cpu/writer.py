"""Writing a kernel: what its arguments are called and where they lie; the text decides what has to be compiled.

The text names structure only (which arrays there are, how they are read); sizes, addresses and parameters stay in the
block, so that a kernel is compiled once per kind of neuron, rule or projection, and not once per network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import carray

from neurosim.backends.cpu import machine
from neurosim.backends.cpu.cache import compiled, fingerprint, surrogate_fingerprint
from neurosim.backends.specialise import for_numba
from neurosim.surrogate import Surrogate
from neurosim.types import Array

COUNTS = {"uint8": "octets", "uint16": "shorts"}  # types in which states are kept that are counts, and their pointers
_ARGUMENTS = "block, t, r0, r1, b0, b1, n0, n1, part, lane"


@dataclass
class Buffer:
    """Values by replica, row and unit: `array [slots, R, B, N]`; step t is in slot t % slots, older steps behind it.

    A `passing` one holds a part of a population at a time, `array [1, lanes, 1, longest part]`: it stays in the cache.
    """

    array: Array
    passing: bool = False

    @property
    def slots(self) -> int:
        return len(self.array)

    def at(self, step: int) -> Array:
        """The values `[R, B, N]` of a step."""
        values: Array = self.array[step % self.slots]
        return values


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel with its block; `keeps` are the arrays that its addresses point to.

    With `bounds` it may be run part by part of the population; `at_once` says that it reads what others wrote in the
    same step.
    """

    address: int
    block: Array
    keeps: tuple[Any, ...]
    drives: dict[str, tuple[int, bool]]  # drive -> (place in the block, held)
    starts: tuple[int, ...]  # places in the block that take the clock of the run's first step
    spans: tuple[int, ...]  # places in the block that take the number of steps for which a batch is shown
    places: dict[str, int]  # of numbers and addresses in the block
    bounds: tuple[int, ...] = ()
    units: int = 0  # of a kernel without bounds, where it asks for them
    at_once: bool = True

    def begin(self, clock: int, span: int) -> None:
        """A run begins at `clock`, in which each batch is shown for `span` steps."""
        for place in self.starts:
            self.block[place] = clock
        for place in self.spans:
            self.block[place] = span

    def feed(self, name: str, array: Array | Laid, rows: int) -> None:
        """Point the kernel to this run's drive `[T, R, K * rows, N]` or `[R, K * rows, N]`, `rows` shown at a time."""
        (place, held), block = self.drives[name], self.block
        address, step, replica, row, size, _ = array if isinstance(array, Laid) else laid(array)
        block[place] = address
        block[place + 1] = 0 if held else step
        block[place + 2] = replica
        block[place + 3] = row
        block[place + 4] = rows * row * size


class Laid(NamedTuple):
    """Where an array `[T, R, B, N]` or `[R, B, N]` lies: a step is so many bytes, replicas and rows so many entries."""

    address: int
    step: int
    replica: int
    row: int
    size: int  # bytes of an entry
    keeps: Any  # what holds the memory


def laid(array: Array) -> Laid:
    strides, size = array.strides, array.itemsize
    return Laid(array.ctypes.data, strides[0], strides[-3] // size, strides[-2] // size, size, array)


class Writer:
    """A kernel in the making, for reals of one dtype."""

    def __init__(self, dtype: str):
        self.dtype, self.real = dtype, np.dtype(dtype)
        self.block: list[int] = []
        self.head: list[str] = []
        self.body: list[str] = []
        self.keeps: list[Any] = []
        self.drives: dict[str, tuple[int, bool]] = {}
        self.starts: list[int] = []
        self.spans: list[int] = []
        self.places: dict[str, int] = {}
        self.bounds: tuple[int, ...] = ()
        self.units = 0
        self.at_once = False
        self.parts: list[str] = [dtype]
        self.scope: dict[str, Any] = {
            "carray": carray, "integers": machine.integers, "indices": machine.indices,
            "shorts": machine.shorts, "octets": machine.octets, "u": np.uint64, "np": np,
            "reals": machine.REALS[dtype], "real": self.real.type,
        }  # fmt: skip

    # ---- arguments --------------------------------------------------------------------------------------------------

    def number(self, name: str, value: int) -> None:
        """An integer."""
        self.places[name] = len(self.block)
        self.head.append(f"{name} = p[{len(self.block)}]")
        self.block.append(int(value))

    def start(self, name: str) -> None:
        """The clock at which the run begins."""
        self.starts.append(len(self.block))
        self.number(name, 0)

    def position(self) -> None:
        """`turn`, the batches that were shown in this run before, and `since`, the steps of this one so far."""
        if not self.spans:
            self.start("run_start")
            self.spans.append(len(self.block))
            self.number("span", 1)
            self.head.append("turn = (t - run_start) // span; since = t - run_start - turn * span")

    def array(self, name: str, array: Array, kind: str = "reals") -> None:
        """A whole array, by its flat index."""
        self.keeps.append(array)
        self.places[name] = len(self.block)
        self.head.append(f"{name} = carray({kind}(p[{len(self.block)}]), (1,))")
        self.block.append(array.ctypes.data)

    def address(self, name: str, array: Array) -> None:
        """Where an array begins."""
        self.keeps.append(array)
        self.places[name] = len(self.block)
        self.head.append(f"{name} = p[{len(self.block)}]")
        self.block.append(array.ctypes.data)

    def place(self, name: str, array: Array, delay: str = "0") -> None:
        """The address of this step's slot of a buffer `[slots, ...]` (of the slot `delay` steps ago)."""
        self.keeps.append(array)
        slots, at = len(array), len(self.block)
        self.block += [array.ctypes.data, slots, array.strides[0]]
        if slots == 1 and delay == "0":
            self.head.append(f"{name} = p[{at}]")
        else:
            self.head.append(f"{name} = p[{at}] + ((t - {delay}) % p[{at + 1}]) * p[{at + 2}]")

    def drive(self, name: str, drive: str, held: bool) -> None:
        """A drive of the phase: `name` its address in this step, `name_r` and `name_b` its strides."""
        self.position()
        at = len(self.block)
        self.drives[drive] = at, held
        self.block += [0, 0, 0, 0, 0]
        self.head.append(f"{name} = p[{at}] + since * p[{at + 1}] + turn * p[{at + 4}]")
        self.head.append(f"{name}_r = p[{at + 2}]; {name}_b = p[{at + 3}]")

    def constants(self, name: str, values: tuple[Any, ...], units: int) -> list[str]:
        """Numbers, or arrays `[N]`, `[R, N]`: the expression of each at replica r and unit i."""
        numbers = [value for value in values if np.ndim(value) == 0]
        self.array(f"{name}_all", np.array([float(value) for value in numbers] or [0.0], self.real))
        expressions = []
        for index, value in enumerate(values):
            own = f"{name}{index}"
            if np.ndim(value) == 0:
                place = sum(np.ndim(other) == 0 for other in values[:index])
                self.head.append(f"{own} = {name}_all[{place}]")
                expressions.append(own)
            else:
                spread = np.ascontiguousarray(np.reshape(value, (-1, units)), dtype=self.real)
                self.array(own, spread)
                self.number(f"{own}_r", units if len(spread) > 1 else 0)
                expressions.append(f"{own}[u(r * {own}_r) + i]")
        return expressions

    def function(self, name: str, step: Callable[..., Any], surrogate: Surrogate | None = None) -> None:
        """A step function, specialised for numba, as a global of the kernel."""
        self.scope[name] = for_numba(step, surrogate, self.dtype)
        self.parts += [name, fingerprint(step), surrogate_fingerprint(surrogate)]

    # ---- text -------------------------------------------------------------------------------------------------------

    def line(self, text: str, depth: int = 1) -> None:
        self.body.append("    " * depth + text)

    def rows(self) -> None:
        """Open the loops over this share's replicas r and rows b."""
        self.line("for r in range(r0, r1):")
        self.line("for b in range(b0, b1):", 2)

    def values(self, name: str, buffer: Buffer, delay: str = "0", units: str = "N") -> None:
        """`name` becomes the values of a replica's row r, b by unit; of a passing buffer those of this part."""
        self.place(f"{name}_at", buffer.array, delay)
        offset = f"(r * B + b) * {units}"
        if buffer.passing:
            self.number(f"{name}_width", buffer.array.shape[-1])
            offset = f"lane * {name}_width - n0"
        self.row(name, f"{name}_at", offset, dtype=buffer.array.dtype)

    def row(self, name: str, address: str, offset: str, depth: int = 3, dtype: Any = None) -> None:
        """`name` becomes the array of reals (of another `dtype`) that starts `offset` of them behind an address."""
        kind = np.dtype(dtype or self.real)
        pointer = COUNTS.get(kind.name, "reals")
        self.line(f"{name} = carray({pointer}({address} + ({offset}) * {kind.itemsize}), (1,))", depth)

    def done(self) -> Kernel:
        """Compile (or find) the kernel."""
        lines = [f"def kernel({_ARGUMENTS}):", f"    p = carray(integers(block), ({len(self.block)},))"]
        text = "\n".join([*lines, *("    " + line for line in self.head), *self.body]) + "\n"
        made = compiled(text, self.scope, tuple(self.parts))
        block = np.array(self.block, np.int64)
        starts, spans = tuple(self.starts), tuple(self.spans)
        rest = starts, spans, self.places, self.bounds, self.units, self.at_once
        return Kernel(made.address, block, tuple(self.keeps), self.drives, *rest)
