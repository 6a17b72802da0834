"""What to record, and what was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from neurosim.types import Array, ConfigurationError


@dataclass(frozen=True)
class Probe:
    """Ask for one variable.

    `target` is a population (then `field` is a state, port or output of its neuron: "spike", "v", "rate", ...) or a
    projection (then `field` is "weight", "bias", "eligibility" or "modulator"). Every `every`-th step is kept; `units`
    picks columns of a population (None: all). `events` keeps where a population's value is not zero, as a list, instead
    of the values of all units: the spikes of a large network in little memory (every unit, every step).
    """

    target: str
    field: str
    every: int = 1
    units: tuple[int, ...] | None = None
    events: bool = False

    @property
    def key(self) -> str:
        return f"{self.target}.{self.field}"


@dataclass(frozen=True, eq=False)
class Recording(Mapping[str, Array]):
    """Arrays by "target.field": `[T, R, B, N]` for populations and modulators, `[T, R, P, Q]` for weights (no R when
    the simulator was compiled with `replicas=None`). Edges are `[T, R, E]` (eligibilities `[T, R, B, E]`), padded with
    NaN where replicas have fewer; a modulator is NaN in steps in which no change was formed. `step[key]` are the
    simulator's clock values of the rows; `dt` is in ms. Of a probe with `events` the rows are integers (replica, row,
    unit), or (row, unit), one per event, in the order of time."""

    arrays: dict[str, Array]
    step: dict[str, Array]
    dt: float

    def __getitem__(self, key: str) -> Array:
        if key not in self.arrays:
            raise ConfigurationError(f"no recording of {key!r}; recorded: {', '.join(self.arrays) or 'nothing'}")
        return self.arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def only(self, keys: Iterable[str]) -> Recording:
        """The part of the recording that `keys` name."""
        chosen = list(keys)
        return Recording({key: self[key] for key in chosen}, {key: self.step[key] for key in chosen}, self.dt)

    def time(self, key: str) -> Array:
        """Time in ms at the end of each recorded step of `key`."""
        self[key]
        return (self.step[key] + 1) * self.dt


def spike_times(spikes: Array, dt: float) -> list[Array]:
    """Times in ms, one array per neuron, from a raster `[T, N]`; a spike of step k has time (k + 1) dt."""
    return [(np.flatnonzero(column) + 1) * dt for column in np.asarray(spikes).T]


def rates(spikes: Array, dt: float) -> Array:
    """Mean firing rate in Hz over time, from a raster `[T, ...]`: 1000 * mean(spikes) / dt."""
    mean: Array = np.asarray(spikes, dtype=float).mean(0)
    return 1000.0 * mean / dt


def coefficient_of_variation(spikes: Array, dt: float) -> Array:
    """CV of the inter-spike intervals per neuron, sd / mean (population sd), from a raster `[T, N]`.

    NaN below two intervals.
    """
    result = []
    for times in spike_times(spikes, dt):
        intervals = np.diff(times)
        result.append(intervals.std() / intervals.mean() if len(intervals) >= 2 else np.nan)
    return np.asarray(result)


def peristimulus_histogram(spikes: Array, dt: float, bin_width: float) -> tuple[Array, Array]:
    """PSTH: bin starts in ms `[K]` and rates in Hz `[K, N]` over trials.

    `spikes [T, trials, N]` are rasters; `bin_width` (ms) must be a multiple of `dt`, else ConfigurationError.
    """
    raster = np.asarray(spikes, dtype=float)
    per_bin = round(bin_width / dt)
    if per_bin < 1 or abs(per_bin * dt - bin_width) > 1e-9:
        raise ConfigurationError(f"bin_width is {bin_width} ms; it must be a positive multiple of dt = {dt} ms")
    count = len(raster) // per_bin
    binned = raster[: count * per_bin].reshape(count, per_bin, *raster.shape[1:])
    return np.arange(count) * bin_width, 1000.0 * binned.mean((1, 2)) / dt
