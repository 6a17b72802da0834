"""Where a rule's third factor is found: nowhere (it is 1), at a port, from a kernel, or from torch step by step.

What holds for a whole phase (a broadcast signal, the coefficients of a window, a loss that was remembered) is made
once, by the reference's own code, and read by kernels as a drive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.backends.cpu.delivery import Delivery
from neurosim.backends.cpu.factors import Factors, Place
from neurosim.backends.cpu.kernels import add_drive
from neurosim.backends.cpu.noise import uniform
from neurosim.backends.cpu.vectors import array_writer, vector, vectorised, window_factor
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.lateral import Pullback
from neurosim.modulator import HSIC, Broadcast, Decrease, Feedback, Shuffled, Unmodulated
from neurosim.modulator.base import signal_of
from neurosim.random import Stream
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.build import Builder


def modulator_place(builder: Builder, delivery: Delivery, rule: ThreeFactorRule) -> Place | None:
    """Put what fills the third factor into the program; its place, or None where it is 1."""
    synapses, modulator = delivery.synapses, rule.modulator
    if isinstance(modulator, Unmodulated):
        return None
    lateral = synapses.post.lateral
    pulled = modulator.of_output and lateral is not None and not isinstance(lateral, Pullback)
    if pulled and not vectorised(builder, synapses.post.name):
        return _by_torch(builder, delivery, rule)
    late = rule.accumulate == "last" and rule.when != "step"  # only the last step's is used
    place = _place(builder, delivery, rule, modulator, late)
    if place is None:
        return _by_torch(builder, delivery, rule)
    return _pulled_back(builder, synapses.post.name, place, synapses.name, late) if pulled else place


def _place(builder: Builder, delivery: Delivery, rule: ThreeFactorRule, modulator: Any, late: bool) -> Place | None:
    """The place of what a modulator gives; None where it has no kernel."""
    kind, synapses = type(modulator), delivery.synapses
    if kind is Feedback:
        return _factor(builder, synapses, modulator.of, "m")
    if kind is HSIC and modulator.memory == "batch":
        return _hsic(builder, delivery, modulator, late)
    if kind is Broadcast and modulator is rule.modulator:
        return _broadcast(builder, synapses, rule)
    if kind is Decrease and modulator is rule.modulator:
        return _decrease(builder, synapses, rule, late)
    if kind is Shuffled:
        inner = _place(builder, delivery, rule, modulator.modulator, late)
        return None if inner is None else _shuffled(builder, synapses, inner, late)
    return None


def _factor(builder: Builder, synapses: Synapses, factor: Any, owner: str) -> Place:
    factors = Factors(builder.work, builder.plan.dt, f"{synapses.name}|{owner}")
    place = factors.place(synapses.post.name, factor, synapses.dendritic)
    for kernel in factors.kernels:
        builder.result.add(kernel)
    return place


def _broadcast(builder: Builder, synapses: Synapses, rule: ThreeFactorRule) -> Place:
    """What a signal gives, held while a batch is shown."""
    drive = f"{synapses.name}|broadcast"
    builder.broadcasts.append((drive, synapses, rule))
    out = builder.work.buffer(f"{synapses.post.name}.|{synapses.name}|broadcast")
    size = builder.batch, synapses.post.units
    bounds = builder.work.bounds(synapses.post.units)
    builder.result.add(add_drive(builder.dtype, size, (drive, True), out, True, bounds))
    return Place(out)


def _decrease(builder: Builder, synapses: Synapses, rule: ThreeFactorRule, late: bool) -> Place:
    """A value at the end of the clean phase (held) less its value now; nothing in the clean phase itself. What has to
    be remembered is taken from the phase's last step when it has ended.
    """
    modulator, name = rule.modulator, f"{synapses.post.name}.|{synapses.name}"
    builder.remembering.append((synapses, rule))
    z = _factor(builder, synapses, modulator.of, "z")
    if builder.phase.name == modulator.clean:
        return Place(builder.work.buffer(f"{name}|no decrease"))
    drive, out = f"{synapses.name}|clean", builder.work.buffer(f"{name}|decrease")
    builder.cleans.append((drive, synapses, rule))
    assert z.buffer is not None
    writer = array_writer(builder.dtype, (builder.batch, synapses.post.units), late)
    writer.drive("x_at", drive, True)
    writer.place("z_at", z.buffer.array, str(z.delay))
    writer.place("o_at", out.array)
    writer.rows()
    writer.row("x", "x_at", "r * x_at_r + b * x_at_b")
    for own in ("z", "o"):
        writer.row(own, f"{own}_at", "(r * B + b) * N")
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)
    writer.line("o[i] = x[i] - z[i]", 4)
    builder.result.add(writer.done())
    return Place(out)


def _shuffled(builder: Builder, synapses: Synapses, place: Place, late: bool) -> Place:
    """The values of a place, dealt to the neurons of the population anew in every step, by the order of one uniform
    number each."""
    out = builder.work.buffer(f"{synapses.post.name}.|{synapses.name}|shuffled")
    key = Stream(builder.plan.seed, f"shuffled/{synapses.name}").key
    writer = array_writer(builder.dtype, (builder.batch, synapses.post.units), late)
    assert place.buffer is not None
    writer.place("x_at", place.buffer.array, str(place.delay))
    writer.place("o_at", out.array)
    writer.number("k0", key[0])
    writer.number("k1", key[1])
    writer.scope["draw"] = uniform("float64")
    writer.line("drawn = np.empty(N, np.float64)")
    writer.line("for r in range(r0, r1):")
    writer.line("for n in range(N):", 2)
    writer.line("drawn[u(n)] = draw(u(n), u(t), u(0), u(r), u(k0), u(k1))", 3)
    writer.line('order = np.argsort(drawn, kind="mergesort")', 2)
    writer.line(f"for b in range({'max(b0, B - 1)' if place.newest else 'b0'}, b1):", 2)
    for own in ("x", "o"):
        writer.row(own, f"{own}_at", "(r * B + b) * N")
    writer.line("for n in range(N):", 3)
    writer.line("o[u(n)] = x[u(order[u(n)])]", 4)
    builder.result.add(writer.done())
    return Place(out, newest=place.newest)


def held_values(builder: Builder, context: Context) -> Iterator[tuple[str, Array]]:
    """What modulators read that is held while a batch is shown, `[R, K * B, N or 1]` by drive, made anew for each
    run.
    """
    yield from coefficients(builder.coefficients, context, builder.batch)
    last = context.phase.steps - 1
    for drive, synapses, rule in builder.broadcasts:
        if remembers(rule):
            learning = builder.simulator.learning
            m = learning.modulator(synapses, rule, builder.at(context.clock), builder.learned, context, last)
            size = builder.work.size[0], context.batch, synapses.post.units
            yield drive, np.ascontiguousarray(m.expand(size).numpy())
    for drive, synapses, rule in builder.cleans:
        before = builder.learned["modulator"][synapses.name].get("clean")
        if before is None or before.shape != (*builder.work.size, synapses.post.units):
            remember(builder, synapses, rule)  # which says what is wrong
        yield drive, np.ascontiguousarray(before.numpy())


def remembers(rule: ThreeFactorRule) -> bool:
    """Has a broadcast a running mean? Else it is the signal."""
    return rule.modulator.tau is not None


def signals(builder: Builder, context: Context) -> Iterator[tuple[str, Array]]:
    """The signals that are broadcast as they are, `[R, K * B, N]` by drive: views of what the phase gives."""
    learning = builder.simulator.learning
    for drive, synapses, rule in builder.broadcasts:
        if not remembers(rule):
            signal = signal_of(context.signals, rule.modulator.name, context.phase.name)
            m = learning.spread(synapses, signal, context.batch)
            yield drive, m.expand(builder.work.size[0], context.batch, synapses.post.units).numpy()


def remember(builder: Builder, synapses: Synapses, rule: ThreeFactorRule) -> None:
    """Let a modulator take up what it remembers of a phase, from the phase's last step."""
    context, last = builder.context, builder.context.phase.steps - 1
    moment = builder.at(context.clock + last)
    builder.simulator.learning.modulator(synapses, rule, moment, builder.learned, context, last)


def _pulled_back(builder: Builder, population: str, place: Place, owner: str, late: bool) -> Place:
    """A cotangent of the population's output, brought in front of its lateral. Where it is 0, so is what comes out."""
    cell, work = builder.simulator.cells[population], builder.work
    axon = f"{population}.{builder.plan.network[population].axon}"
    out = work.buffer(f"{population}.|{owner}|pulled")
    assert place.buffer is not None
    sources = [work.buffer(f"{axon}|raw"), work.buffer(axon), place.buffer]
    delays = [0, 0, place.delay]
    size = work.size[1], cell.units
    function, constants = cell.lateral.vector[1], cell.lateral.constants()
    builder.result.add(vector(builder.dtype, size, function, sources, delays, constants, out, place.newest, late))
    return Place(out, newest=place.newest)


def _hsic(builder: Builder, delivery: Delivery, modulator: HSIC, late: bool) -> Place:
    """The published memory: the batch is the window, only its newest row is modulated. The coefficients depend on
    inputs and labels, which are held: torch makes them once per phase.
    """
    synapses, work = delivery.synapses, builder.work
    batch, units = work.size[1], synapses.post.units
    z = _factor(builder, synapses, modulator.of, "z")
    out = work.buffer(f"{synapses.post.name}.|{synapses.name}|hsic")
    builder.coefficients.append((synapses, modulator))
    coefficient = coefficient_of(synapses)
    builder.result.add(window_factor(builder.dtype, (batch, units), z, coefficient, modulator.sigma_z, out, late))
    return Place(out, newest=True)


def coefficient_of(synapses: Synapses) -> str:
    """The drive that holds the coefficients of a layer."""
    return f"{synapses.name}|coefficients"


def coefficients(windows: list[tuple[Synapses, HSIC]], context: Context, rows: int) -> Iterator[tuple[str, Array]]:
    """c_p of every window of `rows` rows, `[R, K * rows, 1]` by drive, from the inputs and labels of the phase; layers
    of the same settings share them.
    """
    common: dict[tuple[Any, ...], Tensor] = {}
    for synapses, modulator in windows:
        modulator.check_window(rows)
        key = modulator.sigma_x, modulator.sigma_y, modulator.gamma, modulator.form
        if key not in common:
            x, y = (signal_of(context.signals, name, context.phase.name) for name in ("input", "label"))
            common[key] = modulator.common_coefficients(x.unflatten(1, (-1, rows)), y.unflatten(1, (-1, rows)))
        scale = 2.0 / (modulator.sigma_z**2 * synapses.post.units)
        yield coefficient_of(synapses), (common[key] * scale).flatten(1)[..., None].numpy()


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
