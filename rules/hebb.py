"""Hebb's rule (1949); with the output clamped to the label it is supervised.

    dw_ij = lr z_i x_j,     z the activity of the post neuron, x what arrives

`clamp`: at the output z is the one-hot label. `centred`: z - mean(z) over the layer (its neurons, or the channels at
each position), the form of the Hebbian-versus-backprop studies; there is no error term in it, so the weights grow
without limit unless `row_norm` holds the norm of each neuron's weights. The opposite sign is `rules.anti_hebb`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.connectivity import OneToOne
from neurosim.constraint import RowNorm
from neurosim.factor import Factor, Trace, post
from neurosim.lateral import Centred
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.wiring import TARGET, with_teaching

from .activity import activity, rates
from .delta import pre_factor
from .readout import taught, with_readout


def with_activity(network: Network, population: str, clamp: bool, centred: bool) -> Network:
    """Send what stands for the activity of `population`, centred or clamped to the label, to its port `feedback`."""
    here, source = network[population], population
    if clamp:
        network, source = network.with_parts((Population(TARGET, here.size, Relay()),)), TARGET
    if centred:
        name = f"centred_{population}"
        wires = (Projection(source, name, 1.0, OneToOne(), delay=0),)
        network, source = network.with_parts((Population(name, here.size, Relay(), Centred()),), wires), name
    return with_teaching(network, Projection(source, population, 1.0, OneToOne(), port="feedback", delay=0))


@dataclass(frozen=True)
class Hebb:
    """See the module. `lr`, one number or one for each layer taught, from the input on; `centred`; `clamp` acts
    where the output layer learns by this rule (`output` same). `row_norm`: the Euclidean norm of each neuron's weights
    after every update, None: free. `tau_trace` (ms) of the rate traces of spikes. `when`, `accumulate` and `reduce`
    as in `ThreeFactorRule`; `output` delta | same | none: what the output layer learns by (the delta rule with
    `lr_output`).
    """

    lr: float | tuple[float, ...] = 1e-4
    centred: bool = False
    clamp: bool = False
    row_norm: float | None = None
    tau_trace: float = 20.0
    when: str = "phase"
    accumulate: str = "last"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    title: ClassVar[str] = "hebb"
    sign: ClassVar[float] = 1.0

    def clamped(self, network: Network, projection: Projection) -> bool:
        return self.clamp and projection.post == network.output

    def post_factor(self, network: Network, projection: Projection) -> Factor:
        if not self.centred and not self.clamped(network, projection):
            return activity(network, projection, self.tau_trace)
        arriving, spikes = post("feedback"), network[projection.post].axon == "spike"
        return Trace(arriving, self.tau_trace, "mean") if spikes and not self.clamped(network, projection) else arriving

    def rule(self, network: Network, projection: Projection, lr: float) -> ThreeFactorRule:
        gain = PerSynapse(self.sign) if self.sign != 1.0 else None
        term = Term(self.post_factor(network, projection), pre_factor(network, projection, self.tau_trace), gain)
        return ThreeFactorRule(
            (Component((term,)),),
            accumulate=self.accumulate,
            when=self.when,
            reduce=self.reduce,
            transforms=(Rate(lr),),
            constraints=() if self.row_norm is None else (RowNorm(self.row_norm),),
            name=self.title,
        )

    def taught(self, network: Network) -> Network:
        """`network` with the rule, what it needs, and the readout."""
        learning = taught(network, self.layers, self.output)
        lr = rates(self.lr, learning)
        for projection in learning:
            clamp = self.clamped(network, projection)
            if self.centred or clamp:
                network = with_activity(network, projection.post, clamp, self.centred)
        network = attach(network, tuple(lr), lambda p: self.rule(network, p, lr[p.name]))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_trace)

    def __call__(self, network: Network) -> Network:
        return self.taught(network)
