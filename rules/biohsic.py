"""BioHSIC: an information-bottleneck rule with a memory of the last N samples (Daruwalla, Lipasti 2024).

    dw_ij = -lr * xi_i * slope_i * pre_j

for every hidden layer, with the third factor xi of `neurosim.modulator.hsic` (three forms), passed back through the
layer's lateral (a layer norm in the paper) and the slope of the neuron; the newest sample alone moves the weights.
The output layer learns by the delta rule on all samples of the window. Nothing is sent from layer to layer.

With `memory` "reservoir" xi is not computed at the layer: it arrives at its port `feedback`, sent by a recurrent
population that has seen the samples (`neurosim.rules.memory_reservoir`), and the window is known to the teacher of that
population's readout only.

K. Daruwalla, M. Lipasti, "Information bottleneck-based Hebbian learning rule naturally ties working memory and synaptic
updates", Front. Comput. Neurosci. 18:1240348 (2024), doi 10.3389/fncom.2024.1240348.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.factor import Factor, Trace, post
from neurosim.modulator import HSIC, Feedback
from neurosim.network import Network, Projection
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach, split
from neurosim.transform import optimizer
from neurosim.types import choice, positive
from neurosim.wiring import compared, with_error

from .delta import output_rule, pre_factor, readout_field
from .memory_reservoir import MemoryReservoir

MEMORIES, STANDARD = ("batch", "buffer", "reservoir"), MemoryReservoir()


@dataclass(frozen=True)
class BioHSIC:
    """See the module. `window` N is the memory capacity (samples); `form` exact | repository | published; `memory`
    batch (the batch is the window) | buffer (each batch row is a stream and remembers its last N - 1 samples) |
    reservoir (a recurrent population per layer gives xi; its settings are `reservoir`; each row is a stream, and
    activity has to be carried from sample to sample).

    `gamma` weighs prediction against compression; `sigma_x`, `sigma_y`, `sigma_z` are kernel widths per square root of
    a dimension. `lr` and `lr_output` (None: as `lr`) with `optimizer`, `beta1`, `beta2`, `weight_decay`. `when` step |
    phase | sample and `accumulate` sum | mean | last say when weights change. `tau_trace` (ms): on spiking networks
    activity is the low-pass trace of the spikes. `loss` of the output layer: cross_entropy | mse.
    """

    window: int = 10
    form: str = "exact"
    memory: str = "batch"
    gamma: float = 10.0
    sigma_x: float = 0.3
    sigma_y: float = 0.25
    sigma_z: float = 2.0
    lr: float = 1e-4
    lr_output: float | None = None
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-4
    when: str = "step"
    accumulate: str = "sum"
    tau_trace: float = 20.0
    loss: str = "cross_entropy"
    reservoir: MemoryReservoir = STANDARD
    layers: tuple[str, ...] | None = None

    def _transforms(self, lr: float) -> tuple[Any, ...]:
        return optimizer(self.optimizer, lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay)

    def activity(self, network: Network, population: str, where: str | None = None) -> Factor:
        """The activity z of a population: its rate, or the rate trace of its spikes; `where` names the field it is read
        from (None: its axon).
        """
        axon = network[population].axon
        field = post(axon if where is None else where)
        return Trace(field, positive(self.tau_trace, "tau_trace"), "mean") if axon == "spike" else field

    def third_factor(self, activity: Factor, memory: str) -> HSIC:
        """The analytic third factor of a layer with this activity."""
        widths = {"sigma_x": self.sigma_x, "sigma_y": self.sigma_y, "sigma_z": self.sigma_z}
        return HSIC(activity, self.window, self.gamma, form=self.form, memory=memory, **widths)

    def modulator(self, network: Network, projection: Projection) -> Any:
        if self.memory == "reservoir":
            return Feedback(post("feedback"))
        return self.third_factor(self.activity(network, projection.post), self.memory)

    def with_reservoirs(self, network: Network, populations: tuple[str, ...]) -> Network:
        """`network` with a memory reservoir for each of these populations, and the target that it sees."""
        network = compared(network, self.loss, output=readout_field(network))
        for name in populations:
            teacher = self.third_factor(self.activity(network, name, "feedback"), "buffer")
            network = self.reservoir.wired(network, name, teacher)
        return network

    def hidden_rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        term = Term(post("slope"), pre_factor(network, projection, self.tau_trace))
        return ThreeFactorRule(
            (Component((term,)),),
            self.modulator(network, projection),
            accumulate=self.accumulate,
            when=self.when,
            reduce="sum" if self.memory == "batch" else "mean",
            transforms=self._transforms(self.lr),
            name="biohsic",
        )

    def __call__(self, network: Network) -> Network:
        choice(self.memory, MEMORIES, "memory")
        hidden, outputs = split(network, self.layers)
        if self.memory == "reservoir":
            network = self.with_reservoirs(network, tuple(dict.fromkeys(p.post for p in hidden)))
        network = attach(network, tuple(p.name for p in hidden), lambda p: self.hidden_rule(network, p))
        if not outputs:
            return network
        taught = with_error(network, self.loss, output=readout_field(network))
        transforms = self._transforms(self.lr if self.lr_output is None else self.lr_output)
        return attach(
            taught,
            tuple(p.name for p in outputs),
            lambda p: output_rule(taught, p, self.tau_trace, transforms, when=self.when, accumulate=self.accumulate),
        )
