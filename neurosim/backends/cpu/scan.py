"""A scalar step over all steps of a phase as one operation of torch's autograd: both directions are compiled loops.

Forward keeps the old states that the derivative reads (all of them, or those from which the others are made again, see
`blocks.py`), and nothing else; backward runs against time, takes the step's pullback (`backends/derivative.py`) at each
step from those states and the inputs, and carries the cotangents of the states in place. What arrives at a port is
given as several sequences `[T, R, B, N]` which are added in the loop; any axis may have length 1, as that of time where
an input is held. A product of a projection may be one of them before it is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from neurosim.backends.cpu.blocks import Blocks
from neurosim.backends.cpu.gathered import tensors_of
from neurosim.backends.cpu.writer import Kernel, Writer
from neurosim.backends.derivative import Pullback
from neurosim.backends.gradient.step import Arriving, StepThroughTime
from neurosim.types import Tensor


class Scan(StepThroughTime):
    """A step through time as compiled loops."""

    forms_products: ClassVar[bool] = True

    def __init__(self, dtype: str, model: Any, constants: tuple[Any, ...], units: int, states: int, ports: int):
        super().__init__(dtype, model, constants, units, states, ports)
        self._kernels: dict[Any, Kernel] = {}

    def __call__(
        self,
        start: Sequence[Tensor],
        sources: Arriving,
        draws: Sequence[Tensor],
        wanted: Sequence[int],
        size: tuple[int, int, int],
        through_time: bool,
    ) -> tuple[dict[int, Tensor], list[Tensor]]:
        """The sequences of the results `wanted`, by place, and the states after the last step (without a graph).

        `start`: a state `[R, B, N]` each; `size` is (T, R, B). A state may be wanted: the sequence of its new values.
        """
        call = Blocks(self, sources, draws, tuple(wanted), size, through_time)
        call.begin(start, torch.is_grad_enabled() and bool(call.inputs))
        if call.graded:
            made = _Through.apply(call, *tensors_of(sources))  # type: ignore[no-untyped-call]
        else:
            made = tuple(torch.from_numpy(array) for array in call.forward())
        return dict(zip(wanted, made, strict=True)), call.final()

    # ---- kernels ----------------------------------------------------------------------------------------------------

    def forward(self, kept: tuple[int, ...], sources: tuple[int, ...], draws: int, wanted: tuple[int, ...]) -> Kernel:
        """`w` new states, `s` old ones where all are kept (else in place), `q` what arrives, `d` noise, `o` outputs."""
        key = "forward", kept, sources, wanted
        if key not in self._kernels:
            writer = self._writer()
            writer.function("step", self.step, self.surrogate)
            old = [f"s{k}" if k in kept else f"w{k}" for k in range(self.states)]
            arguments = [f"{name}[i]" for name in old]
            arguments += [_sum(f"q{p}", count) for p, count in enumerate(sources)]
            arguments += [f"d{k}[i]" for k in range(draws)]
            arguments += writer.constants("c", self.constants, self.units)
            outputs = {place: f"o{place}" for place in range(self.states, self.results)}
            names = [*dict.fromkeys([*(f"w{k}" for k in range(self.states)), *old])]
            names += [f"q{p}_{k}" for p, count in enumerate(sources) for k in range(count)]
            names += [*(f"d{k}" for k in range(draws)), *(outputs[place] for place in wanted if place >= self.states)]
            targets = [f"w{k}[i]" for k in range(self.states)]
            targets += [f"{name}[i]" if place in wanted else "unread" for place, name in outputs.items()]
            _open(writer, names)
            writer.line(f"{', '.join(targets)}, = step({', '.join(arguments)})", 4)
            self._kernels[key] = writer.done()
        return self._kernels[key]

    def backward(self, made: Pullback, sources: tuple[int, ...], draws: int, outside: tuple[int, ...]) -> Kernel:
        """`e` cotangents from outside, `l` those of states, carried in place, `g` those of ports; the rest as above."""
        key = "backward", made.text, sources, outside
        if key not in self._kernels:
            writer = self._writer()
            writer.function("pullback", made.function, self.surrogate)
            arguments = [f"s{k}[i]" for k in range(self.states)]
            arguments += [_sum(f"q{p}", count) for p, count in enumerate(sources)]
            arguments += [f"d{k}[i]" for k in range(draws)]
            arguments += writer.constants("c", self.constants, self.units)
            carried = [place for place in made.gives if place < self.states]
            taken = [_added(place, carried, outside) for place in made.takes]
            targets = [f"l{place}[i]" if place in carried else f"g{place - self.states}[i]" for place in made.gives]
            _open(writer, names_of(self, made, sources, draws, outside))
            read = [arguments[place] for place in made.reads]
            writer.line(f"{', '.join(targets)}, = pullback({', '.join([*read, *taken])})", 4)
            self._kernels[key] = writer.done()
        return self._kernels[key]

    def _writer(self) -> Writer:
        writer = Writer(self.dtype)
        writer.number("N", self.units)
        return writer


def names_of(scan: Scan, made: Pullback, sources: tuple[int, ...], draws: int, outside: tuple[int, ...]) -> list[str]:
    """The sequences that a backward kernel reads and writes."""
    first = scan.states + len(sources)
    names = [f"s{place}" for place in made.reads if place < scan.states]
    for p, count in enumerate(sources):
        if scan.states + p in made.reads:
            names += [f"q{p}_{k}" for k in range(count)]
    names += [f"d{k}" for k in range(draws) if first + k in made.reads]
    names += [f"e{place}" for place in made.takes if place in outside]
    return names + [f"l{p}" if p < scan.states else f"g{p - scan.states}" for p in made.gives]


def _sum(name: str, count: int) -> str:
    return f"({' + '.join(f'{name}_{k}[i]' for k in range(count))})" if count else "real(0)"


def _added(place: int, carried: Sequence[int], outside: Sequence[int]) -> str:
    parts = [f"l{place}[i]"] * (place in carried) + [f"e{place}[i]"] * (place in outside)
    return " + ".join(parts)


def _open(writer: Writer, names: Sequence[str]) -> None:
    """The loops over rows and units, with this step's row of every sequence."""
    for name in names:
        writer.drive(f"{name}_at", name, held=False)
    writer.rows()
    for name in names:
        writer.row(name, f"{name}_at", f"r * {name}_at_r + b * {name}_at_b")
    writer.line("for n in range(N):", 3)
    writer.line("i = u(n)", 4)


class _Through(torch.autograd.Function):
    """A call in torch's graph. What it keeps are arrays, not its own outputs, so that a graph is freed at once."""

    @staticmethod
    def forward(ctx: Any, call: Blocks, *tensors: Tensor) -> Any:
        ctx.call = call
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(array) for array in call.forward())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.call.backward(gradients)
