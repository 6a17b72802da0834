"""Kernels of array functions: laterals, pullbacks, and the third factor of a window of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neurosim.backends.cpu.factors import Place
from neurosim.backends.cpu.rows import ROWS, UNITS, Loops, Value
from neurosim.backends.cpu.writer import Buffer, Kernel, Writer
from neurosim.modulator.hsic import third_factor

if TYPE_CHECKING:
    from neurosim.backends.cpu.build import Builder


def unchanged(x: Any) -> Any:
    """x."""
    return x


def vectorised(builder: Builder, population: str) -> bool:
    """Does the lateral of a flat population have a kernel?"""
    cell = builder.simulator.cells[population]
    return len(cell.shape) == 1 and hasattr(cell.lateral, "vector")


def vector(
    dtype: str,
    size: tuple[int, int],
    function: Callable[..., Any],
    sources: list[Buffer],
    delays: list[int],
    constants: tuple[float, ...],
    out: Buffer,
    newest: bool = False,
    late: bool = False,
) -> Kernel:
    """An array function over the units of every row (or of the newest one only), in every step (or a batch's last)."""
    writer = array_writer(dtype, size, late)
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


def array_writer(dtype: str, size: tuple[int, int], late: bool) -> Writer:
    """A kernel on arrays of `size` (batch, units); `late`: for the last step of a batch only."""
    writer = Writer(dtype)
    writer.number("B", size[0])
    writer.number("N", size[1])
    if late:
        writer.position()
        writer.line("if since < span - 1:")
        writer.line("return", 2)
    return writer


def window_factor(
    dtype: str, size: tuple[int, int], z: Place, coefficient: str, sigma_z: float, out: Buffer, late: bool
) -> Kernel:
    """-xi of the newest row of a window (see `neurosim.modulator.hsic`); the drive `coefficient` holds its c_p."""
    writer = array_writer(dtype, size, late)
    assert z.buffer is not None
    writer.place("z_at", z.buffer.array, str(z.delay))
    writer.place("o_at", out.array)
    writer.drive("c_at", coefficient, True)
    width = writer.constants("width", (2.0 * sigma_z**2 * size[1],), 1)[0]
    arguments = [Value("input", (ROWS, UNITS), text="z"), Value("input", (ROWS,), text="c")]
    loops = Loops(writer, third_factor, [*arguments, Value("number", (), text=width)])
    writer.head += loops.head
    writer.line("for r in range(r0, r1):")
    writer.row("c", "c_at", "r * c_at_r", 2)
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
