"""Products with inputs of which some are zero: for a row of inputs, those that are not are listed, then the weights of
the listed pre neurons are added up for as many post neurons as four vector registers hold. Each sum adds its inputs in
their order, one by one.

A row by itself reads its weights where they lie (`dense_row`). For many rows weights lie in tiles, pre neuron after pre
neuron, and all rows visit one tile before the next: 784 x 64 weights stay in the second cache.

Written for LLVM, whose vectoriser leaves such sums in memory: 16 rows of 784 -> 1024 with 5 % of the inputs took 73 to
88 us with sums in memory, and take 28 this way.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.backends.cpu import aligned
from neurosim.backends.cpu.aligned import LINE
from neurosim.backends.cpu.machine import REALS, indices
from neurosim.types import Array

REGISTERS = 4  # sums of a tile; with 8 its weights leave less of the second cache to the rest: 30 in place of 28 us

_WORD, _INDEX = ir.IntType(64), ir.IntType(32)
_REALS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


def tile_width(dtype: Any) -> int:
    """Post neurons of a tile."""
    return REGISTERS * LINE // int(np.dtype(dtype).itemsize)


class _Vectors:
    """Vector code for reals like `kind`, the type of one or of an array of them."""

    def __init__(self, builder: ir.IRBuilder, kind: Any):
        real = kind.dtype if isinstance(kind, types.Array) else kind
        self.builder, self.real, self.bytes = builder, _REALS[real], real.bitwidth // 8
        self.lanes = LINE // self.bytes
        self.vector = ir.VectorType(self.real, self.lanes)
        self.nothing = self.vector([0.0] * self.lanes)

    def at(self, address: Any, place: Any, size: int) -> Any:
        """The address of an element of `size` bytes."""
        return self.builder.add(address, self.builder.mul(place, _WORD(size)))

    def load(self, address: Any, kind: Any, align: int) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def spread(self, value: Any, count: int) -> Any:
        """A number in all lanes."""
        kind = ir.VectorType(value.type, count)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, _INDEX(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, count), [0] * count))


class _Sums(_Vectors):
    """One row's sums in `registers` registers, of whose last only `left` lanes are post neurons (None: all)."""

    def __init__(self, builder: ir.IRBuilder, kind: Any, registers: int, left: Any):
        super().__init__(builder, kind)
        self.registers = registers
        self.mask: Any = None
        if left is not None:
            places = ir.VectorType(_INDEX, self.lanes)
            many = self.spread(builder.trunc(left, _INDEX), self.lanes)
            self.mask = builder.icmp_signed("<", places(list(range(self.lanes))), many)

    def add(
        self, weights: Any, pitch: Any, index: Any, values: Any, count: Any, out: Any, given: str, fresh: bool
    ) -> None:
        """Sums of the weights whose pre neurons are `index`; for the arguments see `sums`."""
        build = self.builder
        start = [self.nothing if fresh else self._read(out, number, self.bytes) for number in range(self.registers)]
        before, loop, after = build.block, build.append_basic_block("inputs"), build.append_basic_block("stored")
        build.cbranch(build.icmp_signed(">", count, _WORD(0)), loop, after)
        build.position_at_end(loop)
        k = build.phi(_WORD)
        totals = [build.phi(self.vector) for _ in start]
        j = build.zext(self.load(self.at(index, k, 4), _INDEX, 4), _WORD)
        row = build.add(weights, build.mul(j, pitch))
        terms = [self._read(row, number, self.bytes) for number in range(self.registers)]
        if given != "ones":
            place = self.at(values, j if given == "by pre" else k, self.bytes)
            value = self.spread(self.load(place, self.real, self.bytes), self.lanes)
            terms = [build.fmul(one, value) for one in terms]
        added = [build.fadd(total, one) for total, one in zip(totals, terms, strict=True)]
        following = build.add(k, _WORD(1))
        for phi, first, then in ((k, _WORD(0), following), *zip(totals, start, added, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        build.cbranch(build.icmp_signed("<", following, count), loop, after)
        build.position_at_end(after)
        results = [build.phi(self.vector) for _ in start]
        for number, result in enumerate(results):
            result.add_incoming(start[number], before)
            result.add_incoming(added[number], loop)
        for number, result in enumerate(results):
            self._write(result, out, number)

    def _partial(self, number: int) -> bool:
        return self.mask is not None and number == self.registers - 1

    def _read(self, address: Any, number: int, align: int) -> Any:
        place = self.at(address, _WORD(number), LINE)
        if not self._partial(number):
            return self.load(place, self.vector, align)
        pointer = self.builder.inttoptr(place, self.vector.as_pointer())
        kind = ir.FunctionType(self.vector, [pointer.type, _INDEX, self.mask.type, self.vector])
        return self._masked("load", kind, pointer, _INDEX(align), self.mask, self.nothing)

    def _write(self, value: Any, address: Any, number: int) -> None:
        pointer = self.builder.inttoptr(self.at(address, _WORD(number), LINE), self.vector.as_pointer())
        if not self._partial(number):
            self.builder.store(value, pointer).align = self.bytes
            return
        kind = ir.FunctionType(ir.VoidType(), [self.vector, pointer.type, _INDEX, self.mask.type])
        self._masked("store", kind, value, pointer, _INDEX(self.bytes), self.mask)

    def _masked(self, what: str, kind: Any, *arguments: Any) -> Any:
        name = f"llvm.masked.{what}.v{self.lanes}f{8 * self.bytes}.p0"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)


def sums(registers: int = REGISTERS, *, partial: bool = False, given: str = "listed", fresh: bool = True) -> Any:
    """(kind, weights, pitch, index, values, count, out, left): out_p = sum over k < count of weight[index_k, p] times
    an input, for as many post neurons p as `registers` registers hold, the last of them `left` lanes if `partial`.

    `kind` is one of the reals, or an array of them. Weight rows lie `pitch` bytes apart; all but `pitch`, `count` and
    `left` are addresses. The input is values_k ("listed"), that of the pre neuron ("by pre"), or 1 ("ones"). Not
    `fresh`: the sums are added to `out`.
    """

    @intrinsic
    def add(typing_context, kind, weights, pitch, index, values, count, out, left):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            weights, pitch, index, values, count, out, left = arguments[1:]
            made = _Sums(builder, signature.args[0], registers, left if partial else None)
            made.add(weights, pitch, index, values, count, out, given, fresh)
            return context.get_dummy_value()

        return types.void(kind, *(types.int64,) * 7), generate

    return add


@intrinsic
def list_lanes(typing_context, kind, row, first, index):  # type: ignore[no-untyped-def]
    """Store the places first + k of the reals at address `row` that are not zero at address `index`, for the lanes k;
    how many there are. (One by one the same took 15 us where it takes 5, for 16 rows of 784.)
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        own = _Vectors(builder, signature.args[0])
        given = own.load(arguments[1], own.vector, own.bytes)
        found = builder.fcmp_unordered("!=", given, own.nothing)
        places = ir.VectorType(_INDEX, own.lanes)
        first = own.spread(builder.trunc(arguments[2], _INDEX), own.lanes)
        where = builder.inttoptr(arguments[3], _INDEX.as_pointer())
        store = ir.FunctionType(ir.VoidType(), [places, where.type, found.type])
        name = f"llvm.masked.compressstore.v{own.lanes}i32"
        function = cgutils.get_or_insert_function(builder.module, store, name)
        builder.call(function, [builder.add(first, places(list(range(own.lanes)))), where, found])
        bits = builder.bitcast(found, ir.IntType(own.lanes))
        return builder.zext(builder.ctpop(bits), _WORD)

    return types.int64(kind, *(types.int64,) * 3), generate


@cache
def dense_row(dtype: str, fresh: bool) -> Any:
    """(weights, pres, posts, row, index, out), addresses but for the two sizes: out_p = sum_j weight[j, p] row_j for a
    row of inputs, or added to `out` if not `fresh`. `index` has room for `pres` int32.
    """
    real, reals, size = np.dtype(dtype).type, REALS[dtype], np.dtype(dtype).itemsize
    lanes, width = LINE // size, REGISTERS * LINE // size
    whole, wide = (sums(k, given="by pre", fresh=fresh) for k in (REGISTERS, 2 * REGISTERS))
    one, two, three, four = (sums(k, partial=True, given="by pre", fresh=fresh) for k in (1, 2, 3, 4))

    # Part of the kernel itself: a function of its own would have the same name for every dtype, and a kernel from the
    # cache would call the one that another process had made first.
    @numba.njit(error_model="numpy", forceinline=True)
    def row_product(weights, pres, posts, row, index, out):  # type: ignore[no-untyped-def]
        u, kind, count, tail = np.uint64, real(0), 0, pres - pres % lanes
        inputs, listed = numba.carray(reals(row), (1,)), numba.carray(indices(index), (1,))
        for j in range(0, tail, lanes):
            count += list_lanes(kind, row + j * size, j, index + count * 4)
        for j in range(tail, pres):
            if inputs[u(j)] != kind:
                listed[u(count)] = j
                count += 1
        pitch, rest = posts * size, posts % width
        both = posts - posts % (2 * width)
        for p in range(0, both, 2 * width):
            wide(kind, weights + p * size, pitch, index, row, count, out + p * size, 0)
        for p in range(both, posts - rest, width):
            whole(kind, weights + p * size, pitch, index, row, count, out + p * size, 0)
        begin, left = (posts - rest) * size, (rest - 1) % lanes + 1
        if rest > 3 * lanes:
            four(kind, weights + begin, pitch, index, row, count, out + begin, left)
        elif rest > 2 * lanes:
            three(kind, weights + begin, pitch, index, row, count, out + begin, left)
        elif rest > lanes:
            two(kind, weights + begin, pitch, index, row, count, out + begin, left)
        elif rest > 0:
            one(kind, weights + begin, pitch, index, row, count, out + begin, left)

    return row_product


# ---- many rows -----------------------------------------------------------------------------------------------------


def tiles(weight: Array) -> Array:
    """`weight [P, Q]` as `[tiles, Q, width]`, zeros behind the last post neuron."""
    posts, pres = weight.shape
    width = tile_width(weight.dtype)
    made = aligned.zeros((-(-posts // width), pres, width), weight.dtype)
    whole = posts // width * width
    made[: posts // width] = weight[:whole].reshape(-1, width, pres).transpose(0, 2, 1)
    if whole < posts:
        made[-1, :, : posts - whole] = weight[whole:].T
    return made


_sums, _sums_of_ones = sums(), sums(given="ones")  # of spikes, which are all 1: no product, the same bits


@numba.njit(nogil=True, cache=True, error_model="numpy")
def nonzero_inputs(rows, most):  # type: ignore[no-untyped-def]
    """Where `rows [K, Q]` are not zero: `pointer [K + 1]`, columns and values, and whether no more than `most` are."""
    u, count, size, room = np.uint64, 0, rows.itemsize, most + rows.shape[1] + 1
    pointer, index, value = np.zeros(len(rows) + 1, np.int64), np.empty(room, np.int32), np.empty(room, rows.dtype)
    lanes = LINE // size
    whole = rows.shape[1] - rows.shape[1] % lanes
    for k in range(rows.shape[0]):
        start, row = count, rows.ctypes.data + k * rows.shape[1] * size
        for j in range(0, whole, lanes):
            count += list_lanes(rows, row + j * size, j, index.ctypes.data + count * 4)
        for j in range(whole, rows.shape[1]):
            index[u(count)] = j
            count += rows[u(k), u(j)] != 0
        if count > most:
            return pointer, index, value, False
        for n in range(start, count):
            value[u(n)] = rows[u(k), u(index[u(n)])]
        pointer[k + 1] = count
    return pointer, index, value, True


@numba.njit(nogil=True, error_model="numpy")
def _ones(pointer, value):  # type: ignore[no-untyped-def]
    others = 0
    for n in range(pointer[len(pointer) - 1]):
        others += value[np.uint64(n)] != 1
    return others == 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def listed_product(pointer, index, value, parts, out):  # type: ignore[no-untyped-def]
    """out_kp = sum of value times weight_pj over the inputs j listed for row k, in their order; `tiles(weight)`."""
    u, width, posts, size = np.uint64, parts.shape[2], out.shape[1], out.itemsize
    scratch, ones = np.empty(width, out.dtype), _ones(pointer, value)
    for tile in range(parts.shape[0]):
        first = tile * width
        part = parts[tile].ctypes.data
        whole = first + width <= posts
        for k in range(out.shape[0]):
            at = pointer[u(k)]
            count, listed = pointer[u(k + 1)] - at, index.ctypes.data + at * 4
            place = out.ctypes.data + (k * posts + first) * size if whole else scratch.ctypes.data
            if ones:
                _sums_of_ones(out, part, REGISTERS * LINE, listed, 0, count, place, 0)
            else:
                _sums(out, part, REGISTERS * LINE, listed, value.ctypes.data + at * size, count, place, 0)
            if not whole:
                for p in range(posts - first):
                    out[u(k), u(first + p)] = scratch[u(p)]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def laid_product(pointer, index, value, weight, out):  # type: ignore[no-untyped-def]
    """The same with `weight [Q, P]` by pre neuron, of which a tile is some columns."""
    u, posts, size = np.uint64, out.shape[1], out.itemsize
    width, ones = REGISTERS * LINE // size, _ones(pointer, value)
    whole = posts - posts % width
    for first in range(0, whole, width):
        part = weight.ctypes.data + first * size
        for k in range(out.shape[0]):
            at = pointer[u(k)]
            count, listed = pointer[u(k + 1)] - at, index.ctypes.data + at * 4
            place = out.ctypes.data + (k * posts + first) * size
            if ones:
                _sums_of_ones(out, part, posts * size, listed, 0, count, place, 0)
            else:
                _sums(out, part, posts * size, listed, value.ctypes.data + at * size, count, place, 0)
    for k in range(out.shape[0]):
        out[u(k), whole:] = 0
        for n in range(pointer[u(k)], pointer[u(k + 1)]):
            row = u(index[u(n)])
            for p in range(whole, posts):
                out[u(k), u(p)] += weight[row, u(p)] * value[u(n)]
