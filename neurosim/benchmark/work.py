"""What a work is: what it must find, how a backend does it, and what its size costs at least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from neurosim.benchmark.measure import Check, Contender
from neurosim.types import Array

SEED = 1
Limit = tuple[float, str]  # seconds, and of what


class Work(Protocol):
    """Seconds times `scale` are the numbers of the table, in `unit`."""

    @property
    def about(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def scale(self) -> float: ...

    @property
    def checks(self) -> Mapping[str, Check]: ...

    def own(self, backend: str) -> Contender: ...

    def limit(self) -> Limit: ...


def learned(state: Any, name: str) -> Array:
    weight: Array = state.learned["weight"][name].numpy()[0]
    return weight
