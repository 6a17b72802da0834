"""The kernels of neurons, noise, traces and recording. Deliveries and learning have their own rooms (`wires.py`,
`edges.py`, `plasticity.py`).

Loops run over replicas r, batch rows b and units; the index of a unit is unsigned, because numba tests a signed one for
being negative, which keeps the loop scalar (measured on 4,000 CUBA neurons: 35 instead of 4.3 us a step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurosim.backends.cpu import aligned, machine
from neurosim.backends.cpu.lists import BLOCK, FLAGS, Lists, open_list, scan, scan_flags
from neurosim.backends.cpu.machine import SCAN
from neurosim.backends.cpu.noise import BLOCK as TAKEN
from neurosim.backends.cpu.noise import LANES as TOGETHER
from neurosim.backends.cpu.noise import length, pairs, share, uniforms
from neurosim.backends.cpu.tiles import LANES
from neurosim.backends.cpu.writer import COUNTS, Buffer, Kernel, Writer
from neurosim.backends.whole import binary
from neurosim.random import MASK
from neurosim.types import Array

INTEGER = {"float32": np.int32, "float64": np.int64}  # what a real becomes on its way to a byte
SAMPLES = "|samples"  # the drive that holds the ids of the samples
FIRST, ROWS = 5, 6  # where the block of a recording holds the first step that is kept, and where its rows begin


def integrate(
    dtype: str,
    model: Any,
    constants: tuple[Any, ...],
    size: tuple[int, int],
    states: Sequence[Buffer],
    inputs: Sequence[Buffer | tuple[str, bool] | None],
    draws: Sequence[Buffer],
    outputs: Sequence[Buffer | None],
    bounds: tuple[int, ...],
    lists: Mapping[int, Lists] = {},
    remembered: Mapping[int, Buffer] = {},
) -> Kernel:
    """A neuron's step over a population of `size` (batch, units).

    An input is a port's buffer, a drive (its name and whether it is held), or None (nothing arrives: zero); an output
    that nobody reads is None and is not stored. `lists` has the output whose units that are not zero are listed,
    `remembered` the places of states of which others read past values.
    """
    writer = Writer(dtype)
    writer.bounds = bounds
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.function("step", model.step, getattr(model, "surrogate", None))
    writer.rows()
    arguments, targets, after = [], [], []
    for k, state in enumerate(states):  # in place: the same memory under two names would keep the loop scalar
        writer.values(f"w{k}", state)
        kept = state.array.dtype.name
        arguments.append(f"real(w{k}[i])" if kept in COUNTS else f"w{k}[i]")
        targets.append(f"s{k}" if kept in COUNTS else f"w{k}[i]")
        if kept in COUNTS:
            after.append(f"w{k}[i] = np.{kept}(integer(s{k}))")
    for k, source in enumerate(inputs):
        if isinstance(source, Buffer):
            writer.values(f"q{k}", source)
        elif source is not None:
            writer.drive(f"q{k}_at", *source)
            writer.row(f"q{k}", f"q{k}_at", f"r * q{k}_at_r + b * q{k}_at_b")
        arguments.append("real(0)" if source is None else f"q{k}[i]")
    for k, draw in enumerate(draws):
        writer.values(f"d{k}", draw)
        arguments.append(f"d{k}[i]")
    arguments += writer.constants("c", constants, size[1])
    for k, past in remembered.items():
        writer.values(f"h{k}", past)
        after.append(f"h{k}[i] = {targets[k]}")
    listed, own = next(iter(lists.items()), (-1, None))
    flagged = own is not None and outputs[listed] is None and binary(model.step, len(states))[listed]
    for k, output in enumerate(outputs):
        if output is not None:
            writer.values(f"o{k}", output)
        name = "unread" if output is None and k != listed else f"o{k}"
        targets.append(name if name == "unread" or (flagged and k == listed) else f"{name}[i]")
    if flagged:
        after.append(f"flag[i] = np.uint8(o{listed} != real(0))")
    writer.scope |= {"wide": machine.wide, "integer": INTEGER[dtype]}
    writer.head.append("wide()")
    step = "; ".join([f"{', '.join(targets)}, = step({', '.join(arguments)})", *after])
    if own is None:
        _integrate(writer, step, "n0", "n1", 3)
    elif flagged:
        _integrate_and_flag(writer, step, own)
    else:
        _integrate_and_list(writer, step, f"o{listed}", outputs[listed], own)
    return writer.done()


def _integrate(writer: Writer, step: str, start: str, stop: str, depth: int) -> None:
    writer.line(f"for n in range({start}, {stop}):", depth)
    writer.line("i = u(n)", depth + 1)
    writer.line(step, depth + 1)


def _integrate_and_list(writer: Writer, step: str, name: str, output: Buffer | None, lists: Lists) -> None:
    """Block by block, so that an output is looked at while it is in the cache; nobody else reads it if it is None."""
    size = writer.real.itemsize
    address = f"{name}_at + (r * B + b) * N * {size}"
    open_list(writer, lists)
    if output is None:
        writer.address(f"{name}_at", aligned.zeros((LANES, BLOCK), writer.real))
        address = f"{name}_at + (lane * {BLOCK} - begin) * {size}"
    writer.line(f"for begin in range(n0, n1, {BLOCK}):", 3)
    writer.line(f"end = min(begin + {BLOCK}, n1)", 4)
    writer.line(f"{name} = carray(reals({address}), (1,))", 4)
    _integrate(writer, step, "begin", "end", 4)
    scan(writer, name, address, "begin", "end", 4)
    writer.line("listed[u(n0 + head - 1)] = count", 3)


def _integrate_and_flag(writer: Writer, step: str, lists: Lists) -> None:
    """The same for spikes that nobody reads but from the list, a byte each: as reals they took 0.13 of 0.72 ns, since
    they drive states out of the first cache.
    """
    open_list(writer, lists)
    writer.address("flags_at", aligned.zeros((LANES, FLAGS + SCAN), np.uint8))
    writer.line(f"flags = flags_at + lane * {FLAGS + SCAN}", 3)
    writer.line(f"for begin in range(n0, n1, {FLAGS}):", 3)
    writer.line(f"end = min(begin + {FLAGS}, n1)", 4)
    writer.line("flag = carray(octets(flags - begin), (1,))", 4)
    writer.line(f"for n in range(end - begin, (end - begin + {SCAN - 1}) // {SCAN} * {SCAN}):", 4)
    writer.line("flag[u(begin + n)] = np.uint8(0)", 5)
    _integrate(writer, step, "begin", "end", 4)
    scan_flags(writer, "flags", "begin", "end", 4)
    writer.line("listed[u(n0 + head - 1)] = count", 3)


def noise(
    dtype: str,
    kind: str,
    key: tuple[int, int],
    size: tuple[int, int],
    samples: str,
    out: Buffer,
    bounds: tuple[int, ...],
) -> Kernel:
    """Random numbers of a stream at (replica, sample, step, unit): "uniform", "normal", or "held_normal" (those of the
    first step in which the batch is shown). The drive `samples` holds the ids.
    """
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.bounds = bounds
    writer.number("k0", key[0])
    writer.number("k1", key[1])
    writer.number("cut", MASK)  # for all that the compiler knows any number: see `_philox`
    writer.drive("samples_at", samples, True)
    writer.head.append("samples = carray(integers(samples_at), (1,))")
    writer.parts.append(kind)
    writer.line("at = t")
    if kind == "held_normal":  # they lie where the first step has put them
        writer.line("if since != 0:")
        writer.line("return", 2)
    writer.rows()
    writer.values("o", out)
    writer.line("sample = samples[u(b)]", 3)
    if kind == "uniform":
        _uniforms(writer)
    else:
        _normals(writer)
    return writer.done()


def _uniforms(writer: Writer) -> None:
    """Vectors of them; of the last one as many as there are units left."""
    writer.scope["fill"] = uniforms(writer.dtype)
    writer.address("drawn_at", aligned.zeros((LANES, TOGETHER), writer.real))
    size = writer.real.itemsize
    ends = "u(at), u(sample), u(r), u(k0), u(k1), u(cut)"
    writer.line(f"whole = n1 - (n1 - n0) % {TOGETHER}", 3)
    writer.line(f"for n in range(n0, whole, {TOGETHER}):", 3)
    writer.line(f"fill(o_at + ((r * B + b) * N + n) * {size}, u(n), {ends})", 4)
    writer.line("if whole < n1:", 3)
    writer.line(f"fill(drawn_at + lane * {TOGETHER * size}, u(whole), {ends})", 4)
    writer.row("drawn", "drawn_at", f"lane * {TOGETHER} - whole", 4)
    writer.line("for n in range(whole, n1):", 4)
    writer.line("o[u(n)] = drawn[u(n)]", 5)


def _normals(writer: Writer) -> None:
    """Block by block: the uniform numbers first, then loops of arithmetic over them."""
    writer.scope |= {"pairs": pairs, "length": length, "share": share, "doubles": machine.doubles}
    writer.address("drawn_at", aligned.zeros((LANES, 2, TAKEN), np.float64))
    writer.line(f"for begin in range(n0, n1, {TAKEN}):", 3)
    writer.line(f"end, drawn = min(begin + {TAKEN}, n1), drawn_at + lane * {16 * TAKEN}", 4)
    writer.line(f"for n in range(begin, end, {TOGETHER}):", 4)
    writer.line("pairs(drawn + (n - begin) * 8, u(n), u(at), u(sample), u(r), u(k0), u(k1), u(cut))", 5)
    writer.line("radius = carray(doubles(drawn - begin * 8), (1,))", 4)
    writer.line(f"angle = carray(doubles(drawn - begin * 8 + {8 * TAKEN}), (1,))", 4)
    writer.line("for n in range(begin, end):", 4)
    writer.line("radius[u(n)] = length(radius[u(n)])", 5)
    writer.line("for n in range(begin, end):", 4)
    writer.line("o[u(n)] = real(radius[u(n)] * share(angle[u(n)]))", 5)


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
    writer.row("o", "o_at + slot * stride", "(r * B + b) * N", 4, out.dtype)
    if start is not None:
        writer.row("x", "x_at", "(r * B + b) * N", 4, start.dtype)
    writer.line("for n in range(N):", 4)
    writer.line(f"o[u(n)] = {'0' if start is None else 'x[u(n)]'}", 5)
    return writer.done()


def clear(dtype: str, size: tuple[int, int], out: Buffer, bounds: tuple[int, ...]) -> Kernel:
    """Zero."""
    writer = Writer(dtype)
    writer.bounds = bounds
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.rows()
    writer.values("o", out)
    writer.line("for n in range(n0, n1):", 3)
    writer.line("o[u(n)] = real(0)", 4)
    return writer.done()


def add_drive(
    dtype: str, size: tuple[int, int], drive: tuple[str, bool], out: Buffer, first: bool, bounds: tuple[int, ...]
) -> Kernel:
    """A drive arrives at a port; the `first` to arrive is stored, others are added."""
    writer = Writer(dtype)
    writer.bounds = bounds
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.drive("x_at", *drive)
    writer.rows()
    writer.values("o", out)
    writer.row("x", "x_at", "r * x_at_r + b * x_at_b")
    writer.line("for n in range(n0, n1):", 3)
    writer.line("i = u(n)", 4)
    writer.line("o[i] = x[i]" if first else "o[i] += x[i]", 4)
    return writer.done()


def trace(
    dtype: str,
    size: tuple[int, int],
    source: Buffer,
    own: Buffer,
    mode: str,
    decay: float,
    bounds: tuple[int, ...],
) -> Kernel:
    """A trace filters its source; see `neurosim.factor.Trace` for the modes."""
    writer = Writer(dtype)
    writer.bounds = bounds
    writer.number("B", size[0])
    writer.number("N", size[1])
    writer.rows()
    writer.values("x", source)
    writer.values("new", own)
    old = "old" if own.slots > 1 else "new"
    if own.slots > 1:
        writer.values("old", own, "1")
    decay_name, fresh = writer.constants("c", (decay, 1.0 - decay), size[1])
    writer.line("for n in range(n0, n1):", 3)
    writer.line("i = u(n)", 4)
    rules = {
        "sum": f"{decay_name} * {old}[i] + x[i]",
        "mean": f"{decay_name} * {old}[i] + {fresh} * x[i]",
        "nearest": f"x[i] if x[i] > real(0) else {decay_name} * {old}[i]",
    }
    writer.line(f"new[i] = {rules[mode]}", 4)
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
