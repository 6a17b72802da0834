"""The BCM rule: a threshold that slides with the neuron's own mean activity decides between growth and loss.

    dw_ij = lr (z_i (z_i - theta_i) x_j - decay w_ij),     theta_i = m_i (m_i / z_0)^power

z is the activity of the post neuron, m its running mean with `tau` ms (decayed to now, without this step), one for each
row of the batch; it is activity, so it lives as long as activity is carried on (`settings.carry=true`).

E. L. Bienenstock, L. N. Cooper, P. W. Munro, J. Neuroscience 2 (1982), doi 10.1523/JNEUROSCI.02-01-00032.1982.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.factor import Apply, One, Trace, post
from neurosim.network import Network, Projection
from neurosim.rule import Component, OfWeight, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import positive
from neurosim.vocabulary import max, power

from .activity import activity
from .delta import pre_factor
from .readout import taught, with_readout


def sliding(z: Any, mean: Any, z_0: float, exponent: float) -> Any:
    """z (z - theta), theta = mean (mean / z_0)^exponent, 0 for a mean below 0."""
    above = max(mean, 0.0)
    return z * (z - above * power(above / z_0, exponent))


def lost(w: Any, decay: float) -> Any:
    """-decay w."""
    return -decay * w


@dataclass(frozen=True)
class BCM:
    """See the module. `lr`; `tau` (ms) of the mean activity; `z_0` > 0, the activity at which theta equals the mean;
    `power` > 0; `decay` of the weights, relative to `lr`. `tau_trace` (ms) of the rate traces of spikes. `when`,
    `accumulate` and `reduce` as in `ThreeFactorRule`; `output` delta | same | none: what the output layer learns by
    (the delta rule with `lr_output`). Biases stay as they are.
    """

    lr: float = 1e-3
    tau: float = 1000.0
    z_0: float = 1.0
    power: float = 1.0
    decay: float = 0.0
    tau_trace: float = 20.0
    when: str = "phase"
    accumulate: str = "last"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        z = activity(network, projection, self.tau_trace)
        mean = Trace(post(network[projection.post].axon), positive(self.tau, "tau"), "mean", "before")
        constants = (float(positive(self.z_0, "z_0")), float(positive(self.power, "power")))
        growth = Term(Apply(sliding, (z, mean), constants), pre_factor(network, projection, self.tau_trace))
        loss = Term(One("post"), One("pre"), OfWeight(lost, (float(positive(self.decay, "decay", zero=True)),)))
        return ThreeFactorRule(
            (Component((growth,) if self.decay == 0 else (growth, loss)),),
            accumulate=self.accumulate,
            when=self.when,
            reduce=self.reduce,
            transforms=(Rate(self.lr),),
            bias_transforms=(Rate(0.0),),
            name="bcm",
        )

    def __call__(self, network: Network) -> Network:
        names = tuple(p.name for p in taught(network, self.layers, self.output))
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_trace)
