"""The kernels of deliveries that are no edges: dense weights, from values or from lists of spikes, and one to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neurosim.backends.cpu import aligned
from neurosim.backends.cpu.listed import dense_row
from neurosim.backends.cpu.lists import Lists, name_lists, visit
from neurosim.backends.cpu.tiles import LANES
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.backends.elementary import select
from neurosim.types import Array


def _wire(
    dtype: str, sizes: Mapping[str, int], source: Buffer | None, delay: int, bias: Array | None, out: Buffer
) -> Writer:
    """A kernel that delivers, open in its loops over rows: `x [Q]` is what arrives, if a source is given, `o [P]` the
    port.
    """
    writer = Writer(dtype)
    for name, value in sizes.items():
        writer.number(name, value)
    writer.number("delay", delay)
    if source is not None:
        writer.place("x_at", source.array, "delay")
    writer.place("o_at", out.array)
    if bias is not None:
        writer.array("bias", bias)
    writer.rows()
    writer.row("o", "o_at", "(r * B + b) * P")
    if source is not None:
        writer.row("x", "x_at", "(r * B + b) * Q")
    return writer


def _add_bias(writer: Writer, bias: Array | None) -> None:
    """Add the bias to the port's row, after the products as in the reference."""
    if bias is not None:
        writer.line("for n in range(P):", 3)
        writer.line("o[u(n)] += bias[u(r * P + n)]", 4)


def dense(
    dtype: str,
    size: tuple[int, int, int],
    source: Buffer,
    delay: int,
    weight: Array,
    bias: Array | None,
    out: Buffer,
    first: bool,
    transposed: bool = False,
    held: Array | None = None,
) -> Kernel:
    """o_i += sum_j w_ij x_j over `size` (B, P, Q); `weight [R, Q, P]` (pre first). Inputs that are zero are left out.

    `transposed`: `weight [R, P, Q]` is that of the projection to which this one is tied, post first. Where the same
    arrives in every step of a phase, `held [R, B, P]` is the place of what the first one brings.
    """
    writer = _wire(dtype, dict(zip("BPQ", size, strict=True)), source, delay, bias, out)
    writer.address("w_at", weight)
    stored = first
    if held is not None:
        _hold(writer, held, first)
        first = True
    if transposed:
        writer.line("for n in range(P):", 3)
        writer.row("w", "w_at", "(r * P + n) * Q", 4)
        writer.line("total = real(0)", 4)
        writer.line("for j in range(Q):", 4)
        writer.line("total += w[u(j)] * x[u(j)]", 5)
        writer.line("o[u(n)] = total" if first else "o[u(n)] += total", 4)
    else:
        writer.scope["row_product"] = dense_row(dtype, first)
        writer.address("list_at", aligned.zeros((LANES, size[2] + 16), np.int32))
        writer.parts += ["row_product", str(first)]
        size_of = writer.real.itemsize
        into = "o_at" if held is None else "held_at"
        ends = (
            f"x_at + (r * B + b) * Q * {size_of}, list_at + lane * (Q + 16) * 4, {into} + (r * B + b) * P * {size_of}"
        )
        writer.line(f"row_product(w_at + r * Q * P * {size_of}, Q, P, {ends})", 3)
    _add_bias(writer, bias)
    if held is not None:
        writer.line("for n in range(P):", 3)
        writer.line(f"port[u(n)] {'=' if stored else '+='} o[u(n)]", 4)
    return writer.done()


def _hold(writer: Writer, held: Array, first: bool) -> None:
    """Multiply in a batch's first step only; what is written to `o` stays, and `port` is the port."""
    writer.address("held_at", held)
    writer.position()
    writer.row("port", "o_at", "(r * B + b) * P")
    writer.row("o", "held_at", "(r * B + b) * P")
    writer.line("if since != 0:", 3)
    writer.line("for n in range(P):", 4)
    writer.line(f"port[u(n)] {'=' if first else '+='} o[u(n)]", 5)
    writer.line("continue", 4)


def deliver_by_list(
    dtype: str,
    size: tuple[int, int, int],
    lists: Lists,
    delay: int,
    weight: Array,
    bias: Array | None,
    out: Buffer,
    first: bool,
) -> Kernel:
    """o_i += sum_j w_ij x_j over the neurons j that spiked `delay` steps ago; `weight [R, P, Q]` (post first)."""
    writer = _wire(dtype, dict(zip("BPQ", size, strict=True)), None, delay, bias, out)
    writer.address("w_at", weight)
    name_lists(writer, lists, "delay")
    for many, begin, end in ((4, "0", "P - 3"), (1, "P - P % 4", "P")):  # four sums at once: 0.7 instead of 1.2 us
        writer.line(f"for i in range({begin}, {end}, {many}):", 3)
        for k in range(many):
            writer.row(f"w{k}", "w_at", f"(r * P + i + {k}) * Q", 4)
            writer.line(f"total{k} = {'real(0)' if first else f'o[u(i + {k})]'}", 4)
        visit(writer, 4)
        writer.line("j = u(listed[u(head + n)])", 6)
        writer.line("value = held[u(n)]", 6)
        for k in range(many):
            writer.line(f"total{k} += w{k}[j] * value", 6)
        for k in range(many):
            writer.line(f"o[u(i + {k})] = total{k}", 4)
    _add_bias(writer, bias)
    return writer.done()


def one_to_one(
    dtype: str,
    size: tuple[int, int],
    source: Buffer,
    delay: int,
    weight: Array,
    bias: Array | None,
    out: Buffer,
    first: bool,
) -> Kernel:
    """o_i += w_i x_i."""
    writer = _wire(dtype, {"B": size[0], "P": size[1], "Q": size[1]}, source, delay, bias, out)
    writer.array("w", weight)
    writer.line("for n in range(P):", 3)
    writer.line(f"o[u(n)] {'=' if first else '+='} w[u(r * P + n)] * x[u(n)]", 4)
    _add_bias(writer, bias)
    return writer.done()


def derived(dtype: str, weight: Array, source: Array, sizes: Array | None) -> Kernel:
    """The weights of a tie, made of those of another projection: sign(source) `sizes`, or (None) the same.

    Dense ones, `weight [R, Q, P]` of `source [R, P, Q]`, are turned; those of one neuron each, `[R, N]`, are not.
    """
    writer = Writer(dtype)
    turned = weight.ndim > 2
    writer.number("P", weight.shape[-1])
    writer.number("Q", weight.shape[1] if turned else 1)
    arrays = {"o": weight, "x": source} | ({} if sizes is None else {"size": sizes})
    for name, array in arrays.items():
        writer.address(f"{name}_at", array)
    writer.scope["select"] = select
    writer.line("for r in range(r0, r1):")
    for name in arrays:
        writer.row(name, f"{name}_at", "r * Q * P", 2)
    writer.line("for j in range(Q):", 2)
    writer.line("for n in range(P):", 3)
    writer.line("k = u(j * P + n)", 4)
    writer.line(f"given = x[{'u(n * Q + j)' if turned else 'k'}]", 4)
    if sizes is not None:
        writer.line("given = select(given > real(0), size[k], select(given < real(0), -size[k], real(0)))", 4)
    writer.line("o[k] = given", 4)
    return writer.done()


def delivered(
    dtype: str,
    weight: Array,
    learned: Array,
    noise: Array | None,
    transfer: tuple[Callable[..., Any], tuple[float, ...]] | None,
) -> Kernel:
    """What a synapse delivers: transfer(learned + noise), entry by entry of arrays in the same order."""
    writer = Writer(dtype)
    writer.number("N", weight.size // len(weight) if weight.ndim > 1 else 0)
    writer.number("E", weight.size if weight.ndim == 1 else 0)  # edges of all replicas
    for name, array in {"o": weight, "w": learned, **({} if noise is None else {"x": noise})}.items():
        writer.array(name, array)
    value = "w[i]" if noise is None else "w[i] + x[i]"
    if transfer is not None:
        writer.function("transfer", transfer[0])
        constants = writer.constants("c", transfer[1], 1) if transfer[1] else []
        value = f"transfer({', '.join([value, *constants])})"
    writer.line("for n in range(r0 * N, r1 * N + E):")
    writer.line("i = u(n)", 2)
    writer.line(f"o[i] = {value}", 2)
    return writer.done()
