"""Driven layers and reservoirs, the same arrays for every contender; what they must find is computed in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neurosim.backends import compile
from neurosim.benchmark import limits
from neurosim.benchmark.measure import Check, Contender, in_process
from neurosim.benchmark.work import Limit, learned
from neurosim.connectivity import EdgeList
from neurosim.factor import Trace, post, pre
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, LeakyRate, Relay, SpikeRelay
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import Array

APART = "a call per sample"


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
        read = 4.0 * self.units * float(self.x.sum())
        return read / bandwidth, f"weights of spikes read at {bandwidth / 1e9:.0f} GB/s"


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
        """All samples in one call, as a learner shows them; each has its update before the next begins."""
        simulator = compile(self.network(), self.dt, backend=backend)
        start = simulator.init(self.batch)
        x = torch.from_numpy(self.x).transpose(0, 1).reshape(self.steps, -1, self.inputs)
        phase = Phase("sample", self.steps, {"input": x}, {"reward": torch.from_numpy(self.reward).reshape(-1, 1)})

        def run() -> Any:
            return simulator.run_batches(start, [phase], rest=True)

        def read(state: Any) -> dict[str, Array]:
            return self.read(learned(state, "w"))

        return in_process(f"neurosim {backend}", run, read, own=True)

    def call_per_sample(self, backend: str) -> Contender:
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

        return in_process(f"neurosim {backend}, {APART}", run, read, own=True)

    def limit(self) -> Limit:
        rows = self.steps * self.batch
        product = limits.matrix_product(self.units, rows, self.inputs)
        bandwidth = limits.copy_bandwidth(self.weight.nbytes)
        delivered = float(self.x[0].sum()) * 4.0 * self.units / bandwidth
        update = 2.0 * self.weight.nbytes / bandwidth
        what = "the product that forms the change, weights of spikes read, weights written once"
        return self.samples * (product + delivered + update), what


def call_per_sample(work: ThreeFactor, backend: str) -> Contender:
    return work.call_per_sample(backend)


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
