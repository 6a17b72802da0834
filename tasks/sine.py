"""A periodic signal to be generated without any input: a sum of sines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosim.task import Dataset, Split
from neurosim.types import ConfigurationError, positive

from .split import check_sizes


@dataclass(frozen=True)
class Sine:
    """y(t) = amplitude * sum_k c_k sin(2 pi k t / period), k = 1, 2, ...: the pattern of Sussillo and Abbott (2009).

    An example is one whole period of `period` rows, t = 1 ... period; all are equal, so that presentations one after
    the other (settings.carry=true) make one long signal. The input is one channel that is 0. To see whether the network
    goes on by itself, evaluate from the state that training left (settings.start=training): no target is given then.
    `harmonics` are the c_k. Nothing is drawn: the seed has no effect.
    """

    name: str = "sine"
    period: int = 600
    amplitude: float = 1.0
    harmonics: tuple[float, ...] = (1.0, 0.5, 0.16666667, 0.33333333)
    train: int = 10
    validation: int = 1
    test: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "harmonics", tuple(self.harmonics))
        check_sizes(self.name, train=self.train, validation=self.validation, test=self.test, period=self.period)
        positive(self.amplitude, f"task {self.name}: amplitude")
        if not self.harmonics or not all(np.isfinite(self.harmonics)) or not any(self.harmonics):
            raise ConfigurationError(
                f"task {self.name}: harmonics is {self.harmonics}; it must be finite numbers, one of them not 0"
            )
        if self.period <= 2 * len(self.harmonics):
            raise ConfigurationError(
                f"task {self.name}: period is {self.period} rows; {len(self.harmonics)} harmonics need more than "
                f"{2 * len(self.harmonics)}"
            )

    def load(self, seed: int) -> Dataset:
        phase = 2.0 * np.pi * np.arange(1, self.period + 1) / self.period
        waves = [c * np.sin((k + 1) * phase) for k, c in enumerate(self.harmonics)]
        signal = self.amplitude * np.sum(waves, 0)

        def split(size: int) -> Split:
            return Split(np.zeros((size, self.period, 1)), np.tile(signal[None, :, None], (size, 1, 1)))

        return Dataset(self.name, split(self.train), split(self.validation), split(self.test), classes=1, shape=(1,))
