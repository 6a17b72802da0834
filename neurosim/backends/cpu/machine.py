"""The machine that runs a program: a table of kernels, called step after step from compiled code.

A kernel is a C function `(block, t, r0, r1, b0, b1, n0, n1, part, lane)`: `block` is the address of a table of integers
(addresses of arrays, sizes), `t` the clock; replicas r0..r1, batch rows b0..b1 and units n0..n1, the `part` of a
population, are its share; `lane` is the number of the thread. So a new network costs no compilation where its kernels
are known: the program is data.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ARGUMENTS = 10  # of a kernel
_BYTES = ir.IntType(8).as_pointer()
PATIENCE = 4096  # looks at a thread that is late before the processor is offered to others (some 50 us)


def _pointer(element: Any) -> Any:
    @intrinsic
    def pointer(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(element)))

        return types.CPointer(element)(types.int64), generate

    return pointer


integers, indices, shorts, octets, singles, doubles = (
    _pointer(kind) for kind in (types.int64, types.int32, types.uint16, types.uint8, types.float32, types.float64)
)
REALS = {"float32": singles, "float64": doubles}


def _any_bit(words: int) -> Any:
    """Is any bit set in that many 64-bit words at an address? As vectors: in a loop LLVM joined one word per cycle."""

    @intrinsic
    def any_bit(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            vector = ir.VectorType(ir.IntType(64), 8)
            at = builder.inttoptr(arguments[0], vector.as_pointer())
            loaded = [builder.load(builder.gep(at, [ir.IntType(32)(k)]), align=4) for k in range(words // 8)]
            while len(loaded) > 1:
                loaded = [builder.or_(a, b) for a, b in zip(loaded[::2], loaded[1::2], strict=True)]
            kind = ir.FunctionType(ir.IntType(64), [vector])
            name = "llvm.vector.reduce.or.v8i64"
            joined = builder.call(builder.module.declare_intrinsic(name, (), kind), loaded)
            return builder.icmp_unsigned("!=", joined, ir.IntType(64)(0))

        return types.boolean(types.int64), generate

    return any_bit


SCAN = 64  # values looked at together
ANY_BIT = {"float32": _any_bit(SCAN // 2), "float64": _any_bit(SCAN)}


def _not_zero(real: Any) -> Any:
    """A word in which bit k says whether value k of `SCAN` at an address is not zero."""

    @intrinsic
    def not_zero(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            vector = ir.VectorType(real(), SCAN)
            loaded = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()), align=4)
            return builder.bitcast(builder.fcmp_unordered("!=", loaded, vector([0.0] * SCAN)), ir.IntType(64))

        return types.uint64(types.int64), generate

    return not_zero


NOT_ZERO = {"float32": _not_zero(ir.FloatType), "float64": _not_zero(ir.DoubleType)}


@intrinsic
def bits(typing_context, address):  # type: ignore[no-untyped-def]
    """Which of the `SCAN` bytes at an address are not zero, as the bits of a number."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(ir.IntType(8), SCAN)
        given = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_unsigned("!=", given, vector([0] * SCAN)), ir.IntType(SCAN))

    return types.uint64(types.int64), generate


@intrinsic
def lowest(typing_context, number):  # type: ignore[no-untyped-def]
    """The place of the lowest bit of a number that has one."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.int64(types.uint64), generate


@intrinsic
def fetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Bring the line of the cache at an address near, without waiting for it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", (place,), kind)
        builder.call(function, [builder.inttoptr(arguments[0], place), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def wide(typing_context):  # type: ignore[no-untyped-def]
    """Let this kernel use the widest vectors that there are; LLVM halves those of 512 bits otherwise."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def call(typing_context, function, block, t, r0, r1, b0, b1, n0, n1, part, lane):  # type: ignore[no-untyped-def]
    """Call the C function at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * ARGUMENTS)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *(types.int64,) * ARGUMENTS), generate


_FLUSH = {"x86_64": 0x8040, "AMD64": 0x8040, "aarch64": 1 << 24, "arm64": 1 << 24}.get(platform.machine(), 0)


@intrinsic
def _rounding(typing_context):  # type: ignore[no-untyped-def]
    """The register of this thread that says what becomes of numbers below the smallest normal one."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if _FLUSH == 0:
            return ir.IntType(64)(0)
        if _FLUSH == 1 << 24:
            kind = ir.FunctionType(ir.IntType(64), [])
            return builder.call(builder.module.declare_intrinsic("llvm.aarch64.get.fpcr", (), kind), [])
        place, store = cgutils.alloca_once(builder, ir.IntType(32)), ir.FunctionType(ir.VoidType(), [_BYTES])
        function = builder.module.declare_intrinsic("llvm.x86.sse.stmxcsr", (), store)
        builder.call(function, [builder.bitcast(place, _BYTES)])
        return builder.zext(builder.load(place), ir.IntType(64))

    return types.int64(), generate


@intrinsic
def _set_rounding(typing_context, value):  # type: ignore[no-untyped-def]
    """Set that register."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if _FLUSH == 1 << 24:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.set.fpcr", (), kind), arguments)
        elif _FLUSH:
            place, load = cgutils.alloca_once(builder, ir.IntType(32)), ir.FunctionType(ir.VoidType(), [_BYTES])
            builder.store(builder.trunc(arguments[0], ir.IntType(32)), place)
            function = builder.module.declare_intrinsic("llvm.x86.sse.ldmxcsr", (), load)
            builder.call(function, [builder.bitcast(place, _BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


_SHARE = (types.int64,) * 4


@numba.njit(types.void(types.int64[:, ::1], types.int64, types.int64, *_SHARE), nogil=True, cache=True)
def drive(table, start, stop, r0, r1, b0, b1):  # type: ignore[no-untyped-def]
    """Run the calls of `table [K, 6]` (function, block, n0, n1, part, lane) in order, for t from `start` to `stop`.

    Numbers below the smallest normal one (2.2e-308; 1.2e-38 in float32) are zero here: currents and traces decay to
    them where nothing arrives, and a core takes 4 to 8 times as long for a neuron that holds one.
    """
    before = _rounding()
    _set_rounding(before | _FLUSH)
    for t in range(start, stop):
        for k in range(table.shape[0]):
            call(table[k, 0], table[k, 1], t, r0, r1, b0, b1, table[k, 2], table[k, 3], table[k, 4], table[k, 5])
    _set_rounding(before)


# ---- threads that meet -----------------------------------------------------------------------------------------------


@intrinsic
def _publish(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Store a number where other threads look, after all that was stored before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(arguments[1], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _look(typing_context, address):  # type: ignore[no-untyped-def]
    """Load a number that another thread stores, before all that is loaded after."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _pause(typing_context):  # type: ignore[no-untyped-def]
    """Tell the core that this is a loop that waits."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _offer(typing_context, function):  # type: ignore[no-untyped-def]
    """Offer the processor to other threads: sched_yield at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def offering() -> int:
    """The address of sched_yield, or 0 where there is none: then one thread runs a network."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):
        return 0


@numba.njit(nogil=True)
def _meet(flags, lane, lanes, meeting, offer):  # type: ignore[no-untyped-def]
    """Wait until all threads have come to this meeting; `flags` is the address of a pair of lines for each."""
    _publish(flags + lane * 128, meeting)
    for other in range(lanes):
        looks = 0
        while _look(flags + other * 128) < meeting:
            _pause()
            looks += 1
            if looks > PATIENCE:
                _offer(offer)


_LANES = (types.int64,) * 4


@numba.njit(types.void(types.int64[:, ::1], types.int64, types.int64, *_LANES), nogil=True, cache=True)
def drive_together(table, start, stop, lane, lanes, flags, offer):  # type: ignore[no-untyped-def]
    """`drive` for one of several threads of a single row; a call of the function 0 is a meeting of all of them."""
    meeting, before = 0, _rounding()
    _set_rounding(before | _FLUSH)
    for t in range(start, stop):
        for k in range(table.shape[0]):
            if table[k, 0] == 0:
                meeting += 1
                _meet(flags, lane, lanes, meeting, offer)
            else:
                call(table[k, 0], table[k, 1], t, 0, 1, 0, 1, table[k, 2], table[k, 3], table[k, 4], lane)
    _set_rounding(before)
