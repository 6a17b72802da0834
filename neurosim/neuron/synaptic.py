"""Leaky integrate-and-fire with synaptic currents (CUBA) or conductances (COBA) that decay exponentially."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.neuron.base import (
    Model,
    above_zero,
    after_spike,
    count_down,
    leak,
    number,
    reset_constants,
    whole_steps,
)
from neurosim.surrogate import FAST_SIGMOID, FAST_SIGMOID_MILLIVOLT, Surrogate
from neurosim.types import Parameter
from neurosim.vocabulary import exp, fill, heaviside, pseudo_derivative, where


def cuba_lif(
    v: Any, i_exc: Any, i_inh: Any, refractory: Any, basal: Any, inhibitory: Any, current: Any, leak: Any, fade_exc:
    Any, fade_inh: Any, gain_exc: Any, gain_inh: Any, drive: Any, v_rest: Any, v_th: Any, scale: Any, shift: Any,
    steps: Any,
) -> tuple[Any, ...]:  # fmt: skip
    active = refractory <= 0.0
    i_exc = i_exc + basal
    i_inh = i_inh + inhibitory
    free = v_rest + leak * (v - v_rest) + gain_exc * i_exc + gain_inh * i_inh + drive * current
    over = free - v_th
    spike = where(active, heaviside(over), 0.0)
    slope = where(active, gain_exc * pseudo_derivative(over), 0.0)
    spiked = spike > 0.5
    v = after_spike(spiked, where(active, free, v), scale, shift)
    return v, fade_exc * i_exc, fade_inh * i_inh, count_down(spiked, refractory, steps), spike, slope


def joint_gain(tau_mem: Parameter, tau_syn: Parameter, dt: float) -> Any:
    """v gained in one step per unit of a current that decays with tau_syn; exact, also at and near tau_syn = tau_mem.

    (1 / tau_mem) int_0^dt exp(-(dt - s) / tau_mem) exp(-s / tau_syn) ds = exp(-dt / tau_mem) dt / tau_mem (e^x - 1) /
    x, x = dt (1 / tau_mem - 1 / tau_syn).
    """
    tau_mem, tau_syn = np.asarray(tau_mem, dtype=float), np.asarray(tau_syn, dtype=float)
    x = dt * (tau_syn - tau_mem) / (tau_mem * tau_syn)
    safe = np.where(x == 0.0, 1.0, x)
    return (np.exp(-dt / tau_mem) * dt / tau_mem * np.where(x == 0.0, 1.0, np.expm1(safe) / safe))[()]


@dataclass(frozen=True)
class CubaLIF(Model):
    """tau_mem dv/dt = v_rest - v + r_mem (i_exc + i_inh + I);  tau_syn_exc di_exc/dt = -i_exc, the same for i_inh.

    Integration: exact and joint for v and both currents (Rotter & Diesmann 1999), also where tau_syn = tau_mem;
    `integration="euler"` is forward Euler for all three (Norse's LIFCell). Ports `basal` (into i_exc) and `inhibitory`
    (into i_inh, so an inhibitory weight is negative) take jumps at the start of the step; port `current` takes I.
    `i_exc` and `i_inh` are recorded at the end of the step. Currents decay on while v is held for t_ref / dt steps
    after a spike. tau_mem, tau_syn_exc, tau_syn_inh, t_ref in ms; v_rest, v_reset, v_th in mV; currents in mV with
    r_mem = 1, else MOhm, nA.
    """

    tau_mem: Parameter = 20.0
    tau_syn_exc: Parameter = 5.0
    tau_syn_inh: Parameter = 10.0
    v_th: Parameter = 1.0
    v_reset: Parameter = 0.0
    v_rest: Parameter = 0.0
    t_ref: Parameter = 0.0
    r_mem: Parameter = 1.0
    reset: str = "to_v_reset"
    integration: str = "exact"
    surrogate: Surrogate | None = FAST_SIGMOID

    states: ClassVar[tuple[str, ...]] = ("v", "i_exc", "i_inh", "refractory")
    ports: ClassVar[tuple[str, ...]] = ("basal", "inhibitory", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope")
    step = staticmethod(cuba_lif)

    def constants(self, dt: float) -> tuple[Any, ...]:
        left = leak(self.tau_mem, dt, self.integration, "tau_mem")
        fades = [leak(getattr(self, name), dt, self.integration, name) for name in ("tau_syn_exc", "tau_syn_inh")]
        gains = [1.0 - left] * 3
        if self.integration == "exact":
            gains[:2] = [joint_gain(self.tau_mem, tau_syn, dt) for tau_syn in (self.tau_syn_exc, self.tau_syn_inh)]
        r_mem, reset = above_zero(self.r_mem, "r_mem"), reset_constants(self.reset, self.v_th, self.v_reset)
        levels = number(self.v_rest, "v_rest"), number(self.v_th, "v_th")
        return left, *fades, *(r_mem * gain for gain in gains), *levels, *reset, whole_steps(self.t_ref, dt, "t_ref")

    def initial(self) -> dict[str, Any]:
        return {"v": self.v_rest, "i_exc": 0.0, "i_inh": 0.0, "refractory": 0.0}


def exponential(x: Any) -> tuple[Any, Any]:
    """What is left after x time constants, and minus its derivative."""
    left = exp(-x)
    return left, left


def linear(x: Any) -> tuple[Any, Any]:
    """The same to first order: forward Euler."""
    return 1.0 - x, fill(x, 1.0)


def coba_step(remaining: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, ...]]:
    """The COBA step with its way of relaxing towards the momentary equilibrium."""

    def coba_lif(
        v: Any, g_exc: Any, g_inh: Any, refractory: Any, basal: Any, inhibitory: Any, current: Any, per_step: Any,
        fade_exc: Any, fade_inh: Any, g_leak: Any, e_exc: Any, e_inh: Any, v_rest: Any, v_th: Any, scale: Any, shift:
        Any, steps: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        active = refractory <= 0.0
        g_exc = g_exc + basal
        g_inh = g_inh + inhibitory
        total = g_leak + g_exc + g_inh
        target = (g_leak * v_rest + g_exc * e_exc + g_inh * e_inh + current) / total
        left, lost = remaining(per_step * total)
        away = v - target
        free = target + left * away
        over = free - v_th
        spike = where(active, heaviside(over), 0.0)
        gain = (e_exc - target) / total * (1.0 - left) - per_step * lost * away
        slope = where(active, gain * pseudo_derivative(over), 0.0)
        spiked = spike > 0.5
        v = after_spike(spiked, where(active, free, v), scale, shift)
        return v, fade_exc * g_exc, fade_inh * g_inh, count_down(spiked, refractory, steps), spike, slope

    return coba_lif


COBA_STEPS = {"exact": coba_step(exponential), "euler": coba_step(linear)}


@dataclass(frozen=True)
class CobaLIF(Model):
    """c_mem dv/dt = g_leak (v_rest - v) + g_exc (e_exc - v) + g_inh (e_inh - v) + I;  g_exc, g_inh decay exponentially.

    Integration: exponential Euler, v relaxes exactly for conductances held at their value of the start of the step
    (first order in dt), conductances exact; `integration="euler"`: forward Euler for all three. Ports `basal` and
    `inhibitory` add to g_exc and g_inh (both positive) at the start of the step; port `current` takes I. v is held for
    t_ref / dt steps after a spike, conductances decay on. tau_syn_exc, tau_syn_inh, t_ref in ms; c_mem in pF,
    conductances in nS, I in pA, the rest in mV. Defaults: the COBA benchmark (Brette et al. 2007).
    """

    c_mem: Parameter = 200.0
    g_leak: Parameter = 10.0
    tau_syn_exc: Parameter = 5.0
    tau_syn_inh: Parameter = 10.0
    e_exc: Parameter = 0.0
    e_inh: Parameter = -80.0
    v_th: Parameter = -50.0
    v_reset: Parameter = -60.0
    v_rest: Parameter = -60.0
    t_ref: Parameter = 5.0
    reset: str = "to_v_reset"
    integration: str = "exact"
    surrogate: Surrogate | None = FAST_SIGMOID_MILLIVOLT

    states: ClassVar[tuple[str, ...]] = ("v", "g_exc", "g_inh", "refractory")
    ports: ClassVar[tuple[str, ...]] = ("basal", "inhibitory", "current")
    outputs: ClassVar[tuple[str, ...]] = ("spike", "slope")

    @property
    def step(self) -> Callable[..., tuple[Any, ...]]:
        return COBA_STEPS[self.integration]

    def constants(self, dt: float) -> tuple[Any, ...]:
        per_step = above_zero(dt, "dt") / above_zero(self.c_mem, "c_mem")
        fades = (leak(getattr(self, name), dt, self.integration, name) for name in ("tau_syn_exc", "tau_syn_inh"))
        reversal = number(self.e_exc, "e_exc"), number(self.e_inh, "e_inh"), number(self.v_rest, "v_rest")
        reset = reset_constants(self.reset, self.v_th, self.v_reset)
        g_leak, steps = above_zero(self.g_leak, "g_leak"), whole_steps(self.t_ref, dt, "t_ref")
        return per_step, *fades, g_leak, *reversal, number(self.v_th, "v_th"), *reset, steps

    def initial(self) -> dict[str, Any]:
        return {"v": self.v_rest, "g_exc": 0.0, "g_inh": 0.0, "refractory": 0.0}
