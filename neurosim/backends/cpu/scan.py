"""A scalar step over all steps of a phase as one operation of torch's autograd: both directions are compiled loops.

Forward keeps the old states that the derivative reads, and nothing else; backward runs against time, takes the step's
pullback (`backends/derivative.py`) at each step from those states and the inputs, and carries the cotangents of the
states in place. Where the states of all steps are more than a cache holds, only those at the start of each block of
steps are kept, and the block is run once more before its backward pass: a LIF layer of 2048 units, 16 rows and 500
steps writes 130 MB less. What arrives at a port is given as several sequences `[T, R, B, N]` which are added in the
loop; any axis may have length 1, as that of time where an input is held.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neurosim.backends.cpu.program import run_shares, shares_of
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.writer import Kernel, Writer
from neurosim.backends.derivative import Pullback
from neurosim.backends.gradient.step import Sources, StepThroughTime
from neurosim.types import Array, Tensor

MOST_KEPT = 2**26  # bytes of old states that are kept for all steps; beyond, they are made again in blocks
BLOCK = 2**20  # bytes of a block's states, which stay in the second cache (measured: 2048 units, 95 instead of 160 ms)


class Scan(StepThroughTime):
    """A step through time as compiled loops."""

    def __init__(self, dtype: str, model: Any, constants: tuple[Any, ...], units: int, states: int, ports: int):
        super().__init__(dtype, model, constants, units, states, ports)
        self._kernels: dict[Any, Kernel] = {}

    def __call__(
        self,
        start: Sequence[Tensor],
        sources: Sources,
        draws: Sequence[Tensor],
        wanted: Sequence[int],
        size: tuple[int, int, int],
        through_time: bool,
    ) -> tuple[dict[int, Tensor], list[Tensor]]:
        """The sequences of the results `wanted`, by place, and the states after the last step (without a graph).

        `start`: a state `[R, B, N]` each; `size` is (T, R, B). A state may be wanted: the sequence of its new values.
        """
        call = Call(self, sources, draws, tuple(wanted), size, through_time)
        tensors = [tensor for port in sources for tensor in port]
        call.begin(start, torch.is_grad_enabled() and bool(call.inputs))
        if call.graded:
            made = _Through.apply(call, *tensors)  # type: ignore[no-untyped-call]
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


class Call:
    """One run of a scan: the arrays of both directions."""

    def __init__(
        self,
        scan: Scan,
        sources: Sources,
        draws: Sequence[Tensor],
        wanted: tuple[int, ...],
        size: tuple[int, int, int],
        through_time: bool,
        inputs: tuple[int, ...] = (),
    ):
        """`inputs`: ports to which a gradient is wanted besides those with a source that asks for one."""
        self.scan, self.wanted, self.through_time = scan, wanted, through_time
        self.size = *size, scan.units
        self.counts = tuple(len(port) for port in sources)
        self.draws = len(draws)
        asked = (p for p, port in enumerate(sources) if p in inputs or any(tensor.requires_grad for tensor in port))
        self.inputs = tuple(asked)
        self.shapes = [[(tuple(t.shape), t.requires_grad) for t in port] for port in sources]
        self._given = [(f"q{p}_{k}", t) for p, port in enumerate(sources) for k, t in enumerate(port)]
        self._given += [(f"d{k}", t) for k, t in enumerate(draws)]
        self.arrays: dict[str, Array] = {}
        self.state: list[Array] = []
        self.graded = False
        self.blocks = [(0, size[0])]
        self.marks: Array | None = None  # the states at the start of each block
        self._again: Array | None = None

    def begin(self, start: Sequence[Tensor], graded: bool, whole: bool = False) -> None:
        """Lay out the states; `graded`: will a gradient be asked for? `whole`: never in blocks of steps."""
        kept = {place for place in self.wanted if place < self.scan.states}
        if graded:
            made = self.scan.pullback(self.inputs, self.wanted, self.through_time)
            self.graded = bool(made.gives)
            read = {place for place in made.reads if place < self.scan.states}
            if not whole:
                self._cut(kept | read)
            kept |= read if len(self.blocks) == 1 else set()
        self.kept = tuple(sorted(kept))
        for place, value in enumerate(start):
            slots = self.size[0] + 1 if place in kept else 1
            array = np.empty((slots, *self.size[1:]), self.scan.dtype)
            array[0] = value.detach().numpy()
            self.state.append(array)
        for name, tensor in self._given:
            self.arrays[name] = spread(tensor, self.size)

    def _cut(self, states: Collection[int]) -> None:
        """In blocks of steps, if the old states that backward reads are too much to be kept for all of them."""
        steps = self.size[0]
        row = max(len(states) * int(np.prod(self.size[1:])) * np.dtype(self.scan.dtype).itemsize, 1)
        if steps * row > MOST_KEPT:
            length = max(1, BLOCK // row)
            self.blocks = [(first, min(first + length, steps)) for first in range(0, steps, length)]
            self.marks = np.empty((len(self.blocks), self.scan.states, *self.size[1:]), self.scan.dtype)

    def forward(self) -> list[Array]:
        """Run; the wanted sequences."""
        kernel, arrays = self.ready()
        for number, (first, stop) in enumerate(self.blocks):
            if self.marks is not None:
                for place, array in enumerate(self.state):
                    self.marks[number, place] = array[first if place in self.kept else 0]
            self._run(kernel, arrays, slice(first, stop))
        return self.found(arrays)

    def ready(self) -> tuple[Kernel, dict[str, Array]]:
        """The forward kernel and all that it reads and writes."""
        arrays = dict(self.arrays)
        for place, array in enumerate(self.state):
            arrays |= self._places(place, array, self.size, whole=place in self.kept)
        for place in self.wanted:
            if place >= self.scan.states:
                arrays[f"o{place}"] = np.empty(self.size, self.scan.dtype)
        return self.scan.forward(self.kept, self.counts, self.draws, self.wanted), arrays

    def found(self, arrays: Mapping[str, Array]) -> list[Array]:
        """The wanted sequences among these."""
        return [arrays[f"w{place}" if place < self.scan.states else f"o{place}"] for place in self.wanted]

    @staticmethod
    def _places(place: int, array: Array, size: tuple[int, ...], whole: bool) -> dict[str, Array]:
        """Where a forward kernel finds a state and puts the new one."""
        if whole:
            return {f"s{place}": array[:-1], f"w{place}": array[1:]}
        return {f"w{place}": np.broadcast_to(array, size)}

    def final(self) -> list[Tensor]:
        return [torch.from_numpy(array[-1].copy()) for array in self.state]

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Cotangents of every source, from those of the wanted sequences."""
        given = {place: spread(g, self.size) for place, g in zip(self.wanted, gradients, strict=True) if g is not None}
        kernel, arrays, ports = self.ready_back(given)
        for number in reversed(range(len(self.blocks)) if kernel is not None else ()):
            first, stop = self.blocks[number]
            block = {name: array[first:stop][::-1] for name, array in arrays.items()}
            block |= {name: array[::-1] for name, array in self.old_states(number).items()}
            self._run(kernel, block, slice(None))
        return self.of_sources(ports)

    def ready_back(self, given: Mapping[int, Array]) -> tuple[Kernel | None, dict[str, Array], dict[int, Array]]:
        """The backward kernel (None: nothing passes), what it reads and writes but for the old states, and in it the
        cotangents of ports, all in the order of time.
        """
        scan, outside = self.scan, tuple(given)
        made = scan.pullback(self.inputs, outside, self.through_time)
        if not made.gives:
            return None, {}, {}
        carried = {place: np.zeros((1, *self.size[1:]), scan.dtype) for place in made.gives if place < scan.states}
        ports = {p - scan.states: np.empty(self.size, scan.dtype) for p in made.gives if p >= scan.states}
        arrays = {**self.arrays, **{f"e{place}": g for place, g in given.items()}}
        arrays |= {f"l{place}": np.broadcast_to(array, self.size) for place, array in carried.items()}
        arrays |= {f"g{port}": array for port, array in ports.items()}
        return scan.backward(made, self.counts, self.draws, outside), arrays, ports

    def of_sources(self, ports: Mapping[int, Array]) -> list[Tensor | None]:
        """What the cotangents of ports are to their sources: summed over the axes that a source has not."""
        found: list[Tensor | None] = []
        for port, shapes in enumerate(self.shapes):
            whole = torch.from_numpy(ports[port]) if port in ports else None
            found += [whole.sum_to_size(shape) if whole is not None and needed else None for shape, needed in shapes]
        return found

    def old_states(self, number: int) -> dict[str, Array]:
        """The states before each step of a block: those that were kept, or made again from the block's first."""
        if self.marks is None:
            return {f"s{place}": self.state[place][:-1] for place in self.kept}
        first, stop = self.blocks[number]
        arrays = {name: array[first:stop] for name, array in self.arrays.items()}
        if self._again is None:
            length = self.blocks[0][1] + 1
            self._again = np.empty((self.scan.states, length, *self.size[1:]), self.scan.dtype)
        again = self._again[:, : stop - first + 1]
        again[:, 0] = self.marks[number]
        for place, array in enumerate(again):
            arrays |= self._places(place, array, self.size, whole=True)
        kernel = self.scan.forward(tuple(range(self.scan.states)), self.counts, self.draws, ())
        self._run(kernel, arrays, slice(None))
        return {f"s{place}": array[:-1] for place, array in enumerate(again)}

    def _run(self, kernel: Kernel | None, arrays: Mapping[str, Array], part: slice) -> None:
        """Some steps, one after the other in the order of the arrays."""
        assert kernel is not None
        used = {name: arrays[name][part] for name in kernel.drives}
        table, steps = feed(kernel, used), len(next(iter(used.values())))
        shares = shares_of(*self.size[1:3], steps * int(np.prod(self.size[1:])), True)
        run_shares(table, 0, steps, shares)


def feed(kernel: Kernel, arrays: Mapping[str, Array]) -> Array:
    """Point a kernel to its sequences; its table for the machine."""
    for name in kernel.drives:
        kernel.feed(name, arrays[name], 0)
    kernel.begin(0, max((len(array) for array in arrays.values()), default=1))
    return table([kernel])


def spread(tensor: Tensor, size: tuple[int, ...]) -> Array:
    """`[T, R, B, N]` with the last axis contiguous; axes of length 1 are not copied."""
    array: Array = tensor.detach().numpy()
    if array.shape[-1] != size[-1] or (array.strides[-1] != array.itemsize and size[-1] > 1):
        array = np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:-1], size[-1])))
    return array if array.shape == size else np.broadcast_to(array, size)


class _Through(torch.autograd.Function):
    """A call in torch's graph. What it keeps are arrays, not its own outputs, so that a graph is freed at once."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Any:
        ctx.call = call
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(array) for array in call.forward())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.call.backward(gradients)
