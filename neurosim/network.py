"""Description of a network: populations and projections. Frozen values; no device, no `dt`, no state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from neurosim.connectivity import AveragePool, Conv2d, Dense, MaxPool, OneToOne
from neurosim.lateral import Pullback
from neurosim.neuron import Neuron, Relay
from neurosim.random import LecunNormal
from neurosim.rule import GradientRule, OfWeight, ThreeFactorRule
from neurosim.stage import TEST, TRAIN, Stage
from neurosim.types import ConfigurationError


@dataclass(frozen=True, eq=False)
class Population:
    """`size` neurons of one kind, or a `shape` (channels, height, width) of them.

    `lateral` is a vector step over the axon output; `initial` overrides the start value of states (number, array,
    distribution).
    """

    name: str
    size: int | tuple[int, ...]
    neuron: Neuron
    lateral: Any = None
    initial: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name, "population")
        _check_part(self.neuron, "step", f"the neuron of population {self.name!r}", "LIF(tau_mem=20.0)")
        if not all(isinstance(length, int | np.integer) and length > 0 for length in self.shape):
            raise ConfigurationError(
                f"population {self.name!r} has size {self.size}; it must be positive whole numbers"
            )
        unknown = set(self.initial) - set(self.neuron.states)
        if unknown:
            states = ", ".join(self.neuron.states) or "none"
            raise ConfigurationError(
                f"population {self.name!r} starts {', '.join(sorted(unknown))}, but its neuron's states are: {states}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,) if isinstance(self.size, int | np.integer) else tuple(self.size)

    @property
    def units(self) -> int:
        return math.prod(map(int, self.shape))

    @property
    def axon(self) -> str:
        """The output that leaves by the axon."""
        return self.neuron.outputs[0]

    def fields(self) -> tuple[str, ...]:
        """All names a rule or a probe may read here."""
        neuron = self.neuron
        return tuple(dict.fromkeys((*neuron.outputs, *neuron.states, *neuron.ports, *neuron.teaching)))


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from `pre` to the port `port` of `post`.

    `weight`: a number, an array (`[P, Q]`, `[N]`, `[E]`, `[out, in, k, k]`) or a distribution. `delay` in ms: None is
    one step, 0 needs a driving graph without a cycle of zero delays; a number, an array `[P, Q]` or `[E]`, or a
    distribution (rounded to steps, at least one). `dendritic_delay` in ms makes rules read post factors late. `bias`
    False, True (starts at 0), a number or a distribution. `output` names the field sent (None: the axon's).
    `tied=(projection, "transpose" | "sign")` makes this the feedback of another projection: the weight is its
    transpose, or |weight| sign(transpose).
    `release` is a short-term plasticity model. `rule` is what changes the weight. `transfer`, an `OfWeight`, makes a
    synapse of weight w deliver fn(w) pre. Arrays may have a first axis for replicas.
    """

    pre: str
    post: str
    weight: Any = 1.0
    connectivity: Any = Dense()
    port: str | None = None
    output: str | None = None
    delay: Any = None
    dendritic_delay: float = 0.0
    bias: Any = False
    tied: tuple[str, str] | None = None
    release: Any = None
    rule: Any = None
    name: str = ""
    transfer: OfWeight | None = None

    def __post_init__(self) -> None:
        if not self.name:
            suffix = "" if self.port is None else f"_{self.port}"
            object.__setattr__(self, "name", f"{self.pre}_{self.post}{suffix}")
        _check_name(self.name, "projection")
        _check_part(self.connectivity, "kind", f"the connectivity of projection {self.name!r}", "Dense()")
        if self.rule is not None and not isinstance(self.rule, ThreeFactorRule | GradientRule):
            raise ConfigurationError(
                f"the rule of projection {self.name!r} is a {type(self.rule).__name__}; "
                "allowed: a ThreeFactorRule, a GradientRule or None"
            )
        if self.rule is not None and isinstance(self.connectivity, AveragePool | MaxPool):
            raise ConfigurationError(f"projection {self.name!r} pools with fixed weights, so it cannot have a rule")
        if self.tied is not None and self.tied[1] not in ("transpose", "sign"):
            raise ConfigurationError(f"projection {self.name!r} is tied by {self.tied[1]!r}; allowed: transpose, sign")
        if self.tied is not None and self.rule is not None:
            raise ConfigurationError(
                f"projection {self.name!r} is tied to {self.tied[0]!r}, so it cannot have a rule of its own"
            )
        if self.tied is not None and self.transfer is not None:
            raise ConfigurationError(
                f"projection {self.name!r} is tied to {self.tied[0]!r}, so it cannot have a transfer of its own"
            )

    @property
    def combine(self) -> str:
        """How what arrives along several synapses is joined: "sum" or "max"."""
        return getattr(self.connectivity, "combine", "sum")


@dataclass(frozen=True, eq=False)
class Network:
    """Populations joined by projections. Raises ConfigurationError, naming the part, if they do not fit together.

    `input` and `output` name the populations a task drives and reads. `trial` says how a training sample is shown,
    stage by stage (two-pass rules, a sleep phase), and `test` how an example is evaluated; a scheme may change both
    (`with_trial`).
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    input: str = "input"
    output: str = "output"
    trial: tuple[Stage, ...] = (TRAIN,)
    test: Stage = TEST

    def __post_init__(self) -> None:
        object.__setattr__(self, "populations", tuple(self.populations))
        object.__setattr__(self, "projections", tuple(self.projections))
        _unique((population.name for population in self.populations), "population")
        _unique((projection.name for projection in self.projections), "projection")
        for projection in self.projections:
            self._check(projection)
        for population in self.populations:
            self._check_lateral(population)
        plastic = tuple(projection.name for projection in self.projections if projection.rule is not None)
        object.__setattr__(self, "trial", tuple(stage.among(plastic) for stage in self.trial))
        _unique((stage.name for stage in self.trial), "stage")
        if not self.trial or self.test.learn or self.test.steps is not None:
            raise ConfigurationError(
                "a trial needs at least one stage; the test stage does not learn and has the steps of the presentation"
            )
        for stage in (*self.trial, self.test):
            for name in stage.named():
                self.projection(name)

    def __getitem__(self, name: str) -> Population:
        for population in self.populations:
            if population.name == name:
                return population
        raise ConfigurationError(
            f"no population {name!r}; the network has: {', '.join(p.name for p in self.populations)}"
        )

    def projection(self, name: str) -> Projection:
        for projection in self.projections:
            if projection.name == name:
                return projection
        raise ConfigurationError(
            f"no projection {name!r}; the network has: {', '.join(p.name for p in self.projections)}"
        )

    def has(self, name: str) -> bool:
        """Is there a population `name`?"""
        return any(population.name == name for population in self.populations)

    def port(self, projection: Projection) -> str:
        """The port a projection ends at (its post neuron's first one by default)."""
        ports = self[projection.post].neuron.ports
        if projection.port is None and not ports:
            raise ConfigurationError(
                f"projection {projection.name!r} ends at {projection.post!r}, whose neuron has no port"
            )
        return ports[0] if projection.port is None else projection.port

    def is_driving(self, projection: Projection) -> bool:
        return self.port(projection) in self[projection.post].neuron.ports

    def sent(self, projection: Projection) -> str:
        """The field of the pre population that a projection sends."""
        return self[projection.pre].axon if projection.output is None else projection.output

    def with_parts(self, populations: Iterable[Population] = (), projections: Iterable[Projection] = ()) -> Network:
        """This network with more parts; a population or projection that is already there by name is left alone."""
        new = [part for part in populations if not self.has(part.name)]
        known = {part.name for part in self.projections}
        wires = [part for part in projections if part.name not in known]
        return replace(self, populations=(*self.populations, *new), projections=(*self.projections, *wires))

    def with_trial(self, trial: tuple[Stage, ...], test: Stage = TEST) -> Network:
        """This network with samples shown as `trial` and evaluated as `test`.

        ConfigurationError if another scheme has changed that already, and differently.
        """
        own, wanted = (self.trial, self.test), (tuple(trial), test)
        if own not in (wanted, ((TRAIN,), TEST)):
            raise ConfigurationError(
                f"one rule shows a sample as {_told(self.trial)}, another as {_told(trial)}; "
                "a network has one kind of trial"
            )
        return replace(self, trial=wanted[0], test=wanted[1])

    def with_projections(self, change: Callable[[Projection], Projection]) -> Network:
        """This network with `change(projection)` in place of every projection."""
        return replace(self, projections=tuple(change(projection) for projection in self.projections))

    def forward(self) -> tuple[Projection, ...]:
        """The projections on driving paths from the input to the output population, from the input on.

        What leads back from the output (a controller) is not on the way.
        """
        reach = _reachable(self, self.input, lambda p: (p.pre, p.post), end=self.output)
        needed = _reachable(self, self.output, lambda p: (p.post, p.pre))
        wanted = reach & needed
        chosen = [p for p in self.projections if self.is_driving(p) and p.pre in wanted and p.post in wanted]
        depth = {self.input: 0}
        for _ in self.populations:
            for p in chosen:
                if p.pre in depth and p.post not in depth:
                    depth[p.post] = depth[p.pre] + 1
        return tuple(sorted(chosen, key=lambda p: (depth.get(p.post, 0), depth.get(p.pre, 0))))

    def _check(self, projection: Projection) -> None:
        pre, post = self[projection.pre], self[projection.post]
        port = self.port(projection)
        allowed = (*post.neuron.ports, *post.neuron.teaching)
        if port not in allowed:
            raise ConfigurationError(
                f"projection {projection.name!r} ends at port {port!r}; {post.name!r} has: {', '.join(allowed)}"
            )
        if self.sent(projection) not in pre.fields():
            raise ConfigurationError(
                f"projection {projection.name!r} sends {self.sent(projection)!r}; "
                f"{pre.name!r} has: {', '.join(pre.fields())}"
            )
        if isinstance(projection.connectivity, OneToOne) and pre.units != post.units:
            raise ConfigurationError(
                f"projection {projection.name!r} is one-to-one, but joins {pre.units} with {post.units} neurons"
            )
        if isinstance(projection.connectivity, Conv2d):
            expected = projection.connectivity.output_shape(pre.shape, post.shape[0])
            if post.shape != expected:
                raise ConfigurationError(
                    f"projection {projection.name!r} gives shape {expected}, but {post.name!r} has shape {post.shape}"
                )
        if isinstance(projection.connectivity, AveragePool | MaxPool):
            projection.connectivity.pool_edges(pre.shape, post.shape)
        if projection.combine == "max":
            for other in self.projections:
                if (other.post, self.port(other)) == (projection.post, port) and other.combine != "max":
                    raise ConfigurationError(
                        f"port {port!r} of {post.name!r} takes the maximum of projection {projection.name!r}, "
                        f"so {other.name!r}, which adds, cannot end there too"
                    )
        if projection.tied is not None and self.projection(projection.tied[0]).tied is not None:
            raise ConfigurationError(
                f"projection {projection.name!r} is tied to {projection.tied[0]!r}, "
                "which is tied itself; tie it to the source"
            )

    def _check_lateral(self, population: Population) -> None:
        source = lateral_source(population)
        if source is not None and self[source].shape != population.shape:
            raise ConfigurationError(
                f"population {population.name!r} pulls back through {source!r}, "
                f"but their shapes are {population.shape} and {self[source].shape}"
            )


def _told(trial: Iterable[Stage]) -> str:
    return ", then ".join(f"{stage.name} ({stage.start})" for stage in trial)


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or not name.replace("_", "").isalnum():
        raise ConfigurationError(f"a {what} is named {name!r}; a name has letters, digits and _ only")


def _check_part(value: Any, mark: str, what: str, example: str) -> None:
    """`value` must be an object made of a class that has `mark`: neither a word nor the class itself."""
    if isinstance(value, type) or not hasattr(value, mark):
        shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise ConfigurationError(f"{what} is {shown}; it must be an object, as in {example}")


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigurationError(f"two {what}s are named {name!r}; names must differ")
        seen.add(name)


def _reachable(
    network: Network, start: str, ends: Callable[[Projection], tuple[str, str]], end: str | None = None
) -> set[str]:
    """All populations on driving paths from `start`; a path does not go on behind `end`."""
    found, frontier = {start}, [start]
    while frontier:
        here = frontier.pop()
        for projection in network.projections if here != end else ():
            source, target = ends(projection)
            if network.is_driving(projection) and source == here and target not in found:
                found.add(target)
                frontier.append(target)
    return found


@dataclass(frozen=True)
class Layered:
    """A feed-forward network: input -> hidden0 -> hidden1 ... -> output, dense, with zero delay.

    `hidden` lists the sizes; `neuron` and `lateral` are those of the hidden layers, `output_neuron` of the last;
    `input_neuron` relays what the encoder gives (None: a `Relay`, or in an `Experiment` a `SpikeRelay` where the
    encoder makes spikes). Called with the number of inputs and outputs, it returns the Network.
    """

    neuron: Neuron
    output_neuron: Neuron
    hidden: tuple[int, ...] = (10, 4)
    input_neuron: Neuron | None = None
    lateral: Any = None
    weight: Any = LecunNormal()
    output_weight: Any = None
    bias: bool = True
    port: str | None = None
    delay: float | None = 0.0

    def __call__(self, inputs: int, outputs: int) -> Network:
        names = ["input", *(f"hidden{index}" for index in range(len(self.hidden))), "output"]
        populations = [Population("input", inputs, Relay() if self.input_neuron is None else self.input_neuron)]
        for name, size in zip(names[1:-1], self.hidden, strict=True):
            populations.append(Population(name, size, self.neuron, self.lateral))
        populations.append(Population("output", outputs, self.output_neuron))
        projections = []
        for pre, post in pairwise(names):
            weight = self.weight if post != "output" or self.output_weight is None else self.output_weight
            port = self.port if post != "output" else None
            projections.append(
                Projection(pre, post, weight, port=port, delay=self.delay, bias=self.bias, name=f"{pre}_{post}")
            )
        return Network(tuple(populations), tuple(projections))


def lateral_source(population: Population) -> str | None:
    """The population whose lateral this one pulls back through, if any."""
    return population.lateral.of if isinstance(population.lateral, Pullback) else None
