"""Oja's rule: Hebb's with a decay that holds the weights on the unit sphere (Oja 1982).

    form "neuron"     dw_ij = lr z_i (x_j - z_i w_ij)              each neuron finds the first principal component
    form "subspace"   dw_ij = lr z_i (x_j - sum_k z_k w_kj)        the layer finds the principal subspace (Oja 1989)

The second one subtracts from x what the whole layer can reconstruct of it: a projection with the transposed weights
back to the port `feedback` of the pre neurons. It needs other neurons' weights, so it is not local.

E. Oja, J. Math. Biology 15 (1982), doi 10.1007/BF00275687; Int. J. Neural Systems 1 (1989), doi
10.1142/S0129065789000475.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.factor import Apply, Factor, One, pre
from neurosim.network import Network, Projection
from neurosim.rule import Component, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import ConfigurationError, choice

from .activity import activity, rates
from .competition import itself
from .delta import pre_factor
from .readout import taught, with_readout


def less_square(z: Any) -> Any:
    """-z^2."""
    return -z * z


def reconstruction(projection: Projection) -> Projection:
    """The transposed weights of `projection`, from its post to its pre population."""
    if projection.delay != 0:
        raise ConfigurationError(f"projection {projection.name!r} has a delay; Oja's subspace rule needs delay 0")
    wire = {
        "port": "feedback",
        "tied": (projection.name, "transpose"),
        "delay": 0,
        "name": f"reconstruction_{projection.name}",
    }
    return Projection(projection.post, projection.pre, **wire)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Oja:
    """See the module. `lr`, one number or one for each layer taught, from the input on; `form` neuron | subspace (on
    rate neurons). `tau_trace` (ms) of the rate traces of spikes. `when`, `accumulate` and `reduce` as in
    `ThreeFactorRule`; `output` delta | same | none: what the output layer learns by (the delta rule with
    `lr_output`). "subspace" leaves biases as they are.
    """

    lr: float | tuple[float, ...] = 1e-3
    form: str = "neuron"
    tau_trace: float = 20.0
    when: str = "phase"
    accumulate: str = "last"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def decay(self, network: Network, projection: Projection, z: Factor) -> Term:
        if self.form == "neuron":
            return Term(Apply(less_square, (z,)), One("pre"), OfWeight(itself))
        if network[projection.post].axon == "spike":
            raise ConfigurationError(f"Oja's subspace rule is for rate neurons; {projection.post!r} sends 'spike'")
        return Term(z, pre("feedback"), PerSynapse(-1.0))

    def rule(self, network: Network, projection: Projection, lr: float) -> ThreeFactorRule:
        z = activity(network, projection, self.tau_trace)
        growth = Term(z, pre_factor(network, projection, self.tau_trace))
        return ThreeFactorRule(
            (Component((growth, self.decay(network, projection, z))),),
            accumulate=self.accumulate,
            when=self.when,
            reduce=self.reduce,
            transforms=(Rate(lr),),
            bias_transforms=(Rate(lr if self.form == "neuron" else 0.0),),
            name="oja",
        )

    def __call__(self, network: Network) -> Network:
        learning = taught(network, self.layers, self.output)
        lr = rates(self.lr, learning)
        if choice(self.form, ("neuron", "subspace"), "form") == "subspace":
            network = network.with_parts(projections=[reconstruction(projection) for projection in learning])
        network = attach(network, tuple(lr), lambda p: self.rule(network, p, lr[p.name]))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_trace)
