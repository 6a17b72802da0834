"""Scalar steps in time: neurons, traces and short-term plasticity as one kernel with the time loop inside.

A thread has one neuron of one row and keeps its states in registers over all the steps that it is asked for. What
another operation reads is written to its buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from neurosim.backends.symbolic import Straight
from neurosim.backends.triton.source import Kernel, Text, blocks
from neurosim.backends.triton.values import Buffer, Values
from neurosim.backends.triton.words import Writing
from neurosim.types import Tensor

BLOCK = 256


@dataclass(frozen=True)
class Noise:
    """A draw of a step: "uniform", "normal" or "held_normal", of the stream with this key."""

    kind: str
    key: tuple[int, int]


@dataclass
class Step:
    """One scalar step: its `inputs` in the order of `code.inputs` after the states.

    An input is a label, a `Noise`, a number, or numbers `[N]` or `[R, N]`. `labels` has the labels of every result,
    those of the states first.
    """

    code: Straight
    states: tuple[tuple[str, ...], ...]
    inputs: tuple[Any, ...]
    labels: tuple[tuple[str, ...], ...]


@dataclass
class Scan:
    """Steps over the same units, one after the other in every time step."""

    units: int
    steps: list[Step]
    drives: dict[str, list[str]] = field(default_factory=dict)  # port label -> the drives that are added to it


class ScanKernel:
    """Writes the text of a scan, and runs it.

    `written` says which labels have to be stored, `delivered` into which something is delivered; without `noise` a
    uniform number is 1 (no Poisson source spikes) and a normal one 0.
    """

    def __init__(
        self,
        scan: Scan,
        values: Values,
        written: Callable[[str], bool],
        delivered: Callable[[str], bool],
        noise: bool = True,
    ):
        self.scan, self.values, self.written, self.delivered, self.noise = scan, values, written, delivered, noise
        dtype = str(values.dtype).removeprefix("torch.")
        self.writing = Writing(dtype, "(BLOCK,)")
        self.text = Text("scan", constants={"BLOCK": BLOCK})
        self.numbers: list[float] = []
        self.keys: list[int] = []
        self.places: dict[str, str] = {}
        self.loop: list[str] = []
        self.known: dict[str, str] = {}  # label -> the name of its value in this step
        self.drive_names: dict[str, str] = {}
        self.total = values.size[0] * values.size[1] * scan.units
        self.made = self._written()

    # ---- the text ---------------------------------------------------------------------------------------------------

    def _written(self) -> Kernel:
        text, (_, batch), units = self.text, self.values.size, self.scan.units
        for name, value in (("first", 0), ("last", 1), ("total", self.total), ("B", batch), ("N", units)):
            text.argument(name, value)
        head = [
            "i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)", "mask = i < total",
            "n, row = i % N, i // N", "b, r = row % B, row // B", "BN = B * N", "own = i - r * BN",
        ]  # fmt: skip
        self.before: list[str] = []
        after: list[str] = []
        for number, step in enumerate(self.scan.steps):
            self._step(number, step, after)
        if self.numbers:
            text.argument("numbers", torch.tensor(self.numbers, dtype=self.values.dtype, device=self.values.device))
        if self.keys:
            device = self.values.device
            text.argument("keys", torch.tensor(self.keys, dtype=torch.int64, device=device))
            text.argument("samples", torch.zeros(batch, dtype=torch.int64, device=device))
            text.argument("clock", torch.zeros(2, dtype=torch.int64, device=device))
            head += ["sample = tl.load(samples + b, mask=mask, other=0).to(tl.uint64)", "start = tl.load(clock)"]
            head += ["phase_start = tl.load(clock + 1)"]
        for line in (*head, *self.before, "for t in range(first, last):"):
            text.line(line)
        for line in self.loop:
            text.line(line, 2)
        for line in after:
            text.line(line)
        return text.done()

    def _step(self, number: int, step: Step, after: list[str]) -> None:
        code, count = step.code, len(step.states)
        wanted = [place for place in range(len(code.results)) if place < count or self._wants(step.labels[place])]
        operations = code.needed(wanted)
        used = {operand for one in operations for operand in one.operands} | {code.results[place] for place in wanted}
        names = {one.name: f"s{number}_{one.name}" for one in operations}
        for place, key in enumerate(step.states):
            name = f"s{number}_state{place}"
            names[code.inputs[place]] = name
            at = self.text.argument(f"{name}_at", self.values.state(key, self.scan.units))
            self.before.append(f"{name} = tl.load({at} + i, mask=mask, other=0.0)")
            after.append(f"tl.store({at} + i, {name}, mask=mask)")
        for place, source in enumerate(step.inputs):
            symbol = code.inputs[count + place]
            if symbol in used:
                names[symbol] = self._input(f"s{number}_input{place}", source)
        self.loop += self.writing.lines(operations, names)
        for place in wanted:
            value = self.writing.operand(code.results[place], names)
            name = f"s{number}_result{place}"
            self.loop.append(f"{name} = {value}")
            for label in step.labels[place]:
                self.known[label] = name
                if self.written(label):
                    self._store(label, name)
        # All new states are there before an old one is overwritten.
        self.loop += [f"s{number}_state{place} = s{number}_result{place}" for place in range(count)]

    def _wants(self, labels: Sequence[str]) -> bool:
        later = {source for step in self.scan.steps for source in step.inputs if isinstance(source, str)}
        return any(self.written(label) or label in later for label in labels)

    def _input(self, name: str, source: Any) -> str:
        if isinstance(source, Noise):
            return self._noise(name, source)
        if not isinstance(source, str):
            return self._constant(name, source)
        if source not in self.known:
            self.known[source] = self._read(name, source)
        return self.known[source]

    def _constant(self, name: str, value: Any) -> str:
        array = np.asarray(value, dtype=np.float64)
        if array.ndim == 0:
            self.numbers.append(float(array))
            self.before.append(f"{name} = tl.load(numbers + {len(self.numbers) - 1})")
            return name
        spread = torch.tensor(array.reshape(-1, self.scan.units), dtype=self.values.dtype, device=self.values.device)
        at = self.text.argument(f"{name}_at", spread)
        stride = self.scan.units if len(spread) > 1 else 0
        row = self.text.argument(f"{name}_row", stride)
        self.before.append(f"{name} = tl.load({at} + r * {row} + n, mask=mask, other=0.0)")
        return name

    def _noise(self, name: str, noise: Noise) -> str:
        kind = "uniform" if noise.kind == "uniform" else "normal"
        if not self.noise:
            return self.writing.number(1.0 if kind == "uniform" else 0.0)
        place = len(self.keys)
        self.keys += noise.key
        step = "phase_start + t * 0" if noise.kind == "held_normal" else "start + t"
        key = ", ".join(f"tl.load(keys + {place + k}).to(tl.uint64)" for k in (0, 1))
        address = f"n.to(tl.uint64), ({step} + n * 0).to(tl.uint64), sample, r.to(tl.uint64), {key}"
        self.loop.append(f"{name} = {kind}({address}, {self.writing.real})")
        return name

    def _read(self, name: str, label: str) -> str:
        """A label from its buffer, with the drives of a port."""
        parts = []
        if self.delivered(label):
            at = self._place(label)
            parts.append(f"tl.load({at} + t * BN, mask=mask, other=0.0)")
        for drive in self.scan.drives.get(label, ()):
            parts.append(self._drive(drive))
        self.loop.append(f"{name} = {' + '.join(parts) or self.writing.number(0.0)}")
        return name

    def _drive(self, drive: str) -> str:
        name = f"drive{len(self.drive_names)}"
        self.drive_names[drive] = name
        at = self.text.argument(name, self.values.zero)
        strides = [self.text.argument(f"{name}_{axis}", 0) for axis in "trbn"]
        offset = f"r * {strides[1]} + b * {strides[2]} + n * {strides[3]}"
        return f"tl.load({at} + t * {strides[0]} + {offset}, mask=mask, other=0.0)"

    def _place(self, label: str) -> str:
        """The name of the address of a label's step 0."""
        if label not in self.places:
            name = f"at{len(self.places)}"
            buffer: Buffer = self.values.buffers[label]
            array = self.text.argument(f"{name}_array", buffer.array)
            slots = self.text.argument(f"{name}_slots", buffer.array.shape[1])
            depth = self.text.argument(f"{name}_depth", buffer.depth)
            self.before.append(f"{name} = {array} + (r * {slots} + {depth}) * BN + own")
            self.places[label] = name
        return self.places[label]

    def _store(self, label: str, value: str) -> None:
        self.loop.append(f"tl.store({self._place(label)} + t * BN, {value}, mask=mask)")

    # ---- a run ------------------------------------------------------------------------------------------------------

    def begin(self, drives: Mapping[str, Tensor], samples: Tensor, clocks: tuple[int, int]) -> None:
        """This chunk's drives `[T, R, B, N]` (from its first step on; held ones may have stride 0), the ids of the
        samples, and the clocks of the chunk's and of the phase's first step.
        """
        arguments = self.made.arguments
        for drive, name in self.drive_names.items():
            arguments[name] = drives[drive]
            for axis, stride in zip("trbn", drives[drive].stride(), strict=True):
                arguments[f"{name}_{axis}"] = stride
        if self.keys:
            arguments["samples"].copy_(samples)
            arguments["clock"].copy_(torch.tensor(clocks))

    def pointers(self) -> tuple[int, ...]:
        """Addresses and strides of the drives."""
        arguments = self.made.arguments
        drives = self.drive_names.values()
        strides = [arguments[f"{name}_{axis}"] for name in drives for axis in "trbn"]
        return *(arguments[name].data_ptr() for name in drives), *strides

    def run(self, first: int, count: int) -> None:
        """Steps `first` to `first + count` of the chunk."""
        self.made.launch(blocks(self.total, BLOCK), first=first, last=first + count)
