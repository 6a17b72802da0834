"""Forward and backward through a driven layer: surrogate gradients through time (Neftci, Mostafa, Zenke 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neurosim.adapter import Mean
from neurosim.backends import compile
from neurosim.benchmark import limits
from neurosim.benchmark.layers import Layer, lif_layer
from neurosim.benchmark.measure import Check, Contender, in_process
from neurosim.benchmark.work import Limit, learned
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, Relay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import GradientRule
from neurosim.surrogate import FastSigmoid
from neurosim.transform import Rate
from neurosim.types import Array


@dataclass(frozen=True)
class LayerGradient(Layer):
    """As `Layer`; then the gradient of half the squared distance between every unit's rate and a target rate, summed
    over units and averaged over rows. A spike has the derivative of `FastSigmoid(slope)`; none passes the reset.
    """

    slope: float = 25.0

    @property
    def about(self) -> str:
        kind = f"LIF layer {self.inputs} -> {self.units}, batch {self.batch}, T {self.steps}, normal inputs, float32"
        return f"{kind}: forward, and backward through time to the weights"

    @property
    def unit(self) -> str:
        return "ms"

    @property
    def scale(self) -> float:
        return 1e3

    @cached_property
    def target(self) -> Array:
        """Rates `[B, N]` in spikes per step."""
        drawn: Array = np.random.default_rng(9).random((self.batch, self.units), np.float32)
        return drawn

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        x, before = self.x.astype(float), list[Array]()
        spikes = lif_layer(x @ self.weight.T.astype(float), self.leak, before)
        top = (spikes.mean(0) - self.target) / (self.steps * self.batch)
        later, change = np.zeros_like(top), np.zeros(self.weight.shape)
        for arriving, v, spike in zip(x[::-1], before[::-1], spikes[::-1], strict=True):
            later = top / (1.0 + self.slope * np.abs(v - 1.0)) ** 2 + np.where(spike > 0, 0.0, later)
            change += later.T @ arriving
            later *= self.leak
        tolerances = {"rate": 2e-3, "counts": 0.05, "gradient": 0.02}
        return {name: Check(value, tolerances[name]) for name, value in self.read((spikes, change)).items()}

    @staticmethod
    def read(found: Any) -> dict[str, Any]:
        """From the spikes `[T, B, N]` and the gradient `[P, Q]`: what `Layer` reads, and the gradient's sum over the
        inputs of every unit (a spike more or less in float32 changes single weights).
        """
        spikes, gradient = found
        return {**Layer.read(spikes), "gradient": np.asarray(gradient, float).sum(1)}

    def own(self, backend: str) -> Contender:
        rule = GradientRule(Mean(), "mse", transforms=(Rate(1.0),))
        cells = LIF(tau_mem=self.tau_mem, surrogate=FastSigmoid(self.slope))
        network = Network(
            (Population("input", self.inputs, Relay()), Population("output", self.units, cells)),
            (Projection("input", "output", self.weight, delay=0, name="w", rule=rule),),
        )
        simulator = compile(network, self.dt, backend=backend)
        state, label = simulator.init(self.batch), {"label": torch.from_numpy(self.target)}
        phase = Phase("run", self.steps, {"input": torch.from_numpy(self.x)}, label)

        def run() -> Any:
            return simulator.run(state, phase)[0]

        def read(after: Any) -> dict[str, Any]:
            # A peer has its spikes in hand; here none are kept, so the same phase runs once more for them, untimed.
            unit = simulator.run(state, phase, [Probe("output", "spike", events=True)])[1]["output.spike"][:, -1]
            rate, counts = len(unit) / (self.steps * self.batch * self.units), np.bincount(unit, minlength=self.units)
            return {"rate": rate, "counts": counts, "gradient": (self.weight - learned(after, "w")).sum(1)}

        return in_process(f"neurosim {backend}", run, read, own=True)

    def limit(self) -> Limit:
        rows = self.steps * self.batch
        forward = limits.matrix_product(rows, self.inputs, self.units)
        backward = limits.matrix_product(self.units, rows, self.inputs)
        return forward + backward, "two matrix products: forward, and of the weight's gradient"
