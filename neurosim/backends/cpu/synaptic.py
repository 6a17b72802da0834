"""One weight while it learns: what the kernels of its rule are written from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from neurosim.backends.cpu.factors import Place
from neurosim.backends.learning import read_later
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array


@dataclass
class Synaptic:
    """One weight (or bias) while it learns: arrays `[R, Q, P]`, or by edge sorted by pre neuron."""

    rule: ThreeFactorRule
    kind: str  # "dense" (also a bias: Q = 1), "one_to_one", "sparse"
    size: tuple[int, int, int, int]  # R, B, P, Q
    weight: Array
    posts: list[list[Place]]  # by component and term
    pres: list[list[Place]]
    decays: list[Place | None]  # of components whose decay is a post factor
    modulator: Place | None  # None: 1
    chain: tuple[Any, ...]
    constants: list[tuple[Any, ...]]  # of each transform, numbers or arrays like the weight
    gains: dict[tuple[int, int], Any]  # PerSynapse gains by (component, term), numbers or arrays like the weight
    dt: float
    shown: bool = False  # is the eligibility recorded?
    memories: list[Array] = field(default_factory=list)  # one per component with memory: [R, B, Q, P] or [B, E]
    slots: list[list[Array]] = field(default_factory=list)  # of each transform, like the weight
    change: Array | None = None  # where changes are gathered; None: every step's change is made at once
    pointer: Array | None = None
    post: Array | None = None
    bias: bool = False
    constraints: tuple[Any, ...] = ()
    # The block of each synapse in the kernels' order, and the first block of each replica (and one more).
    groups: Callable[[int, str, int], tuple[Array, Array]] | None = None

    @property
    def lone(self) -> bool:
        """Has every post neuron only one of these synapses?"""
        return self.bias or self.kind == "one_to_one"

    @property
    def kept(self) -> list[int]:
        """Components whose value is remembered (or, the last one, recorded)."""
        last = len(self.rule.components) - 1
        return [
            index
            for index, component in enumerate(self.rule.components)
            if component.has_memory or read_later(self.rule, index) or (self.shown and index == last)
        ]
