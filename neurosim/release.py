"""What leaves a presynaptic terminal per spike: everything, or less and more of it with short-term plasticity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.neuron.base import above_zero, decay
from neurosim.types import ConfigurationError, Parameter


def static(spike: Any) -> tuple[Any, ...]:
    return (spike,)


def tsodyks_markram(u: Any, x: Any, spike: Any, fade: Any, recover: Any, U: Any) -> tuple[Any, ...]:
    u = fade * u
    x = 1.0 - recover * (1.0 - x)
    u = u + spike * U * (1.0 - u)
    released = spike * u * x
    return u, x - released, released


@dataclass(frozen=True)
class Static:
    """released = spike: a synapse that does not tire."""

    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("spike",)
    outputs: ClassVar[tuple[str, ...]] = ("released",)
    teaching: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(static)

    def constants(self, dt: float) -> tuple[Any, ...]:
        return ()

    def initial(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class TsodyksMarkram:
    """Short-term plasticity, one scalar step per presynaptic neuron (Tsodyks, Pawelzik & Markram 1998).

    Between spikes du/dt = -u / tau_facil, dx/dt = (1 - x) / tau_rec (exact decay). At a spike: u += U (1 - u), then
    released = u x, then x -= released. `released` multiplies the weight. u starts at 0 and x at 1, so the first spike
    releases U. U in (0, 1]; tau_rec, tau_facil in ms, 0: recovers (forgets) at once. u and x are recorded after the
    spike.
    """

    U: Parameter = 0.5
    tau_rec: Parameter = 800.0
    tau_facil: Parameter = 0.0

    surrogate: ClassVar[None] = None
    states: ClassVar[tuple[str, ...]] = ("u", "x")
    ports: ClassVar[tuple[str, ...]] = ("spike",)
    outputs: ClassVar[tuple[str, ...]] = ("released",)
    teaching: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(tsodyks_markram)

    def constants(self, dt: float) -> tuple[Any, ...]:
        use = above_zero(self.U, "U")
        if bool(np.any(use > 1.0)):
            raise ConfigurationError(f"U is {self.U}; it must be in (0, 1]")
        return decay(self.tau_facil, dt, "tau_facil", zero=True), decay(self.tau_rec, dt, "tau_rec", zero=True), use

    def initial(self) -> dict[str, Any]:
        return {"u": 0.0, "x": 1.0}
