"""Projections, resolved: every number drawn or checked, every edge and delay found, for all replicas at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from neurosim.connectivity import AveragePool, EdgeList, MaxPool
from neurosim.network import Network, Population, Projection
from neurosim.random import Distribution, Stream
from neurosim.types import Array, ConfigurationError, Tensor


@dataclass(frozen=True)
class Edges:
    """All replicas' edges in one index: `post [E]` = replica * P + i, `pre [E]` = replica * Q + j; `counts [R]` edges
    each. int32 where that is enough.
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
    return full if listed else full[edges.post.long() * size[1] + edges.pre % size[1]]


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


def drawn(model: Any, units: int, stream: str, owner: str, seed: int, replicas: int) -> Any:
    """A neuron or release with every distribution among its parameters drawn: arrays `[R, N]`."""
    values = {}
    for parameter in fields(model) if is_dataclass(model) else ():
        value, allowed = getattr(model, parameter.name), ((), (units,), (replicas, units))
        if isinstance(value, Distribution):
            own = Stream(seed, f"{stream}/{parameter.name}")
            values[parameter.name] = value.sample(own, (units,), None, range(replicas)).numpy()
        elif is_dataclass(value) and hasattr(value, "step"):  # a neuron within a neuron: the same draws as on its own
            inner = drawn(value, units, stream, owner, seed, replicas)
            values |= {parameter.name: inner} if inner is not value else {}
        elif isinstance(value, np.ndarray | list) and np.shape(value) not in allowed:
            raise ConfigurationError(
                f"{parameter.name} of {owner} has shape {np.shape(value)}; "
                f"allowed: a number, {(units,)} or {(replicas, units)}"
            )
    return replace(model, **values) if values else model


def resolve_projection(network: Network, projection: Projection, dt: float, seed: int, replicas: int) -> Synapses:
    pre, post = network[projection.pre], network[projection.post]
    kind, edges = _edges(projection, pre, post, seed, replicas)
    if kind == "dense" and _differs(projection.delay):  # a delay per synapse needs edges; outside it stays a matrix
        kind, edges = "sparse", _full_edges(post.units, pre.units, replicas)
    delay = _delay(projection, kind, edges, (post.units, pre.units), dt, seed, replicas)
    release = projection.release
    if release is not None:
        owner = f"release of projection {projection.name!r}"
        release = drawn(release, pre.units, f"release/{projection.name}", owner, seed, replicas)
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
    kind: Any = np.int32 if max(posts, pres) * len(parts) < 2**31 else np.int64  # 100 million edges: 0.8, not 1.6 GB
    post = _joined([post for post, _ in parts], posts, kind)
    pre = _joined([pre for _, pre in parts], pres, kind)
    return Edges(torch.from_numpy(post), torch.from_numpy(pre), tuple(len(part[0]) for part in parts), dense)


def _joined(parts: list[Array], units: int, kind: Any) -> Array:
    """Indices within replicas as indices over all of them."""
    if len(parts) == 1:
        return parts[0].astype(kind, copy=False)
    return np.concatenate([part.astype(kind) + kind(replica * units) for replica, part in enumerate(parts)])


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


def initial_weight(synapses: Synapses, seed: int, replicas: int) -> Tensor:
    """Start weight of a projection in float64: `[R, *weight_shape]`, edges `[E]`. Fixed by (seed, projection,
    replica).
    """
    projection, edges = synapses.projection, synapses.edges
    what = f"weight of projection {projection.name!r}"
    stream = Stream(seed, f"weight/{projection.name}")
    weight = projection.weight
    if isinstance(projection.connectivity, AveragePool):
        weight = 1.0 / projection.connectivity.size**2
    if edges is None:
        return resolve(weight, stream, synapses.weight_shape, replicas, what, synapses.fan_in(0))
    if not isinstance(weight, Distribution):
        listed = isinstance(projection.connectivity, EdgeList)
        size = (synapses.post.units, synapses.pre.units)
        return per_edge(_numbers(weight, what), edges, listed, size, replicas, what)
    if edges.dense is not None:
        return resolve(weight, stream, edges.dense, replicas, what, float(edges.dense[1])).reshape(-1)
    parts = []
    for replica, count in enumerate(edges.counts):
        fans = synapses.fan_in(replica), synapses.fan_out(replica)
        parts.append(weight.sample(stream, (count,), fans[0], [replica], fans[1])[0])
    return torch.cat(parts)
