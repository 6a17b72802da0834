"""The equation of `neurosim.rule` as one kernel per weight: eligibility, change, transforms and bounds of a tile.

A program has one tile of synapses (dense: 32 post by 64 pre neurons; else 256 synapses in a row) and keeps it in
registers over all rows of the batch and all steps that it is asked for; the values at the two ends are vectors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from neurosim.backends.learning import read_later
from neurosim.backends.resolve import Synapses
from neurosim.backends.symbolic import straight_line
from neurosim.backends.triton.learning import Compiled
from neurosim.backends.triton.source import Kernel, Text, blocks
from neurosim.backends.triton.words import Writing
from neurosim.backends.update import Part
from neurosim.constraint import Bounds
from neurosim.factor import Factor
from neurosim.modulator import Feedback, Unmodulated
from neurosim.rule import OfComponent, OfWeight, PerSynapse, SynapseNoise, ThreeFactorRule
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder

POSTS, PRES, ROW = 32, 64, 256


def why_not_tiled(builder: Builder, synapses: Synapses, rule: ThreeFactorRule) -> str:
    """Why a rule has no kernel, or ""."""
    if synapses.kind == "convolution":
        return "its synapses share weights"
    if not isinstance(synapses.delay, int):
        return "its delay differs by synapse"
    if rule.reduce == "sequential":
        return "it takes the rows of a batch one after the other"
    if hasattr(rule.modulator, "pre_factors"):
        return "its modulator differs by synapse"
    if any(isinstance(term.gain, SynapseNoise) for component in rule.components for term in component.terms):
        return "it perturbs its weights"
    if rule.when == "step":
        return why_no_update(builder, synapses, rule)
    return ""


def why_no_update(builder: Builder, synapses: Synapses, rule: ThreeFactorRule) -> str:
    """Why a change of weights in every step has no kernel, or ""."""
    for part in builder.simulator.learning.parts[synapses.name]:
        for transform, step in zip(part.chain, part.steps, strict=True):
            if step is None:
                return f"its transform {type(transform).__name__} looks at neighbouring synapses"
    if not all(isinstance(constraint, Bounds) for constraint in rule.constraints):
        return "its constraint looks at neighbouring synapses"
    return ""


class Tiled(Compiled):
    """See the module."""

    def __init__(self, builder: Builder, synapses: Synapses, rule: ThreeFactorRule, shown: bool):
        super().__init__(builder, synapses, rule)
        self.kernels = {part.name: TileKernel(builder, synapses, rule, part, shown) for part in self.parts}

    def begin(self) -> None:
        """Take over weights and memories; in this phase those of the kernels, which change in place, are the ones."""
        learned, builder = self.builder.learned, self.builder
        old = builder.eligibility.get(self.name)
        for part in self.parts:
            kernel = self.kernels[part.name]
            kernel.begin(learned, () if old is None else old[part.name], self.name)
            if self.at_once:
                learned[part.name][self.name] = kernel.weight
        if old is not None:
            kept = {part.name: self.kernels[part.name].eligibility() for part in self.parts}
            builder.eligibility = {**builder.eligibility, self.name: kept}

    def run(self, first: int, count: int) -> None:
        steps = self.formed(first, count)
        if not self.at_once:
            self._launch(first, count, steps)
            if self.ends(first, count):
                self._gathered()
                self.make_due()
            return
        for step in steps:
            self._launch(step, 1, range(step, step + 1))

    def _launch(self, first: int, count: int, steps: range) -> None:
        reader = self.reader(first, count)
        m = self.third_factor(steps.start, len(steps)) if len(steps) else None
        early = steps.start - first if len(steps) else count
        for part in self.parts:
            self.kernels[part.name].launch(reader, m, count, early)

    def pointers(self) -> tuple[int, ...] | None:
        direct = type(self.rule.modulator) in (Feedback, Unmodulated)
        return () if self.at_once and direct and not self.builder.watched(self.name) else None

    def end(self) -> None:
        learned, name, builder = self.builder.learned, self.name, self.builder
        if name in builder.eligibility:
            kept = {part: tuple(e.clone() for e in values) for part, values in builder.eligibility[name].items()}
            builder.eligibility = {**builder.eligibility, name: kept}
        if self.at_once:
            learned["transform"][name] = {part.name: self.kernels[part.name].memories() for part in self.parts}
            learned["count"][name] += builder.context.phase.steps
            for part in self.parts:
                learned[part.name][name] = self.kernels[part.name].weight.clone()

    def _gathered(self) -> None:
        """What the phase's steps have added up."""
        steps = 1 if self.rule.accumulate == "last" else self.builder.context.phase.steps
        for part in self.parts:
            change = self.kernels[part.name].change
            assert change is not None
            self.gather(part.name, change.clone(), steps)


class TileKernel:
    """The kernel of one weight or bias."""

    def __init__(self, builder: Builder, synapses: Synapses, rule: ThreeFactorRule, part: Part, shown: bool):
        self.builder, self.synapses, self.rule, self.part = builder, synapses, rule, part
        self.dense = synapses.kind == "dense" and part.name == "weight"
        self.sparse = synapses.kind == "sparse" and part.name == "weight"
        self.at_once = rule.when == "step"
        last = len(rule.components) - 1
        self.kept = [
            index
            for index, component in enumerate(rule.components)
            if component.has_memory or read_later(rule, index) or (shown and index == last)
        ]
        replicas, self.batch = builder.values.size
        posts, pres = synapses.post.units, synapses.pre.units
        shape = {"weight": (replicas, *synapses.weight_shape), "bias": (replicas, synapses.bias_units)}[part.name]
        if self.sparse:
            assert synapses.edges is not None
            shape = (len(synapses.edges.post),)
        values = builder.values
        self.weight = values.zeros(*shape)
        rows = (self.batch, *shape) if self.sparse else (shape[0], self.batch, *shape[1:])
        self.memory = {index: values.zeros(*rows) for index in self.kept}
        self.slots = [{name: values.zeros(*shape) for name in transform.memory} for transform in part.chain]
        self.change = None if self.at_once else values.zeros(*shape)
        self.count = values.zeros(1)
        dtype = str(values.dtype).removeprefix("torch.")
        self.writing = Writing(dtype, "(POSTS, PRES)" if self.dense else "(ROW,)")
        self.text = Text("learn", constants={"POSTS": POSTS, "PRES": PRES} if self.dense else {"ROW": ROW})
        self.ends: dict[tuple[str, int], str] = {}
        self.sources: dict[str, tuple[str, Factor | None]] = {}
        self.before: list[str] = []
        self.body: list[str] = []
        self.units = posts, pres
        self.made = self._written()

    # ---- the text ---------------------------------------------------------------------------------------------------

    def _written(self) -> Kernel:
        text = self.text
        for name, value in (("B", self.batch), ("T", 1), ("early", 0), ("P", self.units[0])):
            text.argument(name, value)
        text.argument("Q", self.units[1] if self.dense else 1)
        text.argument("total", self.weight.numel())
        self._place()
        text.argument("w_at", self.weight)
        self.before.append("w = tl.load(w_at + at, mask=mask, other=0.0)")
        for index in self.kept:
            text.argument(f"e{index}_at", self.memory[index])
        if self.change is not None:
            text.argument("g_at", self.change)
        gains = self._gains()
        self._equation(gains)
        for line in self.before:
            text.line(line)
        text.line(f"g = {self.writing.number(0.0)}")
        text.line("for b in range(B):")
        for index in self.kept:
            text.line(f"e{index} = tl.load(e{index}_at + {self._row()}, mask=mask, other=0.0)", 2)
        text.line("for t in range(T):", 2)
        text.line("row = t * B + b", 3)
        for line in self.body:
            text.line(line, 3)
        for index in self.kept:
            text.line(f"tl.store(e{index}_at + {self._row()}, e{index}, mask=mask)", 2)
        if self.rule.reduce == "mean":
            text.line(f"g = divided(g, {self.writing.number(float(self.batch))}, {self.writing.single})")
        if self.change is not None:
            text.line("tl.store(g_at + at, tl.load(g_at + at, mask=mask, other=0.0) + g, mask=mask)")
        else:
            self._update()
        return text.done()

    def _place(self) -> None:
        """Where the synapses of this program are, and their ends: replica r, neurons i and j."""
        if self.dense:
            self.before += [
                "r = tl.program_id(2).to(tl.int64)",
                "i = (tl.program_id(0) * POSTS + tl.arange(0, POSTS))[:, None].to(tl.int64)",
                "j = (tl.program_id(1) * PRES + tl.arange(0, PRES))[None, :].to(tl.int64)",
                "mask = (i < P) & (j < Q)",
                "at = (r * P + i) * Q + j",
            ]
            return
        self.before += ["at = tl.program_id(0).to(tl.int64) * ROW + tl.arange(0, ROW)", "mask = at < total"]
        if not self.sparse:
            self.before += ["r, i = at // P, at % P", "j = i" if self.part.name == "weight" else "j = i * 0"]
            return
        edges = self.synapses.edges
        assert edges is not None
        for name, index in (("post", edges.post), ("pre", edges.pre)):
            self.text.argument(f"{name}_index", index.to(self.builder.values.device))
            self.before.append(f"{name} = tl.load({name}_index + at, mask=mask, other=0).to(tl.int64)")
        self.text.argument("N", self.units[1])
        self.before.append("r, i, j = post // P, post % P, pre % N")

    def _row(self) -> str:
        """Where a tile of row b of the batch lies in an eligibility."""
        if self.dense:
            return "((r * B + b) * P + i) * Q + j"
        return "b * total + at" if self.sparse else "(r * B + b) * P + i"

    def _end(self, end: str, factor: Factor | None) -> str:
        """The value of a factor of this step, read where it is first used; no factor: the third one."""
        key = end, id(factor)
        if key not in self.ends:
            name = f"{end}{len(self.ends)}"
            self.ends[key] = name
            self.sources[name] = end, factor
            self.text.argument(f"{name}_at", self.builder.values.one)
            for axis in ("r", "row", "unit"):
                self.text.argument(f"{name}_{axis}", 0)
            unit, inside = ("i", "i < P") if end == "post" else ("j", "j < Q")
            inside, row = inside if self.dense else "mask", "row"
            if factor is None:  # there are third factors of the steps that form a change only
                inside, row = f"({inside}) & (i * 0 + t >= early)", "(row - early * B)"
            offset = f"r * {name}_r + {row} * {name}_row + {unit} * {name}_unit"
            self.body.append(f"{name} = tl.load({name}_at + {offset}, mask={inside}, other=0.0)")
        return self.ends[key]

    def _like_weight(self, name: str, value: Any) -> str:
        """A number, or numbers like the weight, of this tile."""
        if isinstance(value, Tensor):
            self.text.argument(f"{name}_at", value.expand(self.weight.shape).contiguous())
            self.before.append(f"{name} = tl.load({name}_at + at, mask=mask, other=0.0)")
            return name
        return self.writing.number(float(value))

    def _gains(self) -> dict[tuple[int, int], str]:
        gains = {}
        learning = self.builder.simulator.learning
        for c, component in enumerate(self.rule.components):
            for k, term in enumerate(component.terms):
                if isinstance(term.gain, OfWeight):
                    gains[c, k] = self._call(f"gain{c}_{k}", term.gain.fn, ["w"], term.gain.constants, self.before)[0]
                elif isinstance(term.gain, PerSynapse):
                    value = learning.gains[self.synapses.name, self.part.name, c, k]
                    gains[c, k] = self._like_weight(f"gain{c}_{k}", value)
                elif isinstance(term.gain, OfComponent):
                    gains[c, k] = f"{'new' if term.gain.read == 'after' else 'old'}{term.gain.index}"
        return gains

    def _call(self, name: str, function: Any, inputs: list[str], constants: Any, lines: list[str]) -> list[str]:
        """A function of the vocabulary, written out; the names of its results."""
        symbols = [f"x{k}" for k in range(len(inputs) + len(constants))]
        code = straight_line(function, symbols)
        given = [*inputs, *(self._like_weight(f"{name}_c{k}", value) for k, value in enumerate(constants))]
        names = dict(zip(symbols, given, strict=True)) | {one.name: f"{name}_{one.name}" for one in code.operations}
        lines += self.writing.lines(code.operations, names)
        return [self.writing.operand(result, names) for result in code.results]

    def _equation(self, gains: dict[tuple[int, int], str]) -> None:
        for c, component in enumerate(self.rule.components):
            products = []
            for k, term in enumerate(component.terms):
                factors = [self._end("post", term.post), self._end("pre", term.pre), gains.get((c, k), "")]
                products.append(" * ".join(one for one in factors if one))
            total = " + ".join(products)
            if c in self.kept:
                self.body.append(f"old{c} = e{c}")
                if component.tau is not None:
                    decay = self.writing.number(math.exp(-self.builder.plan.dt / component.tau))
                    total = f"{decay} * old{c} + {total}"
                elif component.decay is not None:
                    total = f"{self._end('post', component.decay)} * old{c} + {total}"
            # A term of two vectors becomes a tile here, whatever else it meets.
            self.body.append(f"new{c} = {total} + {self.writing.number(0.0)}")
            if c in self.kept:
                self.body.append(f"e{c} = new{c}")
        m = self._end("post", None)
        self.body.append(f"g += tl.where(t >= early, {m} * new{len(self.rule.components) - 1}, 0.0)")

    def _update(self) -> None:
        """w <- C(w + T(G))."""
        text, lines = self.text, list[str]()
        text.argument("count_at", self.count)
        lines += ["count = tl.load(count_at)", "change = g"]
        stores = []
        start = len(self.before)
        for index, transform in enumerate(self.part.chain):
            slots = []
            for name, slot in self.slots[index].items():
                own = f"slot{index}_{name}"
                text.argument(f"{own}_at", slot)
                lines.append(f"{own} = tl.load({own}_at + at, mask=mask, other=0.0)")
                slots.append(own)
            results = self._call(
                f"transform{index}", transform.step, ["change", "w", "count", *slots], self.part.constants[index], lines
            )
            lines.append(f"change = {results[0]}")
            stores += [
                f"tl.store({own}_at + at, {value}, mask=mask)" for own, value in zip(slots, results[1:], strict=True)
            ]
        lines.append("w = w + change")
        for bound in self.rule.constraints if self.part.name == "weight" else ():
            for edge, word in ((bound.w_min, "tl.maximum"), (bound.w_max, "tl.minimum")):
                if edge is not None:
                    lines.append(f"w = {word}(w, {self.writing.number(edge)})")
        for line in (*self.before[start:], *lines, *stores, "tl.store(w_at + at, w, mask=mask)"):
            text.line(line)

    # ---- a run ------------------------------------------------------------------------------------------------------

    def begin(self, learned: dict[str, Any], eligibility: tuple[Tensor, ...], name: str) -> None:
        """Take over the weight and the memories of a state."""
        part = self.part.name
        self.weight.copy_(learned[part][name])
        for index in self.kept:
            if eligibility and eligibility[index].numel():
                self.memory[index].copy_(eligibility[index].reshape(self.memory[index].shape))
            else:
                self.memory[index].zero_()
        if self.change is not None:
            self.change.zero_()
            return
        self.count.fill_(float(learned["count"][name]))
        for slots, old in zip(self.slots, learned["transform"][name][part], strict=True):
            for slot in slots:
                slots[slot].copy_(old[slot])

    def eligibility(self) -> tuple[Tensor, ...]:
        """The memories, one tensor per component (an empty one for a component without); they change in place."""
        nothing, kept = self.builder.values.one[:0], dict(self.memory)
        if self.part.name == "bias":  # one position, as the reference has it
            kept = {index: memory.unsqueeze(-1) for index, memory in kept.items()}
        return tuple(kept.get(index, nothing) for index in range(len(self.rule.components)))

    def memories(self) -> tuple[dict[str, Tensor], ...]:
        """The transforms' memories of now."""
        return tuple({name: slot.clone() for name, slot in slots.items()} for slots in self.slots)

    def launch(self, reader: Any, m: Tensor | None, steps: int, early: int) -> None:
        """`steps` steps, of which those from `early` on form a change; `m` has those only."""
        changed: dict[str, Any] = {"T": steps, "early": early}
        replicas = self.builder.values.size[0]
        for name, (end, factor) in self.sources.items():
            if factor is None:
                value = self.builder.values.one if m is None else m
            else:
                value = reader.post(factor) if end == "post" else self._pre(reader, factor)
            value = value.expand(replicas, -1, -1)
            strides = [0 if size == 1 else stride for size, stride in zip(value.shape, value.stride(), strict=True)]
            changed[f"{name}_at"] = value
            changed |= {f"{name}_{axis}": stride for axis, stride in zip(("r", "row", "unit"), strides, strict=True)}
        self.made.launch(self._programs(), **changed)
        if self.at_once:
            self.count += 1.0

    def _pre(self, reader: Any, factor: Factor) -> Tensor:
        delay = self.synapses.delay if self.part.name == "weight" else 0
        value: Tensor = reader.end(self.part, factor)(delay)
        return value

    def _programs(self) -> tuple[int, ...]:
        if self.dense:
            (posts,), (pres,) = blocks(self.units[0], POSTS), blocks(self.units[1], PRES)
            return posts, pres, self.builder.values.size[0]
        return blocks(self.weight.numel(), ROW)
