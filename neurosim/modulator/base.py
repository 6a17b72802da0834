"""The third factor: what meets a synapse's eligibility. All that it can see is a `View`.

A modulator returns `m`, broadcastable to `[R, B, P]` (replicas, batch, post-synaptic neurons), or in a dense projection
one number per synapse `[R, B, P, Q]`, which no local rule has (a bias then stays as it is). `scope` states its
locality class: "none", "neuron" (arrives at the neuron), "broadcast" (one number for all), "layer" (sums over the
population).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch

from neurosim.factor import Factor
from neurosim.types import ConfigurationError, Tensor, positive

Memory = dict[str, Any]


def signal_of(signals: Mapping[str, Tensor], name: str, phase: str) -> Tensor:
    """The broadcast signal `name` of a phase; ConfigurationError says which it carries."""
    if name not in signals:
        given = ", ".join(signals) or "none"
        raise ConfigurationError(f"a rule reads the signal {name!r}, but phase {phase!r} carries: {given}")
    return signals[name]


@dataclass(frozen=True)
class View:
    """All that a rule can see at one projection in one step: its two ends, its weight, declared signals, the phase."""

    post: Callable[[Factor], Tensor]  # the value [R, B, P] of a post factor
    pre: Callable[[Factor], Tensor]  # the value [R, B, Q] of a pre factor, as it arrives
    weight: Tensor
    signals: Mapping[str, Tensor]  # declared broadcast signals, [R, B, K]
    phase: str
    step: int  # within the phase
    clock: int  # within the whole simulation
    first: bool
    last: bool
    permutation: Callable[
        [str, int], Tensor
    ]  # (stream, n) -> a random permutation [R, n], fixed by seed, replica and clock
    specialise: Callable[[Callable[..., Any]], Callable[..., Any]]  # an array function, on the backend's machine

    def signal(self, name: str) -> Tensor:
        """The broadcast signal `name`, or one sentence that says which signals the phase carries."""
        return signal_of(self.signals, name, self.phase)


class Modulator(Protocol):
    """A frozen dataclass. `every_step`: called in every step of a phase, not only when the change is formed.

    `of_output`: it speaks of the population's output, so it passes through the lateral's pullback first. One that reads
    the pre end names those factors in a method `pre_factors()`.
    """

    scope: ClassVar[str]
    every_step: ClassVar[bool]
    of_output: ClassVar[bool]

    def factors(self) -> tuple[Factor, ...]: ...  # post factors it reads

    def signals(self) -> tuple[str, ...]: ...  # broadcast signals it reads

    def init(self) -> Memory: ...

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]: ...


@dataclass(frozen=True)
class Unmodulated:
    """m = 1: a two-factor rule."""

    scope: ClassVar[str] = "none"
    every_step: ClassVar[bool] = False
    of_output: ClassVar[bool] = False

    def factors(self) -> tuple[Factor, ...]:
        return ()

    def signals(self) -> tuple[str, ...]:
        return ()

    def init(self) -> Memory:
        return {}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        return torch.ones((), dtype=view.weight.dtype, device=view.weight.device), memory


@dataclass(frozen=True)
class Feedback:
    """m_i = what a projection delivers to the teaching port of neuron i (an error, a learning signal).

    `of_output` False: it does not speak of the neuron's output (a reward), so it does not pass through the lateral.
    """

    of: Factor
    of_output: bool = True
    scope: ClassVar[str] = "neuron"
    every_step: ClassVar[bool] = False

    def factors(self) -> tuple[Factor, ...]:
        return (self.of,)

    def signals(self) -> tuple[str, ...]:
        return ()

    def init(self) -> Memory:
        return {}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        return view.post(self.of), memory


@dataclass(frozen=True)
class Broadcast:
    """m = signal, one number per sample for the whole projection (reward), minus its running mean with `tau` samples.

    mean <- mean + (signal - mean) / tau after use, once per phase (at its last step); it starts at 0, and each row of
    the batch has its own. tau None: no baseline.
    """

    name: str
    tau: float | None = None
    scope: ClassVar[str] = "broadcast"
    every_step: ClassVar[bool] = False
    of_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.tau is not None:
            positive(self.tau, "tau of Broadcast (samples)")

    def factors(self) -> tuple[Factor, ...]:
        return ()

    def signals(self) -> tuple[str, ...]:
        return (self.name,)

    def init(self) -> Memory:
        return {}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        value = view.signal(self.name)
        if self.tau is None:
            return value, memory
        mean = memory.get("mean", torch.zeros_like(value))
        if mean.shape != value.shape:
            raise ConfigurationError(
                f"the running mean of {self.name!r} was taken over a signal of shape {tuple(mean.shape)}, "
                f"but now it has shape {tuple(value.shape)}; every batch row keeps its own mean"
            )
        return value - mean, {"mean": mean + (value - mean) / self.tau} if view.last else memory


@dataclass(frozen=True)
class Shuffled:
    """A null: the modulator's values, dealt to random neurons of the same population, anew in every step.

    The distribution of `m` and everything else stay the same; only who gets which value is lost. If learning survives
    this, it did not need the third factor.
    """

    modulator: Any
    every_step: bool = field(default=False, init=False)
    of_output: bool = field(default=True, init=False)

    scope: ClassVar[str] = "layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "every_step", self.modulator.every_step)
        object.__setattr__(self, "of_output", self.modulator.of_output)

    def factors(self) -> tuple[Factor, ...]:
        factors: tuple[Factor, ...] = self.modulator.factors()
        return factors

    def signals(self) -> tuple[str, ...]:
        signals: tuple[str, ...] = self.modulator.signals()
        return signals

    def init(self) -> Memory:
        memory: Memory = self.modulator.init()
        return memory

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        m, memory = self.modulator.update(view, memory)
        if m.dim() == 0 or m.shape[-1] == 1:  # every neuron has the same value
            return m, memory
        order = view.permutation("shuffled", m.shape[-1])[:, None, :].expand(m.shape)
        return m.gather(-1, order), memory
