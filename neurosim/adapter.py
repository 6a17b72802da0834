"""Encoders turn values into a drive, decoders turn a recorded output into values.

An encoder is called as `encoder(x, steps, dt, stream, replica, samples, start=0)`: `x [B, N]` or `[R, B, N]`,
`replica [R]` and `samples [B]` are the ids that address the random `stream`, `start` is the first step's address there:
pass the number of steps already drawn to get fresh noise when a sample is shown again. It returns `Held` or a tensor
`[T, R, B, N]`. An encoder whose drive is 0 or 1 per step says so: `spikes = True`.

A decoder is called as `decoder(output, dt)` with the recorded output `[T, R, B, N]` (or `[T, B, N]`) and returns the
same without T; gradients pass. Times are in ms, rates in Hz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from neurosim.phase import Held
from neurosim.random import Stream, grid
from neurosim.types import ConfigurationError, Tensor, choice, numeric, positive


class Encoder(Protocol):
    def __call__(
        self, x: Tensor, steps: int, dt: float, stream: Stream, replica: Tensor, samples: Tensor, start: int = 0
    ) -> Held | Tensor: ...


class Decoder(Protocol):
    def __call__(self, output: Tensor, dt: float) -> Tensor: ...


def _check(x: Tensor, replica: Tensor, samples: Tensor) -> None:
    allowed = {(len(samples),), (len(replica), len(samples))}
    if x.dim() not in (2, 3) or tuple(x.shape[:-1]) not in allowed:
        raise ConfigurationError(
            f"an encoder got x of shape {tuple(x.shape)} with {len(replica)} replicas and {len(samples)} samples; "
            "allowed: [B, N] or [R, B, N]"
        )


def _inside(x: Tensor, low: float, high: float, outside: str, owner: str) -> Tensor:
    """`x` clipped to [low, high], or a sentence if it reaches outside and `outside` is "error"."""
    if outside == "clip":
        return x.clamp(low, high)
    if x.numel() and not bool(((x >= low) & (x <= high)).all()):
        allowed = f"{low:g} to {high:g} (low, high)" if math.isfinite(low) else f"at most {high:g} (high)"
        raise ConfigurationError(
            f"{owner} got values from {float(x.min()):g} to {float(x.max()):g}; allowed: {allowed}, or outside=clip"
        )
    return x


def _range(low: float, high: float, owner: str) -> None:
    if not -math.inf < _number(low, f"{owner} low") < _number(high, f"{owner} high") < math.inf:
        raise ConfigurationError(f"{owner} has low {low} and high {high}; they must be finite and low < high")


def _number(value: float, what: str) -> float:
    return float(numeric(value, what))


@dataclass(frozen=True)
class Hold:
    """Constant drive `scale * x + offset` during all steps (in the units of the driven port)."""

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _number(self.scale, "Hold scale")
        _number(self.offset, "Hold offset")

    def __call__(
        self, x: Tensor, steps: int, dt: float, stream: Stream, replica: Tensor, samples: Tensor, start: int = 0
    ) -> Held:
        _check(x, replica, samples)
        return Held(self.scale * x + self.offset)


@dataclass(frozen=True)
class Poisson:
    """Independent spikes: in each step a spike (1.0) with probability `p = rate * dt / 1000`, else 0.0.

    `rate = min_rate + (max_rate - min_rate) * (x - low) / (high - low)` in Hz. Values outside [low, high] are an error
    (`outside="error"`) or clipped (`outside="clip"`). A Bernoulli draw per step; it is an error if p can exceed 1.
    Spike where `uniform(replica, sample, start + step, neuron) < p`.
    """

    max_rate: float = 100.0
    min_rate: float = 0.0
    low: float = 0.0
    high: float = 1.0
    outside: str = "error"
    spikes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(self.max_rate, "Poisson max_rate")
        positive(self.min_rate, "Poisson min_rate", zero=True)
        _range(self.low, self.high, "Poisson")
        choice(self.outside, ("error", "clip"), "Poisson outside")

    def __call__(
        self, x: Tensor, steps: int, dt: float, stream: Stream, replica: Tensor, samples: Tensor, start: int = 0
    ) -> Tensor:
        _check(x, replica, samples)
        fastest = max(self.max_rate, self.min_rate)
        if fastest * dt > 1000.0:
            raise ConfigurationError(
                f"Poisson with rate {fastest:g} Hz and dt = {dt:g} ms has {fastest * dt / 1000:g} spikes per step; "
                f"allowed: at most 1, that is a rate up to {1000 / dt:g} Hz"
            )
        x = _inside(x, self.low, self.high, self.outside, "Poisson")
        rate = self.min_rate + (self.max_rate - self.min_rate) * (x - self.low) / (self.high - self.low)
        probability = rate * (dt / 1000.0)
        neurons = x.shape[-1]
        raster = x.new_empty(steps, len(replica), len(samples), neurons)
        # Step by step the generator's intermediate words stay in the cache: three times faster than all steps at once.
        for step in range(steps):
            address = grid(replica, samples, [start + step], neurons)
            raster[step] = stream.uniform(*address, dtype=x.dtype)[0] < probability
        return raster


@dataclass(frozen=True)
class Latency:
    """One spike per neuron, earlier for a larger value; none where `x <= threshold`.

    `mode="linear"`: `t = t_min + (t_max - t_min) * (high - x) / (high - threshold)`;
    `mode="log"`:    `t = t_min + (t_max - t_min) * ln(high / x) / ln(high / threshold)`, which needs threshold > 0.
    So `x = high` spikes at `t_min` and `x -> threshold` at `t_max` (ms from the start). The spike lies in step k with
    k dt < t <= (k + 1) dt (t = 0: in step 0). Values above `high` are an error or clipped (`outside`).
    """

    t_min: float = 0.0
    t_max: float = 20.0
    threshold: float = 0.0
    high: float = 1.0
    mode: str = "linear"
    outside: str = "error"
    spikes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= _number(self.t_min, "Latency t_min") < _number(self.t_max, "Latency t_max") < math.inf:
            raise ConfigurationError(
                f"Latency has t_min {self.t_min}, t_max {self.t_max} ms; allowed: 0 <= t_min < t_max"
            )
        _range(self.threshold, self.high, "Latency (low is its threshold)")
        choice(self.mode, ("linear", "log"), "Latency mode")
        choice(self.outside, ("error", "clip"), "Latency outside")
        if self.mode == "log" and self.threshold <= 0:
            raise ConfigurationError(f"Latency with mode log has threshold {self.threshold}; it must be > 0")

    def times(self, x: Tensor) -> Tensor:
        """Spike times in ms, `inf` where there is none; same shape as `x`."""
        x = _inside(x, -math.inf, self.high, self.outside, "Latency")
        if self.mode == "linear":
            part = (self.high - x) / (self.high - self.threshold)
        else:
            part = torch.log(self.high / x.clamp(min=self.threshold)) / math.log(self.high / self.threshold)
        times = self.t_min + (self.t_max - self.t_min) * part
        return torch.where(x > self.threshold, times, torch.full_like(times, math.inf))

    def __call__(
        self, x: Tensor, steps: int, dt: float, stream: Stream, replica: Tensor, samples: Tensor, start: int = 0
    ) -> Tensor:
        _check(x, replica, samples)
        if math.ceil(self.t_max / dt - 1e-6) > steps:
            end = steps * dt
            raise ConfigurationError(
                f"Latency has t_max {self.t_max} ms, but {steps} steps of {dt} ms end at {end:g} ms"
            )
        # In float64 and with a tolerance, so that a time which is a multiple of dt stays in its step.
        row = torch.ceil(self.times(x.to(torch.float64)) / dt - 1e-6).clamp(min=1) - 1
        raster = (torch.arange(steps, device=x.device).reshape(-1, *[1] * x.dim()) == row).to(x.dtype)
        return (raster if x.dim() == 3 else raster[:, None]).expand(steps, len(replica), *x.shape[-2:])


def _mean(output: Tensor) -> Tensor:
    """The mean over the first axis; torch's own would make the gradient of every step an array of its own."""
    return output.sum(0) / len(output)


def _final(output: Tensor, last: int | None) -> Tensor:
    """The final `last` steps of `[T, ...]` (None: all)."""
    if last is None:
        return output
    if last > len(output):
        raise ConfigurationError(f"a decoder has last {last}, but the output has {len(output)} steps")
    return output[len(output) - last :]


def _check_last(last: int | None, owner: str) -> None:
    if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 1):
        raise ConfigurationError(f"{owner} has last {last!r}; it must be an integer >= 1, or null for all steps")


@dataclass(frozen=True)
class Last:
    """The output of the final step: `y = o_T`."""

    def __call__(self, output: Tensor, dt: float) -> Tensor:
        return output[-1]


@dataclass(frozen=True)
class Mean:
    """Mean over the final `last` steps (None: all): `y = 1/L sum_t o_t`."""

    last: int | None = None

    def __post_init__(self) -> None:
        _check_last(self.last, "Mean")

    def __call__(self, output: Tensor, dt: float) -> Tensor:
        return _mean(_final(output, self.last))


@dataclass(frozen=True)
class Count:
    """Sum over the final `last` steps (None: all), the number of spikes: `y = sum_t o_t`."""

    last: int | None = None

    def __post_init__(self) -> None:
        _check_last(self.last, "Count")

    def __call__(self, output: Tensor, dt: float) -> Tensor:
        return _final(output, self.last).sum(0)


@dataclass(frozen=True)
class MeanRate:
    """Mean firing rate in Hz over the final `last` steps (None: all): `y = 1000 / (L dt) sum_t o_t`, dt in ms."""

    last: int | None = None

    def __post_init__(self) -> None:
        _check_last(self.last, "MeanRate")

    def __call__(self, output: Tensor, dt: float) -> Tensor:
        return _mean(_final(output, self.last)) * (1000.0 / dt)
