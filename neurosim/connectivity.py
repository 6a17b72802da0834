"""Who is connected to whom: descriptions that `compile` turns into indices, replica by replica.

Sparse wiring gives edges `(post, pre)` sorted by post, then pre (an edge list keeps its own order); it is drawn from
the stream (seed, projection, replica), so replicas differ and any backend draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from neurosim.random import Stream
from neurosim.types import Array, ConfigurationError, choice

Shape = tuple[int, ...]
DRAWN = (
    2**16
)  # pairs or edges drawn at once: they stay in the cache (4,000 x 4,000 pairs 1.2 s; 4 M at once 2.7 s, 1 GB)


class Connectivity(Protocol):
    """A frozen dataclass. `kind` is "dense", "one_to_one", "sparse" or "convolution": the operation a backend uses."""

    kind: str


def _units(shape: Shape) -> int:
    return int(np.prod(shape))


def _whole(value: Any, what: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigurationError(f"{what} is {value!r}; it must be a whole number of at least {least}")


@dataclass(frozen=True)
class Dense:
    """Every pre neuron to every post neuron; weight `[P, Q]`."""

    kind = "dense"


@dataclass(frozen=True)
class OneToOne:
    """Neuron i to neuron i; weight `[N]`. Raises ConfigurationError if the sizes differ."""

    kind = "one_to_one"


class Sparse(Protocol):
    """Connectivity that lists edges."""

    kind: str

    def edges(self, posts: int, pres: int, same: bool, stream: Stream, replica: int) -> tuple[Array, Array]: ...


def _sorted(post: Array, pre: Array) -> tuple[Array, Array]:
    order = np.lexsort((pre, post))
    return post[order].astype(np.int64), pre[order].astype(np.int64)


@dataclass(frozen=True)
class FixedProbability:
    """Each pair is connected with `probability`, independently; no autapses within a population unless asked for."""

    probability: float
    autapses: bool = False
    kind = "sparse"

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigurationError(f"probability of FixedProbability is {self.probability}; it must be in [0, 1]")

    def edges(self, posts: int, pres: int, same: bool, stream: Stream, replica: int) -> tuple[Array, Array]:
        chosen_post, chosen_pre = [], []
        rows = max(1, DRAWN // max(pres, 1))
        for start in range(0, posts, rows):
            row = torch.arange(start, min(start + rows, posts))[
                :, None
            ]  # an address of its own: posts x pres passes 2^32
            uniform = stream.uniform(replica=replica, sample=row, element=torch.arange(pres))
            post, pre = np.nonzero(uniform.numpy() < self.probability)
            chosen_post.append(post + start)
            chosen_pre.append(pre)
        post, pre = np.concatenate(chosen_post), np.concatenate(chosen_pre)
        keep = np.ones(len(post), bool) if self.autapses or not same else post != pre
        return _sorted(post[keep], pre[keep])


@dataclass(frozen=True)
class FixedInDegree:
    """Each post neuron gets exactly `degree` inputs, drawn without replacement; no autapses unless asked for."""

    degree: int
    autapses: bool = False
    kind = "sparse"

    def __post_init__(self) -> None:
        _whole(self.degree, "degree of FixedInDegree", 1)

    def edges(self, posts: int, pres: int, same: bool, stream: Stream, replica: int) -> tuple[Array, Array]:
        exclude = same and not self.autapses
        pool = pres - 1 if exclude else pres
        if self.degree > pool:
            raise ConfigurationError(
                f"degree of FixedInDegree is {self.degree}, but only {pool} pre neurons can be chosen"
            )
        pre = np.empty((posts, self.degree), np.int32)
        rows = max(1, DRAWN // self.degree)
        for start in range(0, posts, rows):
            own = np.arange(start, min(start + rows, posts))
            chosen = _sample_rows(start, len(own), pool, self.degree, stream, replica)
            if exclude:  # skip the neuron itself: indices from its own on move up by one
                chosen += chosen >= own[:, None]
            pre[own] = np.sort(chosen, axis=1)
        return np.repeat(np.arange(posts, dtype=np.int32), self.degree), pre.reshape(-1)


def _sample_rows(first: int, rows: int, pool: int, degree: int, stream: Stream, replica: int) -> Array:
    """`[rows, degree]` indices below `pool` from row `first` on, distinct in each row (Floyd 1987: degree draws a row,
    whatever the pool).
    """
    element = torch.arange(first * degree, (first + rows) * degree)
    uniform = stream.uniform(replica=replica, element=element).numpy().reshape(rows, degree)
    chosen = np.empty((rows, degree), np.int64)
    for k in range(degree):
        top = pool - degree + k
        candidate = np.minimum((uniform[:, k] * (top + 1)).astype(np.int64), top)
        taken = (chosen[:, :k] == candidate[:, None]).any(1)
        chosen[:, k] = np.where(taken, top, candidate)
    return chosen


@dataclass(frozen=True, eq=False)
class EdgeList:
    """The given edges, `post [E]` and `pre [E]`; weight and delay arrays follow this order. Two edges may join one
    pair.
    """

    post: Any
    pre: Any
    kind = "sparse"

    def __post_init__(self) -> None:
        shapes = np.shape(self.post), np.shape(self.pre)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise ConfigurationError(
                f"EdgeList needs post and pre of one length; got shapes {shapes[0]} and {shapes[1]}"
            )

    def edges(self, posts: int, pres: int, same: bool, stream: Stream, replica: int) -> tuple[Array, Array]:
        post, pre = np.array(self.post, np.int64), np.array(self.pre, np.int64)
        for name, index, size in (("post", post, posts), ("pre", pre, pres)):
            if len(index) and not (index.min() >= 0 and index.max() < size):
                raise ConfigurationError(f"EdgeList has a {name} index outside 0..{size - 1}")
        return post, pre


@dataclass(frozen=True)
class Conv2d:
    """A convolution with shared weights `[out, in, kernel, kernel]` between populations of shape (channels, height,
    width).

    Beyond the border lie `padding` positions: neurons that send nothing (`padding_mode` "zeros"), or the image
    mirrored at its outermost pixels ("reflect": these neurons then have several synapses of the same kernel).
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    padding_mode: str = "zeros"
    kind = "convolution"

    def __post_init__(self) -> None:
        _whole(self.kernel, "kernel of Conv2d", 1)
        _whole(self.stride, "stride of Conv2d", 1)
        _whole(self.padding, "padding of Conv2d", 0)
        choice(self.padding_mode, ("zeros", "reflect"), "padding_mode of Conv2d")

    def output_shape(self, shape: Shape, channels: int) -> Shape:
        """Shape (channels, height, width) of the post population for a pre population of `shape`."""
        if len(shape) != 3:
            raise ConfigurationError(f"Conv2d needs a pre population of shape (channels, height, width); got {shape}")
        if self.padding_mode == "reflect" and self.padding >= min(shape[1:]):
            raise ConfigurationError(
                f"Conv2d reflects {self.padding} positions, but an image of {shape[1:]} has fewer to reflect"
            )
        height, width = ((length + 2 * self.padding - self.kernel) // self.stride + 1 for length in shape[1:])
        if height < 1 or width < 1:
            raise ConfigurationError(
                f"a kernel of {self.kernel} does not fit into {shape[1:]} with padding {self.padding}"
            )
        return channels, height, width


def _pool_edges(pre_shape: Shape, post_shape: Shape, size: int) -> tuple[Array, Array]:
    if len(pre_shape) != 3 or post_shape != (pre_shape[0], pre_shape[1] // size, pre_shape[2] // size):
        raise ConfigurationError(
            f"pooling by {size} takes (C, H, W) to (C, H // {size}, W // {size}); got {pre_shape} and {post_shape}"
        )
    channel, row, column = np.meshgrid(*(np.arange(n) for n in post_shape), indexing="ij")
    post = np.arange(_units(post_shape)).reshape(post_shape)
    posts, pres = [], []
    for i in range(size):
        for j in range(size):
            posts.append(post.reshape(-1))
            pres.append(((channel * pre_shape[1] + row * size + i) * pre_shape[2] + column * size + j).reshape(-1))
    return _sorted(np.concatenate(posts), np.concatenate(pres))


@dataclass(frozen=True)
class AveragePool:
    """Non-overlapping mean over `size` x `size` positions of each channel; its weights are 1 / size^2 and fixed."""

    size: int
    kind = "sparse"
    combine = "sum"

    def __post_init__(self) -> None:
        _whole(self.size, "size of AveragePool", 1)

    def pool_edges(self, pre_shape: Shape, post_shape: Shape) -> tuple[Array, Array]:
        return _pool_edges(pre_shape, post_shape, self.size)


@dataclass(frozen=True)
class MaxPool:
    """Non-overlapping maximum over `size` x `size` positions of each channel; the port combines by max."""

    size: int
    kind = "sparse"
    combine = "max"

    def __post_init__(self) -> None:
        _whole(self.size, "size of MaxPool", 1)

    def pool_edges(self, pre_shape: Shape, post_shape: Shape) -> tuple[Array, Array]:
        return _pool_edges(pre_shape, post_shape, self.size)
