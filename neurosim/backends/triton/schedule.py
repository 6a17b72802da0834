"""In which order the operations of a phase run, and which of them may run over many steps at once.

In a step, operations follow each other in the order of the reference. One that nothing later in the step comes back to
(through a delay, or because a rule changes its weights in every step) may run all steps of a chunk before the next one
begins: the loop over time is split (loop distribution, Kennedy and McKinley 1990). The strongly connected components of
"reads what it writes" are what has to stay together, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from neurosim.backends.components import components


@dataclass(eq=False)
class Operation:
    """Part of a step: `run(first, count)` carries out the steps `first` to `first + count` of a chunk."""

    name: str
    run: Callable[[int, int], None]
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    arrives: Any = None  # what brings something to a port: the first one to run begins the sum
    pointers: Callable[[], tuple[int, ...] | None] = lambda: None  # see `graphs.py`


@dataclass(frozen=True)
class Group:
    """Operations that run together: all steps at once (`whole`), or one step after the other."""

    operations: tuple[Operation, ...]
    whole: bool

    def pointers(self) -> tuple[int, ...] | None:
        """Addresses that the kernels of these operations are given and that may change between runs; None where Python
        decides something in a step.
        """
        found = [operation.pointers() for operation in self.operations]
        return None if None in found else tuple(number for one in found for number in one or ())

    def run(self, count: int) -> None:
        """All `count` steps of a chunk."""
        if self.whole:
            self.operations[0].run(0, count)
            return
        for step in range(count):
            for operation in self.operations:
                operation.run(step, 1)


def groups(operations: Sequence[Operation]) -> list[Group]:
    """The operations of a step, given in its order, as groups in an order that keeps every dependence."""
    after = _following(operations)
    result = []
    for members in reversed(components(after)):
        ordered = tuple(operations[index] for index in sorted(members))
        alone = len(ordered) == 1 and not ordered[0].reads & ordered[0].writes
        result.append(Group(ordered, alone))
    return result


def _following(operations: Sequence[Operation]) -> dict[int, list[int]]:
    """For each operation, those that read what it writes."""
    readers: dict[str, list[int]] = {}
    for index, one in enumerate(operations):
        for label in one.reads:
            readers.setdefault(label, []).append(index)
    return {
        index: sorted({reader for label in one.writes for reader in readers.get(label, ())} - {index})
        for index, one in enumerate(operations)
    }
