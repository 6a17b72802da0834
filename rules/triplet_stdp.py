"""Triplet STDP (Pfister, Gerstner 2006): pairs of spikes, and what a third spike adds to them.

    dw_ij = S_i r1_j (A2_plus + A3_plus o2_i)     a post spike meets pre traces r1 and its own past o2
          - o1_i S_j (A2_minus + A3_minus r2_j)   a pre spike arrives, meets the post trace o1 and its own past r2

then w_min <= w <= w_max. r1, r2 are traces of the pre spikes as they arrive (tau_plus, tau_x), o1, o2 of the post
spikes (tau_minus, tau_y); r2 and o2 are read before this step's spike. With A3_minus = 0 and A2_plus = 0 it is the
paper's minimal model, with both A3 = 0 pair STDP. The defaults are the paper's fit of the full model, all-to-all, to
visual cortex (its amplitudes are relative to the weight at the start). Delays are those of the projection, as in
`neurosim.rules.stdp`.

J.-P. Pfister, W. Gerstner, "Triplets of spikes in a model of spike timing-dependent plasticity", J. Neurosci. 26:9673
(2006), doi 10.1523/JNEUROSCI.1425-06.2006.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.constraint import Bounds
from neurosim.factor import Apply, Trace, post, pre
from neurosim.network import Network, Projection
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import positive

from .readout import taught, with_readout
from .stdp import PAIRINGS, pair_terms


def both(spike: float, past: float) -> float:
    """spike past: what only a spike with a past contributes."""
    return spike * past


@dataclass(frozen=True)
class TripletSTDP:
    """See the module. `A2_plus`, `A3_plus`, `A2_minus`, `A3_minus` >= 0 in units of the weight; `tau_plus`, `tau_x`,
    `tau_minus`, `tau_y` in ms; `w_min`, `w_max` (None: open).

    `pairing` all | nearest: traces sum over all earlier spikes, or start anew at each. `read_pre`, `read_post` after |
    before: r1, o1 with or without a spike of this very step. `reduce` mean | sum | sequential over the batch. `output`
    delta | same | none: what the output layer learns by (the delta rule with `lr_output`, reading spikes through a
    trace of tau_plus).
    """

    A2_plus: float = 5e-10
    A3_plus: float = 6.2e-3
    A2_minus: float = 7e-3
    A3_minus: float = 2.3e-4
    tau_plus: float = 16.8
    tau_x: float = 101.0
    tau_minus: float = 33.7
    tau_y: float = 125.0
    w_min: float | None = 0.0
    w_max: float | None = 1.0
    pairing: str = "all"
    read_pre: str = "after"
    read_post: str = "before"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def _gain(self, name: str, sign: float = 1.0) -> PerSynapse:
        return PerSynapse(sign * float(positive(getattr(self, name), name, zero=True)))

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        taus, reads = (self.tau_plus, self.tau_minus), (self.read_pre, self.read_post)
        amplitudes = self._gain("A2_plus"), self._gain("A2_minus", -1.0)
        growth, loss = pair_terms(network, projection, *amplitudes, taus, self.pairing, reads)
        spike, sent, mode = post("spike"), pre(network.sent(projection)), PAIRINGS[self.pairing]
        o2 = Trace(spike, positive(self.tau_y, "tau_y"), mode, "before")
        r2 = Trace(sent, positive(self.tau_x, "tau_x"), mode, "before")
        terms = (
            growth,
            Term(Apply(both, (spike, o2)), growth.pre, self._gain("A3_plus")),
            loss,
            Term(loss.post, Apply(both, (sent, r2)), self._gain("A3_minus", -1.0)),
        )
        return ThreeFactorRule(
            (Component(terms),),
            reduce=self.reduce,
            constraints=(Bounds(self.w_min, self.w_max),),
            bias_transforms=(Rate(0.0),),  # a bias has no spikes to pair
            name="triplet_stdp",
        )

    def __call__(self, network: Network) -> Network:
        names = tuple(p.name for p in taught(network, self.layers, self.output))
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_plus)
