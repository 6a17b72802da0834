"""What weight and node perturbation share: a sample is shown twice, and synapses are told what that did to the loss.

    dw_ij = lr / sd^2 (L - L') e_ij,      L the loss of the clean pass, L' that of the perturbed one

e is the synapse's share of the perturbation. The loss is the rate of a population of one neuron, which projects to the
port `feedback` of every neuron taught: one scalar for a sample, the same for all synapses (global, but no teacher: it
says nothing about who was wrong). Both passes show the same sample, from the same activity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from neurosim.connectivity import Dense
from neurosim.factor import Trace, post
from neurosim.modulator import Decrease
from neurosim.modulator.change import CLEAN
from neurosim.network import Network, Projection
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.stage import Stage
from neurosim.transform import Rate, optimizer
from neurosim.types import positive
from neurosim.wiring import LOSS, with_loss

from .delta import readout_field
from .feedback_wiring import with_feedback

PERTURBED = "perturbed"


@dataclass(frozen=True)
class Perturbation:
    """`lr`; `sd`, the standard deviation of the noise; `optimizer` none | momentum | adam | adamw with `beta1`,
    `beta2`, `weight_decay`; `loss` cross_entropy | mse, of a pass's last step, or with `tau_loss` (ms) its low-pass
    trace at the neuron.
    """

    lr: float = 1e-3
    sd: float = 0.1
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-4
    tau_loss: float | None = None
    loss: str = "cross_entropy"
    layers: tuple[str, ...] | None = None

    title: ClassVar[str] = ""

    def rule(self, term: Term) -> ThreeFactorRule:
        """The rule of one projection whose share of the perturbation is `term`."""
        loss = post("feedback")
        return ThreeFactorRule(
            (Component((term,)),),
            Decrease(loss if self.tau_loss is None else Trace(loss, positive(self.tau_loss, "tau_loss"), "mean")),
            accumulate="last",
            when="sample",
            reduce="mean",
            transforms=(Rate(1.0 / positive(self.sd, "sd") ** 2), *self._optimizer()),
            name=self.title,
        )

    def _optimizer(self) -> tuple[Any, ...]:
        return optimizer(self.optimizer, self.lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay)

    def wired(self, network: Network, taught: tuple[Projection, ...], start: str = "trial") -> Network:
        """`network` with the loss at every neuron taught, and with its two passes; other rules learn in the clean
        one."""
        network = with_loss(network, self.loss, readout_field(network))
        for name in dict.fromkeys(projection.post for projection in taught):
            network = with_feedback(network, Projection(LOSS, name, 1.0, Dense(), port="feedback", delay=0))
        return in_two_passes(network, tuple(projection.name for projection in taught), start)


def in_two_passes(network: Network, taught: tuple[str, ...], start: str) -> Network:
    """`network` whose samples are shown clean, then perturbed, when only `taught` projections learn (and those of other
    such rules); it is tested without noise.

    The perturbed pass starts from the activity that the clean one began with ("trial") or ended with ("carried").
    """
    own = next((stage for stage in network.trial if stage.name == PERTURBED), None)
    before = own.learn if own is not None and isinstance(own.learn, tuple) else ()
    names = tuple(dict.fromkeys((*before, *taught)))
    passes = Stage(CLEAN, noise=False), Stage(PERTURBED, learn=names, start=start)
    if own is not None and own.start == start:  # another layer's perturbation: the same passes serve both
        network = replace(network, trial=passes)
    return network.with_trial(passes, Stage("test", learn=False, teach=False, noise=False))
