"""A null: the third factor of every hidden layer's rule, dealt to random neurons (`rule=biohsic+shuffled`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurosim.modulator import Shuffled as ShuffledModulator
from neurosim.network import Network
from neurosim.scheme import change_rules


@dataclass(frozen=True)
class Shuffled:
    """Permute the third factor over the neurons of each hidden population, anew in every step.

    The output layer is left alone.
    """

    layers: tuple[str, ...] | None = None

    def __call__(self, network: Network) -> Network:
        return change_rules(
            network,
            lambda p, rule: (
                rule
                if p.post == network.output or (self.layers is not None and p.name not in self.layers)
                else replace(rule, modulator=ShuffledModulator(rule.modulator))
            ),
        )
