"""The Triton backend: the reference's states and streams on a GPU."""

from __future__ import annotations

from typing import Any

import torch

from neurosim.backends.gradient import phase as gradient
from neurosim.backends.gradient.scans import Scans
from neurosim.backends.plan import Plan
from neurosim.backends.reference import Context, Reference
from neurosim.backends.simulator import State
from neurosim.backends.tape import Tape
from neurosim.backends.triton.build import Builder
from neurosim.backends.triton.through import Through
from neurosim.phase import Held, Phase

MOST_BYTES = 2**28  # of a chunk's values: more steps at once bring nothing when a GPU is filled


class Triton(Reference):
    """A compiled network on Triton. States are those of the reference, so a run may go on from one to the other."""

    def __init__(self, plan: Plan, dtype: str, device: str, hide_replicas: bool):
        super().__init__(plan, dtype, device, hide_replicas)
        self._builders: dict[Any, Builder] = {}
        self._scans = Scans(self, Through)
        self._reference: dict[str, None] = {}  # reasons, in order

    def _steps(self, phase: Phase, batch: int) -> int:
        """Steps of a chunk."""
        units = sum(cell.units * (len(cell.states) + len(cell.outputs) + 2) for cell in self.cells.values())
        most = MOST_BYTES // max(1, units * batch * self.plan.replicas * self.dtype.itemsize)
        return max(1, min(phase.steps, most))

    def builder(self, phase: Phase, batch: int, tape: Tape) -> Builder:
        """The operations of a phase; the same for all phases of the same kind."""
        drives = tuple((target, isinstance(value, Held)) for target, value in phase.drive.items())
        probes = tuple((probe.key, probe.every, probe.units, probe.events) for probe in tape.probes)
        key = batch, self._steps(phase, batch), drives, phase.learn, phase.silent, phase.noise, probes
        if key not in self._builders:
            self._builders[key] = Builder(self, phase, batch, self._steps(phase, batch), tape)
        return self._builders[key]

    def uncompiled(self) -> list[str]:
        """What of the phases that were run so far torch carries out step by step, and why."""
        reasons = [reason for builder in self._builders.values() for reason in builder.reasons]
        return list(dict.fromkeys([*self._reference, *reasons]))

    def _phase(self, state: State, phase: Phase, tape: Tape, trial_end: bool) -> State:
        if self.learning.gradient_rules(phase):
            reason = gradient.why_not(self, self._scans, phase)
            self._reference |= dict.fromkeys([reason] if reason else gradient.left_to_torch(self, self._scans, phase))
            if reason:
                return super()._phase(state, phase, tape, trial_end)
            return gradient.run(self, self._scans, state, phase, tape, trial_end)
        batch, learned = self.batch(state), self.learning.begin(state.learned, [])
        with torch.no_grad():
            context = Context(self, phase, batch, state.clock, trial_end, learned)
            builder = self.builder(phase, batch, tape)
            builder.begin(context, state.activity, learned, tape)
            for begins in range(0, phase.steps, builder.values.steps):
                builder.chunk(begins, min(builder.values.steps, phase.steps - begins))
            activity = builder.end()
        return State(activity, learned, state.clock + phase.steps)
