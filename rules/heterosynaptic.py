"""Heterosynaptic coupling: neighbouring synapses of a neuron share their change (`rule=biohsic+heterosynaptic`).

    change <- H^-1 change,    H = (1 - alpha) I + alpha 1 1^T  on blocks of consecutive inputs of one post-synaptic
    neuron

(see `neurosim.transform.Heterosynaptic`), put before the other transforms of every three-factor rule.
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

    -1 / (block - 1) < alpha < 1; 0 is no coupling.
    """

    alpha: float = 0.2
    block: int = 4
    layers: tuple[str, ...] | None = None

    def _coupled(self, projection: Projection, rule: ThreeFactorRule) -> ThreeFactorRule:
        if self.layers is not None and projection.name not in self.layers:
            return rule
        # A bias has no neighbours: it keeps the transforms it had.
        return replace(
            rule,
            transforms=(HeterosynapticTransform(self.alpha, self.block), *rule.transforms),
            bias_transforms=rule.transforms if rule.bias_transforms is None else rule.bias_transforms,
        )

    def __call__(self, network: Network) -> Network:
        return change_rules(network, self._coupled)
