"""Leaky integrate-and-fire with a threshold that rises at each spike, in the two orders that are in use.

Both say, for e-prop, how the adaptation A that a step hands on (theta with the step's spike, which in `DelayedResetLIF`
enters theta in the next step) depends on the A that it was handed: `slope_theta` is d spike / dA, `keep_theta` is
dA_next / dA = exp(-dt / tau_theta) + slope_theta, with the pseudo-derivative in the place of the step function's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.neuron.base import Model, after_spike, count_down, decay, membrane, number, reset_constants, whole_steps
from neurosim.surrogate import FAST_SIGMOID, HAT, Surrogate
from neurosim.types import Parameter
from neurosim.vocabulary import heaviside, pseudo_derivative, stop_gradient, where


def adaptive_lif(
    v: Any, theta: Any, refractory: Any, basal: Any, current: Any, leak: Any, gain: Any, drive: Any, v_rest: Any,
    v_th: Any, scale: Any, shift: Any, steps: Any, fade: Any, beta: Any,
) -> tuple[Any, ...]:  # fmt: skip
    active = refractory <= 0.0
    free = v_rest + leak * (v - v_rest) + gain * basal + drive * current
    theta = fade * theta
    over = free - (v_th + beta * theta)
    spike = where(active, heaviside(over), 0.0)
    derivative = where(active, pseudo_derivative(over), 0.0)
    slope_theta = -beta * fade * derivative
    spiked = spike > 0.5
    v = after_spike(spiked, where(active, free, v), scale, shift)
    refractory = count_down(spiked, refractory, steps)
    return v, theta + spike, refractory, spike, gain * derivative, slope_theta, fade + slope_theta


@dataclass(frozen=True)
class AdaptiveLIF(Model):
    """LIF with threshold v_th + beta theta; theta decays with tau_theta and gains 1 at each spike (Bellec et al. 2018).

    Order in a step: v integrates and theta decays (both exact), spike where v >= v_th + beta theta, reset, theta += 1.
    `subtract` takes v_th - v_reset away, without the adaptive part. Everything else as in `LIF`. tau_mem, tau_theta,
    t_ref in ms; v_rest, v_reset, v_th, beta in mV.
    """

    tau_mem: Parameter = 20.0
    tau_theta: Parameter = 100.0
    beta: Parameter = 0.5
    v_th: Parameter = 1.0
    v_reset: Parameter = 0.0
    v_rest: Parameter = 0.0
    t_ref: Parameter = 0.0
    r_mem: Parameter = 1.0
    reset: str = "to_v_reset"
    arrival: str = "after_leak"
    integration: str = "exact"
    surrogate: Surrogate | None = FAST_SIGMOID

    states: ClassVar[tuple[str, ...]] = ("v", "theta", "refractory")
    ports: ClassVar[tuple[str, ...]] = ("basal", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope", "slope_theta", "keep_theta")
    step = staticmethod(adaptive_lif)

    def constants(self, dt: float) -> tuple[Any, ...]:
        reset = reset_constants(self.reset, self.v_th, self.v_reset)
        threshold = decay(self.tau_theta, dt, "tau_theta"), number(self.beta, "beta")
        return *membrane(self, dt), *reset, whole_steps(self.t_ref, dt, "t_ref"), *threshold

    def initial(self) -> dict[str, Any]:
        return {"v": self.v_rest, "theta": 0.0, "refractory": 0.0}


def delayed_reset_lif(
    v: Any, theta: Any, spiked: Any, refractory: Any, basal: Any, current: Any, leak: Any, gain: Any, drive: Any,
    v_rest: Any, v_th: Any, keep: Any, target: Any, take: Any, steps: Any, fade: Any, beta: Any,
) -> tuple[Any, ...]:  # fmt: skip
    active = refractory <= 0.0
    start = after_spike(spiked > 0.5, v, keep, target)
    v = v_rest + leak * (start - v_rest) + gain * basal + drive * current - take * stop_gradient(spiked)
    theta = fade * theta + spiked
    over = v - (v_th + beta * theta)
    spike = where(active, heaviside(over), 0.0)
    derivative = where(active, pseudo_derivative(over), 0.0)
    slope_theta = -beta * derivative
    refractory = count_down(spike > 0.5, refractory, steps)
    return v, theta, spike, refractory, spike, gain * derivative, slope_theta, fade + slope_theta


@dataclass(frozen=True)
class DelayedResetLIF(Model):
    """LIF whose reset and threshold adaptation act in the step after the spike, as in e-prop and snnTorch.

    a_t = rho a_{t-1} + z_{t-1};  v_t = l v_{t-1} + g w_t + (1 - l) r_mem I_t - (v_th - v_reset) z_{t-1}; z_t = [v_t >=
    v_th + beta a_t]  (Bellec et al. 2020; snnTorch's `Leaky(reset_delay=True)` with beta = 0 and arrival "after_leak";
    v_rest = 0 in both). `v` is recorded before its reset. What `subtract` takes is not leaked; `to_v_reset` and `zero`
    replace v before the leak. For t_ref / dt steps after a spike the neuron is silent but v goes on integrating. The
    adaptation keeps the path from a spike to its own later threshold in the graph, the reset does not. tau_mem,
    tau_theta, t_ref in ms; v_rest, v_reset, v_th, beta in mV.
    """

    tau_mem: Parameter = 20.0
    tau_theta: Parameter = 100.0
    beta: Parameter = 0.0
    v_th: Parameter = 1.0
    v_reset: Parameter = 0.0
    v_rest: Parameter = 0.0
    t_ref: Parameter = 0.0
    r_mem: Parameter = 1.0
    reset: str = "subtract"
    arrival: str = "after_leak"
    integration: str = "exact"
    surrogate: Surrogate | None = HAT

    states: ClassVar[tuple[str, ...]] = ("v", "theta", "spiked", "refractory")
    ports: ClassVar[tuple[str, ...]] = ("basal", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope", "slope_theta", "keep_theta")
    step = staticmethod(delayed_reset_lif)

    def constants(self, dt: float) -> tuple[Any, ...]:
        keep, shift = reset_constants(self.reset, self.v_th, self.v_reset)
        target, take = (np.float64(0.0), -shift) if self.reset == "subtract" else (shift, np.float64(0.0))
        threshold = decay(self.tau_theta, dt, "tau_theta"), number(self.beta, "beta")
        return *membrane(self, dt), keep, target, take, whole_steps(self.t_ref, dt, "t_ref"), *threshold

    def initial(self) -> dict[str, Any]:
        return {"v": self.v_rest, "theta": 0.0, "spiked": 0.0, "refractory": 0.0}
