"""From a plan and a phase to a program, in the order of `reference.py`: deliver and integrate, teach, filter, learn,
record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.cpu import kernels
from neurosim.backends.cpu.ahead import Coming, formed
from neurosim.backends.cpu.ahead import label as label_ahead
from neurosim.backends.cpu.constant import Constants
from neurosim.backends.cpu.delivery import Delivery
from neurosim.backends.cpu.event_learning import fits
from neurosim.backends.cpu.events import EventRecorder
from neurosim.backends.cpu.factored import Factored
from neurosim.backends.cpu.known import Known
from neurosim.backends.cpu.learning import Plastic, finish, why_no_update, why_not
from neurosim.backends.cpu.lists import Lists, collect
from neurosim.backends.cpu.modulators import held_values, remember, signals
from neurosim.backends.cpu.program import Program
from neurosim.backends.cpu.rooms import tensor_room
from neurosim.backends.cpu.vectors import unchanged, vector, vectorised
from neurosim.backends.cpu.workspace import WorkMoment, Workspace
from neurosim.backends.cpu.writer import Buffer, Kernel, Laid
from neurosim.backends.moment import label
from neurosim.backends.needs import CONSTANT, leaves, released_by
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.backends.simulator import State
from neurosim.backends.tape import Tape
from neurosim.lateral import Pullback
from neurosim.modulator import HSIC
from neurosim.phase import Held, Phase
from neurosim.random import Stream
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu

WIPED = 1024  # units of a part from which its ports are wiped where something arrived; below, all are set to zero
STORED = 1024  # units below which a population's spikes are stored beside their list: cheaper than restoring them


SAMPLES = "|samples"  # the drive that holds the ids of the samples


class Builder:
    """Writes the program of one kind of phase, and holds what its Python calls need while it runs."""

    def __init__(
        self,
        simulator: Cpu,
        work: Workspace,
        phase: Phase,
        tape: Tape,
        early: tuple[str, ...] = (),
        late: tuple[str, ...] = (),
    ):
        """`early` are the projections whose products are formed before the phase, `late` those whose change is formed
        after it; see `ahead.py` and `factored.py`.
        """
        self.early, self.late = early, late
        self.simulator, self.work, self.phase, self.tape = simulator, work, phase, tape
        self.plan, self.dtype = simulator.plan, simulator.dtype_name
        self.batch = work.size[1]
        self.result = Program()
        rules = [s.name for s, _ in simulator.learning.local]
        self.learns = {
            name for name in rules if (phase.learn if isinstance(phase.learn, bool) else name in phase.learn)
        }
        constants = Constants(self.plan, phase)
        self.deliveries = {
            name: Delivery(
                simulator, work, one, name in self.learns, self._learns_from_list(one), constants.projection(one)
            )
            for name, one in self.plan.synapses.items()
        }
        self.plastic: list[Plastic] = []
        # What modulators read from a drive that is made before the phase, and what they remember at its end.
        self.coefficients: list[tuple[Synapses, HSIC]] = []
        self.broadcasts: list[tuple[str, Synapses, ThreeFactorRule]] = []
        self.cleans: list[tuple[str, Synapses, ThreeFactorRule]] = []
        self.remembering: list[tuple[Synapses, ThreeFactorRule]] = []
        self.wanted = set(self._wanted())
        self.recorded: dict[str, tuple[int, ...]] = {}  # shapes of recordings
        self.rows: dict[str, Tensor] = {}  # the recordings of this run: what is handed out is written by the kernels
        self.recorders: dict[str, Kernel] = {}
        self.events: dict[str, EventRecorder] = {}
        self.collected: set[str] = set()  # labels whose units that are not zero are listed
        self.listed_only: list[str] = []  # of these, those that have no other reader: their values are not stored
        self.filled: set[str] = set()  # ports at which something has arrived
        self.wiped: set[str] = set()  # ports that are zero before and after a population's step
        self.moment: WorkMoment | None = None
        self.context: Context
        self.learned: dict[str, Any]
        self.series: dict[bool, Program] = {}  # see `series.py`
        self.eligibility: dict[str, Any]
        self.fed = -1  # the number of what kernels are pointed to
        # Rows may be run apart where nothing sums over them.
        self.rows_apart = not self.learns

    def _learns_from_list(self, synapses: Synapses) -> bool:
        """Do only synapses of neurons that spiked change in this phase, and are they delivered by a list too?"""
        axon = synapses.pre.axon
        plain = (
            synapses.kind == "dense"
            and self.batch == 1
            and isinstance(synapses.delay, int)
            and synapses.combine == "sum"
            and synapses.projection.release is None
            and synapses.projection.transfer is None
            and not synapses.projection.tied
            and synapses.sent == axon == "spike"
            and not any(
                other.projection.tied and other.projection.tied[0] == synapses.name
                for other in self.plan.synapses.values()
            )
            and not any(probe.key == f"{synapses.name}.eligibility" for probe in self.tape.probes)
        )
        if not plain or synapses.name not in self.learns or synapses.name in self.simulator.by_pre:
            return False
        return fits(synapses, next(p.chain for p in self.simulator.learning.parts[synapses.name] if p.name == "weight"))

    def spread(self) -> None:
        """At a run's end, write values that were only listed to their own place."""
        for own in self.listed_only:
            self.work.spread(own)

    # ---- what is read -----------------------------------------------------------------------------------------------

    def _wanted(self) -> Iterator[str]:
        """Labels that something other than their own neuron reads."""
        by_list = {one.source for one in self.deliveries.values() if one.by_events}
        yield from (name for name in self.simulator.memories if name not in by_list)
        for synapses in self.plan.synapses.values():
            if synapses.name not in self.early and not self.deliveries[synapses.name].by_events:
                yield f"{synapses.pre.name}.{synapses.sent}"
            if synapses.projection.release is not None:
                yield f"{released_by(synapses.name)}.released"
        for source, own, _, _ in self.simulator.filters:
            yield from (source, own)
        for synapses in self.plan.plastic():
            rule = synapses.projection.rule
            if isinstance(rule, ThreeFactorRule):
                for end, factors in ((synapses.post, rule.post_factors()), (synapses.pre, rule.pre_factors())):
                    yield from (label(end.name, leaf) for factor in factors for leaf in leaves(factor))
        for probe in self.tape.probes:
            if not probe.events:
                yield probe.key
        for population in self.plan.network.populations:
            if population.lateral is not None:
                yield f"{population.name}.{population.axon}"

    # ---- the program ------------------------------------------------------------------------------------------------

    def program(self) -> Program:
        for name in self.plan.order:
            self._population(name)
        for synapses in self.plan.teaching:
            if synapses.name not in self.phase.silent:
                port = f"{synapses.post.name}.{synapses.port}"
                self._deliver(synapses, port, first=port not in self.filled)
                self.filled.add(port)
        self._silent_ports()
        for source, own, mode, decay in self.simulator.filters:
            if source.startswith(CONSTANT + ".") and "~" not in source:
                self.work.buffer(source).array[...] = 1.0
            size = self.batch, self.work.width(own)
            buffers = self.work.buffer(source), self.work.buffer(own)
            own_bounds = self.work.bounds(size[1])
            self.result.add(kernels.trace(self.dtype, size, *buffers, mode, decay, own_bounds))
        self._learning()
        self._recording()
        self._share_weights()
        return self.result

    def _share_weights(self) -> None:
        """Weights that no kernel of this program writes to are read where a state holds them."""
        written = {plastic.name for plastic in self.plastic if not isinstance(plastic, Factored)}
        ends = [kernel for plastic in self.plastic for kernel in plastic.ends()]
        for name, delivery in self.deliveries.items():
            if name not in written and delivery.by_pre is not None:
                delivery.find([*self.result.kernels, *ends])

    def _population(self, name: str) -> None:
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
            self._deliver(synapses, port, first=port not in self.filled | self.wiped)
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
            self._collect(axon)

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

    def _collect(self, label: str) -> Lists:
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
        self.result.add(kernels.noise(self.dtype, kind, key, size, SAMPLES, out, bounds))
        return out

    def _lateral(self, name: str) -> None:
        cell, axon = self.simulator.cells[name], f"{name}.{self.plan.network[name].axon}"
        raw, out, size = self.work.buffer(f"{axon}|raw"), self.work.buffer(axon), (self.batch, cell.units)
        if vectorised(self, name):
            cell.lateral.step(torch.zeros(cell.units))  # what does not fit this size says so
            self.result.add(vector(self.dtype, size, cell.lateral.vector[0], [raw], [0], cell.lateral.constants(), out))
            return
        if isinstance(cell.lateral, Pullback) and cell.through is None:
            self.result.add(vector(self.dtype, size, unchanged, [raw], [0], (), out))
            return
        if isinstance(cell.lateral, Pullback) and vectorised(self, cell.source.name):
            source = f"{cell.source.name}.{cell.source.axon}"
            ends = [self.work.buffer(f"{source}|raw"), self.work.buffer(source), raw]
            function, constants = cell.through.vector[1], cell.through.constants()
            self.result.add(vector(self.dtype, size, function, ends, [0, 0, 0], constants, out))
            return

        def lateral(t: int) -> None:
            now = self.at(t)
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

    def _deliver(self, synapses: Synapses, port: str, first: bool) -> None:
        delivery, out = self.deliveries[synapses.name], self._port(port)
        for kernel in delivery.kernels(out, first, self.deliveries):
            self.result.add(kernel)
        if not delivery.reason:
            if delivery.by_product:
                call = delivery.product(out, first, self.deliveries, lambda t: t == self.context.clock)
                self.result.add(call, f"projection {synapses.name!r} (a large matrix product of rates) runs in torch")
            return

        def deliver(t: int) -> None:
            now = self.at(t)
            value = self.simulator.deliver(synapses, now, self.context)
            now.now[port] = value if first else _joined(now.now[port], value, synapses.combine)

        self.result.add(deliver, f"projection {synapses.name!r} ({delivery.reason}) runs in torch")

    def _silent_ports(self) -> None:
        """Ports that are read or were used before, but where nothing arrives in this phase, hold zeros."""
        for population in self.plan.network.populations:
            for name in (*population.neuron.ports, *population.neuron.teaching):
                port = f"{population.name}.{name}"
                if port not in self.filled and (port in self.wanted or port in self.work.buffers):
                    size = self.batch, population.units
                    bounds = self.work.bounds(population.units)
                    self.result.add(kernels.clear(self.dtype, size, self.work.buffer(port), bounds))

    def _learning(self) -> None:
        """Rules that have a kernel, then all others at once in torch."""
        for synapses, rule in self.simulator.learning.local:
            delivery = self.deliveries[synapses.name]
            reason = why_not(self, delivery, rule)
            if synapses.name in self.learns and not reason:
                kind = Factored if synapses.name in self.late else Plastic
                plastic = kind(self, delivery, rule)
                self.plastic.append(plastic)
                for kernel in plastic.kernels():
                    self.result.add(kernel)
                if not plastic.updates:
                    why = why_no_update(self, delivery, rule)
                    self.result.reasons.append(f"torch makes the update of {synapses.name!r} ({why})")
        compiled = {plastic.name for plastic in self.plastic}
        others = [(s, rule) for s, rule in self.simulator.learning.local if s.name in self.learns - compiled]
        elsewhere = {s.name for s, _ in self.simulator.learning.local} - {s.name for s, _ in others}
        if not others:
            return

        def learn(t: int) -> None:
            step = t - self.context.clock
            self.eligibility = self.simulator.learning.step(
                self.at(t), self.eligibility, self.learned, self.context, step, elsewhere
            )
            for delivery in self.deliveries.values():
                if delivery.synapses.name not in compiled:
                    delivery.refresh(self.learned, self.context)

        reasons = [f"{s.name!r}: {why_not(self, self.deliveries[s.name], rule)}" for s, rule in others]
        self.result.add(learn, f"torch learns ({'; '.join(reasons)})")

    # ---- recording --------------------------------------------------------------------------------------------------

    def _recording(self) -> None:
        for probe in self.tape.probes:
            if probe.events:
                size3 = (*self.work.size, self.work.width(probe.key))
                recorder = EventRecorder(probe, self.dtype, size3, self._collect(probe.key), self.phase.steps)
                self.events[probe.key] = recorder
                self.result.add(recorder.kernel)
            elif self.plan.network.has(probe.target):
                units = np.arange(self.work.width(probe.key)) if probe.units is None else np.array(probe.units)
                self.recorded[probe.key] = -(-self.phase.steps // probe.every), *self.work.size, len(units)
                replicas, size = self.work.size[0], (self.batch, self.work.width(probe.key))
                source = self.work.buffer(probe.key)
                kernel = kernels.record(self.dtype, replicas, size, source, probe.every, units.astype(np.int64))
                self.recorders[probe.key] = kernel
                self.result.add(kernel)
        others = [probe for probe in self.tape.probes if probe.key not in (*self.recorded, *self.events)]
        if others:

            def write(t: int) -> None:
                moment = self.at(t)
                self._show(moment, t)
                activity = {"batch": self.batch, "eligibility": self.eligibility}
                self.tape.write(moment, activity, self.learned, others)

            self.result.add(write)  # costs time in the phases that ask for it only: no reason to name it

    def parts(self, program: Program, coming: Sequence[Coming]) -> Iterator[tuple[int, int]]:
        """The phase in pieces (first step, steps), because products are formed and lists of events are emptied between
        them.
        """
        clock = self.context.clock
        for first, steps in self._stretches(clock):
            for start, stop in formed(coming, program, first - clock, steps):
                yield clock + start, stop - start

    def _stretches(self, clock: int) -> Iterator[tuple[int, int]]:
        """Those between which lists of events are emptied."""
        steps = self.context.phase.steps  # not those of the phase for which the program was made
        length = min((one.stretch for one in self.events.values()), default=steps)
        for first in range(clock, clock + steps, length):
            for recorder in self.events.values():
                recorder.begin(first)
            yield first, min(length, clock + steps - first)
            for recorder in self.events.values():
                recorder.take(self.tape)

    # ---- while it runs ----------------------------------------------------------------------------------------------

    def begin(self, context: Context, state: State, tape: Tape) -> None:
        self.context, self.learned, self.tape = context, context.learned, tape
        self.eligibility, self.moment, self.finished = state.activity["eligibility"], None, False
        for delivery in self.deliveries.values():
            delivery.refresh(self.learned, context)
        for plastic in self.plastic:
            plastic.begin(self.learned, self.eligibility, context.clock, context.phase.steps)
        for probe in tape.probes:
            if probe.key in self.recorders:
                self.rows[probe.key] = tensor_room(self.recorded[probe.key], self.work.one.dtype)
                block = self.recorders[probe.key].block
                block[kernels.FIRST] = tape.first(probe, context.clock)
                block[kernels.ROWS] = self.rows[probe.key].data_ptr()

    def feed(
        self, program: Program, context: Context, known: Known, coming: Sequence[Coming] = ()
    ) -> Mapping[str, Array | Laid]:
        """Point the kernels to all that is given from outside; what has to stay while they run."""
        drives: dict[str, Array | Laid] = {one.label: one.array for one in coming}
        if self.coefficients or self.broadcasts or self.cleans:
            drives |= held_values(self, context)
            self.moment = None  # what modulators left in it belongs to no step
        if self.fed == known.given.number:
            for array, signal in known.held.values():
                np.copyto(array, signal)
            program.feed(drives, self.batch, drives)
        else:
            if not known.held:
                known.held |= {drive: (signal.copy(), signal) for drive, signal in signals(self, context)}
            for drive, (array, signal) in known.held.items():
                np.copyto(array, signal)
                drives[drive] = array
            drives |= known.drives
            if SAMPLES in program.users:
                drives[SAMPLES] = known.samples
            program.feed(drives, self.batch)
        self.fed = known.given.number
        program.begin(context.clock, context.phase.steps)
        return drives

    def end(self, clock: int) -> None:
        self._finish()
        self.kept()
        for probe in self.tape.probes:
            if probe.key in self.recorded:
                steps = range(self.tape.first(probe, self.context.clock), clock, probe.every)
                self.tape.keep(probe, self.rows.pop(probe.key)[: len(steps)], steps)

    def _finish(self) -> None:
        """The end of learning in this phase, once: before its last rows are recorded."""
        if not self.finished:
            for synapses, rule in self.remembering:
                remember(self, synapses, rule)
            finish(self, self.learned, self.context.phase.steps)
            self.finished = True

    def kept(self) -> dict[str, Any]:
        """All eligibilities of now."""
        kept = {plastic.name: plastic.eligibility() for plastic in self.plastic if plastic.name in self.eligibility}
        self.eligibility = {**self.eligibility, **kept}
        return self.eligibility

    def _show(self, moment: WorkMoment, t: int) -> None:
        """What compiled rules hold, where the tape looks for it."""
        self.kept()
        if t == self.context.clock + self.context.phase.steps - 1:
            self._finish()
        for plastic in self.plastic:
            if not self.finished:
                plastic.weights(self.learned)
            if plastic.forms(t):
                moment.modulators[plastic.name] = plastic.third_factor(t)

    def at(self, t: int) -> WorkMoment:
        """The step at clock t, for Python calls."""
        if self.moment is None or self.moment.clock != t:
            self.moment = WorkMoment(self.work, self.learned, t)
        return self.moment


def _joined(old: Tensor, value: Tensor, combine: str) -> Tensor:
    return torch.maximum(old, value) if combine == "max" else old + value
