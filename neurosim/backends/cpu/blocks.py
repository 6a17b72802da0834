"""A run of a scan in blocks of steps, so that what one part reads is still in a cache from what wrote it.

The product of a projection (`Product`) is formed for some steps at a time, right before the scan reads them. Backward,
the cotangents of some steps go into the products for the gradient of the weight (and of what was sent) right behind the
scan that made them, and are nowhere for all steps. Where the old states of all steps are more than a cache holds, only
those at the start of each block are kept, and the block is run once more before its backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurosim.backends.cpu.call import Call, Pass, places, port_of, spread
from neurosim.backends.cpu.gathered import gathered
from neurosim.backends.cpu.rooms import room
from neurosim.backends.cpu.spans import Span, spans, steps_of_product
from neurosim.backends.cpu.writer import Kernel
from neurosim.backends.gradient.step import Arriving, Product, Source
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.scan import Scan

MOST_KEPT = 2**22  # bytes of old states that are kept for all steps; beyond, they are made again in blocks
BLOCK = 2**21  # bytes of a block's states, most of which stay in the second cache (of 2 MB)


class Blocks(Call):
    """A call in blocks of steps."""

    def __init__(
        self,
        scan: Scan,
        sources: Arriving,
        draws: Sequence[Tensor],
        wanted: tuple[int, ...],
        size: tuple[int, int, int],
        through_time: bool,
    ):
        super().__init__(scan, sources, draws, wanted, size, through_time)
        self.products = {name: source for name, source in self.sources.items() if isinstance(source, Product)}
        self.chunks = [(0, size[0])]  # the steps of a product
        if self.products:
            self.chunks = spans(0, size[0], steps_of_product(size[2], scan.units, np.dtype(scan.dtype).itemsize))
        self.longest = max(stop - first for first, stop in self.chunks)
        self.length = self.longest  # of a block
        self.marks: Array | None = None  # the states at the start of each block

    def _keep(self, states: set[int]) -> set[int]:
        row = max(len(states) * int(np.prod(self.size[1:])) * np.dtype(self.scan.dtype).itemsize, 1)
        if self.size[0] * row <= MOST_KEPT:
            return states
        self.length = min(max(1, BLOCK // row), self.longest)
        count = sum(len(spans(*chunk, self.length)) for chunk in self.chunks)
        self.marks = room((count, self.scan.states, *self.size[1:]), self.scan.dtype)
        return set()

    def _laid(self, name: str, source: Source) -> Array:
        if not isinstance(source, Product):
            return spread(source, self.size)
        again = self.marks is not None or (self.graded and self.scan.states + port_of(name) in self.reads)
        return self._room(self.size[0] if again else self.longest)

    def _cotangent(self, port: int) -> Array:
        own = [source for name, source in self.sources.items() if port_of(name) == port and source.requires_grad]
        apart = all(isinstance(source, Product) or len(source) == 1 for source in own)
        return self._room(self.longest if apart else self.size[0])

    def _pass(self, kernel: Kernel, arrays: Mapping[str, Array], back: bool = False) -> Pass:
        return Pass(kernel, arrays, self.size, self.length * int(np.prod(self.size[1:])), back)

    # ---- forward ----------------------------------------------------------------------------------------------------

    def forward(self) -> list[Array]:
        """Run; the wanted sequences."""
        kernel, arrays = self.ready()
        ahead, number = self._pass(kernel, arrays), 0
        for chunk in self.chunks:
            for name, product in self.products.items():
                out = self._part(arrays[name], chunk)
                ahead.point(name, out, chunk[0])
                product.form(*chunk, torch.from_numpy(out))
            for first, stop in spans(*chunk, self.length):
                if self.marks is not None:
                    for place, array in enumerate(self.state):
                        self.marks[number, place] = array[first if place in self.kept else 0]
                    number += 1
                ahead.run(first, stop)
        return self.found(arrays)

    def _part(self, array: Array, chunk: Span) -> Array:
        """A chunk of a sequence, of which there is all or room for one chunk."""
        first, stop = chunk
        return array[first:stop] if len(array) == self.size[0] else array[: stop - first]

    # ---- backward ---------------------------------------------------------------------------------------------------

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Cotangents of the tensors of every source, from those of the wanted sequences."""
        given = {place: spread(g, self.size) for place, g in zip(self.wanted, gradients, strict=True) if g is not None}
        kernel, arrays, ports = self.ready_back(given)
        found = [(port_of(name), gathered(one)) for name, one in self.sources.items()]
        if kernel is not None:
            if self.marks is None:
                arrays |= self.old_states()
            back, again = self._pass(kernel, arrays, back=True), self._again()
            for name, array in again.arrays.items() if again else ():
                back.point(name, array)
            for chunk in reversed(self.chunks):
                for port, array in ports.items():
                    back.point(f"g{port}", self._part(array, chunk), chunk[0])
                for block in reversed(spans(*chunk, self.length)):
                    if again:
                        again.run(*block, back)
                    back.run(*block)
                for port, gradient in found:
                    if port in ports:
                        gradient.add(chunk, torch.from_numpy(self._part(ports[port], chunk)))
        return [
            tensor
            for port, gradient in found
            for tensor in gradient.made(torch.from_numpy(ports[port]) if port in ports else None)
        ]

    def _again(self) -> Again | None:
        """What makes the old states again, if they were not kept."""
        if self.marks is None:
            return None
        kernel = self.scan.forward(tuple(range(self.scan.states)), self.counts, self.draws, ())
        shape = self.scan.states, self.length + 1, *self.size[1:]
        return Again(self._pass(kernel, self.arrays), room(shape, self.scan.dtype), self.marks)


class Again:
    """The old states of one block after the other, from the last to the first, made from those at its start."""

    def __init__(self, ahead: Pass, made: Array, marks: Array):
        self.ahead, self.made, self.marks, self.number = ahead, made, marks, len(marks)
        self.arrays: dict[str, Array] = {}
        for place, array in enumerate(made):
            for name, part in places(place, array, array.shape, whole=True).items():
                ahead.point(name, part)
            self.arrays[f"s{place}"] = array

    def run(self, first: int, stop: int, back: Pass) -> None:
        """Make those of the next block, and point `back` to them."""
        self.number -= 1
        self.made[:, 0] = self.marks[self.number]
        for place, name in enumerate(self.arrays):
            self.ahead.shift(name, first)
            self.ahead.shift(f"w{place}", first)
            back.shift(name, first)
        self.ahead.run(first, stop)
