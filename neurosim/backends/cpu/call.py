"""One run of a scan (`scan.py`): the arrays of both directions, and a kernel on some of their steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurosim.backends.cpu.program import run_shares, shares_of
from neurosim.backends.cpu.rooms import room
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.writer import Kernel
from neurosim.backends.gradient.step import Arriving, Source, formed
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.scan import Scan


class Call:
    """One run of a scan with the sequences of all steps; whoever runs its kernels step by step is `recurrent.py`."""

    def __init__(
        self,
        scan: Scan,
        sources: Arriving,
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
        asked = (p for p, port in enumerate(sources) if p in inputs or any(source.requires_grad for source in port))
        self.inputs = tuple(asked)
        self.sources = {f"q{p}_{k}": source for p, port in enumerate(sources) for k, source in enumerate(port)}
        self.noise = {f"d{k}": tensor for k, tensor in enumerate(draws)}
        self.arrays: dict[str, Array] = {}
        self.state: list[Array] = []
        self.reads: Collection[int] = ()  # arguments of the step that its derivative reads
        self.graded = False

    def begin(self, start: Sequence[Tensor], graded: bool) -> None:
        """Lay out the states and what arrives; `graded`: will a gradient be asked for?"""
        kept = {place for place in self.wanted if place < self.scan.states}
        if graded:
            made = self.scan.pullback(self.inputs, self.wanted, self.through_time)
            self.graded, self.reads = bool(made.gives), made.reads
            kept |= self._keep(kept | {place for place in made.reads if place < self.scan.states})
        self.kept = tuple(sorted(kept))
        for place, value in enumerate(start):
            array = self._room(self.size[0] + 1 if place in kept else 1)
            array[0] = value.detach().numpy()
            self.state.append(array)
        for name, source in (self.sources | self.noise).items():
            self.arrays[name] = self._laid(name, source)

    def _keep(self, states: set[int]) -> set[int]:
        """Which of the old states that backward reads are kept for all steps."""
        return states

    def _laid(self, name: str, source: Source) -> Array:
        """The sequence of a source (or of noise)."""
        return spread(formed(source), self.size)

    def _room(self, steps: int) -> Array:
        return room((steps, *self.size[1:]), self.scan.dtype)

    def ready(self) -> tuple[Kernel, dict[str, Array]]:
        """The forward kernel and all that it reads and writes."""
        arrays = dict(self.arrays)
        for place, array in enumerate(self.state):
            arrays |= places(place, array, self.size, whole=place in self.kept)
        for place in self.wanted:
            if place >= self.scan.states:
                arrays[f"o{place}"] = self._room(self.size[0])
        return self.scan.forward(self.kept, self.counts, self.draws, self.wanted), arrays

    def found(self, arrays: Mapping[str, Array]) -> list[Array]:
        """The wanted sequences among these."""
        return [arrays[f"w{place}" if place < self.scan.states else f"o{place}"] for place in self.wanted]

    def final(self) -> list[Tensor]:
        """The states after the last step."""
        return [torch.from_numpy(array[-1].copy()) for array in self.state]

    def ready_back(self, given: Mapping[int, Array]) -> tuple[Kernel | None, dict[str, Array], dict[int, Array]]:
        """The backward kernel (None: nothing passes), what it reads and writes but for the old states, and in it the
        cotangents of ports, all in the order of time.
        """
        scan, outside = self.scan, tuple(given)
        made = scan.pullback(self.inputs, outside, self.through_time)
        if not made.gives:
            return None, {}, {}
        carried = {place: self._room(1) for place in made.gives if place < scan.states}
        ports = {p - scan.states: self._cotangent(p - scan.states) for p in made.gives if p >= scan.states}
        for array in carried.values():
            array[:] = 0.0
        arrays = {**self.arrays, **{f"e{place}": g for place, g in given.items()}}
        arrays |= {f"l{place}": np.broadcast_to(array, self.size) for place, array in carried.items()}
        arrays |= {f"g{port}": array for port, array in ports.items()}
        return scan.backward(made, self.counts, self.draws, outside), arrays, ports

    def _cotangent(self, port: int) -> Array:
        """Where the cotangent of a port goes."""
        return self._room(self.size[0])

    def old_states(self) -> dict[str, Array]:
        """The states before each step."""
        return {f"s{place}": self.state[place][:-1] for place in self.kept}

    def of_sources(self, ports: Mapping[int, Array]) -> list[Tensor | None]:
        """What the cotangents of ports are to their sources: summed over the axes that a source has not."""
        found: list[Tensor | None] = []
        for name, source in self.sources.items():
            port = port_of(name)
            needed = port in ports and source.requires_grad
            found.append(torch.from_numpy(ports[port]).sum_to_size(formed(source).shape) if needed else None)
        return found


class Pass:
    """A kernel in one direction of time, pointed to its sequences; it runs some steps after each other."""

    def __init__(
        self, kernel: Kernel, arrays: Mapping[str, Array], size: tuple[int, int, int, int], work: int, back: bool
    ):
        """`work`: of one call, in units x rows x steps."""
        self.kernel, self.steps, self.back = kernel, size[0], back
        kernel.begin(0, self.steps)
        self.table = table([kernel])
        self.shares = shares_of(size[1], size[2], work, True)
        self.begins: dict[str, tuple[int, int, int]] = {}  # place in the block, address, bytes of a step
        for name, array in arrays.items():
            self.point(name, array)

    def point(self, name: str, array: Array, first: int = 0) -> None:
        """To a sequence that begins with step `first`, if it is one of the kernel's."""
        if name in self.kernel.drives:
            start, by, size = array.ctypes.data, array.strides[0], array.itemsize
            if self.back:
                start, by = start + (self.steps - 1) * by, -by
            place, _ = self.kernel.drives[name]
            self.kernel.block[place : place + 5] = start, by, array.strides[1] // size, array.strides[2] // size, 0
            self.begins[name] = place, start, array.strides[0]
            self.shift(name, first)

    def shift(self, name: str, first: int) -> None:
        """The sequence that it was pointed to begins with step `first`."""
        if name in self.begins:
            place, start, by = self.begins[name]
            self.kernel.block[place] = start - first * by

    def run(self, first: int, stop: int) -> None:
        """The steps from `first` to `stop`, against time if it is a way back."""
        if self.back:
            first, stop = self.steps - stop, self.steps - first
        run_shares(self.table, first, stop, self.shares)


def port_of(name: str) -> int:
    """The port of a source q<port>_<number>."""
    return int(name[1:].partition("_")[0])


def places(place: int, array: Array, size: tuple[int, ...], whole: bool) -> dict[str, Array]:
    """Where a forward kernel finds a state and puts the new one."""
    if whole:
        return {f"s{place}": array[:-1], f"w{place}": array[1:]}
    return {f"w{place}": np.broadcast_to(array, size)}


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
