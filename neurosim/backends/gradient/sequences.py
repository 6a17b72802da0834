"""A phase population by population instead of step by step: what each value is in all steps, in torch's graph.

Where no path leads back to its start, a projection delivers all steps in one product (one more for the gradient of its
weight), a neuron is a compiled loop over time in both directions (`cpu/scan.py`, `triton/through.py`), and laterals are
torch's on all steps at once; populations that lead back to themselves run together, step by step (`cpu/recurrent.py`).
What stays the same in all steps is kept, and computed, once: `[1, R, B, N]` instead of `[T, R, B, N]`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from neurosim.backends.derivative import passed_on
from neurosim.backends.gradient.scans import Scans
from neurosim.backends.gradient.step import Product, Source, formed
from neurosim.backends.moment import Moment
from neurosim.backends.needs import released_by
from neurosim.backends.reference import NOISE_CHUNK, Context
from neurosim.backends.resolve import Synapses
from neurosim.backends.synapse import one_delay
from neurosim.phase import Held
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.reference import Reference


class Sequences:
    """`values` by label, as `Moment.now` has those of one step; `states` and `traces` after the last step."""

    def __init__(
        self,
        simulator: Reference,
        scans: Scans,
        activity: dict[str, Any],
        context: Context,
        wanted: set[str],
        through: bool,
    ):
        """`wanted`: labels that somebody reads; `through`: does the gradient pass from step to step?"""
        self.simulator, self.scans, self.activity, self.context = simulator, scans, activity, context
        self.plan, self.wanted, self.through = simulator.plan, wanted, through
        self.steps, self.size = context.phase.steps, (simulator.plan.replicas, context.batch)
        self.moment = Moment(activity, context.learned, context.clock, simulator.zero, simulator.learning.one)
        self.values = self.moment.now
        self.states: dict[str, dict[str, Tensor]] = {name: {} for name in activity["state"]}
        self.released: dict[str, dict[str, Tensor]] = {}
        self.traces: dict[str, Tensor] = {}

    def run(self) -> None:
        """Every population, teaching port and trace."""
        for name, given in self.context.drive.items():
            for port, drive in given:
                if port in self.plan.neurons[name].teaching:
                    self._add(f"{name}.{port}", [_driven(drive)])
        for group in self.scans.order(self.context.phase.silent)[0]:
            if group in self.scans.loops(self.context.phase.silent):
                self._loop(group)
            elif group[0] in self.states:
                self._population(group[0])
            else:
                self._teaching_port(group[0])
        with torch.no_grad():
            for source, own, mode, decay in self.simulator.filters:
                self._trace(source, own, mode, decay)

    # ---- what is there ----------------------------------------------------------------------------------------------

    def read(self, label: str, delay: int, units: int) -> Tensor:
        """The value `delay` steps ago, for all steps `[T, R, B, N]`, or `[1, R, B, N]` where it does not change."""
        value = self.values.get(label)
        if value is None:
            value = self.simulator.zero[None] if not label.startswith(".") else self.simulator.learning.one[None]
        value = value.expand(-1, *self.size, units)
        if not delay:
            return value
        past = self.activity["history"][label]
        before = [past[delay - 1 - step].expand(*self.size, units) for step in range(min(delay, self.steps))]
        now = value.expand(self.steps, -1, -1, -1)[: self.steps - len(before)]
        return torch.cat([torch.stack(before), now if self.through else now.detach()])

    def history(self) -> dict[str, tuple[Tensor, ...]]:
        """What is remembered after the phase."""
        return {label: tuple(self._remembered(label, past)) for label, past in self.activity["history"].items()}

    def _remembered(self, label: str, past: tuple[Tensor, ...]) -> Iterator[Tensor]:
        value = self.read(label, 0, past[0].shape[-1]).detach().expand(self.steps, -1, -1, -1)
        for age in range(len(past)):
            yield value[self.steps - 1 - age].clone() if age < self.steps else past[age - self.steps]

    # ---- delivery ---------------------------------------------------------------------------------------------------

    def _bias(self, synapses: Synapses) -> list[Tensor]:
        """The bias of a projection, `[1, R, 1, N]`, if it has one."""
        if not synapses.has_bias:
            return []
        bias = self.simulator.learning.effective_bias(synapses, self.context.learned, self.context)
        if synapses.kind == "convolution":
            bias = bias.repeat_interleave(synapses.post.units // synapses.bias_units, -1)
        return [bias[None, :, None, :]]

    def _arriving(self, synapses: Synapses) -> list[Source]:
        """What a projection brings, and its bias."""
        simulator, name = self.simulator, synapses.name
        released = name in simulator.releases
        label = f"{released_by(name)}.released" if released else f"{synapses.pre.name}.{synapses.sent}"
        weight = simulator.learning.effective_weight(synapses, self.context.learned, self.context)
        length = self._length(label, synapses)

        def read(delay: int) -> Tensor:
            return self.read(label, delay, synapses.pre.units).expand(length, -1, -1, -1)

        if synapses.kind == "dense" and len(weight) == 1:  # one matrix product, its gradient laid out as the weight
            product = Product(read(one_delay(synapses)), weight)
            parts: list[Source] = [product if length > 1 else product.formed()]
        else:
            arriving = simulator.operations[name].deliver(weight, lambda delay: _rows(read(delay)))
            parts = [arriving.unflatten(1, (length, -1)).transpose(0, 1)]
        return [*parts, *self._bias(synapses)]

    def _length(self, label: str, synapses: Synapses) -> int:
        """1 where the same arrives in all steps."""
        value = self.values.get(label)
        return 1 if synapses.longest == 0 and (value is None or len(value) == 1) else self.steps

    def _deliver(self, synapses: Synapses, port: list[Source]) -> None:
        """Add what a projection brings to what arrives at a port."""
        if synapses.name in self.context.phase.silent:
            return
        arriving = self._arriving(synapses)
        if synapses.combine == "max":
            port[:] = [torch.maximum(_total(port), _total(arriving)) if port else _total(arriving)]
        else:
            port.extend(arriving)

    def _teaching_port(self, label: str) -> None:
        arriving: list[Source] = []
        for synapses in self.plan.teaching:
            if f"{synapses.post.name}.{synapses.port}" == label:
                self._deliver(synapses, arriving)
        self._add(label, arriving)

    def _add(self, label: str, arriving: Sequence[Source]) -> None:
        known = [self.values[label]] if label in self.values else []
        if arriving:
            self.values[label] = _total([*known, *arriving])

    def _ports(self, name: str, inside: Collection[str] = ()) -> list[list[Source]]:
        """What arrives at every port of a population, to be added; of the projections `inside` a loop, the bias."""
        cell = self.simulator.cells[name]
        ports: dict[str, list[Source]] = {port: [] for port in cell.ports}
        for synapses in self.plan.driving[name]:
            if synapses.name in inside:
                ports[f"{name}.{synapses.port}"].extend(self._bias(synapses))
            else:
                self._deliver(synapses, ports[f"{name}.{synapses.port}"])
        for port, drive in self.context.drive.get(name, ()):
            if f"{name}.{port}" in ports:
                ports[f"{name}.{port}"].append(_driven(drive))
        for label, sources in ports.items():
            if sources and label in self.wanted and not inside:
                self.values[label] = _total(sources)
                sources[:] = [self.values[label]]
        return list(ports.values())

    # ---- neurons ----------------------------------------------------------------------------------------------------

    def _population(self, name: str) -> None:
        cell, scan = self.simulator.cells[name], self.scans.neuron(name)
        ports = self._ports(name)
        draws = self._noise(name)
        labels = self._labels(name)
        wanted = [place for place, label in enumerate(labels) if label in self.wanted]
        passed = passed_on(scan.step)
        first = len(cell.states)
        through = {p: passed[p] - first for p in wanted if p >= first and 0 <= passed.get(p, -1) - first < len(ports)}
        for place, port in through.items():
            if ports[port]:
                total = _total(ports[port])
                ports[port], self.values[labels[place]] = [total], total.expand(-1, *self.size, -1)
        if not scan.forms_products:
            ports = [[formed(source) for source in port] for port in ports]
        wanted = [place for place in wanted if place not in through]
        if wanted or cell.states:
            start = [self.activity["state"][name][state] for state in cell.states]
            still = not start and not draws and all(len(value) == 1 for port in ports for value in port)
            size = 1 if still else self.steps, *self.size
            made, final = scan(start, ports, draws, wanted, size, self.through)
            self.values |= {labels[place]: value for place, value in made.items()}
            self.states[name] = dict(zip(cell.states, final, strict=True))
        if cell.lateral is not None:
            raw = self.read(cell.outputs[0], 0, cell.units)
            self.values[f"{cell.outputs[0]}|raw"] = raw
            self.values[cell.outputs[0]] = cell._lateral(raw, self.moment)
        self._releases(name)

    def _loop(self, names: tuple[str, ...]) -> None:
        """Populations that lead back to themselves; see `cpu/recurrent.py`."""
        plan, context, silent = self.plan, self.context, self.context.phase.silent
        ends = [s for s in plan.synapses.values() if s.driving and {s.pre.name, s.post.name} <= set(names)]
        inside = {s.name: s for s in ends if s.name not in silent}
        places = {name: {label: k for k, label in enumerate(self._labels(name))} for name in names}
        sent = {f"{s.pre.name}.{s.sent}" for s in inside.values()}
        machine, calls, wires = self.scans.recurrent, dict[str, Any](), list[Any]()
        arriving, weights = dict[str, list[list[Tensor]]](), list[Tensor]()
        for name in (name for name in plan.order if name in names):
            ports = arriving[name] = [[formed(source) for source in port] for port in self._ports(name, inside)]
            for synapses in (s for s in inside.values() if s.post.name == name):
                port = self.simulator.cells[name].ports.index(f"{name}.{synapses.port}")
                pre, delay = synapses.pre.name, one_delay(synapses)
                place = places[pre][f"{pre}.{synapses.sent}"]
                wires.append(machine.Wire(pre, name, place, port, len(ports[port]), delay, synapses.kind == "dense"))
                weights.append(self.simulator.learning.effective_weight(synapses, context.learned, context))
                ports[port].append(self.simulator.zero.new_empty(self.steps, *self.size, synapses.post.units))
            wanted = tuple(k for label, k in places[name].items() if label in self.wanted or label in sent)
            inner = tuple({wire.port for wire in wires if wire.post == name})
            size = self.steps, *self.size
            calls[name] = machine.Call(
                self.scans.neuron(name), ports, self._noise(name), wanted, size, self.through, inner
            )
        self._run_loop(calls, wires, weights, arriving)

    def _labels(self, name: str) -> list[str]:
        """The labels of a population's results."""
        cell = self.simulator.cells[name]
        return [*cell.state_labels, *cell.outputs]

    def _run_loop(
        self,
        calls: dict[str, Any],
        wires: list[Any],
        weights: list[Tensor],
        arriving: dict[str, list[list[Tensor]]],
    ) -> None:
        sources = [tensor for ports in arriving.values() for port in ports for tensor in port]
        graded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*sources, *weights))
        for name, call in calls.items():
            cell = self.simulator.cells[name]
            call.begin([self.activity["state"][name][state] for state in cell.states], graded)
        past = {(wire.pre, wire.sent): self._past(wire.pre, wire.sent) for wire in wires}
        loop = self.scans.recurrent.Loop(calls, wires, weights, past, self.through)
        if graded:
            made = self.scans.recurrent.Through.apply(loop, *sources, *weights)
        else:
            made = tuple(torch.from_numpy(array) for array in loop.forward())
        waiting = iter(made)
        for name, call in calls.items():
            labels, cell = self._labels(name), self.simulator.cells[name]
            self.values |= {labels[place]: next(waiting) for place in call.wanted}
            self.states[name] = dict(zip(cell.states, call.final(), strict=True))
            for label, port in zip(cell.ports, arriving[name], strict=True):
                if label in self.wanted and port:
                    self.values[label] = _total(port).detach()
            self._releases(name)

    def _past(self, name: str, place: int) -> Tensor:
        """What a population has sent before the phase, `[D, R, B, N]`, the oldest first."""
        units = self.simulator.cells[name].units
        past = self.activity["history"].get(self._labels(name)[place], ())
        rows = [row.expand(*self.size, units) for row in reversed(past)]
        return torch.stack(rows) if rows else self.simulator.zero.new_empty(0, *self.size, units)

    def _noise(self, name: str) -> list[Tensor]:
        kinds = self.plan.neurons[name].draws
        starts = range(0, self.steps, NOISE_CHUNK)
        return [torch.cat([self.context._draw(name, kind, start) for start in starts]) for kind in kinds]

    def _releases(self, name: str) -> None:
        for own in self.simulator.releases:
            synapses = self.plan.synapses[own]
            if synapses.pre.name == name:
                scan, old = self.scans.release(own), self.activity["release"][own]
                spikes = self.read(f"{name}.{synapses.sent}", 0, synapses.pre.units)
                size = self.steps, *self.size
                made, final = scan(list(old.values()), [[spikes]], [], [scan.states], size, self.through)
                self.values[f"{released_by(own)}.released"] = made[scan.states]
                self.released[own] = dict(zip(old, final, strict=True))

    def _trace(self, source: str, own: str, mode: str, decay: float) -> None:
        old = self.activity["trace"][own]
        scan = self.scans.trace(own, mode, decay, old.shape[-1])
        wanted = [0] if own in self.wanted else []
        value = self.read(source, 0, old.shape[-1]).detach()
        made, (self.traces[own],) = scan([old], [[value]], [], wanted, (self.steps, *self.size), True)
        if wanted:
            self.values[own] = made[0]


def _driven(drive: Held | Tensor) -> Tensor:
    return drive.x[None] if isinstance(drive, Held) else drive


def _rows(value: Tensor) -> Tensor:
    """`[T, R, B, N]` as `[R, T * B, N]`: to a projection, steps are rows."""
    return value.transpose(0, 1).flatten(1, 2)


def _total(parts: Sequence[Source]) -> Tensor:
    total = formed(parts[0])
    for part in parts[1:]:
        total = total + formed(part)
    return total
