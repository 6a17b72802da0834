"""FORCE learning: the readout of a reservoir by recursive least squares (Sussillo, Abbott 2009). Not local.

    dw_ij = error_i sum_l P_jl r_l,      error = target - output,
    P <- P - P r r^T P / (1 + r^T P r),      P = I / alpha at the start,

with r the activity of the reservoir as it arrives and P as it is after its update. The first step already brings the
error down to a small part of itself, and what is fed back into the reservoir is near the target from then on, which
keeps its activity tame. P has a number for every pair of inputs of a neuron: a synapse would need to know what arrives
at all others, and the certificate rejects the rule for that. The local rules beside it are least_mean_squares and
reward_modulated_hebb.

D. Sussillo, L. F. Abbott, "Generating coherent patterns of activity from chaotic neural networks", Neuron 63 (2009),
doi 10.1016/j.neuron.2009.07.018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.factor import One, post
from neurosim.modulator import RecursiveLeastSquares
from neurosim.network import Network, Projection
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach, split
from neurosim.types import ConfigurationError
from neurosim.wiring import with_error

from .delta import pre_factor, readout_field


@dataclass(frozen=True)
class Force:
    """See the module. The projections to the output learn, all others stay as they are; a bias of the output, too.

    `alpha`: the smaller, the faster (of the size of the sum of squares of a few steps' activity; the paper has 1 to
    100); `every`: learn at every so many steps; `tau_trace` (ms): spikes are read out by their low-pass trace; `loss`
    mse | cross_entropy.
    """

    alpha: float = 1.0
    every: int = 1
    tau_trace: float = 20.0
    loss: str = "mse"
    layers: tuple[str, ...] | None = None

    local: ClassVar[bool] = False

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        """The rule of one projection; ConfigurationError unless it is dense."""
        if projection.connectivity.kind != "dense":
            raise ConfigurationError(
                f"force needs a dense readout: P has a row for every input, but projection {projection.name!r} is "
                f"{projection.connectivity.kind}"
            )
        arriving = pre_factor(network, projection, self.tau_trace)
        return ThreeFactorRule(
            (Component((Term(One("post"), One("pre")),)),),
            RecursiveLeastSquares(post("feedback"), arriving, self.alpha, self.every),
            reduce="sum",
            name="force",
        )

    def __call__(self, network: Network) -> Network:
        _, outputs = split(network, self.layers)
        network = with_error(network, self.loss, output=readout_field(network))
        return attach(network, tuple(p.name for p in outputs), lambda p: self.rule(network, p))
