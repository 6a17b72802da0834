"""Neurons that pass on what arrives: inputs, targets, error populations; one that can hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.neuron.base import Model
from neurosim.vocabulary import fill, where


def relay(basal: Any) -> tuple[Any, ...]:
    return basal, fill(basal, 1.0)


def gated_relay(basal: Any, gate: Any) -> tuple[Any, ...]:
    return basal * gate, gate


def silenced_relay(basal: Any, shunt: Any) -> tuple[Any, ...]:
    return basal * (1.0 - shunt), 1.0 - shunt


def sample_and_hold(held: Any, basal: Any, gate: Any) -> tuple[Any, ...]:
    is_open = gate > 0.5
    held = where(is_open, basal, held)
    return held, held, where(is_open, fill(held, 1.0), 0.0)


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


@dataclass(frozen=True)
class SilencedRelay(_Stateless):
    """rate = basal * (1 - shunt); slope = 1 - shunt: a relay that shunting inhibition silences (shunt 1 is full)."""

    ports: ClassVar[tuple[str, ...]] = ("basal", "shunt")
    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")
    step = staticmethod(silenced_relay)


@dataclass(frozen=True)
class SampleAndHold(_Stateless):
    """held <- basal while gate > 0.5, else it stays (an open gate is 1); rate = held; slope = 1 while open, else 0."""

    states: ClassVar[tuple[str, ...]] = ("held",)
    ports: ClassVar[tuple[str, ...]] = ("basal", "gate")
    outputs: ClassVar[tuple[str, ...]] = ("rate", "slope")
    step = staticmethod(sample_and_hold)

    def initial(self) -> dict[str, Any]:
        return {"held": 0.0}
