"""Where a rule's third factor is found: nowhere (it is 1), at a port, from a kernel, or from torch step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.backends.cpu.delivery import Delivery
from neurosim.backends.cpu.factors import Factors, Place
from neurosim.backends.cpu.rows import ROWS, UNITS, Loops, Value
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.lateral import Pullback
from neurosim.modulator import HSIC, Broadcast, Feedback, Unmodulated
from neurosim.modulator.base import signal_of
from neurosim.modulator.hsic import third_factor
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.build import Builder
    from neurosim.backends.cpu.simulator import Cpu


def modulator_place(builder: Builder, delivery: Delivery, rule: ThreeFactorRule) -> Place | None:
    """Put what fills the third factor into the program; its place, or None where it is 1."""
    synapses, modulator = delivery.synapses, rule.modulator
    if isinstance(modulator, Unmodulated):
        return None
    lateral = synapses.post.lateral
    pulled = modulator.of_output and lateral is not None and not isinstance(lateral, Pullback)
    compilable = not pulled or vectorised(builder, synapses.post.name)
    if isinstance(modulator, Feedback) and compilable:
        factors = Factors(builder.work, builder.plan.dt, f"{synapses.name}|m")
        place = factors.place(synapses.post.name, modulator.of, synapses.dendritic)
        for kernel in factors.kernels:
            builder.result.add(kernel)
        return _pulled_back(builder, synapses.post.name, place, synapses.name) if pulled else place
    if type(modulator) is HSIC and modulator.memory == "batch" and compilable:
        place = _hsic(builder, delivery, modulator)
        return _pulled_back(builder, synapses.post.name, place, synapses.name) if pulled else place
    if isinstance(modulator, Broadcast) and modulator.tau is None:  # the same in every step of a phase
        place = Place(builder.work.buffer(f"{synapses.post.name}.|{synapses.name}|signal"))
        builder.signals.append((synapses, modulator.name, place))
        return place
    return _by_torch(builder, delivery, rule)


def vectorised(builder: Builder, population: str) -> bool:
    """Does the lateral of a flat population have a kernel?"""
    cell = builder.simulator.cells[population]
    return len(cell.shape) == 1 and hasattr(cell.lateral, "vector")


def _pulled_back(builder: Builder, population: str, place: Place, owner: str) -> Place:
    """A cotangent of the population's output, brought in front of its lateral. Where it is 0, so is what comes out."""
    cell, work = builder.simulator.cells[population], builder.work
    axon = f"{population}.{builder.plan.network[population].axon}"
    out = work.buffer(f"{population}.|{owner}|pulled")
    assert place.buffer is not None
    sources = [work.buffer(f"{axon}|raw"), work.buffer(axon), place.buffer]
    delays = [0, 0, place.delay]
    size = work.size[1], cell.units
    builder.result.add(
        vector(builder.dtype, size, cell.lateral.vector[1], sources, delays, cell.lateral.constants(), out, place.newest)
    )
    return Place(out, newest=place.newest)


def vector(
    dtype: str,
    size: tuple[int, int],
    function: Callable[..., Any],
    sources: list[Buffer],
    delays: list[int],
    constants: tuple[float, ...],
    out: Buffer,
    newest: bool = False,
) -> Kernel:
    """An array function over the units of every row (or of the newest one only)."""
    writer = _array_writer(dtype, size)
    for k, (source, delay) in enumerate(zip(sources, delays, strict=True)):
        writer.place(f"x{k}_at", source.array, str(delay))
    writer.place("o_at", out.array)
    arguments = [Value("input", (ROWS, UNITS), text=f"x{k}") for k in range(len(sources))]
    numbers = [Value("number", (), text=text) for text in writer.constants("c", constants, size[1])]
    loops = Loops(writer, function, [*arguments, *numbers])
    writer.head += loops.head
    writer.line("for r in range(r0, r1):")
    writer.line(f"for b in range({'max(b0, B - 1)' if newest else 'b0'}, b1):", 2)
    for name in (*(f"x{k}" for k in range(len(sources))), "o"):
        writer.row(name, f"{name}_at", "(r * B + b) * N")
    for line in loops.row:
        writer.line(line, 3)
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)
    writer.line(f"o[i] = {loops.value}", 4)
    return writer.done()


def _array_writer(dtype: str, size: tuple[int, int]) -> Writer:
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    return writer


def _hsic(builder: Builder, delivery: Delivery, modulator: HSIC) -> Place:
    """The published memory: the batch is the window, only its newest row is modulated. The coefficients depend on
    inputs and labels, which are held: torch makes them once per phase.
    """
    synapses, work = delivery.synapses, builder.work
    replicas, batch = work.size
    units = synapses.post.units
    factors = Factors(work, builder.plan.dt, f"{synapses.name}|z")
    z = factors.place(synapses.post.name, modulator.of, synapses.dendritic)
    for kernel in factors.kernels:
        builder.result.add(kernel)
    out = work.buffer(f"{synapses.post.name}.|{synapses.name}|hsic")
    coefficient = np.zeros((replicas, batch), work.dtype)
    builder.coefficients.append((synapses, modulator, coefficient))
    builder.result.add(_third_factor(builder.dtype, (batch, units), z, coefficient, modulator, out))
    return Place(out, newest=True)


def _third_factor(
    dtype: str, size: tuple[int, int], z: Place, coefficient: Array, modulator: HSIC, out: Buffer
) -> Kernel:
    writer = _array_writer(dtype, size)
    assert z.buffer is not None
    writer.place("z_at", z.buffer.array, str(z.delay))
    writer.place("o_at", out.array)
    writer.address("c_at", coefficient)
    width = writer.constants("width", (2.0 * modulator.sigma_z**2 * size[1],), 1)[0]
    arguments = [Value("input", (ROWS, UNITS), text="z"), Value("input", (ROWS,), text="c")]
    loops = Loops(writer, third_factor, [*arguments, Value("number", (), text=width)])
    writer.head += loops.head
    writer.line("for r in range(r0, r1):")
    writer.row("c", "c_at", "r * B", 2)
    writer.row("z_newest", "z_at", "(r * B + B - 1) * N", 2)
    writer.row("o", "o_at", "(r * B + B - 1) * N", 2)
    for line in loops.before:
        writer.line(line, 2)
    writer.line("for b in range(B):", 2)
    writer.row("z", "z_at", "(r * B + b) * N")
    for line in loops.row:
        writer.line(line, 3)
    for line in loops.after:
        writer.line(line, 2)
    writer.line("for n in range(N):", 2)
    writer.line("i = u(n)", 3)
    writer.line(f"o[i] = -{loops.value}", 3)
    return writer.done()


def fill_coefficients(windows: list[tuple[Synapses, HSIC, Array]], context: Context) -> None:
    """c_p of the window, `[R, N]`, from the inputs and labels of the phase; layers of the same settings share them."""
    common: dict[tuple[Any, ...], Tensor] = {}
    for synapses, modulator, coefficient in windows:
        modulator.check_window(context.batch)
        key = modulator.sigma_x, modulator.sigma_y, modulator.gamma, modulator.form
        if key not in common:
            x, y = (signal_of(context.signals, name, context.phase.name) for name in ("input", "label"))
            common[key] = modulator.common_coefficients(x, y)
        scale = 2.0 / (modulator.sigma_z**2 * synapses.post.units)
        coefficient[...] = (common[key] * scale).numpy()


def fill_signals(simulator: Cpu, signals: list[tuple[Synapses, str, Place]], context: Context) -> None:
    """The third factors that are a signal of the phase."""
    for synapses, name, place in signals:
        m = simulator.learning.spread(synapses, signal_of(context.signals, name, context.phase.name), context.batch)
        assert place.buffer is not None
        place.buffer.array[0] = m.numpy()


def _by_torch(builder: Builder, delivery: Delivery, rule: ThreeFactorRule) -> Place:
    """torch makes the third factor in every step, as in the reference."""
    synapses, simulator = delivery.synapses, builder.simulator
    label = f"{synapses.post.name}.|{synapses.name}|modulator"
    out = builder.work.buffer(label)

    def modulate(t: int) -> None:
        moment, step = builder.at(t), t - builder.context.clock
        m = simulator.learning.modulator(synapses, rule, moment, builder.learned, builder.context, step)
        builder.work.view(label, t).copy_(m)

    final = rule.when != "step" and rule.accumulate == "last" and not rule.modulator.every_step
    reason = f"the modulator {type(rule.modulator).__name__} of {synapses.name!r} runs in torch"
    builder.result.add(modulate, f"{reason} (in a phase's last step)" if final else reason, final)
    return Place(out)
