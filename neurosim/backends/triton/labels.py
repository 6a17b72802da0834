"""What a phase reads and makes, by label: "population.field", and "population.field~..." for traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neurosim.backends.moment import label
from neurosim.backends.needs import CONSTANT, leaves, released_by
from neurosim.backends.resolve import Synapses
from neurosim.backends.tape import Tape
from neurosim.phase import Phase
from neurosim.rule import ThreeFactorRule

if TYPE_CHECKING:
    from neurosim.backends.triton.simulator import Triton


class Labels:
    """`drives` by port, in order; labels that are `shown` to other operations than their own; driven ports that are
    `fed` through a buffer; ports that are `filled`; all labels that are `made`.
    """

    def __init__(self, simulator: Triton, phase: Phase, tape: Tape):
        self.simulator, self.plan, self.phase, self.tape = simulator, simulator.plan, phase, tape
        self.drives = self._drives()
        self.shown = set(self._shown())
        self.fed = self._fed()
        self.filled = {f"{s.post.name}.{s.port}" for s in self._active()} | self.fed
        self.made = self._made()

    def _active(self) -> Iterator[Synapses]:
        silent = self.phase.silent
        return (synapses for synapses in self.plan.synapses.values() if synapses.name not in silent)

    def _drives(self) -> dict[str, list[str]]:
        """Port label -> names of the drives that are added to it, in order."""
        drives: dict[str, list[str]] = {}
        places: dict[str, int] = {}
        for target in self.phase.drive:
            name, _, port = target.partition(".")
            place = places[name] = places.get(name, -1) + 1
            port = port or self.plan.network[name].neuron.ports[0]
            drives.setdefault(f"{name}.{port}", []).append(f"{name}#{place}")
        return drives

    def _fed(self) -> set[str]:
        """Driven ports that something else than the population's step reads: the drive goes by way of the buffer."""
        read = {f"{p.name}.{port}" for p in self.plan.network.populations for port in p.neuron.ports}
        return {port for port in self.drives if port not in read or port in self.shown}

    def _shown(self) -> Iterator[str]:
        """Labels that have to be there for something other than the step that makes them or takes them in."""
        yield from self.simulator.memories
        for synapses in self._active():
            released = synapses.projection.release is not None
            yield f"{released_by(synapses.name)}.released" if released else f"{synapses.pre.name}.{synapses.sent}"
        for synapses, rule in self.simulator.learning.local:
            yield from self.read_by(synapses, rule)
        for probe in self.tape.probes:
            if self.plan.network.has(probe.target):
                yield probe.key
        for population in self.plan.network.populations:
            if population.lateral is not None:
                axon = f"{population.name}.{population.axon}"
                yield from (axon, f"{axon}|raw")
        for source, _, _, _ in self.simulator.filters:
            if not self.within(source):
                yield source

    @staticmethod
    def read_by(synapses: Synapses, rule: ThreeFactorRule) -> Iterator[str]:
        """Labels that a rule reads."""
        for end, factors in ((synapses.post, rule.post_factors()), (synapses.pre, rule.pre_factors())):
            yield from (label(end.name, leaf) for factor in factors for leaf in leaves(factor))
        if synapses.has_bias:
            yield from (label(CONSTANT, leaf) for factor in rule.pre_factors() for leaf in leaves(factor))

    def within(self, source: str) -> bool:
        """Is a label made by the step of its population (and not behind a lateral, nor taught)?"""
        name, _, field = source.partition(".")
        field = field.split("~")[0]
        if not self.plan.network.has(name):
            return False
        population = self.plan.network[name]
        behind = population.lateral is not None and field == population.axon
        return not behind and field not in population.neuron.teaching

    def units(self, name: str) -> int:
        """Units of a label."""
        owner = name.split(".")[0]
        if owner.startswith("release/"):
            return self.plan.synapses[owner.removeprefix("release/")].pre.units
        return self.plan.network[owner].units if owner != CONSTANT else 1

    def _made(self) -> set[str]:
        """Labels that are made in this phase."""
        made = set(self.filled)
        for population in self.plan.network.populations:
            neuron = population.neuron
            made |= {f"{population.name}.{field}" for field in (*neuron.states, *neuron.outputs)}
            if population.lateral is not None:
                made.add(f"{population.name}.{population.axon}|raw")
        made |= {own for _, own, _, _ in self.simulator.filters}
        return made | {f"{released_by(name)}.released" for name in self.simulator.releases}
