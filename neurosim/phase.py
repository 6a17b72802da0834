"""What happens during a stretch of time: drive, broadcast signals, and what is allowed to learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from neurosim.stage import STARTS, Stage
from neurosim.types import Array, ConfigurationError, Tensor, choice
from neurosim.wiring import TARGET


def _tensor(value: Any, what: str, dimensions: tuple[int, ...], letters: str) -> Tensor:
    """`value` as a numeric tensor with one of the allowed numbers of dimensions, or a sentence that names `what`."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        raise ConfigurationError(f"{what} is a {kind} that is no numeric array; allowed: {letters}") from error
    if tensor.dim() not in dimensions:
        raise ConfigurationError(f"{what} has shape {tuple(tensor.shape)}; allowed: {letters}")
    return tensor


@dataclass(frozen=True, eq=False)
class Held:
    """A drive that is constant during the phase: `x [B, N]`, or `[R, B, N]` with replicas; it is not copied T times."""

    x: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", _tensor(self.x, "a held drive", (2, 3), "[B, N] or [R, B, N]"))


@dataclass(frozen=True, eq=False)
class Spikes:
    """Spikes at given times, the same for every sample and replica: `times` is one list of times in ms per neuron.

    Times count from the start of the phase. Step k takes the spikes with k dt < t <= (k + 1) dt, so that the times
    which `neurosim.recorder.spike_times` reads from a raster give that raster again; two spikes in one step count 2.
    """

    times: tuple[Array, ...]

    def __post_init__(self) -> None:
        try:
            times = tuple(np.asarray(one, dtype=float).copy() for one in self.times)
        except (TypeError, ValueError) as error:
            raise ConfigurationError("Spikes needs one list of spike times in ms per neuron") from error
        if not times or any(one.ndim != 1 for one in times):
            shapes = [one.shape for one in times]
            raise ConfigurationError(f"Spikes needs one list of spike times in ms per neuron; it got shapes {shapes}")
        object.__setattr__(self, "times", times)

    def raster(self, steps: int, dt: float, dtype: torch.dtype = torch.float64) -> Tensor:
        """Spike counts `[T, 1, N]` (the 1 is the batch axis); ConfigurationError for a time outside (0, steps * dt]."""
        raster = torch.zeros(steps, 1, len(self.times), dtype=dtype)
        for neuron, times in enumerate(self.times):
            # A time such as 0.3 ms at dt = 0.1 ms must not move a step by a rounding error of the quotient.
            rows = np.ceil(times / dt - 1e-6)
            wrong = times[~((rows >= 1) & (rows <= steps))]
            if wrong.size:
                raise ConfigurationError(
                    f"neuron {neuron} has a spike at {wrong[0]} ms; allowed: 0 < t <= {steps * dt:g} ms (the end)"
                )
            index = torch.as_tensor(rows.astype(np.int64) - 1)
            raster[:, 0, neuron].index_add_(0, index, torch.ones(len(index), dtype=dtype))
        return raster


Drive: TypeAlias = Held | Spikes | Tensor


def _names(value: Any, what: str) -> tuple[str, ...]:
    words = isinstance(value, Sequence) and not isinstance(value, str)
    if not words or not all(isinstance(one, str) and one for one in value):
        raise ConfigurationError(f"{what} is {value!r}; it must be a tuple of names")
    return tuple(value)


@dataclass(frozen=True, eq=False)
class Phase:
    """A stretch of `steps` time steps under one condition.

    - `drive`: "population" or "population.port" -> `Held`, `Spikes`, or an array `[T, B, N]` or `[T, R, B, N]` with
      T = `steps`.
    - `signals`: broadcast signals that rules may read (reward, one-hot label), constant in the phase: `[B, K]` or
      `[R, B, K]`.
    - `learn`: True (every rule), False (none), or the names of the projections whose rules run. A rule that does not
      run stands still: its eligibility neither grows nor decays (traces of neurons do).
    - `silent`: names of projections that deliver nothing in this phase.
    - `noise`: False hands zeros to every neuron that draws noise, and leaves every weight unperturbed.
    - `start`: "carried" goes on from the activity there is; "trial" from what it was at the start of the trial.
    - `samples [B]`: ids >= 0 that address the random streams, so that a sample's noise does not depend on its batch;
      None is 0..B-1.

    What can be checked without a network is checked here, the rest by `check`: ConfigurationError, one sentence.
    """

    name: str
    steps: int
    drive: Mapping[str, Drive] = field(default_factory=dict)
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    learn: bool | tuple[str, ...] = True
    silent: tuple[str, ...] = ()
    noise: bool = True
    samples: Tensor | None = None
    start: str = "carried"
    _sizes: tuple[int | None, int | None] = field(init=False, repr=False)  # rows and replicas, as the arrays say

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigurationError(f"a phase's name is {self.name!r}; it must be a non-empty string")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ConfigurationError(f"phase {self.name!r} has steps {self.steps!r}; it must be an integer >= 1")
        learn = self.learn if isinstance(self.learn, bool) else _names(self.learn, f"learn of phase {self.name!r}")
        if not isinstance(self.noise, bool):
            raise ConfigurationError(f"noise of phase {self.name!r} is {self.noise!r}; it must be true or false")
        choice(self.start, STARTS, f"start of phase {self.name!r}")
        parts = {
            "drive": {target: self._drive(target, value) for target, value in self.drive.items()},
            "signals": {name: self._signal(name, value) for name, value in self.signals.items()},
            "learn": learn,
            "silent": _names(self.silent, f"silent of phase {self.name!r}"),
            "samples": self._samples(),
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)
        shapes = self._shapes()
        object.__setattr__(self, "_sizes", (self._agree(shapes, "batch", -2), self._agree(shapes, "replicas", -3)))

    def _drive(self, target: str, value: Any) -> Drive:
        words = target.split(".") if isinstance(target, str) else []
        if len(words) not in (1, 2) or not all(words):
            raise ConfigurationError(
                f"phase {self.name!r} drives {target!r}; allowed: 'population' or 'population.port'"
            )
        if isinstance(value, Held | Spikes):
            return value
        allowed = "Held, Spikes, [T, B, N] or [T, R, B, N]"
        tensor = _tensor(value, f"drive {target!r} of phase {self.name!r}", (3, 4), allowed)
        if len(tensor) != self.steps:
            raise ConfigurationError(
                f"drive {target!r} has shape {tuple(tensor.shape)}, but phase {self.name!r} has {self.steps} steps; "
                "the first axis is time"
            )
        return tensor

    def _signal(self, name: str, value: Any) -> Tensor:
        return _tensor(value, f"signal {name!r} of phase {self.name!r}", (2, 3), "[B, K] or [R, B, K]")

    def _samples(self) -> Tensor | None:
        if self.samples is None:
            return None
        samples = _tensor(self.samples, f"samples of phase {self.name!r}", (1,), "integer ids [B]")
        if samples.is_floating_point() or samples.dtype == torch.bool or (samples.numel() and int(samples.min()) < 0):
            raise ConfigurationError(f"samples of phase {self.name!r} must be integer ids >= 0")
        return samples.to(torch.int64)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Every array's shape without its time axis: `[B, N]` or `[R, B, N]`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for target, value in self.drive.items():
            if isinstance(value, Held):
                shapes[f"drive {target!r}"] = tuple(value.x.shape)
            elif isinstance(value, Tensor):
                shapes[f"drive {target!r}"] = tuple(value.shape[1:])
        for name, signal in self.signals.items():
            shapes[f"signal {name!r}"] = tuple(signal.shape)
        if self.samples is not None:
            shapes["samples"] = (len(self.samples), 1)
        return shapes

    def _agree(self, shapes: Mapping[str, tuple[int, ...]], what: str, axis: int) -> int | None:
        found = [(name, shape) for name, shape in shapes.items() if len(shape) >= -axis]
        for name, shape in found[1:]:
            first, reference = found[0]
            if shape[axis] != reference[axis]:
                raise ConfigurationError(
                    f"phase {self.name!r}: {first} has {what} {reference[axis]} (shape {reference}), "
                    f"{name} has {what} {shape[axis]} (shape {shape}); they must be equal"
                )
        return found[0][1][axis] if found else None

    @property
    def batch(self) -> int | None:
        """B, as the arrays say it; None where nothing says it (no drive, or `Spikes` only: any batch)."""
        return self._sizes[0]

    @property
    def replicas(self) -> int | None:
        """R, as the arrays say it; None where every array is the same for all replicas."""
        return self._sizes[1]

    def check(self, sizes: Mapping[str, int], batch: int, replicas: int) -> None:
        """Raise ConfigurationError unless the phase fits: `sizes` maps every legal drive target, "population" and
        "population.port", to its number of neurons."""
        rows, copies = self._sizes
        for what, own, given in (("batch", rows, batch), ("replicas", copies, replicas)):
            if own is not None and own != given:
                raise ConfigurationError(
                    f"phase {self.name!r} has {what} {own}, but the simulator's state has {what} {given}"
                )
        for target, value in self.drive.items():
            if target not in sizes:
                allowed = ", ".join(sizes)
                raise ConfigurationError(f"phase {self.name!r} drives unknown {target!r}; allowed: {allowed}")
            width = _width(value)
            if width != sizes[target]:
                raise ConfigurationError(
                    f"drive {target!r} of phase {self.name!r} is for {width} neurons{_shape(value)}, "
                    f"but {target!r} has {sizes[target]}"
                )


Trial: TypeAlias = tuple[Phase, ...]


def staged(stage: Stage, phase: Phase) -> Phase:
    """`phase`, which drives the input and the target, as a stage of a trial shows it."""
    drive = {name: value for name, value in phase.drive.items() if stage.teach or name != TARGET}
    return replace(
        phase,
        name=stage.name,
        drive=drive,
        learn=stage.learn,
        silent=stage.silent,
        noise=stage.noise,
        start=stage.start,
    )


def check_batches(trial: Sequence[Phase], rows: int) -> int:
    """How many batches of `rows` rows a trial has; ConfigurationError if it does not divide."""
    sizes = {phase.batch for phase in trial} - {None}
    if len(sizes) > 1 or any(size % rows for size in sizes if size is not None):
        found = " and ".join(str(size) for size in sizes)
        raise ConfigurationError(f"a trial has {found} rows; allowed: a multiple of the batch of the state, {rows}")
    return max((size // rows for size in sizes if size is not None), default=1)


def batches(trial: Sequence[Phase], rows: int) -> Iterator[Trial]:
    """A trial whose rows are several batches of `rows` rows, as one trial for each."""
    count = check_batches(trial, rows)
    for number in range(count):
        yield tuple(_rows(phase, slice(number * rows, (number + 1) * rows)) for phase in trial)


def _rows(phase: Phase, rows: slice) -> Phase:
    """`phase` with some of its rows."""

    def part(value: Any) -> Any:
        if isinstance(value, Held):
            return Held(value.x[..., rows, :])
        return value[..., rows, :] if isinstance(value, Tensor) else value

    return replace(
        phase,
        drive={target: part(value) for target, value in phase.drive.items()},
        signals={name: part(value) for name, value in phase.signals.items()},
        samples=None if phase.samples is None else phase.samples[rows],
    )


def _width(value: Drive) -> int:
    if isinstance(value, Spikes):
        return len(value.times)
    return int((value.x if isinstance(value, Held) else value).shape[-1])


def _shape(value: Drive) -> str:
    if isinstance(value, Spikes):
        return ""
    return f" (shape {tuple((value.x if isinstance(value, Held) else value).shape)})"


def expand(
    drive: Drive,
    steps: int,
    dt: float,
    replicas: int,
    batch: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> Held | Tensor:
    """A drive as backends read it: `Held` with `x [R, B, N]`, or a tensor `[T, R, B, N]`.

    Axes that repeat are views, not copies.
    """
    if isinstance(drive, Held):
        x = drive.x.to(device=device, dtype=dtype)
        return Held(x.expand(replicas, batch, x.shape[-1]))
    raster = drive.raster(steps, dt, dtype) if isinstance(drive, Spikes) else drive
    raster = raster.to(device=device, dtype=dtype)
    if raster.dim() == 3:
        raster = raster[:, None]
    return raster.expand(steps, replicas, batch, raster.shape[-1])


def step_count(duration: float, dt: float, what: str) -> int:
    """Number of steps in `duration` ms; ConfigurationError unless it is a whole positive multiple of `dt`."""
    steps = round(duration / dt) if math.isfinite(duration) and dt > 0 else 0
    if steps < 1 or abs(steps * dt - duration) > 1e-6 * dt:
        raise ConfigurationError(f"{what} is {duration} ms; it must be a positive multiple of dt = {dt} ms")
    return steps
