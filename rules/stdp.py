"""Pair-based spike-timing-dependent plasticity, with hard or soft bounds.

    dw_ij = A_plus  to_max(w_ij)   S_i x_j    a post spike S_i meets the trace x_j of the pre spikes that have arrived
          - A_minus from_min(w_ij) y_i S_j    a pre spike S_j arrives and meets the trace y_i of the post spikes

    to_max(w) = ((w_max - w) / (w_max - w_min))^mu_plus,    from_min(w) = ((w - w_min) / (w_max - w_min))^mu_minus

then w_min <= w <= w_max. mu = 0 is additive (Song, Miller, Abbott 2000), 1 multiplicative (van Rossum, Bi, Turrigiano
2000), in between a power law (Gütig, Aharonov, Rotter, Sompolinsky 2003). x and y decay with tau_plus and tau_minus.
A pre spike counts when it arrives, `delay` after its emission, a post spike when it is back at the synapse,
`dendritic_delay` after its emission: both belong to the projection.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.constraint import Bounds
from neurosim.factor import Trace, post, pre
from neurosim.network import Network, Projection
from neurosim.rule import Component, Gain, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import ConfigurationError, choice, positive
from neurosim.vocabulary import max, power

from .readout import taught, with_readout

PAIRINGS = {"all": "sum", "nearest": "nearest"}


def room(w: float, amplitude: float, bound: float, width: float, mu: float) -> float:
    """amplitude ((bound - w) / width)^mu; 0 beyond the bound."""
    return amplitude * power(max((bound - w) / width, 0.0), mu)  # type: ignore[no-any-return]


def soft(amplitude: float, mu: float, bound: float | None, other: float | None) -> Gain:
    """The gain `amplitude` times the room to `bound`, as a part of that between the bounds, to the power mu."""
    positive(mu, "mu", zero=True)
    if mu == 0:
        return PerSynapse(amplitude)
    if bound is None or other is None or bound == other:
        raise ConfigurationError(
            f"w_min and w_max are {other} and {bound}; with mu > 0 they must be two different numbers"
        )
    return OfWeight(room, (float(amplitude), float(bound), float(bound) - float(other), float(mu)))


def pair_terms(
    network: Network,
    projection: Projection,
    growth: Gain,
    loss: Gain,
    taus: tuple[float, float],
    pairing: str,
    reads: tuple[str, str],
) -> tuple[Term, Term]:
    """S_i x_j growth and y_i S_j loss; `taus` and `reads` of x, then y."""
    choice(pairing, tuple(PAIRINGS), "pairing")
    if network[projection.post].axon != "spike":
        raise ConfigurationError(
            f"this rule pairs spikes, but {projection.post!r} sends {network[projection.post].axon!r}; "
            "use it on spiking neurons"
        )
    sent, spike = pre(network.sent(projection)), post("spike")
    x = Trace(sent, positive(taus[0], "tau_plus"), PAIRINGS[pairing], reads[0])
    y = Trace(spike, positive(taus[1], "tau_minus"), PAIRINGS[pairing], reads[1])
    return Term(spike, x, growth), Term(y, sent, loss)


@dataclass(frozen=True)
class STDP:
    """See the module. `A_plus`, `A_minus` > 0 in units of the weight; `tau_plus`, `tau_minus` in ms; `mu_plus`,
    `mu_minus` >= 0; `w_min`, `w_max` (None: open, for mu = 0 only).

    `pairing` all | nearest: x and y sum over all earlier spikes, or start anew at each. `read_pre`, `read_post` after |
    before: x, y with or without a spike of this very step, so that a coincident pair counts or not. `reduce` mean |
    sum | sequential over the batch. `output` delta | same | none: what the output layer learns by (the delta rule
    with `lr_output`, reading spikes through a trace of tau_plus).
    """

    A_plus: float = 0.01
    A_minus: float = 0.0105
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    mu_plus: float = 0.0
    mu_minus: float = 0.0
    w_min: float | None = 0.0
    w_max: float | None = 1.0
    pairing: str = "all"
    read_pre: str = "after"
    read_post: str = "before"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        growth = soft(positive(self.A_plus, "A_plus", zero=True), self.mu_plus, self.w_max, self.w_min)
        loss = soft(-positive(self.A_minus, "A_minus", zero=True), self.mu_minus, self.w_min, self.w_max)
        taus, reads = (self.tau_plus, self.tau_minus), (self.read_pre, self.read_post)
        return ThreeFactorRule(
            (Component(pair_terms(network, projection, growth, loss, taus, self.pairing, reads)),),
            reduce=self.reduce,
            constraints=(Bounds(self.w_min, self.w_max),),
            bias_transforms=(Rate(0.0),),  # a bias has no spikes to pair
            name="stdp",
        )

    def __call__(self, network: Network) -> Network:
        names = tuple(p.name for p in taught(network, self.layers, self.output))
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_plus)
