"""Products with inputs of which few are not zero: for every row of inputs, the sum of the weights that are listed.

Weights lie in tiles of as many post neurons as four vector registers hold, pre neuron after pre neuron. All rows of
inputs visit one tile before the next (784 x 64 weights stay in the second cache), and the sums of a row stay in
registers while its list is read. Each sum adds its inputs in their order, one by one.

Written for LLVM, whose vectoriser leaves such sums in memory: 784 -> 1024 with 5 % of the inputs took 73 to 88 us for
16 rows with sums in memory, and takes 28 this way.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.backends.cpu import aligned
from neurosim.backends.cpu.aligned import LINE
from neurosim.types import Array

REGISTERS = 4  # sums of a tile; with 8 its weights leave less of the second cache to the rest: 30 in place of 28 us

_WORD, _INDEX = ir.IntType(64), ir.IntType(32)


def tile_width(dtype: Any) -> int:
    """Post neurons of a tile."""
    return REGISTERS * LINE // int(np.dtype(dtype).itemsize)


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


def _sums_of(ones: bool) -> Any:
    @intrinsic
    def sums(typing_context, kind, part, pitch, index, value, count, out):  # type: ignore[no-untyped-def]
        """out_p = sum over k < count of part[index_k, p] value_k, for the post neurons of a tile.

        Its rows lie `pitch` bytes apart; all but `pitch` and `count` are addresses; `kind` is any array of the reals.
        """

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            real = ir.FloatType() if signature.args[0].dtype == types.float32 else ir.DoubleType()
            _, part, pitch, index, value, count, out = arguments
            _Tile(builder, real).sums(part, pitch, index, value, count, out, ones)
            return context.get_dummy_value()

        return types.void(kind, *(types.int64,) * 6), generate

    return sums


_sums, _sums_of_ones = _sums_of(False), _sums_of(True)  # of spikes, which are all 1: no product, the same bits


class _Tile:
    """Vector code of one row's sums."""

    def __init__(self, builder: ir.IRBuilder, real: Any):
        self.builder, self.real = builder, real
        self.bytes = 4 if isinstance(real, ir.FloatType) else 8
        self.lanes = LINE // self.bytes
        self.vector = ir.VectorType(real, self.lanes)

    def sums(self, part: Any, pitch: Any, index: Any, given: Any, count: Any, out: Any, ones: bool) -> None:
        build, nothing = self.builder, self.vector([0.0] * self.lanes)
        before, loop, after = build.block, build.append_basic_block("inputs"), build.append_basic_block("stored")
        build.cbranch(build.icmp_signed(">", count, _WORD(0)), loop, after)
        build.position_at_end(loop)
        k = build.phi(_WORD)
        totals = [build.phi(self.vector) for _ in range(REGISTERS)]
        j = build.zext(self._load(self._at(index, k, 4), _INDEX, 4), _WORD)
        weights = build.add(part, build.mul(j, pitch))
        loaded = [self._load(self._at(weights, _WORD(number), LINE), self.vector, 16) for number in range(REGISTERS)]
        if not ones:
            value = self._spread(self._load(self._at(given, k, self.bytes), self.real, self.bytes))
            loaded = [build.fmul(one, value) for one in loaded]
        added = [build.fadd(total, one) for total, one in zip(totals, loaded, strict=True)]
        following = build.add(k, _WORD(1))
        for phi, first, then in ((k, _WORD(0), following), *zip(totals, [nothing] * REGISTERS, added, strict=True)):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        build.cbranch(build.icmp_signed("<", following, count), loop, after)
        build.position_at_end(after)
        for number, one in enumerate(added):
            result = build.phi(self.vector)
            result.add_incoming(nothing, before)
            result.add_incoming(one, loop)
            added[number] = result
        for number, result in enumerate(added):
            place = build.inttoptr(self._at(out, _WORD(number), LINE), self.vector.as_pointer())
            build.store(result, place).align = self.bytes

    def _at(self, address: Any, place: Any, size: int) -> Any:
        return self.builder.add(address, self.builder.mul(place, _WORD(size)))

    def _load(self, address: Any, kind: Any, align: int) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = align
        return value

    def _spread(self, value: Any) -> Any:
        """A number in all lanes."""
        one = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), value, _INDEX(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, self.lanes), [0] * self.lanes))


@intrinsic
def list_lanes(typing_context, kind, row, first, index):  # type: ignore[no-untyped-def]
    """Store the places first + k of the reals at address `row` that are not zero at address `index`, for the lanes k;
    how many there are. (One by one the same took 15 us where it takes 5, for 16 rows of 784.)
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FloatType() if signature.args[0].dtype == types.float32 else ir.DoubleType()
        tile = _Tile(builder, kind)
        given = tile._load(arguments[1], tile.vector, tile.bytes)
        found = builder.fcmp_unordered("!=", given, tile.vector([0.0] * tile.lanes))
        places = ir.VectorType(_INDEX, tile.lanes)
        base = builder.insert_element(ir.Constant(places, ir.Undefined), builder.trunc(arguments[2], _INDEX), _INDEX(0))
        spread = builder.shuffle_vector(base, base, places([0] * tile.lanes))
        where = builder.inttoptr(arguments[3], _INDEX.as_pointer())
        store = ir.FunctionType(ir.VoidType(), [places, where.type, found.type])
        name = f"llvm.masked.compressstore.v{tile.lanes}i32"
        function = cgutils.get_or_insert_function(builder.module, store, name)
        builder.call(function, [builder.add(spread, places(list(range(tile.lanes)))), where, found])
        bits = builder.bitcast(found, ir.IntType(tile.lanes))
        return builder.zext(builder.ctpop(bits), _WORD)

    return types.int64(kind, *(types.int64,) * 3), generate


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
                _sums_of_ones(out, part, REGISTERS * LINE, listed, 0, count, place)
            else:
                _sums(out, part, REGISTERS * LINE, listed, value.ctypes.data + at * size, count, place)
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
                _sums_of_ones(out, part, posts * size, listed, 0, count, place)
            else:
                _sums(out, part, posts * size, listed, value.ctypes.data + at * size, count, place)
    for k in range(out.shape[0]):
        out[u(k), whole:] = 0
        for n in range(pointer[u(k)], pointer[u(k + 1)]):
            row = u(index[u(n)])
            for p in range(whole, posts):
                out[u(k), u(p)] += weight[row, u(p)] * value[u(n)]
