"""Krotov and Hopfield's unsupervised learning by competing hidden units (PNAS 2019).

    I_i = sum_j sign(w_ij) |w_ij|^(p-1) x_j                  the current of unit i
    g_i = 1 for the largest I, -delta for the unit of rank k, 0 for all others
    dw_ij = lr (1 - n / updates) D_ij / max|D|,    D_ij = sum_b g_i (x_j - I_i w_ij)

The weights of a unit that wins approach the sphere sum_j |w_ij|^p = 1. The equations are those of the authors' batch
code: rank 1 wins, k = 2 is the runner-up; the rate falls once in `every` updates (an epoch).

For p > 2 a synapse of weight w delivers sign(w) |w|^(p-1) x while the layer learns, so that its drive is I. The paper
learns in two stages, and its readout takes the plain product: h_i = max(sum_j w_ij x_j, 0)^n, of inputs with unit norm.
`with_plain_drive` makes the network of the second stage from that of the first, and what was learned fits both. In one
run, where the output layer learns beside the hidden one (`output` delta), it reads what the layer then sends: I. At
p = 2 the two are the same.

D. Krotov, J. J. Hopfield, "Unsupervised learning by competing hidden units", PNAS 116 (2019), doi
10.1073/pnas.1820458116.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurosim.lateral import Ranked
from neurosim.network import Network, Projection
from neurosim.rule import Component, OfWeight, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Normalised, Rate, Schedule
from neurosim.types import Array, ConfigurationError, positive
from neurosim.vocabulary import abs, power

from .competition import bounded_hebb, with_competition
from .readout import taught, with_readout

NAME = "krotov_hopfield"


def lebesgue(w: Any, exponent: float) -> Any:
    """sign(w) |w|^(exponent + 1)."""
    return w * power(abs(w), exponent)


def dead_units(weight: Array, x: Array, p: float = 2.0) -> Array:
    """The units of `weight [P, Q]` that have the largest current for none of the inputs `x [B, Q]`: their indices."""
    winners = (x @ lebesgue(weight, p - 2.0).T).argmax(-1)
    return np.setdiff1d(np.arange(len(weight)), winners)


def with_plain_drive(network: Network) -> Network:
    """`network` as it is read out: every synapse delivers w x, and nothing learns but the layers with a teacher.

    Take `learned` of a simulation of `network` for the one made from this: the weights keep their names.
    """

    def plain(projection: Projection) -> Projection:
        rule = projection.rule
        own = isinstance(rule, ThreeFactorRule) and rule.name == NAME
        return replace(projection, transfer=None, rule=None) if own else projection

    return network.with_projections(plain)


@dataclass(frozen=True)
class KrotovHopfield:
    """See the module. `lr` of the change divided by its largest entry; `p` >= 2; `k` >= 2; `delta` >= 0; `updates`:
    the rate falls linearly to 0 in so many updates (None: it stays), once in `every`. `when`, `accumulate` as in
    `ThreeFactorRule`.

    `output` delta | same | none: what the output layer learns by (the delta rule with `lr_output`). Biases stay as
    they are; the competition sees the whole drive of a unit, so these should be 0.
    """

    lr: float = 0.02
    p: float = 2.0
    k: int = 2
    delta: float = 0.4
    updates: int | None = None
    every: int = 1
    when: str = "phase"
    accumulate: str = "last"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        positive(self.p, "p of KrotovHopfield")
        if self.p < 2:
            raise ConfigurationError(f"p of KrotovHopfield is {self.p}; it must be at least 2")

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        schedule = () if self.updates is None else (Schedule(self.updates, every=self.every),)
        return ThreeFactorRule(
            (Component(bounded_hebb(network, projection)),),
            accumulate=self.accumulate,
            when=self.when,
            reduce="sum",
            transforms=(Normalised("all"), Rate(self.lr), *schedule),
            bias_transforms=(Rate(0.0),),
            name=NAME,
        )

    def __call__(self, network: Network) -> Network:
        learning = taught(network, self.layers, self.output)
        names = tuple(projection.name for projection in learning)
        network = with_competition(network, learning, Ranked(self.k, self.delta))
        if self.p > 2:
            transfer = OfWeight(lebesgue, (float(self.p) - 2.0,))
            network = network.with_projections(lambda p: replace(p, transfer=transfer) if p.name in names else p)
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output)
