"""Leaky integrate-and-fire with delta and current input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.neuron.base import Model, after_spike, count_down, membrane, reset_constants, whole_steps
from neurosim.surrogate import FAST_SIGMOID, Surrogate
from neurosim.types import Parameter
from neurosim.vocabulary import heaviside, pseudo_derivative, where


def lif(
    v: Any, refractory: Any, basal: Any, current: Any, leak: Any, gain: Any, drive: Any, v_rest: Any, v_th: Any,
    scale: Any, shift: Any, steps: Any,
) -> tuple[Any, ...]:  # fmt: skip
    active = refractory <= 0.0
    free = v_rest + leak * (v - v_rest) + gain * basal + drive * current
    over = free - v_th
    spike = where(active, heaviside(over), 0.0)
    slope = where(active, gain * pseudo_derivative(over), 0.0)
    spiked = spike > 0.5
    v = after_spike(spiked, where(active, free, v), scale, shift)
    return v, count_down(spiked, refractory, steps), spike, slope


@dataclass(frozen=True)
class LIF(Model):
    """tau_mem dv/dt = v_rest - v + r_mem I(t); a spike where v >= v_th, then the reset.

    Integration: exact for input constant within the step (Rotter & Diesmann 1999), v <- v_rest + l (v - v_rest) + (1 -
    l) r_mem I + g w, l = exp(-dt / tau_mem); `integration="euler"` has l = 1 - dt / tau_mem. Port `current` takes I (in
    mV if r_mem is 1; else r_mem in MOhm and I in nA). Port `basal` takes jumps w in mV: `arrival="after_leak"` (g = 1;
    as NEST, jump then threshold test), "before_leak" (g = l; as Brian2, where a jump at the end of a step leaks in the
    next), "filtered" (g = 1 - l; weights as constant drive). `reset`: to_v_reset, zero, subtract (v_th - v_reset),
    none. After a spike v is held and input is lost for t_ref / dt steps (as NEST; Brian2's refractory is t_ref + dt).
    For a strict v > v_th give numpy.nextafter(v_th, inf). tau_mem, t_ref in ms; v_rest, v_reset, v_th in mV.
    """

    tau_mem: Parameter = 20.0
    v_th: Parameter = 1.0
    v_reset: Parameter = 0.0
    v_rest: Parameter = 0.0
    t_ref: Parameter = 0.0
    r_mem: Parameter = 1.0
    reset: str = "to_v_reset"
    arrival: str = "after_leak"
    integration: str = "exact"
    surrogate: Surrogate | None = FAST_SIGMOID

    states: ClassVar[tuple[str, ...]] = ("v", "refractory")
    ports: ClassVar[tuple[str, ...]] = ("basal", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope")
    step = staticmethod(lif)

    def constants(self, dt: float) -> tuple[Any, ...]:
        reset = reset_constants(self.reset, self.v_th, self.v_reset)
        return *membrane(self, dt), *reset, whole_steps(self.t_ref, dt, "t_ref")

    def initial(self) -> dict[str, Any]:
        return {"v": self.v_rest, "refractory": 0.0}


def offset_lif(
    v: Any, refractory: Any, basal: Any, current: Any, threshold: Any, leak: Any, gain: Any, drive: Any, v_rest: Any,
    v_th: Any, scale: Any, shift: Any, steps: Any,
) -> tuple[Any, ...]:  # fmt: skip
    return lif(v, refractory, basal, current, leak, gain, drive, v_rest, v_th + threshold, scale, shift, steps)


@dataclass(frozen=True)
class OffsetLIF(LIF):
    """`LIF` with a port `threshold`: a spike where v >= v_th + what arrives there in this step (mV).

    So the threshold is what synapses make it: a bias that learns is a homeostatic threshold which outlives the sample,
    belongs to the neuron whatever the batch, and is saved with the weights. `subtract` takes v_th - v_reset away.
    """

    ports: ClassVar[tuple[str, ...]] = ("basal", "current", "threshold")
    step = staticmethod(offset_lif)  # type: ignore[assignment]  # a port more than that of LIF
