"""The kernels of steps 1 to 3 and 6: neurons, delivery, noise, traces, recording. Learning has its own (`learn.py`).

Loops run over replicas r, batch rows b and units; the index of a unit is unsigned, because numba tests a signed one for
being negative, which keeps the loop scalar (measured on 4,000 CUBA neurons: 35 instead of 4.3 us a step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurosim.backends.cpu.edges import Level
from neurosim.backends.cpu.noise import LANES, normal, uniform, uniforms
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.types import Array

FIRST, ROWS = 5, 6  # where the block of a recording holds the first step that is kept, and where its rows begin
FIRST_EVENT = 7  # the same of a recording of events
SCAN = 16  # units looked at together when spikes are collected


def integrate(
    dtype: str,
    model: Any,
    constants: tuple[Any, ...],
    size: tuple[int, int],
    states: Sequence[Buffer],
    inputs: Sequence[Buffer | tuple[str, bool] | None],
    draws: Sequence[Buffer],
    outputs: Sequence[Buffer | None],
) -> Kernel:
    """A neuron's step over a population of `size` (batch, units).

    An input is a port's buffer, a drive (its name and whether it is held), or None (nothing arrives: zero); an output
    that nobody reads is None and is not stored.
    """
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.function("step", model.step, getattr(model, "surrogate", None))
    arguments = []
    for k, state in enumerate(states):
        writer.place(f"w{k}_at", state.array)
        if state.slots > 1:  # else in place: the same memory under two names would keep the loop scalar
            writer.place(f"s{k}_at", state.array, "1")
        arguments.append(f"s{k}[i]" if state.slots > 1 else f"w{k}[i]")
    for k, source in enumerate(inputs):
        if isinstance(source, Buffer):
            writer.place(f"q{k}_at", source.array)
        elif source is not None:
            writer.drive(f"q{k}_at", *source)
        arguments.append("real(0)" if source is None else f"q{k}[i]")
    for k, draw in enumerate(draws):
        writer.place(f"d{k}_at", draw.array)
        arguments.append(f"d{k}[i]")
    for k, output in enumerate(outputs):
        if output is not None:
            writer.place(f"o{k}_at", output.array)
    arguments += writer.constants("c", constants, size[1])
    writer.rows()
    writer.line("at = (r * B + b) * N", 3)
    for k, state in enumerate(states):
        writer.row(f"w{k}", f"w{k}_at", "at")
        if state.slots > 1:
            writer.row(f"s{k}", f"s{k}_at", "at")
    for k, source in enumerate(inputs):
        if source is not None:
            offset = "at" if isinstance(source, Buffer) else f"r * q{k}_at_r + b * q{k}_at_b"
            writer.row(f"q{k}", f"q{k}_at", offset)
    for k in range(len(draws)):
        writer.row(f"d{k}", f"d{k}_at", "at")
    targets = [f"w{k}[i]" for k in range(len(states))]
    for k, output in enumerate(outputs):
        if output is not None:
            writer.row(f"o{k}", f"o{k}_at", "at")
        targets.append("unread" if output is None else f"o{k}[i]")
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)
    writer.line(f"{', '.join(targets)}, = step({', '.join(arguments)})", 4)
    return writer.done()


def noise(dtype: str, kind: str, key: tuple[int, int], size: tuple[int, int], samples: str, out: Buffer) -> Kernel:
    """Random numbers of a stream at (replica, sample, step, unit): "uniform", "normal", or "held_normal" (those of the
    first step in which the batch is shown). The drive `samples` holds the ids.
    """
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.number("k0", key[0])
    writer.number("k1", key[1])
    writer.drive("samples_at", samples, True)
    writer.head.append("samples = carray(integers(samples_at), (1,))")
    writer.place("o_at", out.array)
    writer.scope["draw"] = uniform(dtype) if kind == "uniform" else normal(dtype)
    writer.parts.append(kind)
    writer.line(f"at = {'t - since' if kind == 'held_normal' else 't'}")
    writer.rows()
    writer.row("o", "o_at", "(r * B + b) * N")
    writer.line("sample = samples[u(b)]", 3)
    many = f"N - N % {LANES}" if kind == "uniform" else "0"  # the rest one by one
    if kind == "uniform":
        writer.scope["fill"] = uniforms(dtype)
        address = f"o_at + ((r * B + b) * N + n) * {writer.real.itemsize}"
        writer.line(f"for n in range(0, {many}, {LANES}):", 3)
        writer.line(f"fill({address}, u(n), u(at), u(sample), u(r), u(k0), u(k1))", 4)
    writer.line(f"for n in range({many}, N):", 3)
    writer.line("o[u(n)] = draw(u(n), u(at), u(sample), u(r), u(k0), u(k1))", 4)
    return writer.done()


def restart(dtype: str, size: tuple[int, int], out: Array, start: Array | None) -> Kernel:
    """When a batch begins, `out [slots, R, B, N]` is `start [R, B, N]` (None: zero) in every slot."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.number("slots", len(out))
    writer.number("stride", out.strides[0])
    writer.address("o_at", out)
    if start is not None:
        writer.address("x_at", start)
    writer.position()
    writer.line("if since != 0:")
    writer.line("return", 2)
    writer.line("for slot in range(slots):")
    writer.line("for r in range(r0, r1):", 2)
    writer.line("for b in range(b0, b1):", 3)
    writer.row("o", "o_at + slot * stride", "(r * B + b) * N", 4)
    if start is not None:
        writer.row("x", "x_at", "(r * B + b) * N", 4)
    writer.line("for n in range(N):", 4)
    writer.line(f"o[u(n)] = {'real(0)' if start is None else 'x[u(n)]'}", 5)
    return writer.done()


def restart_events(dtype: str, size: tuple[int, int], events: Array) -> Kernel:
    """When a batch begins, no slot of `events [slots, R, B, 1 + N]` lists anything."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.number("slots", len(events))
    writer.number("stride", events.strides[0])
    writer.address("e_at", events)
    writer.position()
    writer.line("if since != 0:")
    writer.line("return", 2)
    writer.line("for slot in range(slots):")
    writer.line("for r in range(r0, r1):", 2)
    writer.line("for b in range(b0, b1):", 3)
    writer.line("carray(indices(e_at + slot * stride + (r * B + b) * (N + 1) * 4), (1,))[u(0)] = 0", 4)
    return writer.done()


def clear(dtype: str, size: tuple[int, int], out: Buffer) -> Kernel:
    """Zero."""
    writer = _over_rows(dtype, size, {"o": out})
    writer.line("o[i] = real(0)", 4)
    return writer.done()


def _over_rows(dtype: str, size: tuple[int, int], buffers: Mapping[str, Buffer]) -> Writer:
    """A kernel over all units of all rows, with the rows of `buffers` by name."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    for name, buffer in buffers.items():
        writer.place(f"{name}_at", buffer.array)
    writer.rows()
    for name in buffers:
        writer.row(name, f"{name}_at", "(r * B + b) * N")
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)
    return writer


def add_drive(dtype: str, size: tuple[int, int], drive: tuple[str, bool], out: Buffer, first: bool) -> Kernel:
    """A drive arrives at a port; the `first` to arrive is stored, others are added."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.drive("x_at", *drive)
    writer.place("o_at", out.array)
    writer.rows()
    writer.row("o", "o_at", "(r * B + b) * N")
    writer.row("x", "x_at", "r * x_at_r + b * x_at_b")
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)
    writer.line("o[i] = x[i]" if first else "o[i] += x[i]", 4)
    return writer.done()


def trace(dtype: str, size: tuple[int, int], source: Buffer, own: Buffer, mode: str, decay: float) -> Kernel:
    """A trace filters its source; see `neurosim.factor.Trace` for the modes."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.place("x_at", source.array)
    writer.place("new_at", own.array)
    old = "old" if own.slots > 1 else "new"
    if own.slots > 1:
        writer.place("old_at", own.array, "1")
    decay_name, fresh = writer.constants("c", (decay, 1.0 - decay), size[1])
    writer.rows()
    for name in dict.fromkeys(("x", "new", old)):
        writer.row(name, f"{name}_at", "(r * B + b) * N")
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)
    rules = {
        "sum": f"{decay_name} * {old}[i] + x[i]",
        "mean": f"{decay_name} * {old}[i] + {fresh} * x[i]",
        "nearest": f"x[i] if x[i] > real(0) else {decay_name} * {old}[i]",
    }
    writer.line(f"new[i] = {rules[mode]}", 4)
    return writer.done()


def collect(dtype: str, size: tuple[int, int], source: Buffer, events: Array) -> Kernel:
    """List the units that are not zero: `events [slots, R, B, 1 + N]` int32, the count first."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.place("x_at", source.array)
    writer.place("e_at", events)
    writer.rows()
    writer.row("x", "x_at", "(r * B + b) * N")
    writer.line("e = carray(indices(e_at + (r * B + b) * (N + 1) * 4), (1,))", 3)
    whole = "integers" if writer.real.itemsize == 8 else "indices"
    writer.line(f"bits = carray({whole}(x_at + (r * B + b) * N * {writer.real.itemsize}), (1,))", 3)
    writer.line("count = 0", 3)
    writer.line(f"for block in range(0, N - {SCAN - 1}, {SCAN}):", 3)
    # Bits of the reals, joined by "or": integers are joined four at a time, a sum of reals would be one by one.
    writer.line("any_bit = bits[u(block)]", 4)
    writer.line(f"for n in range(1, {SCAN}):", 4)
    writer.line("any_bit |= bits[u(block + n)]", 5)
    writer.line("if any_bit != 0:", 4)
    writer.line(f"for n in range(block, block + {SCAN}):", 5)
    _append(writer, 6)
    writer.line(f"for n in range(N - N % {SCAN}, N):", 3)
    _append(writer, 4)
    writer.line("e[u(0)] = count", 3)
    return writer.done()


def _append(writer: Writer, depth: int) -> None:
    writer.line("if x[u(n)] != real(0):", depth)
    writer.line("count += 1", depth + 1)
    writer.line("e[u(count)] = n", depth + 1)


def _wire(dtype: str, sizes: Mapping[str, int], source: Buffer, delay: int, bias: Array | None, out: Buffer) -> Writer:
    """A kernel that delivers, open in its loops over rows: `x [Q]` is what arrives, `o [P]` the port."""
    writer = Writer(dtype)
    for name, value in sizes.items():
        writer.number(name, value)
    writer.number("delay", delay)
    writer.place("x_at", source.array, "delay")
    writer.place("o_at", out.array)
    if bias is not None:
        writer.array("bias", bias)
    writer.rows()
    writer.row("o", "o_at", "(r * B + b) * P")
    writer.row("x", "x_at", "(r * B + b) * Q")
    return writer


def _add_bias(writer: Writer, bias: Array | None) -> None:
    """Add the bias to the port's row, after the products as in the reference."""
    if bias is not None:
        writer.line("for n in range(P):", 3)
        writer.line("o[u(n)] += bias[u(r * P + n)]", 4)


def _clear_port(writer: Writer, first: bool) -> None:
    if first:
        writer.line("for n in range(P):", 3)
        writer.line("o[u(n)] = real(0)", 4)


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
    spikes: bool = True,
) -> Kernel:
    """o_i += sum_j w_ij x_j over `size` (B, P, Q); `weight [R, Q, P]` (pre first). Of `spikes`, zeros are left out;
    rates are taken four at a time (one after the other in the sum).

    `transposed`: `weight [R, P, Q]` is that of the projection to which this one is tied, post first.
    """
    writer = _wire(dtype, dict(zip("BPQ", size, strict=True)), source, delay, bias, out)
    writer.address("w_at", weight)
    if transposed:
        writer.line("for n in range(P):", 3)
        writer.row("w", "w_at", "(r * P + n) * Q", 4)
        writer.line("total = real(0)", 4)
        writer.line("for j in range(Q):", 4)
        writer.line("total += w[u(j)] * x[u(j)]", 5)
        writer.line("o[u(n)] = total" if first else "o[u(n)] += total", 4)
    else:
        _clear_port(writer, first)
        if not spikes:
            _four_at_a_time(writer)
        writer.line(f"for j in range({'0' if spikes else 'Q - Q % 4'}, Q):", 3)
        writer.line("value = x[u(j)]", 4)
        writer.line("if value != real(0):", 4)
        writer.row("w", "w_at", "(r * Q + j) * P", 5)
        writer.line("for n in range(P):", 5)
        writer.line("o[u(n)] += w[u(n)] * value", 6)
    _add_bias(writer, bias)
    return writer.done()


def deliver_by_list(
    dtype: str,
    size: tuple[int, int, int],
    source: Buffer,
    delay: int,
    events: Array,
    weight: Array,
    bias: Array | None,
    out: Buffer,
    first: bool,
) -> Kernel:
    """o_i += sum_j w_ij x_j over the neurons j that spiked `delay` steps ago; `weight [R, P, Q]` (post first)."""
    writer = _wire(dtype, dict(zip("BPQ", size, strict=True)), source, delay, bias, out)
    writer.place("e_at", events, "delay")
    writer.address("w_at", weight)
    writer.line("e = carray(indices(e_at + (r * B + b) * (Q + 1) * 4), (1,))", 3)
    for many, begin, end in ((4, "0", "P - 3"), (1, "P - P % 4", "P")):  # four sums at once: 0.7 instead of 1.2 us
        writer.line(f"for n in range({begin}, {end}, {many}):", 3)
        for k in range(many):
            writer.row(f"w{k}", "w_at", f"(r * P + n + {k}) * Q", 4)
            writer.line(f"total{k} = {'real(0)' if first else f'o[u(n + {k})]'}", 4)
        writer.line("for k in range(1, e[u(0)] + 1):", 4)
        writer.line("j = u(e[u(k)])", 5)
        writer.line("value = x[j]", 5)
        for k in range(many):
            writer.line(f"total{k} += w{k}[j] * value", 5)
        for k in range(many):
            writer.line(f"o[u(n + {k})] = total{k}", 4)
    _add_bias(writer, bias)
    return writer.done()


def _four_at_a_time(writer: Writer) -> None:
    writer.line("for j in range(0, Q - Q % 4, 4):", 3)
    terms = "o[i]"
    for k in range(4):
        writer.row(f"w{k}", "w_at", f"(r * Q + j + {k}) * P", 4)
        writer.line(f"value{k} = x[u(j + {k})]", 4)
        terms = f"({terms} + w{k}[i] * value{k})"
    writer.line("for n in range(P):", 4)
    writer.line("i = u(n)", 5)
    writer.line(f"o[i] = {terms}", 5)


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


def sparse(
    dtype: str,
    size: tuple[int, int, int],
    source: Buffer,
    level: Level,
    events: Array | None,
    post: Array,
    weight: Array,
    bias: Array | None,
    out: Buffer,
    first: bool,
) -> Kernel:
    """o_post += w x_pre along edges sorted by pre; `post [E]`, `weight [E]`.

    With `events`, only the neurons that spiked `delay` steps ago are visited; else all whose value is not zero. Where
    all weights are equal, `weight` has a single entry and "steps" is 0: a third of what has to be read.
    """
    writer = _wire(dtype, dict(zip("BPQ", size, strict=True)), source, level.delay, bias, out)
    writer.number("steps", 1)
    if events is not None:
        writer.place("e_at", events, "delay")
    writer.array("start", level.pointer, "indices" if level.pointer.itemsize == 4 else "integers")
    writer.array("post", post, "indices")
    writer.array("w", weight)
    _clear_port(writer, first)
    if events is not None:
        writer.line("e = carray(indices(e_at + (r * B + b) * (Q + 1) * 4), (1,))", 3)
        writer.line("for n in range(1, e[u(0)] + 1):", 3)
        writer.line("j = np.int64(e[u(n)])", 4)
    else:
        writer.line("for j in range(Q):", 3)
    writer.line("value = x[u(j)]", 4)
    writer.line("if value != real(0):", 4)
    writer.line("low, high = np.int64(start[u(r * Q + j)]), np.int64(start[u(r * Q + j + 1)])", 5)
    writer.line("if steps == 0:", 5)
    writer.line("each = w[0] * value", 6)
    writer.line("for edge in range(low, high):", 6)
    writer.line("o[u(post[u(edge)])] += each", 7)
    writer.line("else:", 5)
    writer.line("for edge in range(low, high):", 6)
    writer.line("o[u(post[u(edge)])] += w[u(edge)] * value", 7)
    _add_bias(writer, bias)
    return writer.done()


def record(dtype: str, replicas: int, size: tuple[int, int], source: Buffer, every: int, units: Array) -> Kernel:
    """Keep units of a value, every `every` steps, in rows `[K, R, B, n]` whose address is set for each run."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.number("n_units", len(units))
    writer.number("every", every)
    writer.number("stride", replicas * size[0] * len(units) * writer.real.itemsize)
    writer.number("first", 0)  # block[FIRST], set for each run
    writer.number("rows_at", 0)  # block[ROWS], the same
    writer.place("x_at", source.array)
    writer.array("units", units, "integers")
    writer.line("if t >= first and (t - first) % every == 0:")
    writer.line("place = rows_at + ((t - first) // every) * stride", 2)
    writer.line("for r in range(r0, r1):", 2)
    writer.line("for b in range(b0, b1):", 3)
    writer.row("x", "x_at", "(r * B + b) * N", 4)
    writer.row("o", "place", "(r * B + b) * n_units", 4)
    writer.line("for n in range(n_units):", 4)
    writer.line(f"o[u(n)] = x[u({'n' if len(units) == size[1] and (np.diff(units) == 1).all() else 'units[u(n)]'})]", 5)
    return writer.done()


def record_events(dtype: str, size: tuple[int, int], events: Array, count: Array, rows: Array) -> Kernel:
    """Keep the lists of `collect` as `rows [R, B, capacity, 2]` int32 (step since block[FIRST], unit), of which
    `count [R, B]` are filled.
    """
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.number("capacity", rows.shape[2])
    writer.address("rows_at", rows)
    writer.place("e_at", events)
    writer.number("first", 0)  # set for each stretch
    writer.array("count", count, "integers")
    writer.rows()
    writer.line("e = carray(indices(e_at + (r * B + b) * (N + 1) * 4), (1,))", 3)
    writer.line("o = carray(indices(rows_at + (r * B + b) * capacity * 8), (1,))", 3)
    writer.line("filled = count[u(r * B + b)]", 3)
    writer.line("found = np.int64(e[u(0)])", 3)
    writer.line("for n in range(found):", 3)
    writer.line("o[u(2 * (filled + n))] = t - first", 4)
    writer.line("o[u(2 * (filled + n) + 1)] = e[u(n + 1)]", 4)
    writer.line("count[u(r * B + b)] = filled + found", 3)
    return writer.done()


def block_of(kernels: Sequence[Kernel]) -> Array:
    """The table that `machine.drive` runs: `[K, 2]` (function, block)."""
    table = [[kernel.address, kernel.block.ctypes.data] for kernel in kernels]
    return np.array(table, np.int64).reshape(-1, 2)
