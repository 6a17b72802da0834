"""What a backend gives back: a simulator, a pure function of state and phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from neurosim.backends.plan import Plan
from neurosim.phase import Phase
from neurosim.recorder import Probe, Recording


class State(NamedTuple):
    """All that a simulation carries: `activity` (forgotten by `fresh`), `learned` (kept) and the `clock` in steps.

    `activity` and `learned` are nested dictionaries and tuples of tensors, so a checkpoint can write them. The clock
    never goes back: random streams are addressed by it.
    """

    activity: dict[str, Any]
    learned: dict[str, Any]
    clock: int


class Simulator(Protocol):
    """A compiled network."""

    plan: Plan

    def init(self, batch: int, learned: dict[str, Any] | None = None) -> State: ...

    def fresh(self, state: State, batch: int | None = None) -> State: ...

    def repeat(self, state: State, batch: int) -> State: ...

    def run(
        self, state: State, phase: Phase | Sequence[Phase], probes: Sequence[Probe] = ()
    ) -> tuple[State, Recording]: ...

    def run_batches(self, state: State, trial: Sequence[Phase], rest: bool = False) -> State: ...

    def compilation(self) -> str: ...  # what compiling has cost; "" where nothing is compiled

    def shortcuts(self) -> list[str]: ...  # what is not done step by step in the phases so far, and why

    def uncompiled(self) -> list[str]: ...  # what a compiled backend left to torch in the phases so far, and why
