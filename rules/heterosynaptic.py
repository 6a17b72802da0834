"""Heterosynaptic coupling: neighbouring synapses of a neuron share their change (`rule=biohsic+heterosynaptic`).

    change <- H^-1 change,    H = (1 - alpha) I + alpha 1 1^T    on each block of inputs of one post-synaptic neuron

(see `neurosim.transform.Heterosynaptic`), put before the other transforms of every three-factor rule. The grouping
"flat" is that of the code which the coupling comes from; its blocks may reach across two neurons, so it is not local.

C. Kümpel, I. Amaya 2025, github.com/clarakuempel/HeterosynapticLearning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurosim.network import Network, Projection
from neurosim.rule import ThreeFactorRule
from neurosim.scheme import change_rules
from neurosim.transform import Heterosynaptic as HeterosynapticTransform


@dataclass(frozen=True)
class Heterosynaptic:
    """Couple the synapses of every rule in blocks of `block`, with strength `alpha`.

    -1 / (block - 1) < alpha < 1; 0 is no coupling, below 0 synapses help each other. `grouping` row | permuted (by
    `seed`: the control for neighbourhood) | flat; `normalise` none | trace | norm, so that alpha is no learning rate.
    """

    alpha: float = 0.2
    block: int = 4
    grouping: str = "row"
    normalise: str = "none"
    seed: int = 0
    layers: tuple[str, ...] | None = None

    def _coupled(self, projection: Projection, rule: ThreeFactorRule) -> ThreeFactorRule:
        if self.layers is not None and projection.name not in self.layers:
            return rule
        coupling = HeterosynapticTransform(self.alpha, self.block, self.grouping, self.normalise, self.seed)
        # A bias has no neighbours: it keeps the transforms it had.
        return replace(
            rule,
            transforms=(coupling, *rule.transforms),
            bias_transforms=rule.transforms if rule.bias_transforms is None else rule.bias_transforms,
        )

    def __call__(self, network: Network) -> Network:
        return change_rules(network, self._coupled)
