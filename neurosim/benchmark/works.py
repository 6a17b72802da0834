"""The works: networks as they are described anywhere, with what they must find and what their size costs at least.

Arrays (weights, inputs) are made here with NumPy, so that a peer can be given the same. What must be found is computed
in float64 by plain NumPy, or is a rate that other simulators agree on; random inputs of a peer are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from neurosim.backends import compile
from neurosim.benchmark import limits
from neurosim.benchmark.measure import Check, Contender, in_process
from neurosim.connectivity import EdgeList, FixedInDegree
from neurosim.constraint import Bounds
from neurosim.factor import Trace, post, pre
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, CubaLIF, LeakyRate, PoissonSource, Relay, SpikeRelay
from neurosim.phase import Held, Phase
from neurosim.random import Uniform
from neurosim.recorder import Probe
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import Array, ConfigurationError

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


# ---- networks that make their own activity --------------------------------------------------------------------------


@dataclass(frozen=True)
class Cuba:
    """The current-based benchmark of Brette et al. (2007), after Vogels & Abbott (2005), with in-degrees instead of
    probabilities: 80 excitatory and 20 inhibitory inputs to each neuron, float64, all spikes recorded.
    """

    neurons: int
    steps: int = 10_000
    dt: float = 0.1
    exc: float = 60 * 0.27 / 10  # mV
    inh: float = -20 * 4.5 / 10
    rate: float | None = 4.6  # Hz in the first second: Brian2 2.9 and NEST 3.10 gave 4.46 to 4.75 at 4k to 100k neurons

    @property
    def about(self) -> str:
        return f"CUBA network, {self.neurons:,} neurons, in-degree 100, dt {self.dt} ms, float64, spikes recorded"

    @property
    def unit(self) -> str:
        return "s per simulated s"

    @property
    def scale(self) -> float:
        return 1000.0 / (self.steps * self.dt)

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        rate = self.own("reference").sample().values["rate"] if self.rate is None else self.rate
        return {"rate": Check(rate, 0.08)}

    def network(self) -> Network:
        neuron = CubaLIF(
            tau_mem=20.0, tau_syn_exc=5.0, tau_syn_inh=10.0, v_rest=-49.0, v_th=-50.0, v_reset=-60.0, t_ref=5.0
        )
        excitatory = self.neurons * 4 // 5
        start = {"v": Uniform(-60.0, -50.0)}
        many, few = FixedInDegree(80), FixedInDegree(20)
        return Network(
            (
                Population("e", excitatory, neuron, initial=start),
                Population("i", self.neurons // 5, neuron, None, start),
            ),
            (
                Projection("e", "e", self.exc, many, name="ee"),
                Projection("e", "i", self.exc, many, name="ei"),
                Projection("i", "e", self.inh, few, port="inhibitory", name="ie"),
                Projection("i", "i", self.inh, few, port="inhibitory", name="ii"),
            ),
            input="e",
            output="e",
        )

    def own(self, backend: str) -> Contender:
        simulator = compile(self.network(), self.dt, seed=SEED, backend=backend, dtype="float64")
        state = simulator.init(1)
        probes = [Probe("e", "spike", events=True), Probe("i", "spike", events=True)]

        def run() -> Any:
            return simulator.run(state, Phase("run", self.steps), probes)[1]

        def read(found: Any) -> dict[str, float]:
            return {"rate": self.mean_rate(len(found["e.spike"]) + len(found["i.spike"]))}

        return in_process(f"neurosim {backend}", run, read, own=True)

    def mean_rate(self, spikes: int) -> float:
        """Hz, from the number of spikes of all neurons."""
        return spikes / self.neurons / (self.steps * self.dt / 1000.0)

    def limit(self) -> Limit:
        # 4 states are read and written, 2 ports read and cleared; a spike's synapse is an index and a weight read, and
        # a port read and written.
        moved = self.steps * self.neurons * (4 * 16 + 2 * 16)
        moved_by_spikes = 4.6 * self.neurons * 100 * (12 + 16) * self.steps * self.dt / 1000.0
        bandwidth = limits.copy_bandwidth(self.neurons * 32)
        return (moved + moved_by_spikes) / bandwidth, f"states and synapses moved at {bandwidth / 1e9:.0f} GB/s"


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


# ---- layers ---------------------------------------------------------------------------------------------------------


def lif_layer(current: Array, leak: float, before: list[Array] | None = None) -> Array:
    """Spikes `[T, B, N]` of v <- leak v + current, threshold 1, reset to 0; `before` takes v as it was compared."""
    v, spikes = np.zeros(current.shape[1:]), np.zeros(current.shape)
    for t, arriving in enumerate(current):
        v = leak * v + arriving
        if before is not None:
            before.append(v)
        spikes[t] = v >= 1.0
        v = np.where(spikes[t] > 0, 0.0, v)
    return spikes


@dataclass(frozen=True)
class Layer:
    """Dense weights into LIF neurons without recurrence, float32, all spikes recorded; inputs are spikes of a given
    `density`, or (None) normal numbers.
    """

    inputs: int
    units: int
    batch: int = 16
    steps: int = 100
    density: float | None = None
    mean: float = 0.0
    spread: float = 0.3  # standard deviation of what arrives in a step
    tau_mem: float = 10.0
    dt: float = 1.0

    @property
    def about(self) -> str:
        kind = "normal inputs" if self.density is None else f"{100 * self.density:g} % input spikes"
        return f"LIF layer {self.inputs} -> {self.units}, batch {self.batch}, T {self.steps}, {kind}, float32"

    @property
    def unit(self) -> str:
        return "us per step"

    @property
    def scale(self) -> float:
        return 1e6 / self.steps

    @cached_property
    def x(self) -> Array:
        """Inputs `[T, B, Q]`."""
        generator, shape = np.random.default_rng(7), (self.steps, self.batch, self.inputs)
        if self.density is None:
            return generator.standard_normal(shape, np.float32)
        return (generator.random(shape) < self.density).astype(np.float32)

    @cached_property
    def weight(self) -> Array:
        """Weights `[P, Q]`."""
        active = self.inputs * (1.0 if self.density is None else self.density)
        normal: Array = np.random.default_rng(8).standard_normal((self.units, self.inputs))
        made: Array = (self.mean / active + self.spread / active**0.5 * normal).astype(np.float32)
        return made

    @property
    def leak(self) -> float:
        return float(np.exp(-self.dt / self.tau_mem))

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        current = self.x.astype(float) @ self.weight.T.astype(float)
        return {name: Check(value, tolerance) for (name, value), tolerance in zip(
            self.read(lif_layer(current, self.leak)).items(), (2e-3, 0.05), strict=True)}  # fmt: skip

    @staticmethod
    def read(spikes: Any) -> dict[str, Any]:
        """Spikes per neuron and step, and the spikes of every unit, from `[T, B, N]`."""
        raster = np.asarray(spikes)
        return {"rate": float(raster.mean()), "counts": raster.sum((0, 1))}

    def own(self, backend: str) -> Contender:
        source = Relay() if self.density is None else SpikeRelay()
        network = Network(
            (Population("input", self.inputs, source), Population("output", self.units, LIF(tau_mem=self.tau_mem))),
            (Projection("input", "output", self.weight, delay=0, name="w"),),
        )
        simulator = compile(network, self.dt, backend=backend)
        state, drive = simulator.init(self.batch), torch.from_numpy(self.x)
        phase = Phase("run", self.steps, {"input": drive})

        def run() -> Any:
            return simulator.run(state, phase, [Probe("output", "spike")])[1]["output.spike"]

        return in_process(f"neurosim {backend}", run, self.read, own=True)

    def limit(self) -> Limit:
        if self.density is None:
            return limits.matrix_product(self.steps * self.batch, self.inputs, self.units), "the matrix product alone"
        bandwidth = limits.copy_bandwidth(self.weight.nbytes)
        return float(self.x.sum()) * 4.0 * self.units / bandwidth, f"weights of spikes read at {bandwidth / 1e9:.0f} GB/s"


@dataclass(frozen=True)
class ThreeFactor:
    """Samples one after the other, each with an update at its end: an eligibility e_ij <- d e_ij + psi_i x_j from the
    surrogate slope psi of the post neuron and the trace x of the pre spikes, and w_ij <- w_ij + lr mean_b(M_b e_bij).
    """

    batch: int
    inputs: int = 784
    units: int = 500
    steps: int = 20
    samples: int = 10
    density: float = 0.05
    tau_mem: float = 10.0
    tau_trace: float = 20.0
    tau_eligibility: float = 20.0
    slope: float = 25.0  # of the fast sigmoid (Zenke & Ganguli 2018)
    lr: float = 1e-3
    dt: float = 1.0

    @property
    def about(self) -> str:
        return f"three-factor learning {self.inputs} -> {self.units}, T {self.steps}, batch {self.batch}, float32"

    @property
    def unit(self) -> str:
        return "ms per sample"

    @property
    def scale(self) -> float:
        return 1e3 / (self.samples * self.batch)

    @cached_property
    def x(self) -> Array:
        """Spikes `[samples, T, B, Q]`."""
        shape = self.samples, self.steps, self.batch, self.inputs
        return (np.random.default_rng(9).random(shape) < self.density).astype(np.float32)

    @cached_property
    def reward(self) -> Array:
        """M `[samples, B]`."""
        return np.random.default_rng(10).standard_normal((self.samples, self.batch)).astype(np.float32)

    @cached_property
    def weight(self) -> Array:
        normal = np.random.default_rng(11).standard_normal((self.units, self.inputs))
        return ((0.25 + 1.8 * normal) / (self.density * self.inputs)).astype(np.float32)

    def factor(self, tau: float) -> float:
        """What is left after a step."""
        return float(np.exp(-self.dt / tau))

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        w, fade = self.weight.astype(float), self.factor(self.tau_trace)
        for x, reward in zip(self.x.astype(float), self.reward, strict=True):
            before: list[Array] = []
            lif_layer(x @ w.T, self.factor(self.tau_mem), before)
            trace, e = np.zeros((self.batch, self.inputs)), np.zeros_like(w)
            for v, spikes in zip(before, x, strict=True):
                trace = fade * trace + spikes
                psi = 1.0 / (1.0 + self.slope * np.abs(v - 1.0)) ** 2
                e = self.factor(self.tau_eligibility) * e + (reward[:, None] * psi).T @ trace
            w = w + self.lr * e / self.batch
        return {"change": Check(w - self.weight, 0.01)}

    def read(self, weight: Any) -> dict[str, Array]:
        return {"change": np.asarray(weight, float) - self.weight}

    def network(self) -> Network:
        term = Term(post("slope"), Trace(pre("spike"), self.tau_trace))
        rule = ThreeFactorRule(
            (Component((term,), tau=self.tau_eligibility),),
            modulator=Broadcast("reward"),
            accumulate="last",
            when="sample",
            transforms=(Rate(self.lr),),
            name="three factors",
        )
        return Network(
            (
                Population("input", self.inputs, SpikeRelay()),
                Population("output", self.units, LIF(tau_mem=self.tau_mem)),
            ),
            (Projection("input", "output", self.weight, delay=0, rule=rule, name="w"),),
        )

    def own(self, backend: str) -> Contender:
        simulator = compile(self.network(), self.dt, backend=backend)
        start = simulator.init(self.batch)
        phases = [
            Phase("sample", self.steps, {"input": torch.from_numpy(x)}, {"reward": torch.from_numpy(reward)[:, None]})
            for x, reward in zip(self.x, self.reward, strict=True)
        ]

        def run() -> Any:
            state = start
            for phase in phases:
                state, _ = simulator.run(simulator.fresh(state), phase)
            return state

        def read(state: Any) -> dict[str, Array]:
            return self.read(learned(state, "w"))

        return in_process(f"neurosim {backend}", run, read, own=True)

    def limit(self) -> Limit:
        rows = self.steps * self.batch
        product = limits.matrix_product(self.units, rows, self.inputs)
        bandwidth = limits.copy_bandwidth(self.weight.nbytes)
        delivered = float(self.x[0].sum()) * 4.0 * self.units / bandwidth
        update = 2.0 * self.weight.nbytes / bandwidth
        what = "the product that forms the change, weights of spikes read, weights written once"
        return self.samples * (product + delivered + update), what


@dataclass(frozen=True)
class RandomReservoir:
    """Leaky tanh units with sparse recurrent weights and a constant input, float32; one step after the other."""

    units: int = 2000
    probability: float = 0.1
    radius: float = 0.9
    steps: int = 200
    tau: float = 3.0
    dt: float = 1.0

    @property
    def about(self) -> str:
        return f"reservoir of {self.units} units, p {self.probability}, float32"

    @property
    def unit(self) -> str:
        return "us per step"

    @property
    def scale(self) -> float:
        return 1e6 / self.steps

    @cached_property
    def edges(self) -> tuple[Array, Array, Array]:
        """post, pre and weight `[E]`, sorted by post, then pre."""
        generator = np.random.default_rng(12)
        joined, pres = np.nonzero(generator.random((self.units, self.units)) < self.probability)
        spread = self.radius / (self.units * self.probability) ** 0.5
        return joined, pres, (spread * generator.standard_normal(len(joined))).astype(np.float32)

    @cached_property
    def input(self) -> Array:
        return (0.2 * np.random.default_rng(13).standard_normal(self.units)).astype(np.float32)

    @property
    def leak(self) -> float:
        return float(np.exp(-self.dt / self.tau))

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        w = np.zeros((self.units, self.units))
        np.add.at(w, self.edges[:2], self.edges[2].astype(float))
        v = np.zeros(self.units)
        for _ in range(self.steps):
            v = self.leak * v + (1.0 - self.leak) * (w @ np.tanh(v) + self.input)
        return {"rate": Check(np.tanh(v), 1e-4)}

    def own(self, backend: str) -> Contender:
        posts, pres, weight = self.edges
        network = Network(
            (Population("cells", self.units, LeakyRate(tau_mem=self.tau)),),
            (Projection("cells", "cells", weight, EdgeList(posts, pres), name="w"),),
            input="cells",
            output="cells",
        )
        simulator = compile(network, self.dt, backend=backend)
        state = simulator.init(1)
        phase = Phase("run", self.steps, {"cells": Held(torch.from_numpy(self.input)[None])})

        def run() -> Any:
            return simulator.run(state, phase)[0]

        def read(state: Any) -> dict[str, Array]:
            return {"rate": np.tanh(state.activity["state"]["cells"]["v"].numpy().reshape(-1).astype(float))}

        return in_process(f"neurosim {backend}", run, read, own=True)

    def limit(self) -> Limit:
        size = len(self.edges[0]) * 8
        bandwidth = limits.copy_bandwidth(size / 2)
        return self.steps * size / bandwidth, f"indices and weights read at {bandwidth / 1e9:.0f} GB/s"


# ---- by name --------------------------------------------------------------------------------------------------------

WORKS: dict[str, Callable[[], Work]] = {
    "cuba_4k": lambda: Cuba(4_000),
    "cuba_20k": lambda: Cuba(20_000),
    "cuba_100k": lambda: Cuba(100_000),
    "stdp": PairStdp,
    "dense": lambda: Layer(784, 1024, density=0.05, mean=0.15, spread=0.4),
    "three_factor_1": lambda: ThreeFactor(batch=1),
    "three_factor_32": lambda: ThreeFactor(batch=32, samples=3),
    "reservoir": RandomReservoir,
    "layer_512": lambda: Layer(512, 512, steps=500, spread=0.45),
    "layer_2048": lambda: Layer(2048, 2048, steps=500, spread=0.45),
}
SMALL: dict[str, Callable[[], Work]] = {
    "cuba_4k": lambda: Cuba(500, steps=200, rate=None),
    "cuba_20k": lambda: Cuba(600, steps=200, rate=None),
    "cuba_100k": lambda: Cuba(700, steps=200, rate=None),
    "stdp": lambda: PairStdp(300, 10, steps=1000, w_max=0.045),
    "dense": lambda: Layer(60, 40, batch=2, steps=30, density=0.05, mean=0.15, spread=0.4),
    "three_factor_1": lambda: ThreeFactor(batch=1, inputs=40, units=20, samples=2),
    "three_factor_32": lambda: ThreeFactor(batch=4, inputs=40, units=20, samples=2),
    "reservoir": lambda: RandomReservoir(50, steps=20),
    "layer_512": lambda: Layer(40, 30, batch=2, steps=30),
    "layer_2048": lambda: Layer(50, 30, batch=2, steps=30),
}


def work(name: str, small: bool = False) -> Work:
    """The work of a name, at full size or so small that it takes no time (to see that it runs, not how fast)."""
    if name not in WORKS:
        raise ConfigurationError(f"there is no benchmark {name!r}; allowed: {', '.join(WORKS)}")
    return (SMALL if small else WORKS)[name]()
