"""Changes of the change: what happens to the accumulated `G` before it reaches the weight (`w + T_n(...T_1(G))`).

A pointwise transform is one scalar function, specialised like a neuron:
`step(change, weight, count, *memory, *constants) -> (change, *memory)`, where `count` is the number of earlier updates.
A transform that looks at neighbouring synapses gets a `layout` that knows rows and blocks of any connectivity:
`update(change, weight, layout) -> change`. G is *added* to the weight: signs live in the rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from neurosim.types import ConfigurationError, Tensor, choice, positive
from neurosim.vocabulary import fill, max, min, power, sqrt


class Layout(Protocol):
    """Sums over a weight's neighbours, for any connectivity; each result broadcasts against the weight."""

    def row_sum(self, x: Tensor) -> Tensor: ...  # over all inputs of one post-synaptic neuron

    def row_max(self, x: Tensor) -> Tensor: ...

    def total_max(self, x: Tensor) -> Tensor: ...  # over the whole projection, replica by replica

    def total_percentile(
        self, x: Tensor, percent: float
    ) -> Tensor: ...  # the same: entry round(percent / 100 (n - 1)) of all

    def block_sum(
        self, x: Tensor, block: int
    ) -> tuple[Tensor, Tensor]: ...  # sum and size of blocks of consecutive inputs

    def from_pre(self, values: Any) -> Tensor: ...  # one value per pre-synaptic neuron, spread over the weight


class Transform(Protocol):
    """A frozen dataclass. `pointwise` transforms have `step`, `constants()` and `memory`; the others have `update`."""

    pointwise: ClassVar[bool]
    memory: ClassVar[tuple[str, ...]]


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
        positive(self.every, "every of Schedule (updates)")

    def constants(self) -> tuple[Any, ...]:
        return (float(self.total), self.end, float(self.every))


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
        if not 0 <= self.beta < 1:
            raise ConfigurationError(f"beta of Momentum is {self.beta}; it must be in [0, 1)")

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
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name} of Adam is {getattr(self, name)}; it must be in [0, 1)")
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


@dataclass(frozen=True)
class Normalised:
    """change <- change / (max|change| + epsilon), over the whole projection ("all") or each post-synaptic neuron
    ("row").

    `by` "norm" divides by the Euclidean norm of the row instead (row only).
    """

    over: str = "all"
    by: str = "max"
    epsilon: float = 1e-30
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        choice(self.over, ("all", "row"), "over of Normalised")
        choice(self.by, ("max", "norm"), "by of Normalised")
        if self.by == "norm" and self.over == "all":
            raise ConfigurationError("Normalised by 'norm' works over 'row'; over 'all' it divides by 'max'")

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        if self.by == "norm":
            return change / (layout.row_sum(change * change).sqrt() + self.epsilon)
        largest = layout.row_max(change.abs()) if self.over == "row" else layout.total_max(change.abs())
        return change / (largest + self.epsilon)


@dataclass(frozen=True)
class NormRate:
    """change <- (| norm(w_i) - norm | + epsilon)^power change: fast while a row is far from the norm where it settles.

    norm(w_i) is the Euclidean norm of the inputs of neuron i (Moraitis et al. 2022; Journé et al. 2023: power 0.5).
    """

    power: float = 0.5
    norm: float = 1.0
    epsilon: float = 1e-10
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        positive(self.power, "power of NormRate", zero=True)
        positive(self.norm, "norm of NormRate")
        positive(self.epsilon, "epsilon of NormRate", zero=True)

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        distance = (layout.row_sum(weight * weight).sqrt() - self.norm).abs()
        return change * (distance + self.epsilon) ** self.power


@dataclass(frozen=True)
class Sparsify:
    """Changes below the `percent`-th percentile of the whole projection become 0 (signed values: the largest stay).

    The percentile is the entry round(percent / 100 (n - 1)) of the n sorted changes (Gupta et al. 2021). `by` "size"
    compares |change| instead.
    """

    percent: float
    by: str = "value"
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        choice(self.by, ("value", "size"), "by of Sparsify")
        if not 0 <= self.percent <= 100:
            raise ConfigurationError(f"percent of Sparsify is {self.percent}; it must be in [0, 100]")

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        compared = change.abs() if self.by == "size" else change
        return change * (compared >= layout.total_percentile(compared, self.percent))


@dataclass(frozen=True)
class Heterosynaptic:
    """Coupling between neighbouring synapses of one post-synaptic neuron: change <- H^-1 change, block by block.

    Blocks are `block` consecutive inputs of the same neuron (the last may be shorter); on a block of n synapses
    H = (1 - alpha) I + alpha 1 1^T, whose inverse needs no solve (Sherman-Morrison):
    H^-1 g = (g - alpha sum(g) / (1 + (n - 1) alpha)) / (1 - alpha). Raises ConfigurationError unless -1/(block - 1) <
    alpha < 1.
    """

    alpha: float
    block: int
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.block, bool) or not isinstance(self.block, int) or self.block < 1:
            raise ConfigurationError(
                f"block of Heterosynaptic is {self.block!r}; it must be a whole number of at least 1"
            )
        lowest = -1.0 / (self.block - 1) if self.block > 1 else float("-inf")
        if not lowest < self.alpha < 1:
            raise ConfigurationError(
                f"alpha of Heterosynaptic is {self.alpha}; it must be in ({lowest}, 1) for block {self.block}"
            )

    def update(self, change: Tensor, weight: Tensor, layout: Layout) -> Tensor:
        total, size = layout.block_sum(change, self.block)
        return (change - self.alpha * total / (1.0 + (size - 1.0) * self.alpha)) / (1.0 - self.alpha)


@dataclass(frozen=True)
class Chain:
    """Several transforms as one, applied in order."""

    transforms: tuple[Any, ...]


def flatten(transforms: tuple[Any, ...]) -> tuple[Any, ...]:
    """Transforms with every `Chain` opened."""
    result: list[Any] = []
    for transform in transforms:
        result.extend(flatten(transform.transforms) if isinstance(transform, Chain) else (transform,))
    return tuple(result)


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
