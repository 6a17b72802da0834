"""Vector steps over a population, applied to its axon output, each with its transposed Jacobian (`pullback`).

`step(x)` maps `[..., N]` to `[..., N]`; `pullback(x, y, g)` maps a cotangent of the output `y = step(x)` to one of `x`.
A modulator that speaks of the output (an error, the third factor of BioHSIC) passes through it on its way to the
synapses. A population with a shape `(channels, height, width)` is normalised over its channels, position by position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from neurosim.types import ConfigurationError, Tensor, positive
from neurosim.vocabulary import (
    abs,
    exp,
    fill,
    log,
    max,
    power,
    row_max,
    row_mean,
    row_softmax,
    row_sum,
    row_top_k,
    sqrt,
    where,
)


class Lateral(Protocol):
    """A frozen dataclass; `scope` is the locality class it costs ("layer": every unit of the population)."""

    scope: ClassVar[str]

    def step(self, x: Tensor) -> Tensor: ...

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor: ...


def _centred(x: Any, epsilon: Any) -> tuple[Any, Any]:
    # Tensor.var takes 100 us on a [30, 10, 10] array, the same in four operations 15 us.
    centred = x - row_mean(x)[..., None]
    return centred, sqrt(row_mean(centred * centred)[..., None] + epsilon)


def layer_norm(x: Any, epsilon: Any) -> Any:
    """Layer norm of `x [..., N]`; array vocabulary."""
    centred, deviation = _centred(x, epsilon)
    return centred / deviation


def layer_norm_pullback(x: Any, y: Any, g: Any, epsilon: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    _, deviation = _centred(x, epsilon)
    return (g - row_mean(g)[..., None] - y * row_mean(g * y)[..., None]) / deviation


@dataclass(frozen=True)
class LayerNorm:
    """y = (x - mean(x)) / sqrt(var(x) + epsilon), biased variance, no affine part (Ba, Kiros, Hinton 2016).

    pullback: (g - mean(g) - y mean(g y)) / sqrt(var(x) + epsilon).
    """

    epsilon: float = 1e-6
    scope: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        positive(self.epsilon, "epsilon of LayerNorm")

    # For compiled backends: f(*arrays, *constants).
    vector: ClassVar[tuple[Any, Any]] = (layer_norm, layer_norm_pullback)

    def constants(self) -> tuple[float, ...]:
        return (self.epsilon,)

    def step(self, x: Tensor) -> Tensor:
        y: Tensor = layer_norm(x, self.epsilon)
        return y

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        pulled: Tensor = layer_norm_pullback(x, y, g, self.epsilon)
        return pulled


def centred(x: Any) -> Any:
    """x - mean(x); array vocabulary."""
    return x - row_mean(x)[..., None]


def centred_pullback(x: Any, y: Any, g: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    return g - row_mean(g)[..., None]


@dataclass(frozen=True)
class Centred:
    """y = x - mean(x); pullback: g - mean(g)."""

    scope: ClassVar[str] = "layer"
    vector: ClassVar[tuple[Any, Any]] = (centred, centred_pullback)

    def constants(self) -> tuple[float, ...]:
        return ()

    def step(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g - g.mean(-1, keepdim=True)


def softmax(x: Any, temperature: Any) -> Any:
    """Softmax of `x / temperature`, `x [..., N]`; array vocabulary."""
    return row_softmax(x / temperature)


def softmax_pullback(x: Any, y: Any, g: Any, temperature: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    return y * (g - row_sum(g * y)[..., None]) / temperature


@dataclass(frozen=True)
class Softmax:
    """y = exp(x / temperature) / sum(exp(x / temperature)); pullback: y (g - sum(g y)) / temperature."""

    temperature: float = 1.0
    scope: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        positive(self.temperature, "temperature of Softmax")

    vector: ClassVar[tuple[Any, Any]] = (softmax, softmax_pullback)

    def constants(self) -> tuple[float, ...]:
        return (self.temperature,)

    def step(self, x: Tensor) -> Tensor:
        y: Tensor = softmax(x, self.temperature)
        return y

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        pulled: Tensor = softmax_pullback(x, y, g, self.temperature)
        return pulled


def log_softmax(x: Any) -> Any:
    """Log-softmax of `x [..., N]`; array vocabulary."""
    shifted = x - row_max(x)[..., None]
    return shifted - log(row_sum(exp(shifted)))[..., None]


def log_softmax_pullback(x: Any, y: Any, g: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    return g - exp(y) * row_sum(g)[..., None]


@dataclass(frozen=True)
class LogSoftmax:
    """y = x - log(sum(exp(x))); pullback: g - exp(y) sum(g)."""

    scope: ClassVar[str] = "layer"
    vector: ClassVar[tuple[Any, Any]] = (log_softmax, log_softmax_pullback)

    def constants(self) -> tuple[float, ...]:
        return ()

    def step(self, x: Tensor) -> Tensor:
        return torch.log_softmax(x, -1)

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g - torch.exp(y) * g.sum(-1, keepdim=True)


def k_winners(x: Any, k: Any) -> Any:
    """The k largest of `x [..., N]` where they are positive, else 0; array vocabulary."""
    return max(x * row_top_k(x, k), 0.0)


def k_winners_pullback(x: Any, y: Any, g: Any, k: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    return where(x > 0.0, g * row_top_k(x, k), fill(g, 0.0))


@dataclass(frozen=True)
class KWinners:
    """The `k` largest positive outputs stay, the others become 0 (a tie goes to the lower index); pullback: g of the
    winners.
    """

    k: int
    scope: ClassVar[str] = "layer"
    keeps_spikes: ClassVar[bool] = True  # a spike stays 1 or becomes 0
    vector: ClassVar[tuple[Any, Any]] = (k_winners, k_winners_pullback)

    def constants(self) -> tuple[float, ...]:
        return (float(self.k),)

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ConfigurationError(f"k of KWinners is {self.k!r}; it must be a whole number >= 1")

    def _mask(self, x: Tensor) -> Tensor:
        if self.k > x.shape[-1]:
            raise ConfigurationError(f"k of KWinners is {self.k}, but the population has {x.shape[-1]} units")
        order = torch.sort(x, dim=-1, descending=True, stable=True).indices[..., : self.k]
        return torch.zeros_like(x).scatter(-1, order, 1.0) * (x > 0)

    def step(self, x: Tensor) -> Tensor:
        return x * self._mask(x)

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return g * self._mask(x)


def _place(x: Tensor, rank: int) -> Tensor:
    """1 at the unit of this rank (1 is the largest; among equals the lower index comes first), 0 elsewhere.

    By the rank-th largest value and a count of its equals: a stable sort of 2,000 units takes ten times as long.
    """
    if rank == 1:
        return torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0)  # the first of equals
    value = torch.topk(x, rank, dim=-1).values[..., -1:]
    equal = x == value
    before = (x > value).sum(-1, keepdim=True)
    return (equal & (equal.cumsum(-1) + before == rank)).to(x.dtype)


def signed_softmax(x: Any, temperature: Any) -> Any:
    """The softmax, negative for all but the largest of `x [..., N]`; array vocabulary."""
    return row_softmax(x / temperature) * (2.0 * row_top_k(x, 1.0) - 1.0)


def signed_softmax_pullback(x: Any, y: Any, g: Any, temperature: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`, the signs held; array vocabulary."""
    return (y * g - abs(y) * row_sum(g * y)[..., None]) / temperature


@dataclass(frozen=True)
class SignedSoftmax:
    """The softmax of x / temperature, negative for all but the largest (soft winner-take-all with anti-Hebbian losers).

    pullback: that of the softmax with the signs on g (they do not move). Journé et al. 2023 (SoftHebb).
    """

    temperature: float = 1.0
    scope: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        positive(self.temperature, "temperature of SignedSoftmax")

    vector: ClassVar[tuple[Any, Any]] = (signed_softmax, signed_softmax_pullback)

    def constants(self) -> tuple[float, ...]:
        return (self.temperature,)

    def step(self, x: Tensor) -> Tensor:
        return torch.softmax(x / self.temperature, -1) * (2.0 * _place(x, 1) - 1.0)

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return (y * g - y.abs() * (g * y).sum(-1, keepdim=True)) / self.temperature


def hardest(x: Any, k: Any, delta: Any) -> Any:
    """1 for the largest of `x [..., N]`, 0 for the others; array vocabulary."""
    return row_top_k(x, 1.0)


def ranked(x: Any, k: Any, delta: Any) -> Any:
    """1 for the largest of `x [..., N]`, -delta for the one of rank k, 0 for the others; array vocabulary."""
    return row_top_k(x, 1.0) - delta * (row_top_k(x, k) - row_top_k(x, k - 1.0))


def ranked_pullback(x: Any, y: Any, g: Any, k: Any, delta: Any) -> Any:
    """Zero; array vocabulary."""
    return fill(g, 0.0)


@dataclass(frozen=True)
class Ranked:
    """1 for the largest, -delta for the unit of rank `k`, 0 for all others (delta 0: a hard winner-take-all).

    A tie goes to the lower index; pullback: 0, the ranks do not move. Krotov, Hopfield 2019.
    """

    k: int = 2
    delta: float = 0.0
    scope: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 2:
            raise ConfigurationError(
                f"k of Ranked is {self.k!r}; it must be a whole number of at least 2 (rank 1 wins)"
            )
        positive(self.delta, "delta of Ranked", zero=True)

    @property
    def vector(self) -> tuple[Any, Any]:
        return (hardest if self.delta == 0 else ranked), ranked_pullback

    def constants(self) -> tuple[float, ...]:
        return (float(self.k), self.delta)

    def step(self, x: Tensor) -> Tensor:
        if self.delta == 0:
            return _place(x, 1)
        if self.k > x.shape[-1]:
            raise ConfigurationError(f"k of Ranked is {self.k}, but the population has {x.shape[-1]} units")
        return _place(x, 1) - self.delta * _place(x, self.k)

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        return torch.zeros_like(g)


def above_mean(x: Any, exponent: Any) -> Any:
    """max(x - mean(x), 0) over `x [..., N]`; array vocabulary."""
    return max(x - row_mean(x)[..., None], 0.0)


def above_mean_pullback(x: Any, y: Any, g: Any, exponent: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    h = where(y > 0.0, g, fill(g, 0.0))
    return h - row_mean(h)[..., None]


def triangle(x: Any, exponent: Any) -> Any:
    """max(x - mean(x), 0)^exponent over `x [..., N]`; array vocabulary."""
    return power(max(x - row_mean(x)[..., None], 0.0), exponent)


def triangle_pullback(x: Any, y: Any, g: Any, exponent: Any) -> Any:
    """Its transposed Jacobian on `g [..., N]`; array vocabulary."""
    over = x - row_mean(x)[..., None]
    safe = where(over > 0.0, over, fill(over, 1.0))
    h = where(over > 0.0, g * exponent * power(safe, exponent - 1.0), fill(g, 0.0))
    return h - row_mean(h)[..., None]


@dataclass(frozen=True)
class Triangle:
    """y = max(x - mean(x), 0)^power (Coates, Ng, Lee 2011 with power 1; SoftHebb's activation).

    pullback: h - mean(h), h = g power max(x - mean(x), 0)^(power - 1), 0 where y is 0.
    """

    power: float = 1.0
    scope: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        positive(self.power, "power of Triangle")

    @property
    def vector(self) -> tuple[Any, Any]:
        """Without the power where it is 1: it would take most of the time."""
        return (above_mean, above_mean_pullback) if self.power == 1.0 else (triangle, triangle_pullback)

    def constants(self) -> tuple[float, ...]:
        return (self.power,)

    def step(self, x: Tensor) -> Tensor:
        return torch.relu(x - x.mean(-1, keepdim=True)) ** self.power

    def pullback(self, x: Tensor, y: Tensor, g: Tensor) -> Tensor:
        over = x - x.mean(-1, keepdim=True)
        safe = torch.where(over > 0, over, torch.ones_like(over))
        h = torch.where(over > 0, g * self.power * safe ** (self.power - 1.0), torch.zeros_like(g))
        return h - h.mean(-1, keepdim=True)


@dataclass(frozen=True)
class Pullback:
    """The transposed Jacobian of another population's lateral, as the step of an error population: y = J(of)^T x.

    Lets an error travel below a layer norm by wiring alone (backprop, feedback alignment). `of` names the population.
    """

    of: str
    scope: ClassVar[str] = "layer"
