"""Inhibitory STDP (Vogels, Sprekeler, Zenke, Clopath, Gerstner 2011): inhibition grows until a neuron fires at rho_0.

    dg_ij = lr ( S_i x_j + (y_i - alpha) S_j ),    alpha = 2 rho_0 tau,    0 <= g <= w_max

g is the strength of an inhibitory synapse. Near-coincident spikes, in either order, make it stronger, a pre spike
alone makes it weaker; x and y are traces of pre and post spikes with one tau. On average g rests where the post neuron
fires at rho_0. With `negative` the weight is w = -g, as current-based synapses have it (dw = -dg, -w_max <= w <= 0);
else w = g, for conductances (port `inhibitory` of `CobaLIF`).

The rule takes every synapse it teaches for an inhibitory one, so `layers` should name inhibitory projections; weights
of the wrong sign become 0 with the first update.

T. P. Vogels, H. Sprekeler, F. Zenke, C. Clopath, W. Gerstner, "Inhibitory plasticity balances excitation and inhibition
in sensory pathways and memory networks", Science 334:1569 (2011), doi 10.1126/science.1211095.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.constraint import Bounds
from neurosim.factor import One
from neurosim.network import Network, Projection
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import positive

from .readout import taught, with_readout
from .stdp import pair_terms


@dataclass(frozen=True)
class InhibitorySTDP:
    """See the module. `lr` in units of the weight; `rho_0` in Hz; `tau` in ms; `w_max` of the strength (None: open);
    `negative` weights or positive ones.

    `read_pre`, `read_post` after | before: x, y with or without a spike of this very step, so that a coincident pair
    counts once, twice or not. `reduce` mean | sum | sequential over the batch. `output` delta | same | none: what the
    output layer learns by (the delta rule with `lr_output`, reading spikes through a trace of tau).
    """

    lr: float = 0.005
    rho_0: float = 5.0
    tau: float = 20.0
    w_max: float | None = 1.0
    negative: bool = True
    read_pre: str = "after"
    read_post: str = "before"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        sign = -1.0 if self.negative else 1.0
        alpha = 2.0 * positive(self.rho_0, "rho_0", zero=True) * positive(self.tau, "tau") / 1000.0  # Hz times ms
        gain, reads = PerSynapse(sign), (self.read_pre, self.read_post)
        pairs = pair_terms(network, projection, gain, gain, (self.tau, self.tau), "all", reads)
        alone = Term(One("post"), pairs[1].pre, PerSynapse(-sign * alpha))
        largest = None if self.w_max is None else sign * positive(self.w_max, "w_max")
        return ThreeFactorRule(
            (Component((*pairs, alone)),),
            reduce=self.reduce,
            transforms=(Rate(self.lr),),
            constraints=(Bounds(largest, 0.0) if self.negative else Bounds(0.0, largest),),
            bias_transforms=(Rate(0.0),),  # a bias has no spikes to pair
            name="inhibitory_stdp",
        )

    def __call__(self, network: Network) -> Network:
        names = tuple(p.name for p in taught(network, self.layers, self.output))
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau)
