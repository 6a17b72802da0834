"""The kernels of a phase's populations: what arrives at them, their neurons, laterals and releases."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from neurosim.backends.cpu import kernels
from neurosim.backends.cpu.ahead import label as label_ahead
from neurosim.backends.cpu.lists import Lists, collect
from neurosim.backends.cpu.vectors import unchanged, vector, vectorised
from neurosim.backends.cpu.writer import Buffer
from neurosim.backends.needs import released_by
from neurosim.backends.resolve import Synapses
from neurosim.lateral import Pullback
from neurosim.phase import Held
from neurosim.random import Stream
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.build import Builder

WIPED = 1024  # units of a part from which its ports are wiped where something arrived; below, all are set to zero
STORED = 1024  # units below which a population's spikes are stored beside their list: cheaper than restoring them


class Populations:
    """Adds them to the program of a `Builder`, one by one, in the order of a step."""

    def __init__(self, builder: Builder):
        self.builder = builder
        self.simulator, self.work, self.phase, self.tape = builder.simulator, builder.work, builder.phase, builder.tape
        self.plan, self.dtype, self.batch, self.result = builder.plan, builder.dtype, builder.batch, builder.result
        self.deliveries, self.early, self.wanted = builder.deliveries, builder.early, builder.wanted
        self.filled: set[str] = set()  # ports at which something has arrived
        self.wiped: set[str] = set()  # ports that are zero before and after a population's step
        self.collected: set[str] = set()  # labels whose units that are not zero are listed
        self.listed_only: list[str] = []  # of these, those that have no other reader: their values are not stored

    def add(self, name: str) -> None:
        simulator, cell = self.simulator, self.simulator.cells[name]
        given = self._drives_of(name)
        arriving = [s for s in self.plan.driving[name] if s.name not in (*self.phase.silent, *self.early)]
        alone = (
            {port for port, sources in given.items() if len(sources) == 1}
            - {f"{name}.{s.port}" for s in arriving}
            - self.wanted
        )
        self.wiped |= {port for port in self._listed_ports(name, arriving) if port not in given}
        for synapses in arriving:
            port = f"{name}.{synapses.port}"
            self.deliver(synapses, port, first=port not in self.filled | self.wiped)
            self.filled.add(port)
        for port, drives in given.items():
            if port in alone and port in cell.ports:
                continue
            for drive in drives:
                size = self.batch, cell.units
                first = port not in self.filled
                out, bounds = self._port(port), self.work.bounds(cell.units)
                self.result.add(kernels.add_drive(self.dtype, size, drive, out, first, bounds))
                self.filled.add(port)
        inputs: list[Any] = [
            given[port][0] if port in alone else self._port(port) if port in self.filled else None
            for port in cell.ports
        ]
        draws = [self._noise(name, kind) for kind in self.plan.neurons[name].draws]
        states = [self.work.state(own) for own in cell.state_labels]
        apart = {own for own in cell.state_labels if own in self.work.memories}
        apart |= {own for own in cell.state_labels if own in self.work.counts and own in self.wanted}
        remembered = {k: self.work.buffer(own) for k, own in enumerate(cell.state_labels) if own in apart}
        outputs = [self.work.buffer(own) if own in self.wanted else None for own in cell.outputs]
        if cell.lateral is not None:
            outputs[0] = self.work.buffer(f"{cell.outputs[0]}|raw")
        constants = tuple(self.plan.neurons[name].constants(self.plan.dt))
        size = self.batch, cell.units
        replaced = any(self.plan.synapses[one].pre.name == name for one in self.early)
        axon = f"{name}.{self.plan.network[name].axon}"
        lists = self._lists(name, axon, outputs) if cell.lateral is None else {}
        if states or any(outputs) or lists or not replaced:
            model, bounds = self.plan.neurons[name], self.work.bounds(cell.units)
            ends = states, inputs, draws, outputs, bounds, lists, remembered
            self.result.add(kernels.integrate(self.dtype, model, constants, size, *ends))
        for synapses in arriving:
            port = f"{name}.{synapses.port}"
            for kernel in self.deliveries[synapses.name].wipes(self._port(port)) if port in self.wiped else ():
                self.result.add(kernel)
        if cell.lateral is not None:
            self._lateral(name)
        for own in simulator.releases:
            if self.plan.synapses[own].pre.name == name:
                self._release(own)
        if any(delivery.by_events and delivery.source == axon for delivery in self.deliveries.values()):
            self.collect(axon)

    def _port(self, port: str) -> Buffer:
        """Where what arrives at a driving port lies: where nobody but its neurons reads it, part by part in the cache,
        if all that arrives at the population can be run so.
        """
        passes = self._passes(port.partition(".")[0]) and port not in self.wanted
        wiped = "|wiped" if port in self.wiped else ""  # others are not zero when a part is done with them
        return self.work.passing(port + wiped) if passes else self.work.buffer(port)

    def _listed_ports(self, name: str, arriving: list[Synapses]) -> set[str]:
        """Ports that stay zero but for what listed spikes bring: what they brought is wiped away, part by part. That
        pays where the ports of a part do not stay in the first cache.
        """
        found = {f"{name}.{synapses.port}" for synapses in arriving} - self.wanted
        for synapses in arriving:
            port, delivery = f"{name}.{synapses.port}", self.deliveries[synapses.name]
            if not (delivery.by_events and delivery.parted and delivery.bias is None):
                found.discard(port)
        bounds = self.work.bounds(self.work.width(name))
        large = max(stop - start for start, stop in pairwise(bounds)) >= WIPED
        return found if large and self._passes(name) else set()

    def _passes(self, name: str) -> bool:
        """Do deliveries and neurons follow each other on every part? What reads this step's values may only be first:
        it waits for all parts of others.
        """
        arriving = [s for s in self.plan.driving[name] if s.name not in (*self.phase.silent, *self.early)]
        parted = all(self.deliveries[synapses.name].parted for synapses in arriving)
        return parted and all(synapses.shortest > 0 for synapses in arriving[1:])

    def _lists(self, name: str, axon: str, outputs: list[Buffer | None]) -> dict[int, Lists]:
        """The output that is listed while the neurons are integrated; it is stored too where it has other readers."""
        wanted = {one.source for one in self.deliveries.values() if one.by_events}
        wanted |= {probe.key for probe in self.tape.probes if probe.events}
        labels = self.simulator.cells[name].outputs
        for k, own in enumerate(labels):
            if own in wanted:
                self.collected.add(own)
                outputs[k] = self.work.buffer(own) if own in self.wanted or not self._long(own) else None
                if outputs[k] is None:
                    self.listed_only.append(own)
                return {k: self.work.lists(own)}
        return {}

    def _long(self, label: str) -> bool:
        """Is it worth while not to store values, which a run's end has to restore from the lists?"""
        return self.work.size == (1, 1) and self.work.width(label) >= STORED

    def collect(self, label: str) -> Lists:
        """The list of a label's units that are not zero, made once in a step."""
        lists = self.work.lists(label)
        if label not in self.collected:
            self.collected.add(label)
            size = self.batch, self.work.width(label)
            self.result.add(collect(self.dtype, size, self.work.buffer(label), lists))
        return lists

    def _drives_of(self, name: str) -> dict[str, list[tuple[str, bool]]]:
        """Drives of a population by port label: (drive, held)."""
        found: dict[str, list[tuple[str, bool]]] = {}
        place = 0
        for target, value in self.phase.drive.items():
            population, _, port = target.partition(".")
            if population == name:
                port = port or self.plan.network[name].neuron.ports[0]
                drive = f"{name}.{port}#{place}", isinstance(value, Held)
                found.setdefault(f"{name}.{port}", []).append(drive)
                place += 1
        for synapses in self.plan.driving[name]:
            if synapses.name in self.early:
                found.setdefault(f"{name}.{synapses.port}", []).append((label_ahead(synapses.name), False))
        return found

    def _noise(self, name: str, kind: str) -> Buffer:
        out = self.work.buffer(f"{name}.|{kind}" if self.phase.noise else f"{name}.|no {kind}")
        if not self.phase.noise:
            out.array[...] = 1.0 if kind == "uniform" else 0.0
            return out
        key = Stream(self.plan.seed, f"noise/{name}/{kind}").key
        size = self.batch, self.work.width(name)
        bounds = self.work.bounds(size[1])
        self.result.add(kernels.noise(self.dtype, kind, key, size, kernels.SAMPLES, out, bounds))
        return out

    def _lateral(self, name: str) -> None:
        cell, axon = self.simulator.cells[name], f"{name}.{self.plan.network[name].axon}"
        raw, out, size = self.work.buffer(f"{axon}|raw"), self.work.buffer(axon), (self.batch, cell.units)
        if vectorised(self.builder, name):
            cell.lateral.step(torch.zeros(cell.units))  # what does not fit this size says so
            self.result.add(vector(self.dtype, size, cell.lateral.vector[0], [raw], [0], cell.lateral.constants(), out))
            return
        if isinstance(cell.lateral, Pullback) and cell.through is None:
            self.result.add(vector(self.dtype, size, unchanged, [raw], [0], (), out))
            return
        if isinstance(cell.lateral, Pullback) and vectorised(self.builder, cell.source.name):
            source = f"{cell.source.name}.{cell.source.axon}"
            ends = [self.work.buffer(f"{source}|raw"), self.work.buffer(source), raw]
            function, constants = cell.through.vector[1], cell.through.constants()
            self.result.add(vector(self.dtype, size, function, ends, [0, 0, 0], constants, out))
            return

        def lateral(t: int) -> None:
            now = self.builder.at(t)
            now.now[axon] = cell._lateral(now.now[f"{axon}|raw"], now)

        self.result.add(lateral, f"the lateral of {name!r} runs in torch")

    def _release(self, name: str) -> None:
        synapses = self.plan.synapses[name]
        own, model = released_by(name), synapses.release
        states = [self.work.buffer(f"{own}.{state}") for state in model.states]
        spikes = self.work.buffer(f"{synapses.pre.name}.{synapses.sent}")
        out = self.work.buffer(f"{own}.released")
        size = self.batch, synapses.pre.units
        constants = tuple(model.constants(self.plan.dt))
        ends: Any = (states, [spikes], [], [out], self.work.bounds(size[1]))
        self.result.add(kernels.integrate(self.dtype, model, constants, size, *ends))

    def deliver(self, synapses: Synapses, port: str, first: bool) -> None:
        delivery, out = self.deliveries[synapses.name], self._port(port)
        for kernel in delivery.kernels(out, first, self.deliveries):
            self.result.add(kernel)
        if not delivery.reason:
            if delivery.by_product:
                call = delivery.product(out, first, self.deliveries, lambda t: t == self.builder.context.clock)
                self.result.add(call, f"projection {synapses.name!r} (a large matrix product of rates) runs in torch")
            return

        def delivered(t: int) -> None:
            now = self.builder.at(t)
            value = self.simulator.deliver(synapses, now, self.builder.context)
            now.now[port] = value if first else _joined(now.now[port], value, synapses.combine)

        self.result.add(delivered, f"projection {synapses.name!r} ({delivery.reason}) runs in torch")

    def clear_silent_ports(self) -> None:
        """Ports that are read or were used before, but where nothing arrives in this phase, hold zeros."""
        for population in self.plan.network.populations:
            for name in (*population.neuron.ports, *population.neuron.teaching):
                port = f"{population.name}.{name}"
                if port not in self.filled and (port in self.wanted or port in self.work.buffers):
                    size = self.batch, population.units
                    bounds = self.work.bounds(population.units)
                    self.result.add(kernels.clear(self.dtype, size, self.work.buffer(port), bounds))


def _joined(old: Tensor, value: Tensor, combine: str) -> Tensor:
    return torch.maximum(old, value) if combine == "max" else old + value
