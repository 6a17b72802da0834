"""Transforms of one synapse's change on its own: rates, schedules, momentum, Adam, decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.types import ConfigurationError, choice, numeric, positive, within
from neurosim.vocabulary import fill, max, min, power, sqrt


def _rate(change: Any, weight: Any, count: Any, lr: Any) -> tuple[Any]:
    return (lr * change,)


@dataclass(frozen=True)
class Rate:
    """change <- lr change. `lr` is a number or an array that broadcasts against the weight (one rate per synapse)."""

    lr: Any
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(_rate)

    def __post_init__(self) -> None:
        positive(self.lr, "lr", zero=True)

    def constants(self) -> tuple[Any, ...]:
        return (self.lr,)


@dataclass(frozen=True)
class Scale:
    """change <- by change, with `by` of either sign: a number, or an array that broadcasts against the weight.

    For rules whose plasticity coefficients are evolved or learned per synapse; a learning rate is a `Rate`.
    """

    by: Any
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(_rate)

    def __post_init__(self) -> None:
        if not np.isfinite(numeric(self.by, "by of Scale")).all():
            raise ConfigurationError(f"by of Scale is {self.by}; it must be finite")

    def constants(self) -> tuple[Any, ...]:
        return (self.by,)


def _linear_schedule(change: Any, weight: Any, count: Any, total: Any, end: Any, every: Any) -> tuple[Any]:
    progress = min(fill(change, (count - count % every) / total), 1.0)
    return ((1.0 + (end - 1.0) * progress) * change,)


@dataclass(frozen=True)
class Schedule:
    """change <- s(count) change with s falling linearly from 1 to `end` over `total` updates, then constant.

    With `every` s moves only once in so many updates (an epoch), and is constant in between.
    """

    total: int
    end: float = 0.0
    every: int = 1
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(_linear_schedule)

    def __post_init__(self) -> None:
        positive(self.total, "total of Schedule (updates)")
        numeric(self.end, "end of Schedule")
        positive(self.every, "every of Schedule (updates)")

    def constants(self) -> tuple[Any, ...]:
        return (float(self.total), self.end, float(self.every))


def _annealed(change: Any, weight: Any, count: Any, half: Any) -> tuple[Any]:
    return (change / (1.0 + count / half),)


@dataclass(frozen=True)
class Annealed:
    """change <- change / (1 + count / half): a rate that falls as a hyperbola, to one half after `half` updates.

    Its sum diverges and the sum of its squares does not, so that noise in the changes averages out (Robbins, Monro
    1951).
    """

    half: float
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(_annealed)

    def __post_init__(self) -> None:
        positive(self.half, "half of Annealed (updates)")

    def constants(self) -> tuple[Any, ...]:
        return (self.half,)


def _less_past(change: Any, weight: Any, count: Any, past: Any, lr: Any) -> tuple[Any, Any]:
    return lr * change - past / max(fill(change, count), 1.0), past + change


@dataclass(frozen=True)
class LessPast:
    """change <- lr change - mean of all earlier changes (nothing at the first), before any rate: what is new in it.

    Memory per synapse: `past`, the sum of the changes that came in (Gupta, Ambikapathi, Ramasamy 2021: the activation
    threshold of HebbNet).
    """

    lr: float = 1.0
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("past",)
    step = staticmethod(_less_past)

    def __post_init__(self) -> None:
        positive(self.lr, "lr of LessPast", zero=True)

    def constants(self) -> tuple[Any, ...]:
        return (self.lr,)


def _momentum(
    change: Any, weight: Any, count: Any, velocity: Any, beta: Any, share: Any, nesterov: Any
) -> tuple[Any, Any]:
    velocity = beta * velocity + share * change
    return nesterov * (share * change + beta * velocity) + (1.0 - nesterov) * velocity, velocity


@dataclass(frozen=True)
class Momentum:
    """velocity <- beta velocity + share change; change <- velocity (Polyak 1964), or share change + beta velocity
    (Nesterov).

    `kind` "heavyball" has share 1, "ema" has share 1 - beta (an exponential moving average).
    """

    beta: float = 0.9
    kind: str = "heavyball"
    nesterov: bool = False
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("velocity",)
    step = staticmethod(_momentum)

    def __post_init__(self) -> None:
        choice(self.kind, ("heavyball", "ema"), "kind of Momentum")
        within(self.beta, 0, 1, "beta of Momentum", "[)")

    def constants(self) -> tuple[Any, ...]:
        return self.beta, 1.0 if self.kind == "heavyball" else 1.0 - self.beta, 1.0 if self.nesterov else 0.0


def _adam(
    change: Any, weight: Any, count: Any, first: Any, second: Any, beta1: Any, beta2: Any, epsilon: Any
) -> tuple[Any, Any, Any]:
    first = beta1 * first + (1.0 - beta1) * change
    second = beta2 * second + (1.0 - beta2) * change * change
    unbiased = first / (1.0 - power(beta1, count + 1.0))
    scale = sqrt(second / (1.0 - power(beta2, count + 1.0))) + epsilon
    return unbiased / scale, first, second


@dataclass(frozen=True)
class Adam:
    """change <- m / (sqrt(v) + epsilon), with bias-corrected running moments m, v of the change (Kingma, Ba 2015).

    Memory per synapse: `first` (m) and `second` (v). The learning rate is a `Rate` after it; AdamW is
    `(Adam(), WeightDecay(wd), Rate(lr))` (Loshchilov, Hutter 2019).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("first", "second")
    step = staticmethod(_adam)

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            within(getattr(self, name), 0, 1, f"{name} of Adam", "[)")
        positive(self.epsilon, "epsilon of Adam")

    def constants(self) -> tuple[Any, ...]:
        return self.beta1, self.beta2, self.epsilon


def _weight_decay(change: Any, weight: Any, count: Any, decay: Any) -> tuple[Any]:
    return (change - decay * weight,)


@dataclass(frozen=True)
class WeightDecay:
    """change <- change - decay weight: before `Adam` it is L2 regularisation, after it decoupled decay."""

    decay: float
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(_weight_decay)

    def __post_init__(self) -> None:
        positive(self.decay, "decay of WeightDecay", zero=True)

    def constants(self) -> tuple[Any, ...]:
        return (self.decay,)


def _clip(change: Any, weight: Any, count: Any, limit: Any) -> tuple[Any]:
    return (max(min(change, limit), -limit),)


@dataclass(frozen=True)
class Clip:
    """change <- change limited to [-limit, limit]."""

    limit: float
    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ()
    step = staticmethod(_clip)

    def __post_init__(self) -> None:
        positive(self.limit, "limit of Clip")

    def constants(self) -> tuple[Any, ...]:
        return (self.limit,)


OPTIMIZERS = ("none", "momentum", "adam", "adamw")


def optimizer(
    name: str, lr: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, weight_decay: float = 0.0
) -> tuple[Any, ...]:
    """The usual chains by name: "none" (plain rate), "momentum", "adam" and "adamw" (decoupled `weight_decay`)."""
    choice(name, OPTIMIZERS, "optimizer")
    if name == "none":
        return (Rate(lr),)
    if name == "momentum":
        return (Momentum(beta1), Rate(lr))
    decay = (WeightDecay(weight_decay),) if name == "adamw" else ()
    return (Adam(beta1, beta2, epsilon), *decay, Rate(lr))
