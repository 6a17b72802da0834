"""Two-variable neurons with a non-linear upstroke: adaptive exponential and Izhikevich."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.neuron.base import Model, above_zero, number
from neurosim.surrogate import FAST_SIGMOID_MILLIVOLT, Surrogate
from neurosim.types import Parameter
from neurosim.vocabulary import exp, heaviside, min, pseudo_derivative, where


def adex(
    v: Any, w: Any, basal: Any, current: Any, per_step: Any, per_tau: Any, g_leak: Any, v_rest: Any, v_t: Any,
    delta_t: Any, a: Any, b: Any, v_th: Any, v_reset: Any,
) -> tuple[Any, ...]:  # fmt: skip
    v = v + basal
    # above v_th the neuron spikes anyway; without the guard the exponential of a large jump would overflow
    growth = exp((min(v, v_th) - v_t) / delta_t)
    rise = g_leak * (v_rest - v) + g_leak * delta_t * growth + current - w
    free = v + per_step * rise
    over = free - v_th
    spike = heaviside(over)
    gain = 1.0 + per_step * g_leak * (where(v < v_th, growth, 0.0) - 1.0)
    w = w + per_tau * (a * (v - v_rest) - w)
    spiked = spike > 0.5
    v = where(spiked, v_reset, free)
    return v, where(spiked, w + b, w), spike, gain * pseudo_derivative(over)


@dataclass(frozen=True)
class AdEx(Model):
    """c_mem dv/dt = g_leak (v_rest - v + delta_t exp((v - v_t) / delta_t)) - w + I;  tau_w dw/dt = a (v - v_rest) - w.

    Spike where v >= v_th (the cut-off of the upstroke), then v = v_reset, w += b (Brette & Gerstner 2005). Integration:
    forward Euler, both variables from their values at the start of the step (first order in dt; the exponential is
    evaluated at min(v, v_th)). Port `basal` takes jumps of v in mV at the start of the step, `current` takes I in pA.
    c_mem in pF, g_leak and a in nS, b and w in pA, tau_w in ms, the rest in mV. There is no refractory time.
    """

    c_mem: Parameter = 281.0
    g_leak: Parameter = 30.0
    v_rest: Parameter = -70.6
    v_t: Parameter = -50.4
    delta_t: Parameter = 2.0
    tau_w: Parameter = 144.0
    a: Parameter = 4.0
    b: Parameter = 80.5
    v_th: Parameter = -40.4
    v_reset: Parameter = -70.6
    surrogate: Surrogate | None = FAST_SIGMOID_MILLIVOLT

    states: ClassVar[tuple[str, ...]] = ("v", "w")
    ports: ClassVar[tuple[str, ...]] = ("basal", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope")
    step = staticmethod(adex)

    def constants(self, dt: float) -> tuple[Any, ...]:
        per_step = above_zero(dt, "dt") / above_zero(self.c_mem, "c_mem")
        per_tau = above_zero(dt, "dt") / above_zero(self.tau_w, "tau_w")
        g_leak, delta_t = above_zero(self.g_leak, "g_leak"), above_zero(self.delta_t, "delta_t")
        v_rest, v_t, a, b = (number(getattr(self, name), name) for name in ("v_rest", "v_t", "a", "b"))
        v_th, v_reset = number(self.v_th, "v_th"), number(self.v_reset, "v_reset")
        return per_step, per_tau, g_leak, v_rest, v_t, delta_t, a, b, v_th, v_reset

    def initial(self) -> dict[str, Any]:
        return {"v": self.v_rest, "w": 0.0}


def izhikevich(
    v: Any, u: Any, basal: Any, current: Any, dt: Any, a: Any, b: Any, c: Any, d: Any, v_th: Any,
) -> tuple[Any, ...]:  # fmt: skip
    v = v + basal
    free = v + dt * (0.04 * v * v + 5.0 * v + 140.0 - u + current)
    u = u + dt * a * (b * v - u)
    over = free - v_th
    spike = heaviside(over)
    slope = (1.0 + dt * (0.08 * v + 5.0)) * pseudo_derivative(over)
    spiked = spike > 0.5
    return where(spiked, c, free), where(spiked, u + d, u), spike, slope


@dataclass(frozen=True)
class Izhikevich(Model):
    """dv/dt = 0.04 v^2 + 5 v + 140 - u + I;  du/dt = a (b v - u);  at v >= v_th: v = c, u += d (Izhikevich 2003).

    Integration: forward Euler, both from their values at the start of the step (first order in dt). The paper's
    synaptic input is a current: port `current`, in its units (mV / ms). Port `basal` takes jumps of v in mV at the
    start of the step. a in 1 / ms, b in 1 / ms, c and v_th in mV, d in mV / ms; defaults: regular spiking. u starts at
    b c, v at c.
    """

    a: Parameter = 0.02
    b: Parameter = 0.2
    c: Parameter = -65.0
    d: Parameter = 8.0
    v_th: Parameter = 30.0
    surrogate: Surrogate | None = FAST_SIGMOID_MILLIVOLT

    states: ClassVar[tuple[str, ...]] = ("v", "u")
    ports: ClassVar[tuple[str, ...]] = ("basal", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope")
    step = staticmethod(izhikevich)

    def constants(self, dt: float) -> tuple[Any, ...]:
        return above_zero(dt, "dt"), *(number(getattr(self, name), name) for name in ("a", "b", "c", "d", "v_th"))

    def initial(self) -> dict[str, Any]:
        return {"v": self.c, "u": number(self.b, "b") * number(self.c, "c")}
