"""Node perturbation (Widrow, Lehr 1990; Werfel, Xie, Seung 2005): every neuron is jittered at once, and the loss tells.

    dw_ij = lr / sd^2 (L - L') xi_i x'_j,      xi_i ~ N(0, sd^2), held for the second of two passes

x' is what arrives in the second pass. With xi before the non-linearity (added to the drive) the mean is -lr dL/dw for
small sd. Added after it, to the rate, as the course on microlearning of Neuromatch has it (2024), xi knows nothing of
the slope: the mean is -lr dL/drate_i x_j, which is the gradient for linear neurons only. With `share="deviation"` the
neuron cannot tell its own noise from what the noise of others does to it, and xi_i is replaced by its output less that
of the clean pass (the course, too): exact in the first layer, biased above it.

B. Widrow, M. A. Lehr, "30 years of adaptive neural networks", Proc. IEEE 78 (1990), doi 10.1109/5.58323. J. Werfel,
X. Xie, H. S. Seung, "Learning curves for stochastic gradient descent in linear feedforward networks", Neural
Computation 17 (2005), doi 10.1162/089976605774320539.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from neurosim.factor import post
from neurosim.network import Network, Population
from neurosim.neuron import Perturbed
from neurosim.rule import Term
from neurosim.scheme import attach, chosen
from neurosim.types import ConfigurationError, choice

from .delta import pre_factor
from .perturbation import Perturbation

SHARES = ("noise", "deviation")


@dataclass(frozen=True)
class NodePerturbation(Perturbation):
    """See the module. `where` before | after the non-linearity; `share` noise | deviation; `tau_trace` (ms) of the
    pre-synaptic rate trace on spiking networks; the other parameters are those of `Perturbation`, with `sd` in units of
    the drive ("before") or of the rate ("after").
    """

    where: str = "before"
    share: str = "noise"
    tau_trace: float = 20.0

    title: ClassVar[str] = "node_perturbation"

    def _perturbed(self, population: Population) -> Population:
        wanted: Any = population.neuron
        if isinstance(wanted, Perturbed):
            wanted = wanted.neuron
        wanted = Perturbed(wanted, self.sd, self.where)
        if isinstance(population.neuron, Perturbed) and population.neuron != wanted:
            raise ConfigurationError(
                f"population {population.name!r} is already perturbed, with other noise: sd {population.neuron.sd}, "
                f"{population.neuron.where} the non-linearity"
            )
        return replace(population, neuron=wanted)

    def __call__(self, network: Network) -> Network:
        choice(self.share, SHARES, "share")
        taught = chosen(network, self.layers)
        posts = {projection.post for projection in taught}
        # The clean output is a memory of the neuron: it must outlive the clean pass.
        network = self.wired(network, taught, "trial" if self.share == "noise" else "carried")
        network = replace(
            network, populations=tuple(self._perturbed(p) if p.name in posts else p for p in network.populations)
        )
        return attach(
            network,
            tuple(p.name for p in taught),
            lambda p: self.rule(Term(post(self.share), pre_factor(network, p, self.tau_trace))),
        )
