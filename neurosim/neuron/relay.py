"""Neurons without memory that pass on what arrives: inputs, targets, error populations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.neuron.base import Model
from neurosim.vocabulary import fill


def relay(basal: Any) -> tuple[Any, ...]:
    return basal, fill(basal, 1.0)


def gated_relay(basal: Any, gate: Any) -> tuple[Any, ...]:
    return basal * gate, gate


@dataclass(frozen=True)
class _Stateless(Model):
    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("basal",)

    def constants(self, dt: float) -> tuple[Any, ...]:
        return ()

    def initial(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Relay(_Stateless):
    """rate = basal; slope = 1."""

    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")
    step = staticmethod(relay)


@dataclass(frozen=True)
class SpikeRelay(_Stateless):
    """spike = basal, for spike trains that come from outside (0 or 1 per step; graded values pass too); slope = 1."""

    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope")
    step = staticmethod(relay)


@dataclass(frozen=True)
class GatedRelay(_Stateless):
    """rate = basal * gate; slope = gate: an error population gated by the slope of the neurons that it serves."""

    ports: ClassVar[tuple[str, ...]] = ("basal", "gate")
    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")
    step = staticmethod(gated_relay)
