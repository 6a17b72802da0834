"""Kernels compiled ahead of time, for a GPU that need not be there: a check that all of them can be compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neurosim.backends.plan import make_plan
from neurosim.backends.tape import Tape
from neurosim.backends.triton.build import Builder
from neurosim.backends.triton.edges import EdgeDelivery
from neurosim.backends.triton.simulator import Triton
from neurosim.backends.triton.source import HOPPER, Kernel
from neurosim.backends.triton.tiled import Tiled
from neurosim.network import Network
from neurosim.phase import Phase
from neurosim.recorder import Probe


def kernels(builder: Builder) -> Iterator[Kernel]:
    """All kernels of a phase."""
    for scan in builder.scans:
        yield scan.made
    for learner in builder.learners:
        if isinstance(learner, Tiled):
            yield from (kernel.made for kernel in learner.kernels.values())
    for operation in builder.operations:
        if isinstance(operation.arrives, EdgeDelivery):
            yield operation.arrives.kernel
            yield builder.spikes(operation.arrives.source).kernel


def compile_ahead(
    network: Network,
    dt: float,
    phase: Phase,
    batch: int = 1,
    dtype: str = "float32",
    probes: Sequence[Probe] = (),
    target: Any = HOPPER,
) -> dict[str, int]:
    """Compile all kernels of a phase for a target (an H100, sm_90): bytes of machine code by kernel.

    Needs no GPU, but the compiler: not with TRITON_INTERPRET=1 in the environment. triton's CompilationError where one
    cannot be compiled.
    """
    simulator = Triton(make_plan(network, dt, 0, 1), dtype, "cpu", hide_replicas=True)
    builder = Builder(simulator, phase, batch, phase.steps, Tape(simulator.plan, probes, simulator.learning))
    found = {}
    for number, kernel in enumerate(kernels(builder)):
        found[f"{number} {kernel.text.name}"] = len(kernel.compiled(target).asm["cubin"])
    return found
