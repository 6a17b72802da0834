"""A scalar step over all steps of a phase as one operation of torch's autograd, in both directions a Triton kernel.

Forward keeps the old states of every step. Backward runs against time with the cotangents of the states in registers
and takes the step's pullback (`backends/derivative.py`), which is traced and written out like the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from neurosim.backends.derivative import Pullback
from neurosim.backends.gradient.step import Sources, StepThroughTime
from neurosim.backends.symbolic import straight_line
from neurosim.backends.triton.source import Kernel, Text, blocks
from neurosim.backends.triton.words import Writing
from neurosim.types import Tensor

BLOCK = 256
AXES = "trbn"


class Through(StepThroughTime):
    """A step through time as Triton kernels."""

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
        """The sequences `[T, R, B, N]` of the results `wanted`, by place, and the states after the last step (without a
        graph). `start`: a state `[R, B, N]` each; `size` is (T, R, B).
        """
        call = _Call(self, sources, draws, tuple(wanted), size, through_time)
        tensors = [*start, *(tensor for port in sources for tensor in port)]
        call.begin(start)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            made = _Graph.apply(call, *tensors)  # type: ignore[no-untyped-call]
        else:
            made = tuple(call.forward(kept=False))
        return dict(zip(wanted, made, strict=True)), call.final

    # ---- kernels ----------------------------------------------------------------------------------------------------

    def forward(self, counts: tuple[int, ...], draws: int, wanted: tuple[int, ...], kept: bool, like: Tensor) -> Kernel:
        """States `s` in registers, `k` where old ones are kept, `q` what arrives, `d` noise, `o` results."""
        key = "forward", counts, draws, wanted, kept
        if key not in self._kernels:
            self._kernels[key] = _Forward(self, counts, draws, like).written(wanted, kept)
        return self._kernels[key]

    def backward(
        self, made: Pullback, counts: tuple[int, ...], draws: int, outside: tuple[int, ...], like: Tensor
    ) -> Kernel:
        """`e` cotangents from outside, `l` those of states, in registers, `g` those of ports; the rest as above."""
        key = "backward", made.text, counts, draws, outside
        if key not in self._kernels:
            self._kernels[key] = _Backward(self, counts, draws, like).written(made, outside)
        return self._kernels[key]


class _Text:
    """What both directions have in common: places, constants, and what arrives in a step."""

    def __init__(self, scan: Through, name: str, counts: tuple[int, ...], draws: int, like: Tensor):
        self.scan, self.counts, self.draws, self.like = scan, counts, draws, like
        self.writing = Writing(scan.dtype, "(BLOCK,)")
        self.text = Text(name, constants={"BLOCK": BLOCK})
        for argument in ("T", "total", "B", "N"):
            self.text.argument(argument, 1)
        self.before = [
            "i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)", "mask = i < total",
            "n, row = i % N, i // N", "b, r = row % B, row // B",
        ]  # fmt: skip
        self.loop: list[str] = []
        self.after: list[str] = []

    def strided(self, name: str, time: str = "t") -> str:
        """The value of a sequence in this step, whatever its strides."""
        self.text.argument(name, self.like)
        strides = [self.text.argument(f"{name}_{axis}", 0) for axis in AXES]
        offset = f"{time} * {strides[0]} + r * {strides[1]} + b * {strides[2]} + n * {strides[3]}"
        return f"tl.load({name} + {offset}, mask=mask, other=0.0)"

    def laid(self, name: str, value: str | None = None, time: str = "t") -> str:
        """A load of a sequence whose steps lie one behind the other, or the store of a value in it."""
        if name not in self.text.arguments:
            self.text.argument(name, self.like)
        at = f"{name} + ({time}) * total + i"
        return f"tl.load({at}, mask=mask, other=0.0)" if value is None else f"tl.store({at}, {value}, mask=mask)"

    def inputs(self, needed: Sequence[int]) -> list[str]:
        """Names of the arguments of the step, by place; those that are `needed` are read."""
        scan, names = self.scan, [f"s{place}" for place in range(self.scan.states)]
        for port, count in enumerate(self.counts):
            name = f"q{port}"
            if len(names) in needed:
                parts = [self.strided(f"{name}_{k}") for k in range(count)]
                self.loop.append(f"{name} = {' + '.join(parts) or self.writing.number(0.0)}")
            names.append(name)
        for draw in range(self.draws):
            if len(names) in needed:
                self.loop.append(f"d{draw}_x = {self.strided(f'd{draw}')}")
            names.append(f"d{draw}_x")
        for place, value in enumerate(scan.constants):
            name = f"c{place}"
            if len(names) in needed:
                self._constant(name, value)
            names.append(name)
        return names

    def _constant(self, name: str, value: Any) -> None:
        array = np.asarray(value, dtype=np.float64)
        spread = torch.tensor(array.reshape(-1, 1 if array.ndim == 0 else self.scan.units)).to(self.like)
        self.text.argument(f"{name}_at", spread)
        row = self.text.argument(f"{name}_row", spread.shape[1] if len(spread) > 1 else 0)
        at = f"{name}_at" if array.ndim == 0 else f"{name}_at + r * {row} + n"
        mask = "" if array.ndim == 0 else ", mask=mask, other=0.0"
        self.before.append(f"{name} = tl.load({at}{mask})")

    def done(self, loop: str) -> Kernel:
        for depth, lines in ((1, self.before), (1, [loop]), (2, self.loop or ["pass"]), (1, self.after)):
            for line in lines:
                self.text.line(line, depth)
        return self.text.done()


class _Forward(_Text):
    def __init__(self, scan: Through, counts: tuple[int, ...], draws: int, like: Tensor):
        super().__init__(scan, "forward", counts, draws, like)

    def written(self, wanted: tuple[int, ...], kept: bool) -> Kernel:
        scan = self.scan
        arguments = scan.step.__code__.co_argcount
        code = straight_line(scan.step, [f"a{place}" for place in range(arguments)], scan.surrogate)
        places = [*range(scan.states), *(place for place in wanted if place >= scan.states)]
        operations = code.needed(places)
        used = {one for operation in operations for one in operation.operands} | {code.results[p] for p in places}
        needed = [place for place in range(arguments) if f"a{place}" in used]
        names = dict(zip(code.inputs, self.inputs(needed), strict=True)) | {one.name: one.name for one in operations}
        for place in range(scan.states):
            self.before.append(f"s{place} = {self.laid(f'w{place}', time='0')}")
            if kept:
                self.loop.append(self.laid(f"k{place}", f"s{place}"))
            self.after.append(self.laid(f"w{place}", f"s{place}", "0"))
        self.loop += self.writing.lines(operations, names)
        for place in places:
            self.loop.append(f"y{place} = {self.writing.operand(code.results[place], names)}")
            if place in wanted:
                self.loop.append(self.laid(f"o{place}", f"y{place} + {self.writing.number(0.0)}"))
        self.loop += [f"s{place} = y{place}" for place in range(scan.states)]
        return self.done("for t in range(T):")


class _Backward(_Text):
    def __init__(self, scan: Through, counts: tuple[int, ...], draws: int, like: Tensor):
        super().__init__(scan, "backward", counts, draws, like)

    def written(self, made: Pullback, outside: tuple[int, ...]) -> Kernel:
        scan = self.scan
        count = len(made.reads) + len(made.takes)
        code = straight_line(made.function, [f"a{place}" for place in range(count)], scan.surrogate)
        self.loop.append("t = T - 1 - back")
        names = self.inputs(made.reads)
        self.loop += [f"s{place} = {self.laid(f'k{place}')}" for place in made.reads if place < scan.states]
        carried = [place for place in made.gives if place < scan.states]
        for place in carried:
            self.before.append(f"l{place} = {self.writing.number(0.0)}")
            self.after.append(self.laid(f"l{place}_out", f"l{place}", "0"))
        given = [names[place] for place in made.reads]
        for place in made.takes:
            parts = [f"l{place}"] * (place in carried)
            parts += [self.strided(f"e{place}")] * (place in outside)
            self.loop.append(f"h{place} = {' + '.join(parts)}")
            given.append(f"h{place}")
        own = dict(zip(code.inputs, given, strict=True)) | {one.name: one.name for one in code.operations}
        self.loop += self.writing.lines(code.operations, own)
        zero = self.writing.number(0.0)
        for place, result in zip(made.gives, code.results, strict=True):
            self.loop.append(f"y{place} = {self.writing.operand(result, own)} + {zero}")
        for place in made.gives:
            if place in carried:
                self.loop.append(f"l{place} = y{place}")
            else:
                self.loop.append(self.laid(f"g{place - scan.states}", f"y{place}"))
        return self.done("for back in range(T):")


class _Call:
    """One run of a scan: the tensors of both directions."""

    def __init__(
        self,
        scan: Through,
        sources: Sources,
        draws: Sequence[Tensor],
        wanted: tuple[int, ...],
        size: tuple[int, int, int],
        through_time: bool,
    ):
        self.scan, self.wanted, self.through_time = scan, wanted, through_time
        self.size = *size, scan.units
        self.counts = tuple(len(port) for port in sources)
        self.draws = len(draws)
        self.inputs = tuple(p for p, port in enumerate(sources) if any(tensor.requires_grad for tensor in port))
        self.shapes = [[(tuple(t.shape), t.requires_grad) for t in port] for port in sources]
        given = [(f"q{p}_{k}", t) for p, port in enumerate(sources) for k, t in enumerate(port)]
        given += [(f"d{k}", t) for k, t in enumerate(draws)]
        self.given = {name: tensor.detach().expand(self.size) for name, tensor in given}
        self.kept: list[Tensor] = []
        self.final: list[Tensor] = []

    def begin(self, start: Sequence[Tensor]) -> None:
        """Take over the states."""
        self.needs_start = [tensor.requires_grad for tensor in start]
        self.final = [
            tensor.detach().expand(self.size[1:]).clone(memory_format=torch.contiguous_format) for tensor in start
        ]
        everything = [*self.final, *self.given.values()]
        self.like = everything[0] if everything else torch.zeros(1)

    def _empty(self, steps: bool = True) -> Tensor:
        return torch.empty(self.size if steps else self.size[1:], dtype=self.like.dtype, device=self.like.device)

    def forward(self, kept: bool) -> list[Tensor]:
        """Run; the wanted sequences."""
        tensors = {f"w{place}": state for place, state in enumerate(self.final)}
        if kept:
            self.kept = [self._empty() for _ in self.final]
            tensors |= {f"k{place}": old for place, old in enumerate(self.kept)}
        made = {place: self._empty() for place in self.wanted}
        tensors |= {f"o{place}": tensor for place, tensor in made.items()}
        self._launch(self.scan.forward(self.counts, self.draws, self.wanted, kept, self.like), tensors)
        return list(made.values())

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Cotangents of the start states and of every source, from those of the wanted sequences."""
        given = {place: g for place, g in zip(self.wanted, gradients, strict=True) if g is not None}
        scan, outside = self.scan, tuple(given)
        made = scan.pullback(self.inputs, outside, self.through_time)
        carried = {place: self._empty(steps=False) for place in made.gives if place < scan.states}
        ports = {p - scan.states: self._empty() for p in made.gives if p >= scan.states}
        tensors = {f"k{place}": old for place, old in enumerate(self.kept)}
        tensors |= {f"e{place}": g.expand(self.size) for place, g in given.items()}
        tensors |= {f"l{place}_out": tensor for place, tensor in carried.items()}
        tensors |= {f"g{port}": tensor for port, tensor in ports.items()}
        if made.gives:
            self._launch(scan.backward(made, self.counts, self.draws, outside, self.like), tensors)
        found = [carried.get(place) if needed else None for place, needed in enumerate(self.needs_start)]
        for port, shapes in enumerate(self.shapes):
            whole = ports.get(port)
            found += [whole.sum_to_size(shape) if whole is not None and needed else None for shape, needed in shapes]
        return found

    def _launch(self, kernel: Kernel, tensors: dict[str, Tensor]) -> None:
        changed: dict[str, Any] = {"T": self.size[0], "B": self.size[2], "N": self.size[3]}
        changed["total"] = self.size[1] * self.size[2] * self.size[3]
        for name, tensor in {**self.given, **tensors}.items():
            if name in kernel.arguments:
                changed[name] = tensor
            if f"{name}_t" in kernel.arguments:
                changed |= {f"{name}_{axis}": s for axis, s in zip(AXES, tensor.stride(), strict=True)}
        kernel.launch(blocks(changed["total"], BLOCK), **changed)


class _Graph(torch.autograd.Function):
    """A call in torch's graph."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Any:
        ctx.call = call
        ctx.set_materialize_grads(False)
        return tuple(call.forward(kept=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.call.backward(gradients)
