"""Phases in which a gradient rule learns: all steps of a population at once (`sequences.py`), the loss and the update
as in the reference (`learning.descend`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from neurosim.backends.gradient.scans import Scans
from neurosim.backends.gradient.sequences import Sequences
from neurosim.backends.moment import Moment, label
from neurosim.backends.needs import leaves, released_by
from neurosim.backends.reference import Context, Reference
from neurosim.backends.simulator import State
from neurosim.backends.tape import Tape
from neurosim.network import lateral_source
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.types import Tensor


def why_not(simulator: Reference, scans: Scans, phase: Phase) -> str:
    """Why the gradient of a phase has to be left to the reference, or ""."""
    _, found = scans.order(phase.silent)
    if found:
        return f"a gradient through recurrent paths is built step by step: {found}"
    for synapses, rule in simulator.learning.local:
        learns = phase.learn if isinstance(phase.learn, bool) else synapses.name in phase.learn
        if learns and rule.when == "step":
            return f"projection {synapses.name!r} changes at every step of a phase in which a gradient rule learns"
    return ""


def left_to_torch(simulator: Reference, scans: Scans, phase: Phase) -> Iterator[str]:
    """What torch carries out in such a phase, besides matrix products for all steps at once."""
    for population in simulator.plan.network.populations:
        if population.lateral is not None:
            yield f"the lateral of {population.name!r} runs in torch, all steps of a phase at once"
    for synapses in simulator.plan.synapses.values():
        if synapses.name in phase.silent:
            continue
        if synapses.kind not in ("dense", "one_to_one"):
            yield f"projection {synapses.name!r} (a {synapses.kind} one) runs in torch, all steps of a phase at once"
        ends = {synapses.pre.name, synapses.post.name}
        if synapses.driving and any(ends <= set(loop) for loop in scans.loops(phase.silent)):
            yield f"projection {synapses.name!r} leads back to where it starts: one product per step, in torch"


def wanted(simulator: Reference, tape: Tape, output: str, local: bool) -> set[str]:
    """Labels that something other than their own neuron reads; `local`: do local rules learn as well?"""
    plan, found = simulator.plan, {output, *simulator.memories, *(probe.key for probe in tape.probes)}
    for synapses in plan.synapses.values():
        found.add(f"{synapses.pre.name}.{synapses.sent}")
        if synapses.projection.release is not None:
            found.add(f"{released_by(synapses.name)}.released")
    for source, own, _, _ in simulator.filters:
        found |= {source, own} if local else {source}
    for population in plan.network.populations:
        if population.lateral is not None:
            ends = population.name, lateral_source(population)
            found |= {f"{name}.{plan.network[name].axon}" for name in ends if name is not None}
    for synapses, rule in simulator.learning.local if local else ():
        for end, factors in ((synapses.post, rule.post_factors()), (synapses.pre, rule.pre_factors())):
            found |= {label(end.name, leaf) for factor in factors for leaf in leaves(factor)}
    return found


def run(simulator: Reference, scans: Scans, state: State, phase: Phase, tape: Tape, trial_end: bool) -> State:
    """The phase; the new state."""
    learning = simulator.learning
    gradient = learning.gradient_rules(phase)
    learned = learning.begin(state.learned, gradient)
    context = Context(simulator, phase, simulator.batch(state), state.clock, trial_end, learned)
    output, local = learning.read_out(gradient), any(context.learns(s.name) for s, _ in learning.local)
    through = gradient[0][1].through_time
    labels = wanted(simulator, tape, output, local)
    with torch.enable_grad():
        sequences = Sequences(simulator, scans, state.activity, context, labels, through)
        sequences.run()
    with torch.no_grad():
        eligibility = _step_by_step(simulator, sequences, state, context, learned, tape, local)
        _record(sequences, tape, state.clock)
    units = simulator.plan.network[gradient[0][1].output].units
    with torch.enable_grad():
        recorded = sequences.read(output, 0, units).expand(phase.steps, -1, -1, -1)
        learned = learning.descend(learned, gradient, recorded, context)
    activity = {
        "batch": context.batch,
        "state": sequences.states,
        "release": {name: sequences.released[name] for name in state.activity["release"]},
        "trace": {own: sequences.traces[own] for own in state.activity["trace"]},
        "history": sequences.history(),
        "eligibility": eligibility,
    }
    return State(activity, learned, state.clock + phase.steps)


class _MomentOf(Moment):
    """One step of the sequences."""

    def __init__(self, sequences: Sequences, learned: dict[str, Any], step: int):
        simulator, clock = sequences.simulator, sequences.context.clock + step
        super().__init__(sequences.activity, learned, clock, simulator.zero, simulator.learning.one)
        self._sequences, self._step = sequences, step
        for name, value in sequences.values.items():
            self.now[name] = value[step if len(value) > 1 else 0].detach()

    def read(self, name: str, delay: int) -> Tensor:
        if not delay:
            return super().read(name, 0)
        if delay > self._step:
            past: Tensor = self._history[name][delay - self._step - 1]
            return past
        value = self._sequences.values.get(name)
        if value is None:
            return super().read(name, 0)
        return value[self._step - delay if len(value) > 1 else 0].detach()


def _step_by_step(
    simulator: Reference,
    sequences: Sequences,
    state: State,
    context: Context,
    learned: dict[str, Any],
    tape: Tape,
    local: bool,
) -> dict[str, Any]:
    """Local rules beside the gradient rule, and probes of what learns, in torch; the new eligibilities.

    Where no local rule learns, only the last step is looked at: what earlier phases of a trial gathered may be due.
    """
    eligibility = state.activity["eligibility"]
    probes = [probe for probe in tape.probes if not simulator.plan.network.has(probe.target)]
    steps = range(context.phase.steps)
    for step in steps if local or probes else steps[-1:]:
        moment = _MomentOf(sequences, learned, step)
        eligibility = simulator.learning.step(moment, eligibility, learned, context, step)
        if probes:
            tape.write(moment, {"batch": context.batch, "eligibility": eligibility}, learned, probes)
    return dict(eligibility)


def _record(sequences: Sequences, tape: Tape, clock: int) -> None:
    """What probes ask for of populations."""
    stop = clock + sequences.steps
    for probe in tape.probes:
        network = sequences.plan.network
        if not network.has(probe.target):
            continue
        value = sequences.read(probe.key, 0, network[probe.target].units).expand(sequences.steps, -1, -1, -1)
        if probe.events:
            tape.first(probe, clock)
            found = torch.nonzero(value).cpu().numpy()
            found[:, 0] += clock
            tape.keep_events(probe, found)
        else:
            _keep(tape, probe, value.detach(), clock, stop)


def _keep(tape: Tape, probe: Probe, value: Tensor, clock: int, stop: int) -> None:
    first = tape.first(probe, clock)
    rows = value[first - clock :: probe.every]
    tape.keep(
        probe, rows.clone() if probe.units is None else rows[..., list(probe.units)], range(first, stop, probe.every)
    )
