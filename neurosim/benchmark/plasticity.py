"""Synapses with spike-timing-dependent plasticity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurosim.backends import compile
from neurosim.benchmark import limits
from neurosim.benchmark.measure import Check, Contender, in_process
from neurosim.benchmark.work import SEED, Limit, learned
from neurosim.constraint import Bounds
from neurosim.factor import Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, PoissonSource
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.types import Array


@dataclass(frozen=True)
class PairStdp:
    """Poisson spikes through plastic synapses (pair-based, additive, all-to-all; Song, Miller, Abbott 2000)."""

    inputs: int = 1000
    units: int = 100
    steps: int = 10_000
    dt: float = 1.0
    rate: float = 15.0
    tau_mem: float = 10.0
    w_max: float = 0.014
    A_plus: float = 1.4e-4
    A_minus: float = 1.47e-4
    tau: float = 20.0

    @property
    def about(self) -> str:
        return f"pair STDP {self.inputs} -> {self.units}, Poisson {self.rate:g} Hz, dt {self.dt:g} ms, float64"

    @property
    def unit(self) -> str:
        return "ms per simulated s"

    @property
    def scale(self) -> float:
        return 1e6 / (self.steps * self.dt)

    @cached_property
    def start(self) -> Array:
        """Weights `[P, Q]`."""
        return np.random.default_rng(3).uniform(0.0, self.w_max, (self.units, self.inputs))

    @cached_property
    def found(self) -> tuple[float, float]:
        """Rate in Hz and mean weight, with random numbers of its own."""
        generator, w = np.random.default_rng(5), self.start.copy()
        x, y, v = np.zeros(self.inputs), np.zeros(self.units), np.zeros(self.units)
        fade, leak, total = np.exp(-self.dt / self.tau), np.exp(-self.dt / self.tau_mem), 0
        for _ in range(self.steps):
            arrived = np.flatnonzero(generator.random(self.inputs) < self.rate * self.dt / 1000.0)
            v = leak * (v + w[:, arrived].sum(1))
            fired = np.flatnonzero(v >= 1.0)
            v[fired] = 0.0
            x, y = fade * x, fade * y
            x[arrived] += 1.0
            w[:, arrived] -= self.A_minus * y[:, None]
            w[fired] += self.A_plus * x
            y[fired] += 1.0
            w[:, arrived] = np.clip(w[:, arrived], 0.0, self.w_max)
            w[fired] = np.clip(w[fired], 0.0, self.w_max)
            total += len(fired)
        return total / self.units / (self.steps * self.dt / 1000.0), float(w.mean())

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        rate, weight = self.found
        spikes = max(rate * self.units * self.steps * self.dt / 1000.0, 1.0)
        return {"rate": Check(rate, 0.06 + 5.0 / spikes**0.5), "weight": Check(weight, 0.03)}

    def network(self) -> Network:
        x, y = Trace(pre("spike"), self.tau), Trace(post("spike"), self.tau, read="before")
        terms = Term(post("spike"), x, PerSynapse(self.A_plus)), Term(y, pre("spike"), PerSynapse(-self.A_minus))
        rule = ThreeFactorRule((Component(terms),), constraints=(Bounds(0.0, self.w_max),), name="stdp")
        return Network(
            (
                Population("input", self.inputs, PoissonSource(rate=self.rate)),
                Population("output", self.units, self.cell),
            ),
            (Projection("input", "output", self.start, delay=0, rule=rule, name="w"),),
        )

    @property
    def cell(self) -> LIF:
        return LIF(tau_mem=self.tau_mem, arrival="before_leak")

    def own(self, backend: str) -> Contender:
        simulator = compile(self.network(), self.dt, seed=SEED, backend=backend, dtype="float64")
        state = simulator.init(1)
        probes = [Probe("output", "spike", events=True)]

        def run() -> Any:
            return simulator.run(state, Phase("run", self.steps), probes)

        def read(found: Any) -> dict[str, float]:
            return {
                "rate": self.mean_rate(len(found[1]["output.spike"])),
                "weight": float(learned(found[0], "w").mean()),
            }

        return in_process(f"neurosim {backend}", run, read, own=True)

    def mean_rate(self, spikes: int) -> float:
        """Hz, from the number of spikes of all output neurons."""
        return spikes / self.units / (self.steps * self.dt / 1000.0)

    def limit(self) -> Limit:
        # a pre spike reads a row of weights to deliver it and reads and writes it to change it, a post spike the latter
        seconds, bandwidth = self.steps * self.dt / 1000.0, limits.copy_bandwidth(8 * self.inputs * self.units)
        moved = seconds * self.inputs * self.units * 8 * (3 * self.rate + 2 * self.found[0])
        return moved / bandwidth, f"weights moved at {bandwidth / 1e9:.0f} GB/s"
