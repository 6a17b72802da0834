"""What of a run goes into its trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neurosim.network import Network
from neurosim.recorder import Probe
from neurosim.rule import OfComponent, ThreeFactorRule
from neurosim.types import ConfigurationError, choice, positive

EPOCHS = ("first_last", "last", "all", "none")
ONLY_LEARNING = ("modulator", "eligibility")  # what there is only while a rule runs


@dataclass(frozen=True)
class Recorded:
    """What is recorded in replica 0, at "first_last" | "last" | "all" | "none" epochs.

    Of the test set: the first `samples`, without learning, after the epoch (epoch 0 is the untrained network). Of the
    training: the first `training` presentations of the epoch (of epoch 1 with "first_last"), as they are learned from;
    a probe changes no number of the run.

    `variables` are "target.field" names, every `every` steps; "projection.modulator" and "projection.eligibility" are
    there in training only. None: the axon of every population on the forward path and plastic weights; in training
    also the modulator of every rule that has one, and, at a presentation's ends, weights and what a rule keeps as
    eligibility.
    """

    samples: int = 20
    epochs: str = "first_last"
    variables: tuple[str, ...] | None = None
    every: int = 1
    training: int = 2

    def __post_init__(self) -> None:
        choice(self.epochs, EPOCHS, "epochs of the probe")
        positive(self.samples, "samples of the probe")
        positive(self.every, "every of the probe")
        positive(self.training, "training of the probe", zero=True)

    def at(self, epoch: int, epochs: int) -> bool:
        """Are test samples recorded after epoch `epoch` of `epochs`?"""
        return {"first_last": epoch in (0, epochs), "last": epoch == epochs, "all": True, "none": False}[self.epochs]

    def presentations(self, epoch: int, epochs: int) -> int:
        """How many training presentations of epoch `epoch` of `epochs` are recorded."""
        first = self.epochs == "first_last" and epoch == 1
        return self.training if epoch > 0 and (first or self.at(epoch, epochs)) else 0

    def probes(self, network: Network) -> tuple[Probe, ...]:
        """The probes of test samples."""
        if self.epochs == "none":
            return ()
        if self.variables is None:
            weights = (Probe(p.name, "weight", every=10**9) for p in network.forward() if p.rule is not None)
            return (*self._activity(network), *weights)
        while_learning = [name for name in self.variables if name.endswith(ONLY_LEARNING)]
        if while_learning and not self.training:
            raise ConfigurationError(
                f"the probe cannot record {while_learning[0]}: it is there while the network learns, and "
                "probe.training is 0; give the number of training presentations to record"
            )
        return tuple(self._named(name) for name in self.variables if name not in while_learning)

    def training_probes(self, network: Network, steps: int) -> tuple[Probe, ...]:
        """The probes of training presentations of `steps` steps."""
        if self.epochs == "none" or not self.training:
            return ()
        if self.variables is not None:
            return tuple(map(self._named, self.variables))
        return (*self._activity(network), *self._learning(network, max(1, steps - 1)))

    def _activity(self, network: Network) -> Iterator[Probe]:
        forward = network.forward()
        for name in dict.fromkeys(name for projection in forward for name in (projection.pre, projection.post)):
            yield Probe(name, network[name].axon, self.every)

    def _learning(self, network: Network, ends: int) -> Iterator[Probe]:
        for projection in network.projections:
            rule = projection.rule
            if rule is not None:
                yield Probe(projection.name, "weight", ends)
            if isinstance(rule, ThreeFactorRule) and rule.modulator.scope != "none":
                yield Probe(projection.name, "modulator", self.every)
            if isinstance(rule, ThreeFactorRule) and keeps_eligibility(rule):
                yield Probe(projection.name, "eligibility", ends)

    def _named(self, name: str) -> Probe:
        target, dot, variable = name.partition(".")
        if not dot or not variable:
            raise ConfigurationError(f'a probe variable is {name!r}; write "population.field" or "projection.weight"')
        return Probe(target, variable, self.every)


def keeps_eligibility(rule: ThreeFactorRule) -> bool:
    """Does a rule carry an eligibility per synapse from step to step?"""
    later = any(isinstance(term.gain, OfComponent) for component in rule.components for term in component.terms)
    return later or any(component.has_memory for component in rule.components)
