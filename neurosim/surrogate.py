"""Surrogates: what stands in for the derivative of the step function `heaviside(x)`, x = v - v_th.

Each is a frozen dataclass of parameters with one scalar function `derivative(x, *constants)`, written in the words of
`neurosim.vocabulary`, so that torch and numba run the same source. The lookup names are snnTorch's, and the values
agree with snnTorch's backward functions; two differences are said where they are (`triangular`, and the operators
of snnTorch that draw random numbers, which are refused).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from neurosim.types import ConfigurationError, positive
from neurosim.vocabulary import abs, exp, fill, max, where


class Surrogate(Protocol):
    """A derivative for heaviside: `derivative(x, *constants())`. Hashable: specialised steps are cached by it."""

    @property
    def derivative(self) -> Callable[..., Any]: ...

    def constants(self) -> tuple[float, ...]: ...

    def __hash__(self) -> int: ...


def _fast_sigmoid(x: Any, slope: Any) -> Any:
    root = slope * abs(x) + 1.0
    return 1.0 / (root * root)


def _atan(x: Any, half: Any, scale: Any) -> Any:
    scaled = scale * x
    return half / (1.0 + scaled * scaled)


def _sigmoid(x: Any, slope: Any) -> Any:
    small = exp(-slope * abs(x))  # the derivative is even, so the overflow of exp(-slope x) is avoided
    return slope * small / ((1.0 + small) * (1.0 + small))


def _triangular(x: Any, height: Any, width: Any) -> Any:
    return height * max(1.0 - abs(x) / width, 0.0)


def _signed(x: Any, threshold: Any) -> Any:
    return where(x >= 0.0, fill(x, -1.0), 1.0) * threshold


def _straight_through(x: Any) -> Any:
    return fill(x, 1.0)


def _spike_rate_escape(x: Any, slope: Any, beta: Any) -> Any:
    return slope * exp(-beta * abs(x - 1.0))


def _leaky_spike(x: Any, slope: Any) -> Any:
    return where(x > 0.0, fill(x, 1.0), slope)


def _sparse_fast_sigmoid(x: Any, slope: Any, bound: Any) -> Any:
    return where(x > bound, _fast_sigmoid(x, slope), 0.0)


@dataclass(frozen=True)
class FastSigmoid:
    """1 / (slope |x| + 1)^2 (Zenke & Ganguli 2018, SuperSpike). `slope` > 0, per unit of x."""

    slope: float = 25.0
    derivative = staticmethod(_fast_sigmoid)

    def constants(self) -> tuple[float, ...]:
        return (float(positive(self.slope, "slope of FastSigmoid")),)


@dataclass(frozen=True)
class ATan:
    """(alpha / 2) / (1 + (pi alpha x / 2)^2) (Fang et al. 2021). `alpha` > 0, per unit of x."""

    alpha: float = 2.0
    derivative = staticmethod(_atan)

    def constants(self) -> tuple[float, ...]:
        alpha = float(positive(self.alpha, "alpha of ATan"))
        return alpha / 2.0, math.pi / 2.0 * alpha


@dataclass(frozen=True)
class Sigmoid:
    """slope e / (1 + e)^2, e = exp(-slope |x|): the derivative of the logistic function. `slope` > 0, per unit of x."""

    slope: float = 25.0
    derivative = staticmethod(_sigmoid)

    def constants(self) -> tuple[float, ...]:
        return (float(positive(self.slope, "slope of Sigmoid")),)


@dataclass(frozen=True)
class Triangular:
    """(gamma / width) max(0, 1 - |x| / width), the hat of e-prop (Bellec et al. 2020), which has `width` = v_th.

    `gamma` is dimensionless, `width` > 0 in units of x. snnTorch's function of this name is `SignedThreshold`.
    """

    gamma: float = 0.3
    width: float = 1.0
    derivative = staticmethod(_triangular)

    def constants(self) -> tuple[float, ...]:
        width = float(positive(self.width, "width of Triangular"))
        return float(positive(self.gamma, "gamma of Triangular")) / width, width


@dataclass(frozen=True)
class SignedThreshold:
    """+threshold below 0 and -threshold from 0 on: what snnTorch calls `triangular`, its sign included."""

    threshold: float = 1.0
    derivative = staticmethod(_signed)

    def constants(self) -> tuple[float, ...]:
        return (float(positive(self.threshold, "threshold of SignedThreshold")),)


@dataclass(frozen=True)
class StraightThrough:
    """1 everywhere (Bengio et al. 2013)."""

    derivative = staticmethod(_straight_through)

    def constants(self) -> tuple[float, ...]:
        return ()


@dataclass(frozen=True)
class SpikeRateEscape:
    """slope exp(-beta |x - 1|) (Gerstner & Kistler 2002; snnTorch's form). `slope`, `beta` > 0."""

    beta: float = 1.0
    slope: float = 25.0
    derivative = staticmethod(_spike_rate_escape)

    def constants(self) -> tuple[float, ...]:
        slope = float(positive(self.slope, "slope of SpikeRateEscape"))
        return slope, float(positive(self.beta, "beta of SpikeRateEscape"))


@dataclass(frozen=True)
class LeakySpike:
    """1 where x > 0, else `slope` >= 0 (snnTorch's LeakySpikeOperator)."""

    slope: float = 0.1
    derivative = staticmethod(_leaky_spike)

    def constants(self) -> tuple[float, ...]:
        return (float(positive(self.slope, "slope of LeakySpike", zero=True)),)


@dataclass(frozen=True)
class SparseFastSigmoid:
    """1 / (slope |x| + 1)^2 where x > B, else 0 (Perez-Nieves & Goodman 2021). `B` in units of x, of either sign."""

    slope: float = 25.0
    B: float = 1.0
    derivative = staticmethod(_sparse_fast_sigmoid)

    def constants(self) -> tuple[float, ...]:
        if not math.isfinite(self.B):
            raise ConfigurationError(f"B of SparseFastSigmoid is {self.B}; it must be a finite number")
        return float(positive(self.slope, "slope of SparseFastSigmoid")), float(self.B)


FAST_SIGMOID = FastSigmoid()
FAST_SIGMOID_MILLIVOLT = FastSigmoid(slope=1.0)  # for neurons whose v is in mV: as wide as a few mV
HAT = Triangular()

SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "fast_sigmoid": FastSigmoid,
    "atan": ATan,
    "sigmoid": Sigmoid,
    "triangular": Triangular,
    "signed_threshold": SignedThreshold,
    "straight_through_estimator": StraightThrough,
    "spike_rate_escape": SpikeRateEscape,
    "LSO": LeakySpike,
    "SFS": SparseFastSigmoid,
}


def surrogate(name: str, **parameters: float) -> Surrogate:
    """The surrogate called `name`, with its parameters; ConfigurationError for an unknown name or parameter."""
    if name == "SSO":
        raise ConfigurationError(
            "surrogate 'SSO' draws random numbers in its derivative; "
            f"ours are functions of x alone, allowed: {', '.join(SURROGATES)}"
        )
    if name not in SURROGATES:
        raise ConfigurationError(f"surrogate is {name!r}; allowed: {', '.join(SURROGATES)}")
    try:
        made = SURROGATES[name](**parameters)
    except TypeError as error:
        raise ConfigurationError(f"surrogate {name!r} does not take {', '.join(parameters)}: {error}") from error
    made.constants()
    return made
