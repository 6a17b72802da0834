"""The delta rule of an output layer (Widrow, Hoff 1960): the local reading of a gradient on one layer.

    dw_ij = lr * error_i * slope_i * pre_j,   error = target - prediction,

where prediction is the softmax of the output (cross-entropy) or the output itself (mse), slope_i is the derivative of
output i with respect to its drive in this step, and pre_j what arrives. The mean over the batch is the gradient of the
mean loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.factor import Factor, Trace, post, pre
from neurosim.modulator import Feedback
from neurosim.network import Network, Projection
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach, split
from neurosim.transform import optimizer
from neurosim.wiring import with_error


def pre_factor(network: Network, projection: Projection, tau_trace: float | None) -> Factor:
    """What a rule reads at the pre end: the field sent; with `tau_trace` (ms) and spikes, their low-pass trace."""
    sent = pre(network.sent(projection))
    return Trace(sent, tau_trace, "mean") if tau_trace is not None and sent.name == "spike" else sent


def output_rule(
    network: Network, projection: Projection, tau_trace: float | None, transforms: tuple[Any, ...], **when: Any
) -> ThreeFactorRule:
    """The delta rule for one projection to the output population."""
    term = Term(post("slope"), pre_factor(network, projection, tau_trace))
    return ThreeFactorRule(
        (Component((term,)),), Feedback(post("feedback")), reduce="mean", transforms=transforms, name="delta", **when
    )


@dataclass(frozen=True)
class Delta:
    """The delta rule on the output layer; hidden layers stay as they are (rule "frozen": the null for every hidden
    rule).

    `lr`; `optimizer` none | momentum | adam | adamw with `beta1`, `beta2`, `weight_decay`; `when` and `accumulate` as
    in `ThreeFactorRule`; `tau_trace` (ms) of the pre-synaptic rate trace on spiking networks; `loss` cross_entropy |
    mse.
    """

    lr: float = 1e-3
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-4
    when: str = "step"
    accumulate: str = "sum"
    tau_trace: float | None = 20.0
    loss: str = "cross_entropy"
    layers: tuple[str, ...] | None = None

    def transforms(self) -> tuple[Any, ...]:
        return optimizer(self.optimizer, self.lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay)

    def __call__(self, network: Network) -> Network:
        _, outputs = split(network, self.layers)
        network = with_error(network, self.loss, output=readout_field(network))
        names = tuple(p.name for p in outputs)
        return attach(
            network,
            names,
            lambda p: output_rule(
                network, p, self.tau_trace, self.transforms(), when=self.when, accumulate=self.accumulate
            ),
        )


def readout_field(network: Network) -> str | None:
    """The field of the output population that is compared with the target: its membrane potential where it spikes."""
    return "v" if network[network.output].axon == "spike" else None
