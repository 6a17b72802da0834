"""What a kind of connectivity does, in torch: deliver, bring two ends together, reduce, and know a weight's neighbours.

Activity is `[R, B, N]`. Each class brings post and pre values to the shape of its eligibility, so that the equation of
`neurosim.rule` is written once, in `reference.py`, for all of them:

    dense        eligibility [R, B, P, Q]      weight [R, P, Q]
    one to one   eligibility [R, B, N]         weight [R, N]
    sparse       eligibility [B, E]            weight [E]
    convolution  eligibility [R, B, O, L, J]   weight [R, O, C, k, k], L positions, J = C k k
    bias         eligibility [R, B, O, L]      weight [R, O], L = 1 but for a convolution
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as functional

from neurosim.backends.layout import Lone, Matrix, groups_of, percentile
from neurosim.backends.resolve import Edges, Synapses
from neurosim.types import ConfigurationError, Tensor

Read = Callable[[int], Tensor]  # delay in steps -> the value [R, B, Q] emitted that many steps ago


class Operation(Protocol):
    """See the module. `read(d)` is the pre value of d steps ago; `batch_axis` is that of the eligibility."""

    batch_axis: int

    def deliver(self, weight: Tensor, read: Read) -> Tensor: ...

    def post(self, value: Tensor) -> Tensor: ...

    def pre(self, read: Read) -> Tensor: ...

    def outer(self, post: Tensor, read: Read) -> Tensor: ...  # sum over batch and ties of post x pre, in one product

    def spread(self, weight: Tensor) -> Tensor: ...  # a weight in the shape of the eligibility

    def share(self, change: Tensor, how: str) -> Tensor: ...  # eligibility -> [B first, *weight]

    def row_sum(self, x: Tensor) -> Tensor: ...

    def row_max(self, x: Tensor) -> Tensor: ...

    def total_max(self, x: Tensor) -> Tensor: ...

    def total_percentile(self, x: Tensor, percent: float) -> Tensor: ...

    def block_sum(self, x: Tensor, block: int, grouping: str = "row", seed: int = 0) -> tuple[Tensor, Tensor]: ...

    def from_pre(self, values: Any) -> Tensor: ...


class DenseOperation(Matrix):
    batch_axis = 1

    def __init__(self, synapses: Synapses, device: torch.device):
        super().__init__(synapses.name)
        self.delay, self.pres = one_delay(synapses), synapses.pre.units
        self.device = device

    def deliver(self, weight: Tensor, read: Read) -> Tensor:
        return torch.matmul(read(self.delay), weight.transpose(-1, -2))

    def post(self, value: Tensor) -> Tensor:
        return value[..., :, None]

    def pre(self, read: Read) -> Tensor:
        return read(self.delay)[..., None, :]

    def outer(self, post: Tensor, read: Read) -> Tensor:
        value = read(self.delay)
        if value.stride(-1) == 0:  # the same from every pre neuron (the constant 1): a sum, no product
            return (post * value[..., :1]).sum(1).unsqueeze(-1).expand(-1, -1, value.shape[-1])
        return torch.matmul(post.transpose(-1, -2), value)

    def spread(self, weight: Tensor) -> Tensor:
        return weight.unsqueeze(1)

    def share(self, change: Tensor, how: str) -> Tensor:
        return change.transpose(0, 1)

    def from_pre(self, values: Any) -> Tensor:
        return per_pre(values, self.pres, self.device)


class OneToOneOperation(Lone):
    batch_axis = 1

    def __init__(self, synapses: Synapses, device: torch.device):
        self.delay, self.pres = one_delay(synapses), synapses.pre.units
        self.device = device
        # Error wiring is one-to-one with weight 1 or -1: no product, no copy (a third of the time of a small step).
        weight = synapses.projection.weight
        fixed = synapses.projection.rule is None and synapses.projection.tied is None
        self.identity = fixed and isinstance(weight, int | float) and weight == 1

    def deliver(self, weight: Tensor, read: Read) -> Tensor:
        return read(self.delay) if self.identity else weight[:, None, :] * read(self.delay)

    def post(self, value: Tensor) -> Tensor:
        return value

    def pre(self, read: Read) -> Tensor:
        return read(self.delay)

    def outer(self, post: Tensor, read: Read) -> Tensor:
        return (post * read(self.delay)).sum(1)

    def spread(self, weight: Tensor) -> Tensor:
        return weight[:, None, :]

    def share(self, change: Tensor, how: str) -> Tensor:
        return change.transpose(0, 1)

    def from_pre(self, values: Any) -> Tensor:
        return per_pre(values, self.pres, self.device)


class SparseOperation:
    """Edges of all replicas in one index; a delay per edge is read from the ring of past values."""

    batch_axis = 0

    def __init__(self, synapses: Synapses, replicas: int, device: torch.device):
        edges: Edges = synapses.edges  # type: ignore[assignment]
        self.name, self.counts = synapses.name, edges.counts
        self.replicas, self.posts, self.pres = replicas, synapses.post.units, synapses.pre.units
        self.edges = edges
        self.delay = synapses.delay.to(device) if isinstance(synapses.delay, Tensor) else synapses.delay
        self.levels = sorted(set(self.delay.tolist())) if isinstance(self.delay, Tensor) else []
        self.combine = synapses.combine
        self.device = device

    # Made when first asked for: a backend that delivers by itself needs none of them (4 GB for 100 million edges).

    @cached_property
    def post_index(self) -> Tensor:
        return self.edges.post.to(self.device, torch.int64)

    @cached_property
    def pre_index(self) -> Tensor:
        return self.edges.pre.to(self.device, torch.int64)

    @cached_property
    def _order(self) -> Tensor:
        return torch.argsort(self.post_index * self.pres * self.replicas + self.pre_index, stable=True)

    @cached_property
    def _edge_replica(self) -> Tensor:
        return torch.repeat_interleave(torch.arange(self.replicas), torch.tensor(self.counts)).to(self.device)

    def _flat(self, value: Tensor, units: int) -> Tensor:
        return value.expand(self.replicas, value.shape[1], units).transpose(0, 1).flatten(1)  # [B, R * N]

    def deliver(self, weight: Tensor, read: Read) -> Tensor:
        carried = weight * self.pre(read)
        batch = carried.shape[0]
        total = torch.zeros(batch, self.replicas * self.posts, dtype=carried.dtype, device=carried.device)
        if self.combine == "max":
            index = self.post_index.expand(batch, -1)
            total = total.scatter_reduce(1, index, carried, "amax", include_self=False)
        else:
            total = total.index_add(1, self.post_index, carried)
        return total.reshape(batch, self.replicas, self.posts).transpose(0, 1)

    def post(self, value: Tensor) -> Tensor:
        return self._flat(value, self.posts)[:, self.post_index]

    def pre(self, read: Read) -> Tensor:
        if not isinstance(self.delay, Tensor):
            return self._flat(read(self.delay), self.pres)[:, self.pre_index]
        ring = torch.stack([self._flat(read(level), self.pres) for level in self.levels])  # [levels, B, R * Q]
        row = torch.bucketize(self.delay, torch.tensor(self.levels, device=self.device))
        return ring[row, :, self.pre_index].transpose(0, 1)

    def outer(self, post: Tensor, read: Read) -> Tensor:
        return (self.post(post) * self.pre(read)).sum(0)

    def spread(self, weight: Tensor) -> Tensor:
        return weight

    def share(self, change: Tensor, how: str) -> Tensor:
        return change

    def row_sum(self, x: Tensor) -> Tensor:
        size = self.replicas * self.posts
        return torch.zeros(size, dtype=x.dtype, device=x.device).index_add(0, self.post_index, x)[self.post_index]

    def row_max(self, x: Tensor) -> Tensor:
        size = self.replicas * self.posts
        largest = torch.full((size,), -torch.inf, dtype=x.dtype, device=x.device)
        return largest.scatter_reduce(0, self.post_index, x, "amax")[self.post_index]

    def total_max(self, x: Tensor) -> Tensor:
        largest = torch.full((self.replicas,), -torch.inf, dtype=x.dtype, device=x.device)
        return largest.scatter_reduce(0, self._edge_replica, x, "amax")[self._edge_replica]

    def total_percentile(self, x: Tensor, percent: float) -> Tensor:
        parts = x.split(torch.bincount(self._edge_replica, minlength=self.replicas).tolist())
        return torch.cat([percentile(part, percent).expand(len(part)) for part in parts if len(part)] or [x])

    def _random_order(self, seed: int) -> Tensor:
        """The edges row by row, within a row in a random order."""
        stream = groups_of(self.name, seed)
        drawn = [stream.uniform(replica, element=torch.arange(count)) for replica, count in enumerate(self.counts)]
        shuffled = torch.argsort(torch.cat(drawn).to(self.device), stable=True)
        return shuffled[torch.argsort(self.post_index[shuffled], stable=True)]

    def groups(self, weight: Tensor, block: int, grouping: str, seed: int) -> Tensor:
        """The block of each edge, as numbers from 0 on, one replica after the other."""
        order = self._random_order(seed) if grouping == "permuted" else self._order
        row = (self._edge_replica if grouping == "flat" else self.post_index)[order]
        start = torch.searchsorted(row, row)  # the first edge of each edge's row, in sorted order
        rank = torch.arange(len(row), device=row.device) - start
        group = torch.unique_consecutive(row * (len(row) + 1) + rank // block, return_inverse=True)[1]
        index = torch.empty_like(group)
        index[order] = group
        return index

    def block_sum(self, x: Tensor, block: int, grouping: str = "row", seed: int = 0) -> tuple[Tensor, Tensor]:
        index = self.groups(x, block, grouping, seed)
        count = int(index.max()) + 1 if len(index) else 0
        zeros = torch.zeros(count, dtype=x.dtype, device=x.device)
        return zeros.index_add(0, index, x)[index], zeros.index_add(0, index, torch.ones_like(x))[index]

    def from_pre(self, values: Any) -> Tensor:
        values = per_pre(values, self.pres, self.device)
        spread: Tensor = values if values.dim() == 0 else values[self.pre_index % self.pres]
        return spread


class ConvolutionOperation(Matrix):
    """Shared weights; replicas are groups of one grouped convolution."""

    batch_axis = 1

    def __init__(self, synapses: Synapses, device: torch.device):
        super().__init__(synapses.name)
        connectivity = synapses.projection.connectivity
        self.delay, self.device = one_delay(synapses), device
        self.kernel, self.stride = connectivity.kernel, connectivity.stride
        reflect = connectivity.padding_mode == "reflect"
        self.padding = 0 if reflect else connectivity.padding
        self.reflected = connectivity.padding if reflect else 0
        self.pre_shape, self.post_shape = synapses.pre.shape, synapses.post.shape
        self.positions = self.post_shape[1] * self.post_shape[2]

    def deliver(self, weight: Tensor, read: Read) -> Tensor:
        value = read(self.delay)
        replicas, batch = weight.shape[0], value.shape[1]
        image = (
            value.expand(replicas, batch, -1)
            .transpose(0, 1)
            .reshape(batch, replicas * self.pre_shape[0], *self.pre_shape[1:])
        )
        kernels = weight.flatten(0, 1)
        out = functional.conv2d(
            self._bordered(image), kernels, stride=self.stride, padding=self.padding, groups=replicas
        )
        return out.reshape(batch, replicas, -1).transpose(0, 1)

    def post(self, value: Tensor) -> Tensor:
        split: Tensor = value.unflatten(-1, (self.post_shape[0], -1)).unsqueeze(-1)  # [R, B, O, L, 1]
        return split

    def pre(self, read: Read) -> Tensor:
        return self._patches(read).unsqueeze(2)  # [R, B, 1, L, J]

    def _bordered(self, image: Tensor) -> Tensor:
        """The image with its mirrored border; a border of zeros is left to the convolution."""
        wide = self.reflected
        return functional.pad(image, (wide, wide, wide, wide), mode="reflect") if wide else image

    def _patches(self, read: Read) -> Tensor:
        value = read(self.delay)
        if value.stride(-1) == 0:  # the constant 1 has no border: unlike activity, it is not padded with zeros
            size = (*value.shape[:2], self.positions, self.pre_shape[0] * self.kernel**2)
            return value[..., :1, None].expand(size)
        image = self._bordered(value.reshape(-1, *self.pre_shape))
        patches = functional.unfold(image, self.kernel, padding=self.padding, stride=self.stride)
        split: Tensor = patches.transpose(1, 2).unflatten(0, value.shape[:2])  # [R, B, L, J]
        return split

    def outer(self, post: Tensor, read: Read) -> Tensor:
        value, patches = post.unflatten(-1, (self.post_shape[0], -1)), self._patches(read)
        if patches.stride(-1) == 0 and patches.stride(-2) == 0:  # the constant 1: a sum, no product
            total = (value.sum(-1) * patches[..., 0, :1]).sum(1).unsqueeze(-1)
            return self._weight_shape(total.expand(-1, -1, patches.shape[-1]))
        return self._weight_shape(torch.einsum("rbol,rblj->roj", value, patches))

    def _weight_shape(self, flat: Tensor) -> Tensor:
        split: Tensor = flat.unflatten(-1, (self.pre_shape[0], self.kernel, self.kernel))
        return split

    def spread(self, weight: Tensor) -> Tensor:
        return weight.flatten(2)[:, None, :, None, :]  # [R, 1, O, 1, J]

    def share(self, change: Tensor, how: str) -> Tensor:
        return self._weight_shape(join(change, 3, how)).transpose(0, 1)

    def from_pre(self, values: Any) -> Tensor:
        number = torch.as_tensor(values, device=self.device)
        if number.dim() == 0:
            return number
        raise ConfigurationError(
            "a convolution shares its weights, so a sign per pre neuron cannot be kept; give one number"
        )


class BiasOperation(Lone):
    """A bias: a synapse from a constant 1; `read` is then the value of the constant, or of its trace, `[R, B, 1]`."""

    batch_axis = 1

    def __init__(self, units: int):
        self.units = units

    def deliver(self, weight: Tensor, read: Read) -> Tensor:
        raise NotImplementedError("a bias is added where its projection delivers")

    def post(self, value: Tensor) -> Tensor:
        split: Tensor = value.unflatten(-1, (self.units, -1))
        return split

    def pre(self, read: Read) -> Tensor:
        return read(0).unsqueeze(-1)

    def outer(self, post: Tensor, read: Read) -> Tensor:
        return (self.post(post) * self.pre(read)).sum((1, 3))

    def spread(self, weight: Tensor) -> Tensor:
        return weight[:, None, :, None]

    def share(self, change: Tensor, how: str) -> Tensor:
        return join(change, 3, how).transpose(0, 1)

    def from_pre(self, values: Any) -> Tensor:
        return torch.as_tensor(1.0)


def one_delay(synapses: Synapses) -> int:
    """The delay of a projection whose synapses share one (the plan turns all others into edges)."""
    if isinstance(synapses.delay, Tensor):
        raise ConfigurationError(f"projection {synapses.name!r} has a delay per synapse, which only edges have")
    return synapses.delay


def per_pre(values: Any, pres: int, device: torch.device) -> Tensor:
    """One number, or one per pre neuron `[Q]`."""
    tensor = torch.as_tensor(values, device=device)
    if tensor.dim() and tensor.shape != (pres,):
        raise ConfigurationError(
            f"got numbers of shape {tuple(tensor.shape)}; allowed: one, or one per pre neuron ({pres})"
        )
    return tensor


def join(change: Tensor, axis: int, how: str) -> Tensor:
    """Synapses tied along `axis`, joined: "sum", "mean", "max", "min", "median" (the lower one)."""
    if how in ("sum", "mean"):
        return change.sum(axis) if how == "sum" else change.mean(axis)
    if how == "median":
        return change.median(axis).values
    return change.amax(axis) if how == "max" else change.amin(axis)


def operation(synapses: Synapses, replicas: int, device: torch.device) -> Operation:
    """The operation of a projection."""
    if synapses.kind == "sparse":
        return SparseOperation(synapses, replicas, device)
    if synapses.kind == "convolution":
        return ConvolutionOperation(synapses, device)
    return DenseOperation(synapses, device) if synapses.kind == "dense" else OneToOneOperation(synapses, device)
