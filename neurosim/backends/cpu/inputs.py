"""The inputs of one term at the end of a phase, as the kernel that forms the change reads them: lists of those that are
not zero, by pre neuron, or (where the pre factor is 1) one sum over all steps and rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurosim.backends.cpu.aligned import LINE
from neurosim.backends.cpu.listed import list_lanes
from neurosim.backends.cpu.writer import Kernel, Writer
from neurosim.types import Array

if TYPE_CHECKING:
    import torch


class Slots:
    """A kernel in the making whose sizes and addresses are set for each run, by name."""

    def __init__(self, dtype: str):
        self.writer = Writer(dtype)
        self.made: Kernel

    def last_step(self) -> None:
        """What follows is done in the last step of a batch."""
        self.writer.position()
        self.writer.line("if since != span - 1:")
        self.writer.line("return", 2)

    def numbers(self, *names: str) -> None:
        for name in names:
            self.writer.number(name, 0)

    def set(self, **values: int) -> None:
        """Sizes and addresses of this run."""
        for name, value in values.items():
            self.made.block[self.made.places[name]] = value


class Inputs(Slots):
    """Entries of `rows [R, K, Q]` that are not zero, by pre neuron, in the order of rows.

    `pointer [R, Q + 1]` says where the list of each begins in `where` (the row) and `given` (the value). A replica
    with more than `most` entries is `dense`, and its lists are empty.
    """

    def __init__(self, dtype: str, replicas: int, pres: int):
        super().__init__(dtype)
        self.size, self.real = (replicas, pres), np.dtype(dtype)
        self.pointer, self.free = (np.zeros((replicas, pres + 1), np.int64) for _ in range(2))
        self.dense = np.zeros(replicas, np.int64)
        self.room = self.rows = -1
        writer, size = self.writer, self.real.itemsize
        self.numbers("K", "most", "room", "rows_at", "column_at", "ends_at", "where_at", "given_at")
        writer.number("Q", pres)
        writer.number("whole", pres - pres % (LINE // size))
        writer.address("pointer_at", self.pointer)
        writer.address("free_at", self.free)
        writer.array("dense", self.dense, "integers")
        writer.scope["list_lanes"] = list_lanes
        self.last_step()
        writer.line("for r in range(r0, r1):")
        writer.row("x", "rows_at", "r * K * Q", 2)
        for name, kind, width in (("column", "indices", 4), ("where", "indices", 4), ("given", "reals", size)):
            writer.line(f"{name} = carray({kind}({name}_at + r * room * {width}), (1,))", 2)
        writer.line("ends = carray(integers(ends_at + r * K * 8), (1,))", 2)
        for name in ("pointer", "free"):
            writer.line(f"{name} = carray(integers({name}_at + r * (Q + 1) * 8), (1,))", 2)
        self._columns(size)
        self._sorted()
        self.made = writer.done()

    def _columns(self, size: int) -> None:
        """The columns of each row, row after row; `ends`: where those of a row end."""
        line = self.writer.line
        line("count = 0", 2)
        line("for k in range(K):", 2)
        line(f"for j in range(0, whole, {LINE // size}):", 3)
        line(f"at = rows_at + ((r * K + k) * Q + j) * {size}", 4)
        line("count += list_lanes(x, at, j, column_at + (r * room + count) * 4)", 4)
        line("for j in range(whole, Q):", 3)  # written always, kept where it is not zero: no branch to guess
        line("column[u(count)] = j", 4)
        line("count += x[u(k * Q + j)] != real(0)", 4)
        line("ends[u(k)] = count", 3)
        line("if count > most:", 3)
        line("break", 4)
        line("if count > most:", 2)
        line("dense[u(r)] = 1", 3)
        line("count = 0", 3)

    def _sorted(self) -> None:
        """Columns counted, then each entry put to its column."""
        line = self.writer.line
        line("for j in range(Q + 1):", 2)
        line("pointer[u(j)] = 0", 3)
        line("for n in range(count):", 2)
        line("pointer[u(column[u(n)] + 1)] += 1", 3)
        line("total = 0", 2)
        line("for j in range(Q + 1):", 2)
        line("total += pointer[u(j)]", 3)
        line("pointer[u(j)] = total", 3)
        line("free[u(j)] = total", 3)
        line("n, k = 0, 0", 2)
        line("while n < count:", 2)
        line("while n < ends[u(k)]:", 3)
        line("j = column[u(n)]", 4)
        line("place = free[u(j)]", 4)
        line("where[u(place)] = k", 4)
        line("given[u(place)] = x[u(k * Q + j)]", 4)
        line("free[u(j)] = place + 1", 4)
        line("n += 1", 4)
        line("k += 1", 3)

    @property
    def too_many(self) -> bool:
        """Is any replica `dense`?"""
        return any(self.dense.tolist())  # 0.2 us; NumPy's own takes 10 where its code is no longer in a cache

    def begin(self, given: torch.Tensor, rows: int, most: int) -> dict[str, int]:
        """List `given [R, K, Q]`, K = `rows`, from now on; where the kernel that reads the lists finds them."""
        replicas, pres = self.size
        room = most + pres + 1
        if (room, rows) != (self.room, self.rows):
            self.room, self.rows = room, rows
            self._kept: list[Array] = [np.empty((replicas, room), np.int32) for _ in range(2)]
            self._kept += [np.empty((replicas, room), self.real), np.empty((replicas, self.rows), np.int64)]
            column, where, value, ends = (one.ctypes.data for one in self._kept)
            self.set(
                K=self.rows, most=most, room=room, column_at=column, where_at=where, given_at=value, ends_at=ends
            )  # fmt: skip
            self._lists = {"begin": self.pointer.ctypes.data, "where": where, "given": value, "room": room}
        self.dense[...] = 0
        self.set(rows_at=given.data_ptr())
        return self._lists


class Total(Slots):
    """The sum of `rows [R, K, P]` over K, in the order of rows."""

    def __init__(self, dtype: str, replicas: int, posts: int):
        super().__init__(dtype)
        self.total = np.zeros((replicas, posts), dtype)
        self.numbers("K", "rows_at")
        writer = self.writer
        writer.number("P", posts)
        writer.address("o_at", self.total)
        self.last_step()
        writer.line("for r in range(r0, r1):")
        writer.row("o", "o_at", "r * P", 2)
        writer.line("for n in range(P):", 2)
        writer.line("o[u(n)] = real(0)", 3)
        writer.line("for k in range(K):", 2)
        writer.row("x", "rows_at", "(r * K + k) * P", 3)
        writer.line("for n in range(P):", 3)
        writer.line("o[u(n)] += x[u(n)]", 4)
        self.made = writer.done()
