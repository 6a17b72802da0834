"""The machine that runs a program: a table of kernels, called step after step from compiled code.

A kernel is a C function `(block, t, r0, r1, b0, b1)`: `block` is the address of a table of integers (addresses of
arrays, sizes), `t` the clock, and replicas r0..r1 and batch rows b0..b1 are its share. So a new network costs no
compilation where its kernels are known: the program is data.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_SIX = (types.int64,) * 6


def _pointer(element: Any) -> Any:
    @intrinsic
    def pointer(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(element)))

        return types.CPointer(element)(types.int64), generate

    return pointer


integers, indices, shorts, singles, doubles = (
    _pointer(kind) for kind in (types.int64, types.int32, types.uint16, types.float32, types.float64)
)
REALS = {"float32": singles, "float64": doubles}


@intrinsic
def call(typing_context, function, block, t, r0, r1, b0, b1):  # type: ignore[no-untyped-def]
    """Call the C function at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * 6)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *_SIX), generate


@numba.njit(types.void(types.int64[:, ::1], *_SIX), nogil=True, cache=True)
def drive(table, start, stop, r0, r1, b0, b1):  # type: ignore[no-untyped-def]
    """Run the kernels of `table [K, 2]` (function, block) in order, for every t from `start` to `stop`."""
    for t in range(start, stop):
        for k in range(table.shape[0]):
            call(table[k, 0], table[k, 1], t, r0, r1, b0, b1)
