"""Lists of the units of a population that are not zero in a step: made while the population is integrated, read by
deliveries and recordings.

Every part of the population keeps its own list, so that threads need not ask each other for a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosim.backends.cpu import aligned
from neurosim.backends.cpu.machine import ANY_BIT, NOT_ZERO, SCAN, bits, lowest
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.types import Array

FIRST_EVENT = "first"  # in the block of a recording: its first step
APART = aligned.PAIR // 4  # int32 between parts: no two threads write to one pair of lines of the cache
BLOCK = 1024  # units integrated before they are looked at: their values (8 kB) are still in the first cache
FLAGS = 4096  # the same where a byte says whether there is a spike; a multiple of SCAN


@dataclass(frozen=True)
class Lists:
    """`unit [slots, R, B, N + APART parts]` int32: for each part how many units it lists, and right behind that number
    (another thread gets both with one line) room for all of them; `value [slots, R, B, N]`: theirs. `bounds` are those
    of the parts.
    """

    unit: Array
    value: Array
    bounds: tuple[int, ...]

    @property
    def parts(self) -> int:
        return len(self.bounds) - 1

    def place(self, part: int) -> int:
        """Where a part says how many units it lists."""
        return self.bounds[part] + APART * part

    def take(self, values: Array, slot: int) -> None:
        """List `values [R, B, N]` in a slot."""
        unit, value = self.unit[slot], self.value[slot]
        for r, b in np.ndindex(values.shape[:2]):
            for part in range(self.parts):
                first, stop = self.bounds[part], self.bounds[part + 1]
                found = np.flatnonzero(values[r, b, first:stop]) + first
                at = self.place(part)
                unit[r, b, at] = len(found)
                unit[r, b, at + 1 :][: len(found)] = found
                value[r, b, first : first + len(found)] = values[r, b, found]

    def give(self, values: Array, slot: int) -> None:
        """Fill `values [R, B, N]` from the lists of a slot."""
        values[...] = 0.0
        for r, b in np.ndindex(values.shape[:2]):
            for part, first in enumerate(self.bounds[:-1]):
                at = self.place(part)
                count = self.unit[slot, r, b, at]
                found = self.unit[slot, r, b, at + 1 :][:count]
                values[r, b, found] = self.value[slot, r, b, first : first + count]


def empty(slots: int, size: tuple[int, int], bounds: tuple[int, ...], dtype: np.dtype) -> Lists:
    """No unit in any list."""
    units = bounds[-1]
    length = units + APART * (len(bounds) - 1)
    return Lists(aligned.zeros((slots, *size, length), np.int32), aligned.zeros((slots, *size, units), dtype), bounds)


# ---- text ------------------------------------------------------------------------------------------------------------


def _name_length(writer: Writer, lists: Lists) -> None:
    writer.number("length", lists.unit.shape[-1])
    writer.number("apart", APART)


def open_list(writer: Writer, lists: Lists) -> None:
    """Name the lists of this step's row, `listed` and `held`; nothing is in that of this part."""
    _name_length(writer, lists)
    writer.place("listed_at", lists.unit)
    writer.place("held_at", lists.value)
    writer.line("listed = carray(indices(listed_at + (r * B + b) * length * 4), (1,))", 3)
    writer.row("held", "held_at", "(r * B + b) * N")
    writer.line("count, head = 0, part * apart + 1", 3)


def name_lists(writer: Writer, lists: Lists, delay: str, depth: int = 3) -> None:
    """Name the lists `listed` of Q units that arrive in the row r, b, and the values `held`."""
    writer.number("lists", lists.parts)
    _name_length(writer, lists)
    writer.array("begin", np.array(lists.bounds, np.int64), "integers")
    writer.place("listed_at", lists.unit, delay)
    writer.place("held_at", lists.value, delay)
    writer.line("listed = carray(indices(listed_at + (r * B + b) * length * 4), (1,))", depth)
    writer.row("held", "held_at", "(r * B + b) * Q", depth)


def visit(writer: Writer, depth: int, place: str = "n") -> None:
    """Open a loop, two levels deep, over the places of all units in the lists that have a name."""
    writer.line("for s in range(lists):", depth)
    writer.line("head = s * apart + 1", depth + 1)
    writer.line(f"for {place} in range(begin[u(s)], begin[u(s)] + listed[u(begin[u(s)] + s * apart)]):", depth + 1)


def scan(writer: Writer, name: str, address: str, start: str, stop: str, depth: int) -> None:
    """List the units of `start` to `stop` where `name` is not zero; unit 0 lies at `address`."""
    writer.scope |= {
        "any_bit": ANY_BIT[writer.dtype],
        "not_zero": NOT_ZERO[writer.dtype],
        "lowest": lowest,
    }
    writer.line(f"whole = {start} + ({stop} - {start}) // {SCAN} * {SCAN}", depth)
    writer.line(f"for some in range({start}, whole, {SCAN}):", depth)
    writer.line(f"if any_bit({address} + some * {writer.real.itemsize}):", depth + 1)
    writer.line(f"marked = not_zero({address} + some * {writer.real.itemsize})", depth + 2)
    writer.line("while marked:", depth + 2)  # 15 of 1,000 units: 0.2 us, one by one 0.6
    writer.line("n = some + lowest(marked)", depth + 3)
    _append(writer, name, depth + 3)
    writer.line("marked &= marked - u(1)", depth + 3)
    writer.line(f"for n in range(whole, {stop}):", depth)
    writer.line(f"if {name}[u(n)] != real(0):", depth + 1)
    _append(writer, name, depth + 2)


def scan_flags(writer: Writer, name: str, start: str, stop: str, depth: int) -> None:
    """The same for values that are 0 or 1, of which a row of bytes at the address `name` has that of `start` first."""
    writer.scope |= {"bits": bits, "lowest": lowest}
    writer.line(f"for some in range({start}, {stop}, {SCAN}):", depth)
    writer.line(f"found = bits({name} + some - {start})", depth + 1)
    writer.line("while found != u(0):", depth + 1)
    writer.line("listed[u(head + n0 + count)] = some + lowest(found)", depth + 2)
    writer.line("held[u(n0 + count)] = real(1)", depth + 2)
    writer.line("count += 1", depth + 2)
    writer.line("found &= found - u(1)", depth + 2)


def _append(writer: Writer, name: str, depth: int) -> None:
    writer.line("listed[u(head + n0 + count)] = n", depth)
    writer.line(f"held[u(n0 + count)] = {name}[u(n)]", depth)
    writer.line("count += 1", depth)


def collect(dtype: str, size: tuple[int, int], source: Buffer, lists: Lists) -> Kernel:
    """List the units of a value that are not zero."""
    writer = Writer(dtype)
    writer.bounds = lists.bounds
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.rows()
    writer.values("x", source)
    open_list(writer, lists)
    scan(writer, "x", f"x_at + (r * B + b) * N * {writer.real.itemsize}", "n0", "n1", 3)
    writer.line("listed[u(n0 + head - 1)] = count", 3)
    return writer.done()


def restart_lists(dtype: str, batch: int, lists: Lists) -> Kernel:
    """When a batch begins, no unit is in a list of any slot."""
    writer = Writer(dtype)
    writer.number("B", batch)
    writer.number("N", lists.bounds[-1])
    writer.number("parts", lists.parts)
    _name_length(writer, lists)
    writer.array("begin", np.array(lists.bounds, np.int64), "integers")
    writer.number("slots", len(lists.unit))
    writer.number("stride", lists.unit.strides[0])
    writer.address("listed_at", lists.unit)
    writer.position()
    writer.line("if since != 0:")
    writer.line("return", 2)
    writer.line("for slot in range(slots):")
    writer.line("for r in range(r0, r1):", 2)
    writer.line("for b in range(b0, b1):", 3)
    writer.line("listed = carray(indices(listed_at + slot * stride + (r * B + b) * length * 4), (1,))", 4)
    writer.line("for k in range(parts):", 4)
    writer.line("listed[u(begin[u(k)] + k * apart)] = 0", 5)
    return writer.done()


def record_events(dtype: str, size: tuple[int, int], lists: Lists, count: Array, rows: Array, steps: int) -> Kernel:
    """Keep the lists as `rows [R, B, capacity, 2]` int32 (step since the first one, unit), every part from place
    `steps` x its first unit on; `count [R, B, parts, 16]` (two lines of the cache for each) of them are filled.
    """
    writer = Writer(dtype)
    writer.bounds = lists.bounds
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.number("parts", lists.parts)
    _name_length(writer, lists)
    writer.number("steps", steps)
    writer.number("capacity", rows.shape[2])
    writer.address("rows_at", rows)
    writer.place("listed_at", lists.unit)
    writer.number(FIRST_EVENT, 0)  # set for each stretch
    writer.array("count", count, "integers")
    writer.rows()
    writer.line("listed = carray(indices(listed_at + (r * B + b) * length * 4), (1,))", 3)
    writer.line("kept = carray(indices(rows_at + ((r * B + b) * capacity + steps * n0) * 8), (1,))", 3)
    writer.line("found = np.int64(listed[u(n0 + part * apart)])", 3)
    writer.line("if found == 0:", 3)
    writer.line("continue", 4)
    writer.line("place = ((r * B + b) * parts + part) * 16", 3)
    writer.line("filled = count[u(place)]", 3)
    writer.line("for n in range(found):", 3)
    writer.line("kept[u(2 * (filled + n))] = t - first", 4)
    writer.line("kept[u(2 * (filled + n) + 1)] = listed[u(n0 + part * apart + 1 + n)]", 4)
    writer.line("count[u(place)] = filled + found", 3)
    return writer.done()
