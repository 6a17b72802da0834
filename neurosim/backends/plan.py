"""What compiling finds out, once, for every backend: order, indices, delays in steps, merged traces, how long to
remember.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from neurosim.connectivity import AveragePool, EdgeList, MaxPool
from neurosim.factor import Apply, Factor, Field, One, Trace, traces
from neurosim.network import Network, Population, Projection, lateral_source
from neurosim.random import Distribution, Stream, check_seed
from neurosim.rule import GradientRule, ThreeFactorRule
from neurosim.types import Array, ConfigurationError, Tensor, positive

CONSTANT = ""  # the "population" whose every field is 1: the pre-synaptic end of a bias

Leaf = Field | Trace  # canonical: end "post", read "after"
Key = tuple[str, Leaf]  # (population, leaf): one remembered value per neuron


@dataclass(frozen=True)
class Edges:
    """All replicas' edges in one index: `post [E]` = replica * P + i, `pre [E]` = replica * Q + j; `counts [R]` edges
    each.
    """

    post: Tensor
    pre: Tensor
    counts: tuple[int, ...]
    dense: tuple[int, int] | None = None  # (P, Q) where the edges are a full matrix, row by row


@dataclass(frozen=True)
class Synapses:
    """A projection, resolved: `kind` names the operation, `delay` is in steps (a tensor [E] where it differs by
    synapse).
    """

    projection: Projection
    kind: str
    pre: Population
    post: Population
    sent: str
    port: str
    driving: bool
    delay: int | Tensor
    dendritic: int
    combine: str
    weight_shape: tuple[int, ...]  # without the replica axis; () for edges
    edges: Edges | None
    release: Any = None  # with distributions among its parameters drawn

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def longest(self) -> int:
        """The longest axonal delay in steps."""
        if isinstance(self.delay, Tensor):
            return int(self.delay.max()) if self.delay.numel() else 1
        return self.delay

    @property
    def shortest(self) -> int:
        if isinstance(self.delay, Tensor):
            return int(self.delay.min()) if self.delay.numel() else 1
        return self.delay

    def fan_in(self, replica: int) -> float:
        """Inputs per post neuron, the mean over the neurons of this replica (and of no other)."""
        if self.edges is not None:
            return max(1.0, self.edges.counts[replica] / self.post.units)
        return float(np.prod(self.weight_shape[1:])) if len(self.weight_shape) > 1 else 1.0

    def fan_out(self, replica: int) -> float | None:
        """Outputs per pre neuron of edges; None where the weight's shape says it."""
        return None if self.edges is None else max(1.0, self.edges.counts[replica] / self.pre.units)

    @property
    def has_bias(self) -> bool:
        return self.projection.bias is not False

    @property
    def bias_units(self) -> int:
        """One bias per post neuron, per channel for a convolution."""
        return self.post.shape[0] if self.kind == "convolution" else self.post.units


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
        return _initial_weight(self, self.synapses[name])

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


def resolve(
    value: Any, stream: Stream, shape: tuple[int, ...], replicas: int, what: str, fan_in: float | Tensor | None = None
) -> Tensor:
    """A number, an array `[*shape]` or `[R, *shape]`, or a distribution, as a float64 tensor `[R, *shape]`."""
    if isinstance(value, Distribution):
        return value.sample(stream, shape, fan_in, range(replicas))
    return _fill(_numbers(value, what), shape, replicas, what)


def _numbers(value: Any, what: str) -> Tensor:
    try:
        return torch.from_numpy(np.array(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what} is {value!r}; allowed: a number, an array or a distribution") from error


def _fill(array: Tensor, shape: tuple[int, ...], replicas: int, what: str) -> Tensor:
    if array.dim() == 0 or array.shape == shape:
        return array.expand(replicas, *shape).clone()
    if array.shape == (replicas, *shape):
        return array
    allowed = f"a number, {shape} or {(replicas, *shape)}"
    raise ConfigurationError(f"{what} has shape {tuple(array.shape)}; allowed: {allowed}")


def per_edge(array: Tensor, edges: Edges, listed: bool, size: tuple[int, int], replicas: int, what: str) -> Tensor:
    """A number, `[P, Q]` or `[R, P, Q]` (an edge list: `[E]` or `[R, E]`) as one number per edge of all replicas."""
    if array.dim() == 0:
        return array.expand(edges.post.shape).clone()
    full = _fill(array, (edges.counts[0],) if listed else size, replicas, what).reshape(-1)
    return full if listed else full[edges.post * size[1] + edges.pre % size[1]]


def per_synapse(synapses: Synapses, value: Any, replicas: int, what: str) -> Tensor:
    """Numbers for the synapses of a projection, in the layout of its weight; what broadcasts to the weight is
    enough.
    """
    array, size = _numbers(value, what), (synapses.post.units, synapses.pre.units)
    listed = isinstance(synapses.projection.connectivity, EdgeList)
    shape = synapses.weight_shape
    if synapses.edges is not None:
        shape = (synapses.edges.counts[0],) if listed else size
    if 0 < array.dim() <= len(shape):
        try:
            array = array.broadcast_to(shape).clone()
        except RuntimeError as error:
            raise ConfigurationError(f"{what} has shape {tuple(array.shape)}, which does not fit {shape}") from error
    if synapses.edges is None:
        return _fill(array, shape, replicas, what)
    return per_edge(array, synapses.edges, listed, size, replicas, what)


def steps_of(time: float, dt: float, what: str) -> int:
    """`time / dt` as a whole number of steps; ConfigurationError if it is none."""
    steps = round(time / dt) if math.isfinite(time) else -1
    if steps < 0 or abs(steps * dt - time) > 1e-6 * dt:
        raise ConfigurationError(f"{what} is {time} ms; it must be a multiple >= 0 of dt = {dt} ms")
    return steps


def make_plan(network: Network, dt: float, seed: int, replicas: int) -> Plan:
    """Resolve `network` for a time step `dt` (ms), a `seed` and `replicas` copies."""
    positive(dt, "dt (ms)")
    check_seed(seed)
    if isinstance(replicas, bool) or not isinstance(replicas, int | np.integer) or replicas < 1:
        raise ConfigurationError(f"replicas is {replicas!r}; it must be a whole number of at least 1, or None")
    resolved = {p.name: _synapses(network, p, dt, seed, replicas) for p in network.projections}
    driving = {
        p.name: tuple(s for s in resolved.values() if s.driving and s.post.name == p.name) for p in network.populations
    }
    _check_rules(network, resolved.values())
    plan = Plan(
        network=network,
        dt=dt,
        seed=seed,
        replicas=replicas,
        order=_order(network, resolved),
        neurons={
            p.name: _drawn(p.neuron, p.units, f"parameter/{p.name}", f"population {p.name!r}", seed, replicas)
            for p in network.populations
        },
        driving=driving,
        teaching=_teaching_order(resolved),
        synapses=resolved,
        traces=_merged_traces(resolved.values()),
        history=_history(resolved.values()),
    )
    for synapses in resolved.values():  # shapes of what was given, before a simulation starts from it
        if not isinstance(synapses.projection.weight, Distribution | int | float):
            plan.initial_weight(synapses.name)
        if synapses.has_bias and not isinstance(synapses.projection.bias, Distribution | int | float):
            plan.initial_bias(synapses.name)
    return plan


def _drawn(model: Any, units: int, stream: str, owner: str, seed: int, replicas: int) -> Any:
    """A neuron or release with every distribution among its parameters drawn: arrays `[R, N]`."""
    drawn = {}
    for parameter in fields(model) if is_dataclass(model) else ():
        value, allowed = getattr(model, parameter.name), ((), (units,), (replicas, units))
        if isinstance(value, Distribution):
            own = Stream(seed, f"{stream}/{parameter.name}")
            drawn[parameter.name] = value.sample(own, (units,), None, range(replicas)).numpy()
        elif isinstance(value, np.ndarray | list) and np.shape(value) not in allowed:
            raise ConfigurationError(
                f"{parameter.name} of {owner} has shape {np.shape(value)}; "
                f"allowed: a number, {(units,)} or {(replicas, units)}"
            )
    return replace(model, **drawn) if drawn else model


def _synapses(network: Network, projection: Projection, dt: float, seed: int, replicas: int) -> Synapses:
    pre, post = network[projection.pre], network[projection.post]
    kind, edges = _edges(projection, pre, post, seed, replicas)
    if kind == "dense" and _differs(projection.delay):  # a delay per synapse needs edges; outside it stays a matrix
        kind, edges = "sparse", _full_edges(post.units, pre.units, replicas)
    delay = _delay(projection, kind, edges, (post.units, pre.units), dt, seed, replicas)
    release = projection.release
    if release is not None:
        owner = f"release of projection {projection.name!r}"
        release = _drawn(release, pre.units, f"release/{projection.name}", owner, seed, replicas)
    return Synapses(
        projection=projection,
        kind=kind,
        pre=pre,
        post=post,
        sent=network.sent(projection),
        port=network.port(projection),
        driving=network.is_driving(projection),
        delay=delay,
        dendritic=steps_of(projection.dendritic_delay, dt, f"dendritic_delay of projection {projection.name!r}"),
        combine=projection.combine,
        weight_shape=_weight_shape(projection, kind, pre, post),
        edges=edges,
        release=release,
    )


def _differs(delay: Any) -> bool:
    """Is a delay given per synapse?"""
    return isinstance(delay, Distribution) or (delay is not None and np.ndim(delay) > 0)


def _weight_shape(projection: Projection, kind: str, pre: Population, post: Population) -> tuple[int, ...]:
    if kind == "dense":
        return post.units, pre.units
    if kind == "one_to_one":
        return (post.units,)
    if kind == "convolution":
        kernel = projection.connectivity.kernel
        return post.shape[0], pre.shape[0], kernel, kernel
    return ()


def _full_edges(posts: int, pres: int, replicas: int) -> Edges:
    post, pre = np.repeat(np.arange(posts), pres), np.tile(np.arange(pres), posts)
    return _concatenate([(post, pre)] * replicas, posts, pres, dense=(posts, pres))


def _concatenate(
    parts: list[tuple[Array, Array]], posts: int, pres: int, dense: tuple[int, int] | None = None
) -> Edges:
    post = np.concatenate([post + replica * posts for replica, (post, _) in enumerate(parts)])
    pre = np.concatenate([pre + replica * pres for replica, (_, pre) in enumerate(parts)])
    return Edges(torch.from_numpy(post), torch.from_numpy(pre), tuple(len(part[0]) for part in parts), dense)


def _edges(
    projection: Projection, pre: Population, post: Population, seed: int, replicas: int
) -> tuple[str, Edges | None]:
    connectivity = projection.connectivity
    if connectivity.kind != "sparse":
        return connectivity.kind, None
    if isinstance(connectivity, AveragePool | MaxPool):
        parts = [connectivity.pool_edges(pre.shape, post.shape)] * replicas
    else:
        stream = Stream(seed, f"wiring/{projection.name}")
        same = pre.name == post.name
        parts = [connectivity.edges(post.units, pre.units, same, stream, replica) for replica in range(replicas)]
    return "sparse", _concatenate(parts, post.units, pre.units)


def _delay(
    projection: Projection, kind: str, edges: Edges | None, size: tuple[int, int], dt: float, seed: int, replicas: int
) -> int | Tensor:
    what = f"delay of projection {projection.name!r}"
    value = projection.delay
    if value is None:
        return 1
    if not _differs(value):
        return steps_of(float(_numbers(value, what)), dt, what)
    if edges is None:
        raise ConfigurationError(
            f"{what} differs by synapse; that works on dense and sparse projections, not on {kind}"
        )
    if isinstance(value, Distribution):
        stream = Stream(seed, f"delay/{projection.name}")
        drawn = [value.sample(stream, (count,), None, [replica])[0] for replica, count in enumerate(edges.counts)]
        return torch.clamp(torch.round(torch.cat(drawn) / dt), min=1).to(torch.int64)
    listed = isinstance(projection.connectivity, EdgeList)
    array = per_edge(_numbers(value, what), edges, listed, size, replicas, what)
    steps = torch.round(array / dt)
    if not bool(((torch.abs(steps * dt - array) <= 1e-6 * dt) & (steps >= 0)).all()):
        raise ConfigurationError(f"{what} has a value that is no multiple >= 0 of dt = {dt} ms")
    return steps.to(torch.int64)


def _initial_weight(plan: Plan, synapses: Synapses) -> Tensor:
    projection, edges = synapses.projection, synapses.edges
    what = f"weight of projection {projection.name!r}"
    stream = Stream(plan.seed, f"weight/{projection.name}")
    weight = projection.weight
    if isinstance(projection.connectivity, AveragePool):
        weight = 1.0 / projection.connectivity.size**2
    if edges is None:
        return resolve(weight, stream, synapses.weight_shape, plan.replicas, what, synapses.fan_in(0))
    if not isinstance(weight, Distribution):
        listed = isinstance(projection.connectivity, EdgeList)
        size = (synapses.post.units, synapses.pre.units)
        return per_edge(_numbers(weight, what), edges, listed, size, plan.replicas, what)
    if edges.dense is not None:
        return resolve(weight, stream, edges.dense, plan.replicas, what, float(edges.dense[1])).reshape(-1)
    parts = []
    for replica, count in enumerate(edges.counts):
        fans = synapses.fan_in(replica), synapses.fan_out(replica)
        parts.append(weight.sample(stream, (count,), fans[0], [replica], fans[1])[0])
    return torch.cat(parts)


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


def canonical(leaf: Leaf) -> Leaf:
    """A field or trace as stored with its population: without the end, and read after its update."""
    if isinstance(leaf, Field):
        return Field("post", leaf.name)
    return Trace(canonical(leaf.of), leaf.tau, leaf.mode)


def leaves(factor: Factor) -> Iterator[Leaf]:
    """The fields and traces that a factor reads directly."""
    if isinstance(factor, Apply):
        for argument in factor.arguments:
            yield from leaves(argument)
    elif not isinstance(factor, One):
        yield factor


def _rules(all_synapses: Iterable[Synapses]) -> Iterator[tuple[Synapses, ThreeFactorRule]]:
    for synapses in all_synapses:
        if isinstance(synapses.projection.rule, ThreeFactorRule):
            yield synapses, synapses.projection.rule


def _check_rules(network: Network, all_synapses: Iterable[Synapses]) -> None:
    gradient = [s.projection.rule for s in all_synapses if isinstance(s.projection.rule, GradientRule)]
    for baseline in gradient:
        network[baseline.output]
        for name in ("decoder", "loss", "target", "output", "through_time"):
            if getattr(baseline, name) != getattr(gradient[0], name):
                raise ConfigurationError(f"gradient rules differ in {name}; all that learn together share one loss")
    for synapses, rule in _rules(all_synapses):
        for end, population, factors in (
            ("post", synapses.post, rule.post_factors()),
            ("pre", synapses.pre, rule.pre_factors()),
        ):
            for factor in factors:
                _check_factor(factor, end, synapses, population)


def _check_factor(factor: Factor, end: str, synapses: Synapses, population: Population) -> None:
    if factor.end != end:
        raise ConfigurationError(
            f"the modulator of projection {synapses.name!r} reads a {factor.end} factor; it may read {end} factors only"
        )
    for leaf in leaves(factor):
        name = _innermost(leaf).name
        if name not in population.fields():
            raise ConfigurationError(
                f"the rule of projection {synapses.name!r} reads {name!r} at its {end} end; "
                f"{population.name!r} has: {', '.join(population.fields())}"
            )


def _innermost(leaf: Leaf) -> Field:
    return leaf if isinstance(leaf, Field) else _innermost(leaf.of)


def _merged_traces(all_synapses: Iterable[Synapses]) -> tuple[tuple[str, Trace], ...]:
    merged: dict[tuple[str, Trace], None] = {}
    for synapses, rule in _rules(all_synapses):
        for factor in rule.post_factors():
            for trace in traces(factor):
                merged[synapses.post.name, canonical(trace)] = None  # type: ignore[index]
        for factor in rule.pre_factors():
            for trace in traces(factor):
                merged[synapses.pre.name, canonical(trace)] = None  # type: ignore[index]
                if synapses.has_bias:
                    merged[CONSTANT, canonical(trace)] = None  # type: ignore[index]
    return tuple(merged)


def _history(all_synapses: Iterable[Synapses]) -> dict[Key, int]:
    """Steps to remember: the longest delay at which a projection sends, or a rule reads, a value ("before" reads one
    more).
    """
    depth: dict[Key, int] = {}

    def need(population: str, leaf: Leaf, delay: int) -> None:
        extra = 1 if isinstance(leaf, Trace) and leaf.read == "before" else 0
        if delay + extra > 0:
            key = (population, canonical(leaf))
            depth[key] = max(depth.get(key, 0), delay + extra)

    for synapses in all_synapses:
        if synapses.projection.release is None:
            need(synapses.pre.name, Field("post", synapses.sent), synapses.longest)
        else:
            need(released_by(synapses.name), Field("post", "released"), synapses.longest)
    for synapses, rule in _rules(all_synapses):
        for factor in rule.post_factors():
            for leaf in leaves(factor):
                need(synapses.post.name, leaf, synapses.dendritic)
        for factor in rule.pre_factors():
            for leaf in leaves(factor):
                need(synapses.pre.name, leaf, synapses.longest)
                if synapses.has_bias:
                    need(CONSTANT, leaf, 0)
    return depth


def released_by(projection: str) -> str:
    """The name under which the released amounts of a projection with short-term plasticity are remembered."""
    return f"release/{projection}"
