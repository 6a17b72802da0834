"""Back-propagation of the error (Rumelhart, Hinton, Williams 1986), as wiring: the baseline every local rule is measured by.

    dw_ij = lr * m_i * slope_i * pre_j,    m = error_i, carried down by the transposes of the forward weights.

Each step's error goes down in that step; nothing goes back in time (that is `bptt`). On static rate units this is the
exact gradient of the loss; on leaky units it leaves out the paths through earlier steps. Not local: the feedback weights are
tied to the forward weights (`tied=(projection, "transpose")`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.factor import post
from neurosim.modulator import Feedback
from neurosim.network import Network, Projection
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach, chosen
from neurosim.transform import optimizer

from .delta import pre_factor, readout_field
from .feedback_wiring import with_errors


@dataclass(frozen=True)
class Backprop:
    """See the module. `lr`, `optimizer` none | momentum | adam | adamw with `beta1`, `beta2`, `weight_decay`; `when` step |
    phase | sample and `accumulate` sum | mean | last; `tau_trace` (ms) of the pre-synaptic rate trace on spiking networks;
    `loss` cross_entropy | mse.
    """

    lr: float = 1e-3
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-4
    when: str = "phase"
    accumulate: str = "mean"
    tau_trace: float = 20.0
    loss: str = "cross_entropy"
    layers: tuple[str, ...] | None = None

    local: ClassVar[bool] = False

    def _rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        term = Term(post("slope"), pre_factor(network, projection, self.tau_trace))
        transforms: tuple[Any, ...] = optimizer(
            self.optimizer, self.lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay
        )
        return ThreeFactorRule(
            (Component((term,)),),
            Feedback(post("feedback")),
            accumulate=self.accumulate,
            when=self.when,
            reduce="mean",
            transforms=transforms,
            name="backprop",
        )

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        wired = with_errors(network, taught, _transposed, self.loss, readout_field(network))
        return attach(wired, tuple(p.name for p in taught), lambda p: self._rule(wired, p))


def _transposed(projection: Projection, pre: str, post_name: str) -> Projection:
    return Projection(pre, post_name, tied=(projection.name, "transpose"), connectivity=projection.connectivity, delay=0)
