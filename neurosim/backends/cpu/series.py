"""Batches shown one after the other in one call: the compiled loop goes on from one to the next, and so do its threads.

A network of some dozen units takes as long to hand over to compiled code as to simulate: 0.8 of 1.9 ms per batch of
BioHSIC's published protocol, 0.1 where 64 are shown at once. The bits are those of a run for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurosim.backends.cpu import kernels
from neurosim.backends.cpu.build import Builder
from neurosim.backends.cpu.lists import restart_lists
from neurosim.backends.cpu.program import Program, Threads, lanes_of, shares_of
from neurosim.backends.cpu.writer import Kernel
from neurosim.backends.reference import Context
from neurosim.backends.simulator import State
from neurosim.backends.tape import Tape
from neurosim.phase import Phase
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu


def why_not(builder: Builder, program: Program, state: State, rest: bool) -> str:
    """Why every batch has to be run for itself, or "".

    Between two batches there must be nothing to do in Python.
    """
    if not program.compiled:
        return "torch carries out a part of each step"
    if builder.early:
        return "inputs are multiplied ahead, batch by batch"
    if builder.remembering or any(rule.modulator.tau is not None for _, _, rule in builder.broadcasts):
        return "a modulator remembers"
    if any(not plastic.updates for plastic in builder.plastic):
        return "torch makes the updates"
    if any(state.learned["change"].values()):
        return "a change of weights is waiting"
    return next((reason for plastic in builder.plastic if (reason := plastic.alone(state, rest))), "")


def run(simulator: Cpu, state: State, phase: Phase, rest: bool) -> State | None:
    """`phase`, whose rows are several batches, from `state`; None where it has to be run batch by batch."""
    batch, rows = simulator.batch(state), phase.batch
    tape = Tape(simulator.plan, (), simulator.learning)
    simulator.make_room(state, batch)
    builder, program = simulator.program(phase, batch, tape)
    if rows is None or why_not(builder, program, state, rest):
        return None
    turns = rows // batch
    learned = simulator.learning.begin(state.learned, [])
    with torch.no_grad(), Threads(program) as threads:
        whole = _whole(simulator, builder, program, rest)
        known = simulator.known(phase, rows)
        context = Context(simulator, phase, rows, state.clock, True, learned, known.given)
        builder.work.load(state.activity, state.clock)
        builder.begin(context, state, tape)
        for plastic in builder.plastic:
            plastic.begin_series(phase.steps)
        drives = builder.feed(whole, context, known)
        steps = turns * phase.steps
        replicas = simulator.plan.replicas
        work = simulator.units_in_all * replicas * batch * steps
        shares = shares_of(replicas, batch, work, builder.rows_apart, threads)
        whole.run(state.clock, steps, shares, state.clock + steps, lanes_of(simulator.units_in_all, threads))
        clock = state.clock + steps
        builder.spread()
        if not all(plastic.end_series(learned, turns, phase.steps) for plastic in builder.plastic):
            for plastic in builder.plastic:  # nothing of it counts: the state that it began with is as it was
                plastic.delivery.forget()
            return None
        del drives
        activity = {**builder.work.store(state.activity, clock), "eligibility": builder.kept()}
    return State({"batch": batch, **activity}, learned, clock)


def _whole(simulator: Cpu, builder: Builder, program: Program, rest: bool) -> Program:
    """The program of a phase with what has to be done before and after each batch."""
    if rest not in builder.series:
        before = list(_restarts(simulator, builder)) if rest else []
        after = [kernel for plastic in builder.plastic for kernel in plastic.closing()]
        builder.series[rest] = Program([*before, *program.operations, *after])
    return builder.series[rest]


def _restarts(simulator: Cpu, builder: Builder) -> Iterator[Kernel]:
    """What brings the activity to rest, as `fresh` does."""
    work, dtype = builder.work, simulator.dtype_name
    batch = work.size[1]
    activity = simulator.fresh(State({"batch": batch}, {}, 0)).activity
    starts: dict[str, Tensor | None] = {**dict(work.entries(activity)), **dict.fromkeys(activity["history"])}
    for label, start in starts.items():
        place = work.buffer(label).array
        array = None if start is None else np.ascontiguousarray(start.numpy(), dtype=place.dtype)
        if array is not None and not array.any():
            array = None
        yield kernels.restart(dtype, (batch, work.width(label)), place, array)
    for lists in work.listed.values():
        yield restart_lists(dtype, batch, lists)
    for plastic in builder.plastic:
        for memory in plastic.remembered():
            whole = memory.reshape(1, *work.size, -1)
            yield kernels.restart(dtype, (batch, whole.shape[-1]), whole, None)
