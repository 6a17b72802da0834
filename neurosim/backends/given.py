"""What a phase gives to a network: its drives and signals as tensors of a simulator."""

from __future__ import annotations

from functools import cache, cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import torch

from neurosim.phase import Held, Phase, expand
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.reference import Reference

_numbers = count()


class Given:
    """A phase for `batch` rows; its tensors are made when they are first asked for."""

    def __init__(self, simulator: Reference, phase: Phase, batch: int):
        self.number = next(_numbers)  # no other has it
        self.batch = batch
        self._plan, self._like = simulator.plan, (simulator.dtype, simulator.device)
        self._steps, self._drive, self._signals, self._samples = phase.steps, phase.drive, phase.signals, phase.samples

    @cached_property
    def drive(self) -> dict[str, list[tuple[str, Any]]]:
        """Every drive by population, with its port: `[T, R, B, N]`, or `Held [R, B, N]`."""
        drives: dict[str, list[tuple[str, Any]]] = {}
        size = (self._steps, self._plan.dt, self._plan.replicas, self.batch)
        for target, value in self._drive.items():
            name, _, port = target.partition(".")
            given = expand(value, *size, *self._like)
            drives.setdefault(name, []).append((port or self._plan.network[name].neuron.ports[0], given))
        return drives

    @cached_property
    def signals(self) -> dict[str, Tensor]:
        """`[R, B, K]` by name."""
        (dtype, device), shape = self._like, (self._plan.replicas, self.batch, -1)
        return {name: torch.as_tensor(x).to(device, dtype).expand(shape) for name, x in self._signals.items()}

    @property
    def samples(self) -> Tensor:
        """Ids of the samples `[B]`."""
        return _ids(self.batch) if self._samples is None else self._samples


@cache
def _ids(batch: int) -> Tensor:
    """Of samples that have no others; nobody writes to them."""
    return torch.arange(batch)


class Sources:
    """The arrays of a phase that was shown: is it still the same phase?

    A phase never changes, but the arrays that its maker handed over may: what they hold is read in every run, so only
    where they lie is looked at.
    """

    def __init__(self, phase: Phase):
        self._count = len(phase.drive), len(phase.signals)
        found = [
            (part, name, value, value.x if isinstance(value, Held) else value)
            for part in (phase.drive, phase.signals)
            for name, value in part.items()
        ]
        self._places = [
            (part, name, value, tensor, tensor.data_ptr(), tensor.shape)
            for part, name, value, tensor in found
            if isinstance(tensor, Tensor)
        ]

    def remain(self, phase: Phase) -> bool:
        """Are the arrays of the phase where they were?"""
        if (len(phase.drive), len(phase.signals)) != self._count:
            return False
        for part, name, value, tensor, place, shape in self._places:
            if part.get(name) is not value or tensor.data_ptr() != place or tensor.shape != shape:
                return False
        return True

    def shared(self, dtype: torch.dtype, device: torch.device) -> bool:
        """Have they the type of a simulator, so that they are read where they lie?"""
        return all(
            tensor.dtype == dtype and tensor.device == device and not tensor.requires_grad
            for _, _, _, tensor, _, _ in self._places
        )
