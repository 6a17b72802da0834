"""Weight perturbation (Jabri, Flower 1992; Cauwenberghs 1993): every weight is jittered at once, and the loss tells.

    dw_ij = lr / sd^2 (L(w) - L(w + psi)) psi_ij,      psi_ij ~ N(0, sd^2), held for the second of two passes

Its mean is -lr dL/dw for small sd. The noise of all other weights is in the difference too, so its variance grows with
the number of weights: with g = dL/dw it is lr^2 (g_ij^2 + sum g^2) for a linear network, against the number of neurons
for node perturbation (Werfel, Xie, Seung 2005). All rows of a batch share psi.

M. Jabri, B. Flower, "Weight perturbation: an optimal architecture and learning technique for analog VLSI feedforward
and recurrent multilayer networks", IEEE Trans. Neural Netw. 3 (1992), doi 10.1109/72.105429. J. Werfel, X. Xie, H. S.
Seung, "Learning curves for stochastic gradient descent in linear feedforward networks", Neural Computation 17 (2005),
doi 10.1162/089976605774320539.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.factor import One
from neurosim.network import Network
from neurosim.rule import SynapseNoise, Term
from neurosim.scheme import attach, chosen

from .perturbation import Perturbation


@dataclass(frozen=True)
class WeightPerturbation(Perturbation):
    """See the module; the parameters are those of `Perturbation`, with `sd` in units of the weights and biases."""

    title: ClassVar[str] = "weight_perturbation"

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        term = Term(One("post"), One("pre"), SynapseNoise(self.sd))
        return attach(self.wired(network, taught), tuple(p.name for p in taught), lambda p: self.rule(term))
