"""SoftHebb: Hebbian learning in a soft winner-take-all layer (Moraitis et al. 2022; Journé et al. 2023).

    dw_ij = lr | |w_i| - 1 |^rate_power  D_ij / max|D|,      D_ij = sum_b y_i (x_j - u_i w_ij)

u is the drive of the layer, y its competition: the softmax of u / temperature over the layer (over the channels at each
position of a convolution, the sum then goes over positions too). `competition` "signed" makes y negative for all but
the winner (anti-Hebbian losers, the form of the deep networks), "soft" is the plain softmax, "hard" 1 for the winner
alone. max|D| is taken over the projection. Weights approach the unit sphere, and the rate falls with the distance to
it; the authors start at |w| = 25 (a convolution) and shrink. What the layer sends on is its own: y is used for
learning only.

T. Moraitis et al., "SoftHebb", Neuromorphic Computing and Engineering 2 (2022), doi 10.1088/2634-4386/aca710; A.
Journé, H. Garcia Rodriguez, Q. Guo, T. Moraitis, "Hebbian deep learning without feedback", ICLR 2023, arXiv
2209.11883.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.lateral import Ranked, SignedSoftmax, Softmax
from neurosim.network import Network, Projection
from neurosim.rule import Component, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Normalised, NormRate, Rate, Schedule
from neurosim.types import choice

from .competition import bounded_hebb, with_competition
from .readout import taught, with_readout

COMPETITIONS = ("signed", "soft", "hard")


@dataclass(frozen=True)
class SoftHebb:
    """See the module. `lr`; `temperature` of the softmax (1 / t_inv of the authors' code); `competition` signed |
    soft | hard; `rate_power` of the distance to the unit sphere, 0: a constant rate; `updates`: the rate falls
    linearly to 0 in so many updates, None: it does not. `when` and `accumulate` as in `ThreeFactorRule`.

    `output` delta | same | none: what the output layer learns by (the delta rule with `lr_output`). Biases stay as
    they are.
    """

    lr: float = 0.045
    temperature: float = 1.0
    competition: str = "signed"
    rate_power: float = 0.5
    updates: int | None = None
    when: str = "phase"
    accumulate: str = "last"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def lateral(self) -> Any:
        choice(self.competition, COMPETITIONS, "competition")
        if self.competition == "hard":
            return Ranked()
        return SignedSoftmax(self.temperature) if self.competition == "signed" else Softmax(self.temperature)

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        schedule = () if self.updates is None else (Schedule(self.updates),)
        return ThreeFactorRule(
            (Component(bounded_hebb(network, projection)),),
            accumulate=self.accumulate,
            when=self.when,
            reduce="sum",
            transforms=(Normalised("all"), NormRate(self.rate_power), Rate(self.lr), *schedule),
            bias_transforms=(Rate(0.0),),
            name="softhebb",
        )

    def __call__(self, network: Network) -> Network:
        learning = taught(network, self.layers, self.output)
        network = with_competition(network, learning, self.lateral())
        network = attach(network, tuple(p.name for p in learning), lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output)
