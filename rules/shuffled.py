"""A null: the third factor of every hidden layer's rule, dealt to random neurons (`rule=biohsic+shuffled`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurosim.modulator import Shuffled as ShuffledModulator
from neurosim.network import Network, Projection
from neurosim.rule import ThreeFactorRule
from neurosim.scheme import change_rules
from neurosim.types import ConfigurationError


@dataclass(frozen=True)
class Shuffled:
    """Permute the third factor over the neurons of each hidden population, anew in every step.

    The output layer is left alone.
    """

    layers: tuple[str, ...] | None = None

    def __call__(self, network: Network) -> Network:
        dealt = [p for p in network.projections if isinstance(p.rule, ThreeFactorRule) and self._deals(network, p)]
        if dealt and all(p.rule.modulator.scope == "none" for p in dealt):
            names = " and ".join(dict.fromkeys(p.rule.name for p in dealt))
            raise ConfigurationError(
                f"shuffled deals the third factor of hidden layers to other neurons, but {names} has none: nothing "
                "would be shuffled, and the null would be the rule itself"
            )
        return change_rules(
            network,
            lambda p, rule: (
                replace(rule, modulator=ShuffledModulator(rule.modulator)) if self._deals(network, p) else rule
            ),
        )

    def _deals(self, network: Network, projection: Projection) -> bool:
        return projection.post != network.output and (self.layers is None or projection.name in self.layers)
