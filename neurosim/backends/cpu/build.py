"""From a plan and a phase to a program, in the order of `reference.py`: deliver and integrate, teach, filter, learn,
record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.backends.cpu import kernels
from neurosim.backends.cpu.ahead import Coming, formed
from neurosim.backends.cpu.constant import Constants
from neurosim.backends.cpu.delivery import Delivery
from neurosim.backends.cpu.event_learning import fits
from neurosim.backends.cpu.events import EventRecorder
from neurosim.backends.cpu.factored import Factored
from neurosim.backends.cpu.known import Known
from neurosim.backends.cpu.learning import Plastic, finish, why_no_update, why_not
from neurosim.backends.cpu.modulators import held_values, remember, signals
from neurosim.backends.cpu.populations import Populations
from neurosim.backends.cpu.program import Program
from neurosim.backends.cpu.rooms import tensor_room
from neurosim.backends.cpu.workspace import WorkMoment, Workspace
from neurosim.backends.cpu.writer import Kernel, Laid
from neurosim.backends.moment import label
from neurosim.backends.needs import CONSTANT, leaves, released_by
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.backends.simulator import State
from neurosim.backends.tape import Tape
from neurosim.modulator import HSIC
from neurosim.phase import Phase
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu


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
        self.populations = Populations(self)
        self.recorded: dict[str, tuple[int, ...]] = {}  # shapes of recordings
        self.rows: dict[str, Tensor] = {}  # the recordings of this run: what is handed out is written by the kernels
        self.recorders: dict[str, Kernel] = {}
        self.events: dict[str, EventRecorder] = {}
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
        for own in self.populations.listed_only:
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
            self.populations.add(name)
        for synapses in self.plan.teaching:
            if synapses.name not in self.phase.silent:
                port = f"{synapses.post.name}.{synapses.port}"
                self.populations.deliver(synapses, port, first=port not in self.populations.filled)
                self.populations.filled.add(port)
        self.populations.clear_silent_ports()
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
                lists = self.populations.collect(probe.key)
                recorder = EventRecorder(probe, self.dtype, size3, lists, self.phase.steps)
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
            if kernels.SAMPLES in program.users:
                drives[kernels.SAMPLES] = known.samples
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
