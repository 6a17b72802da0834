"""The CPU backend: the reference's states and streams, its time loop compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neurosim.backends.cpu import ahead, factored, recurrent, series
from neurosim.backends.cpu.build import Builder
from neurosim.backends.cpu.cache import Compilations, folder
from neurosim.backends.cpu.known import Known, Phases
from neurosim.backends.cpu.normals import Normals
from neurosim.backends.cpu.program import Program, Threads, lanes_of, shares_of
from neurosim.backends.cpu.scan import Scan
from neurosim.backends.cpu.workspace import Workspace
from neurosim.backends.given import Given
from neurosim.backends.gradient import phase as gradient
from neurosim.backends.gradient.scans import Scans
from neurosim.backends.needs import released_by
from neurosim.backends.plan import Plan
from neurosim.backends.reference import Context, Reference
from neurosim.backends.simulator import State
from neurosim.backends.tape import Tape
from neurosim.backends.whole import counts
from neurosim.modulator import Decrease
from neurosim.phase import Held, Phase, check_batches


class Cpu(Reference):
    """A compiled network on numba. States are those of the reference, so a run may go on from one to the other.

    Phases in which a gradient rule learns run population by population (`gradient/`), or, where they cannot, on the
    reference.
    """

    def __init__(self, plan: Plan, dtype: str, device: str, hide_replicas: bool):
        super().__init__(plan, dtype, device, hide_replicas)
        self.learning.normals = Normals(plan.replicas)
        self._workspaces: dict[int, Workspace] = {}
        self._programs: dict[Any, tuple[Builder, Program]] = {}
        self._scans = Scans(self, Scan, recurrent)
        self._reference: dict[str, None] = {}  # reasons, in order
        self._chosen: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {}  # `early`, `late` of a kind and length
        self._rest: dict[int, dict[str, Any]] = {}
        self._widened = 0  # how often programs were forgotten because of new places
        self._products = ahead.Products()
        self._phases = Phases(self)
        self.by_pre: set[str] = set()  # projections that were found to learn faster with weights by pre neuron
        # Does a modulator do something else in a phase of a certain name?
        self.by_name = any(isinstance(rule.modulator, Decrease) for _, rule in self.learning.local)
        self.units_in_all = sum(cell.units for cell in self.cells.values())

    def _activity(self, batch: int) -> dict[str, Any]:
        """The activity at rest; a state never changes, so all that begin there share it."""
        if batch not in self._rest:
            piece, rest = self._workspace(batch).piece, super()._activity(batch)
            self._rest = {batch: rest if piece is None else {**rest, **piece.rest}}
        return self._rest[batch]

    def _workspace(self, batch: int) -> Workspace:
        if batch not in self._workspaces:
            units = {name: cell.units for name, cell in self.cells.items()} | {"": 1}
            units |= {released_by(name): self.plan.synapses[name].pre.units for name in self.releases}
            lanes = lanes_of(self.units_in_all, torch.get_num_threads())
            made = Workspace((self.plan.replicas, batch), units, self.memories, self.dtype_name, lanes)
            for name, cell in self.cells.items():
                if made.large(name):
                    neuron = self.plan.neurons[name]
                    found = counts(neuron.step, len(neuron.states), neuron.constants(self.plan.dt))
                    made.counts |= {cell.state_labels[place]: dtype for place, dtype in found.items()}
            made.lay_out(super()._activity(batch))
            self._workspaces[batch] = made
        return self._workspaces[batch]

    def make_room(self, state: State, batch: int) -> None:
        """Where counts that somebody has set are none, keep them as reals from now on."""
        if self._workspace(batch).widen(state.activity):
            self._programs.clear()  # they know the old places
            self._widened += 1

    def _check(self, phase: Phase, batch: int) -> None:
        if self._phases.find(phase, batch) is None:  # what is known was checked when it was new
            super()._check(phase, batch)

    def known(self, phase: Phase, batch: int) -> Known:
        """What a phase gives, laid out for kernels."""
        return self._phases.of(phase, batch)

    def given(self, phase: Phase, batch: int) -> Given:
        return self.known(phase, batch).given

    def program(self, phase: Phase, batch: int, tape: Tape, known: Known | None = None) -> tuple[Builder, Program]:
        """The program of a phase; the same for all phases of the same kind."""
        if known is None:
            return self._program(phase, batch, tape)
        key = tape.probes, len(self.by_pre), self._widened
        if key not in known.programs:
            known.programs[key] = self._program(phase, batch, tape)
        found: tuple[Builder, Program] = known.programs[key]
        return found

    def _program(self, phase: Phase, batch: int, tape: Tape) -> tuple[Builder, Program]:
        drives = tuple([(target, isinstance(value, Held)) for target, value in phase.drive.items()])
        probes = tuple([(probe.key, probe.every, probe.units, probe.events) for probe in tape.probes])
        kind = batch, drives, phase.learn, phase.silent, phase.noise, probes
        if (*kind, phase.steps) not in self._chosen:
            keys = tuple(probe.key for probe in tape.probes)
            found = ahead.chosen(self, phase, batch), factored.chosen(self, phase, batch, keys)
            self._chosen[*kind, phase.steps] = found
        early, late = self._chosen[*kind, phase.steps]
        name = phase.name if self.by_name else ""
        key = *kind, name, early, late, frozenset(self.by_pre), phase.steps if probes else 0
        if key not in self._programs:
            builder = Builder(self, self._workspace(batch), phase, tape, early, late)
            self._programs[key] = builder, builder.program()
        return self._programs[key]

    def uncompiled(self) -> list[str]:
        """What of the phases that were run so far torch carries out, and why; empty where all of it is compiled.

        (Weights, eligibilities and modulators are always recorded by torch.)
        """
        reasons = [reason for _, program in self._programs.values() for reason in program.reasons]
        return list(dict.fromkeys([*self._reference, *reasons]))

    def shortcuts(self) -> list[str]:
        """What is not done step by step in the phases that were run so far, and why."""
        rules = [plastic for builder, _ in self._programs.values() for plastic in builder.plastic]
        late = dict.fromkeys(plastic.name for plastic in rules if isinstance(plastic, factored.Factored))
        return [
            f"the change of {name!r} is formed at the end of a phase, by one product over its steps: its decay is "
            "one number and the weights stay; an eligibility is formed only where something reads it"
            for name in late
        ]

    def compilation(self) -> str:
        """What compiling has cost in this process so far."""
        done = Compilations
        return f"{done.fresh} kernels compiled, {done.loaded} found in {folder()}, {done.seconds:.1f} s in all"

    def _phase(self, state: State, phase: Phase, tape: Tape, trial_end: bool) -> State:
        if self.learning.gradient and self.learning.gradient_rules(phase):
            reason = gradient.why_not(self, self._scans, phase)
            told = [reason] if reason else gradient.left_to_torch(self, self._scans, phase)
            self._reference |= dict.fromkeys(told)
            if reason:
                return super()._phase(state, phase, tape, trial_end)
            return gradient.run(self, self._scans, state, phase, tape, trial_end)
        batch, steps, clock = self.batch(state), phase.steps, state.clock
        learned = self.learning.begin(state.learned, [])
        self.make_room(state, batch)
        with torch.no_grad():
            known = self.known(phase, batch)
            builder, program = self.program(phase, batch, tape, known)
            with Threads(program) as threads:
                context = Context(self, phase, batch, clock, trial_end, learned, known.given)
                builder.work.load(state.activity, clock)
                builder.begin(context, state, tape)
                coming = self._products.arriving(self, builder.deliveries, builder.early, context)
                drives = builder.feed(program, context, known, coming)  # kernels know addresses only: it lives on
                work = self.units_in_all * self.plan.replicas * batch * steps
                shares = shares_of(self.plan.replicas, batch, work, builder.rows_apart, threads)
                lanes = lanes_of(self.units_in_all, threads)
                parts = builder.parts(program, coming) if coming or builder.events else ((clock, steps),)
                for first, count in parts:
                    program.run(first, count, shares, clock + steps, lanes)
                del drives, coming, parts
                builder.end(clock + steps)
                builder.spread()
        left = builder.work.store(state.activity, clock + steps)
        return State({"batch": batch, **left, "eligibility": builder.eligibility}, learned, clock + steps)

    def run_batches(self, state: State, trial: Sequence[Phase], rest: bool = False) -> State:
        """As the reference; a trial of one phase without anything to do in Python is one call for all batches."""
        if len(trial) == 1 and not self.learning.gradient_rules(trial[0]):
            check_batches(trial, self.batch(state))
            self._check(trial[0], trial[0].batch or 1)
            done = series.run(self, self.fresh(state) if rest else state, trial[0], rest)
            if done is not None:
                return done
        return super().run_batches(state, trial, rest)
