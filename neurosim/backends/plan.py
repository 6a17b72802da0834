"""What compiling finds out, once, for every backend: order, indices, delays in steps, merged traces, how long to remember."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from neurosim.connectivity import AveragePool, EdgeList, MaxPool
from neurosim.factor import Apply, Factor, Field, One, Trace, traces
from neurosim.network import Network, Population, Projection, lateral_source
from neurosim.random import Distribution, Stream
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, ConfigurationError, Tensor, positive

CONSTANT = ""  # the "population" whose every field is 1: the pre-synaptic end of a bias

Leaf = Field | Trace  # canonical: end "post", read "after"
Key = tuple[str, Leaf]  # (population, leaf): one remembered value per neuron


@dataclass(frozen=True)
class Edges:
    """All replicas' edges in one index: `post [E]` = replica * P + i, `pre [E]` = replica * Q + j; `counts [R]` edges each."""

    post: Tensor
    pre: Tensor
    counts: tuple[int, ...]
    dense: tuple[int, int] | None = None  # (P, Q) where the edges are a full matrix, row by row


@dataclass(frozen=True)
class Synapses:
    """A projection, resolved: `kind` names the operation, `delay` is in steps (a tensor [E] where it differs by synapse)."""

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

    @property
    def fan_in(self) -> float:
        if self.edges is not None:
            return max(1.0, sum(self.edges.counts) / len(self.edges.counts) / self.post.units)
        return float(np.prod(self.weight_shape[1:])) if len(self.weight_shape) > 1 else 1.0

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
        """Start weight of a projection in float64: `[R, *weight_shape]`, edges `[E]`. Fixed by (seed, projection, replica)."""
        return _initial_weight(self, self.synapses[name])

    def initial_bias(self, name: str) -> Tensor:
        """Start bias `[R, units]` in float64."""
        synapses = self.synapses[name]
        value = 0.0 if synapses.projection.bias is True else synapses.projection.bias
        what = f"bias of projection {name!r}"
        stream = Stream(self.seed, f"bias/{name}")
        return resolve(value, stream, (synapses.bias_units,), self.replicas, what, synapses.fan_in)

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


def resolve(value: Any, stream: Stream, shape: tuple[int, ...], replicas: int, what: str, fan_in: float | None = None) -> Tensor:
    """A number, an array `[*shape]` or `[R, *shape]`, or a distribution, as a float64 tensor `[R, *shape]`."""
    if isinstance(value, Distribution):
        return value.sample(stream, shape, fan_in, range(replicas))
    array = torch.as_tensor(np.asarray(value, dtype=np.float64))
    if array.dim() == 0 or array.shape == shape:
        return array.expand(replicas, *shape).clone()
    if array.shape == (replicas, *shape):
        return array.clone()
    raise ConfigurationError(f"{what} has shape {tuple(array.shape)}; allowed: a number, {shape} or {(replicas, *shape)}")


def steps_of(time: float, dt: float, what: str) -> int:
    """`time / dt` as a whole number of steps; ConfigurationError if it is none."""
    steps = round(time / dt)
    if time < 0 or abs(steps * dt - time) > 1e-6 * dt:
        raise ConfigurationError(f"{what} is {time} ms; it must be a multiple >= 0 of dt = {dt} ms")
    return steps


def make_plan(network: Network, dt: float, seed: int, replicas: int) -> Plan:
    """Resolve `network` for a time step `dt` (ms), a `seed` and `replicas` copies."""
    positive(dt, "dt (ms)")
    positive(replicas, "replicas")
    resolved = {p.name: _synapses(network, p, dt, seed, replicas) for p in network.projections}
    driving = {p.name: tuple(s for s in resolved.values() if s.driving and s.post.name == p.name) for p in network.populations}
    _check_rules(resolved.values())
    return Plan(
        network=network,
        dt=dt,
        seed=seed,
        replicas=replicas,
        order=_order(network, resolved),
        neurons={p.name: _neuron(p, seed, replicas) for p in network.populations},
        driving=driving,
        teaching=tuple(s for s in resolved.values() if not s.driving),
        synapses=resolved,
        traces=_merged_traces(resolved.values()),
        history=_history(resolved.values()),
    )


def _neuron(population: Population, seed: int, replicas: int) -> Any:
    """The population's neuron with every distribution among its parameters drawn: arrays `[R, N]`."""
    neuron: Any = population.neuron
    drawn = {}
    for parameter in fields(neuron) if is_dataclass(neuron) else ():
        value = getattr(neuron, parameter.name)
        if isinstance(value, Distribution):
            stream = Stream(seed, f"parameter/{population.name}/{parameter.name}")
            drawn[parameter.name] = value.sample(stream, (population.units,), None, range(replicas)).numpy()
        elif isinstance(value, np.ndarray | list) and np.shape(value) not in ((population.units,), (replicas, population.units)):
            raise ConfigurationError(
                f"{parameter.name} of population {population.name!r} has shape {np.shape(value)}; "
                f"allowed: a number, {(population.units,)} or {(replicas, population.units)}"
            )
    return replace(neuron, **drawn) if drawn else neuron


def _synapses(network: Network, projection: Projection, dt: float, seed: int, replicas: int) -> Synapses:
    pre, post = network[projection.pre], network[projection.post]
    kind, edges = _edges(projection, pre, post, seed, replicas)
    delay = _delay(projection, kind, edges, (post.units, pre.units), dt, seed, replicas)
    if isinstance(delay, Tensor) and kind == "dense":  # a delay per synapse needs edges; the matrix keeps its shape outside
        kind, edges = "sparse", _full_edges(post.units, pre.units, replicas)
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
        combine=getattr(projection.connectivity, "combine", "sum"),
        weight_shape=_weight_shape(projection, kind, pre, post),
        edges=edges,
    )


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


def _concatenate(parts: list[tuple[Array, Array]], posts: int, pres: int, dense: tuple[int, int] | None = None) -> Edges:
    post = np.concatenate([post + replica * posts for replica, (post, _) in enumerate(parts)])
    pre = np.concatenate([pre + replica * pres for replica, (_, pre) in enumerate(parts)])
    return Edges(torch.from_numpy(post), torch.from_numpy(pre), tuple(len(part[0]) for part in parts), dense)


def _edges(projection: Projection, pre: Population, post: Population, seed: int, replicas: int) -> tuple[str, Edges | None]:
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
    projection: Projection, kind: str, edges: Edges | None, full: tuple[int, int], dt: float, seed: int, replicas: int
) -> int | Tensor:
    what = f"delay of projection {projection.name!r}"
    value = projection.delay
    if value is None:
        return 1
    if not isinstance(value, Distribution) and np.ndim(value) == 0:
        return steps_of(float(value), dt, what)
    if kind not in ("dense", "sparse"):
        raise ConfigurationError(f"{what} differs by synapse; that works on dense and sparse projections, not on {kind}")
    stream = Stream(seed, f"delay/{projection.name}")
    shapes = [full] * replicas if edges is None else [(count,) for count in edges.counts]
    if isinstance(value, Distribution):
        drawn = [value.sample(stream, shape, None, [replica])[0].reshape(-1) for replica, shape in enumerate(shapes)]
        return torch.clamp(torch.round(torch.cat(drawn) / dt), min=1).to(torch.int64)
    array = np.asarray(value, dtype=float)
    _expect(array.shape, shapes[0], what)
    steps = np.rint(array / dt)
    if (np.abs(steps * dt - array) > 1e-6 * dt).any() or (steps < 0).any():
        raise ConfigurationError(f"{what} has a value that is no multiple >= 0 of dt = {dt} ms")
    return torch.from_numpy(steps.astype(np.int64).reshape(-1)).repeat(replicas)


def _expect(shape: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
    if shape != expected:
        raise ConfigurationError(f"{what} has shape {shape}; expected {expected}")


def _initial_weight(plan: Plan, synapses: Synapses) -> Tensor:
    projection, edges = synapses.projection, synapses.edges
    what = f"weight of projection {projection.name!r}"
    stream = Stream(plan.seed, f"weight/{projection.name}")
    if isinstance(projection.connectivity, AveragePool):
        return torch.full((edges.post.shape[0],), 1.0 / projection.connectivity.size**2, dtype=torch.float64) if edges else torch.ones(0)
    if edges is None:
        return resolve(projection.weight, stream, synapses.weight_shape, plan.replicas, what, synapses.fan_in)
    if edges.dense is not None:
        return resolve(projection.weight, stream, edges.dense, plan.replicas, what, float(edges.dense[1])).reshape(-1)
    if isinstance(projection.weight, Distribution):
        parts = [
            projection.weight.sample(stream, (count,), synapses.fan_in, [replica])[0] for replica, count in enumerate(edges.counts)
        ]
        return torch.cat(parts)
    array = np.asarray(projection.weight, dtype=np.float64)
    if array.ndim == 0:
        return torch.full(edges.post.shape, float(array), dtype=torch.float64)
    if isinstance(projection.connectivity, EdgeList):
        _expect(array.shape, (edges.counts[0],), what)
        return torch.from_numpy(array).repeat(plan.replicas)
    posts, pres = synapses.post.units, synapses.pre.units
    _expect(array.shape, (posts, pres), what)
    return torch.from_numpy(array)[edges.post % posts, edges.pre % pres]


def _order(network: Network, resolved: dict[str, Synapses]) -> tuple[str, ...]:
    """Populations in an order in which every zero-delay driving input comes first; an error that names a cycle otherwise."""
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
            raise ConfigurationError(f"driving projections with zero delay form a cycle: {' -> '.join(_cycle(before, order))}")
        order.extend(ready)
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


def _rules(all_synapses: Any) -> Iterator[tuple[Synapses, ThreeFactorRule]]:
    for synapses in all_synapses:
        if isinstance(synapses.projection.rule, ThreeFactorRule):
            yield synapses, synapses.projection.rule


def _check_rules(all_synapses: Any) -> None:
    for synapses, rule in _rules(all_synapses):
        for end, population, factors in (
            ("post", synapses.post, rule.post_factors()),
            ("pre", synapses.pre, rule.pre_factors()),
        ):
            for factor in factors:
                for leaf in leaves(factor):
                    name = _innermost(leaf).name
                    if name not in population.fields():
                        raise ConfigurationError(
                            f"the rule of projection {synapses.name!r} reads {name!r} at its {end} end; "
                            f"{population.name!r} has: {', '.join(population.fields())}"
                        )


def _innermost(leaf: Leaf) -> Field:
    return leaf if isinstance(leaf, Field) else _innermost(leaf.of)


def _merged_traces(all_synapses: Any) -> tuple[tuple[str, Trace], ...]:
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


def _history(all_synapses: Any) -> dict[Key, int]:
    """Steps to remember: the longest delay at which a projection sends, or a rule reads, a value ("before" reads one more)."""
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
