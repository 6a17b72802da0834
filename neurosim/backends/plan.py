"""What compiling finds out, once, for every backend: order, indices, delays in steps, merged traces, how long to
remember.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosim.backends.needs import Key, check_rules, history, merged_traces
from neurosim.backends.resolve import Synapses, drawn, initial_weight, resolve, resolve_projection
from neurosim.factor import Trace
from neurosim.network import Network, lateral_source
from neurosim.random import Distribution, Stream, check_seed
from neurosim.types import ConfigurationError, Tensor, positive


@dataclass(frozen=True)
class Plan:
    """A compiled network: what every backend reads."""

    network: Network
    dt: float
    seed: int
    replicas: int
    order: tuple[str, ...]  # populations, so that zero-delay driving input comes first
    neurons: dict[str, Any]  # neurons with distributions replaced by arrays [R, N]
    driving: dict[str, tuple[Synapses, ...]]  # by post population
    teaching: tuple[Synapses, ...]
    synapses: dict[str, Synapses]
    traces: tuple[tuple[str, Trace], ...]  # merged, inner ones first
    history: dict[Key, int]  # how many past steps of a value are remembered

    @property
    def replica_ids(self) -> Tensor:
        return torch.arange(self.replicas)

    def plastic(self) -> Iterator[Synapses]:
        """Projections with a rule."""
        return (s for s in self.synapses.values() if s.projection.rule is not None)

    def initial_weight(self, name: str) -> Tensor:
        """Start weight of a projection in float64: `[R, *weight_shape]`, edges `[E]`. Fixed by (seed, projection,
        replica).
        """
        return initial_weight(self.synapses[name], self.seed, self.replicas)

    def initial_bias(self, name: str) -> Tensor:
        """Start bias `[R, units]` in float64."""
        synapses = self.synapses[name]
        value = 0.0 if synapses.projection.bias is True else synapses.projection.bias
        what = f"bias of projection {name!r}"
        stream = Stream(self.seed, f"bias/{name}")
        fan_in = torch.tensor([[synapses.fan_in(replica)] for replica in range(self.replicas)], dtype=torch.float64)
        return resolve(value, stream, (synapses.bias_units,), self.replicas, what, fan_in)

    def initial_state(self, name: str) -> dict[str, Tensor]:
        """Start values `[R, N]` of a population's states in float64."""
        population = self.network[name]
        values = {**self.neurons[name].initial(), **population.initial}
        return {
            state: resolve(
                values.get(state, 0.0),
                Stream(self.seed, f"initial/{name}/{state}"),
                (population.units,),
                self.replicas,
                f"initial {state!r} of population {name!r}",
            )
            for state in self.neurons[name].states
        }


def make_plan(network: Network, dt: float, seed: int, replicas: int) -> Plan:
    """Resolve `network` for a time step `dt` (ms), a `seed` and `replicas` copies."""
    positive(dt, "dt (ms)")
    check_seed(seed)
    if isinstance(replicas, bool) or not isinstance(replicas, int | np.integer) or replicas < 1:
        raise ConfigurationError(f"replicas is {replicas!r}; it must be a whole number of at least 1, or None")
    resolved = {p.name: resolve_projection(network, p, dt, seed, replicas) for p in network.projections}
    driving = {
        p.name: tuple(s for s in resolved.values() if s.driving and s.post.name == p.name) for p in network.populations
    }
    check_rules(network, resolved.values(), replicas)
    plan = Plan(
        network=network,
        dt=dt,
        seed=seed,
        replicas=replicas,
        order=_order(network, resolved),
        neurons={
            p.name: drawn(p.neuron, p.units, f"parameter/{p.name}", f"population {p.name!r}", seed, replicas)
            for p in network.populations
        },
        driving=driving,
        teaching=_teaching_order(resolved),
        synapses=resolved,
        traces=merged_traces(resolved.values()),
        history=history(resolved.values()),
    )
    for synapses in resolved.values():  # shapes of what was given, before a simulation starts from it
        if not isinstance(synapses.projection.weight, Distribution | int | float):
            plan.initial_weight(synapses.name)
        if synapses.has_bias and not isinstance(synapses.projection.bias, Distribution | int | float):
            plan.initial_bias(synapses.name)
    return plan


def _order(network: Network, resolved: dict[str, Synapses]) -> tuple[str, ...]:
    """Populations in an order in which every zero-delay driving input comes first; an error that names a cycle
    otherwise.
    """
    before: dict[str, set[str]] = {population.name: set() for population in network.populations}
    for synapses in resolved.values():
        if synapses.driving and synapses.shortest == 0:
            before[synapses.post.name].add(synapses.pre.name)
    for population in network.populations:
        source = lateral_source(population)
        if source is not None:
            network[source]
            before[population.name].add(source)
    order: list[str] = []
    while len(order) < len(before):
        ready = [name for name in before if name not in order and before[name] <= set(order)]
        if not ready:
            raise ConfigurationError(
                f"driving projections with zero delay form a cycle: {' -> '.join(_cycle(before, order))}"
            )
        order.extend(ready)
    return tuple(order)


def _teaching_order(resolved: Mapping[str, Synapses]) -> tuple[Synapses, ...]:
    """Teaching projections; one that sends on, without delay, what others bring to a teaching port comes after them."""
    waiting = [synapses for synapses in resolved.values() if not synapses.driving]
    for synapses in resolved.values():
        if synapses.driving and synapses.shortest == 0 and synapses.sent in synapses.pre.neuron.teaching:
            raise ConfigurationError(
                f"projection {synapses.name!r} sends the teaching port {synapses.sent!r} to a driving port "
                "without delay; teaching ports are filled after all driving ones, so it needs a delay of a step"
            )
    order: list[Synapses] = []
    while waiting:
        filled = {(synapses.post.name, synapses.port) for synapses in waiting}
        ready = [s for s in waiting if s.shortest > 0 or (s.pre.name, s.sent) not in filled]
        if not ready:
            names = ", ".join(synapses.name for synapses in waiting)
            raise ConfigurationError(f"teaching projections with zero delay form a cycle among: {names}")
        order.extend(ready)
        done = {synapses.name for synapses in order}
        waiting = [synapses for synapses in waiting if synapses.name not in done]
    return tuple(order)


def _cycle(before: dict[str, set[str]], done: list[str]) -> list[str]:
    path = [next(name for name in before if name not in done)]
    while True:
        following = next(name for name in before[path[-1]] if name not in done)
        if following in path:
            return [*path[path.index(following) :], following][::-1]
        path.append(following)
