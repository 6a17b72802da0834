"""HebbNet: Hebb's rule less what it always says, and only its largest changes (Gupta, Ambikapathi, Ramasamy 2021).

    a_ij(t) = sum_b z_i x_j,        d_ij(t) = lr a_ij(t) - mean of a_ij(1) ... a_ij(t - 1),
    dw_ij = d_ij where it is among the largest, else 0

z is the activity of the post neuron (a ReLU in the paper). The largest are those at or above the `percent`-th
percentile of the projection: of d itself (`by` value, one public reading of the paper) or of |d| (`by` size, the
other one). lr multiplies the first term only, as in the code that the golden vectors come from.

M. Gupta, A. Ambikapathi, S. Ramasamy, "HebbNet: A simplified Hebbian learning framework to do biologically plausible
learning", ICASSP 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.network import Network, Projection
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import LessPast, Rate, Sparsify

from .activity import activity
from .delta import pre_factor
from .readout import taught, with_readout


@dataclass(frozen=True)
class HebbNet:
    """See the module. `lr`; `percent` of the changes that are left out; `by` value | size. `tau_trace` (ms) of the rate
    traces of spikes. `when`, `accumulate` and `reduce` as in `ThreeFactorRule`; `output` delta | same | none: what the
    output layer learns by (the delta rule with `lr_output`). Biases stay as they are.
    """

    lr: float = 1e-3
    percent: float = 70.0
    by: str = "value"
    tau_trace: float = 20.0
    when: str = "phase"
    accumulate: str = "last"
    reduce: str = "sum"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        z, x = activity(network, projection, self.tau_trace), pre_factor(network, projection, self.tau_trace)
        return ThreeFactorRule(
            (Component((Term(z, x),)),),
            accumulate=self.accumulate,
            when=self.when,
            reduce=self.reduce,
            transforms=(LessPast(self.lr), Sparsify(self.percent, self.by)),
            bias_transforms=(Rate(0.0),),
            name="hebbnet",
        )

    def __call__(self, network: Network) -> Network:
        names = tuple(p.name for p in taught(network, self.layers, self.output))
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_trace)
