"""Back-propagation through time with a surrogate gradient (Neftci, Mostafa, Zenke 2019): the non-local baseline for
spikes.

    dw = -lr * dLoss / dw

by automatic differentiation through all steps of a presentation; the spike's derivative is that of a surrogate, chosen
by the name it has in snnTorch (fast_sigmoid, atan, sigmoid, triangular, straight_through_estimator, ...). The loss is
that of the decoded output: on the command line by the run's own decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from neurosim.adapter import Mean
from neurosim.network import Network, Population
from neurosim.rule import GradientRule
from neurosim.scheme import attach, chosen
from neurosim.surrogate import surrogate
from neurosim.transform import optimizer


@dataclass(frozen=True)
class BPTT:
    """See the module. `surrogate` by name, None: the neuron's own. `lr`, `optimizer` none | momentum | adam | adamw
    with `beta1`, `beta2`, `weight_decay`; the loss `loss` cross_entropy | mse is of what `decoder` (`neurosim.adapter`)
    makes of the output of all steps.
    """

    lr: float = 1e-3
    surrogate: str | None = "fast_sigmoid"
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-4
    loss: str = "cross_entropy"
    decoder: Any = Mean()
    layers: tuple[str, ...] | None = None

    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.surrogate is not None:
            surrogate(self.surrogate)  # a wrong name is told even where nothing spikes

    def _population(self, population: Population) -> Population:
        neuron: Any = population.neuron
        if self.surrogate is None or neuron.surrogate is None:
            return population
        return replace(population, neuron=replace(neuron, surrogate=surrogate(self.surrogate)))

    def __call__(self, network: Network) -> Network:
        taught = tuple(p.name for p in chosen(network, self.layers))
        transforms = optimizer(
            self.optimizer, self.lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay
        )
        rule = GradientRule(self.decoder, self.loss, output=network.output, transforms=transforms, name="bptt")
        spiking = replace(network, populations=tuple(self._population(p) for p in network.populations))
        return attach(spiking, taught, lambda p: rule)
