"""Phases as kernels read them; what a phase that comes again gives is not laid out again. A call for one step of a
hundred neurons took 67 us, and 1 in its kernels; with this and `piece.py` it takes 25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from neurosim.backends.cpu.writer import Laid, laid
from neurosim.backends.given import Given, Sources
from neurosim.phase import Drive, Held, Phase, expand
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.simulator import Cpu


class Known:
    """One phase for `batch` rows, as kernels read it. (It must not hold the phase itself: see `Phases`.)"""

    def __init__(self, simulator: Cpu, phase: Phase, batch: int):
        self.given = Given(simulator, phase, batch)
        self.replicas, self.copied = simulator.plan.replicas, False
        self.drives: dict[str, Laid] = {}  # by label
        self.held: dict[str, tuple[Array, Array]] = {}  # by drive: an array that kernels read, and what it is copied of
        self.programs: dict[Any, Any] = {}
        places: dict[str, int] = {}
        for target, value in phase.drive.items():
            name, _, port = target.partition(".")
            place = places[name] = places.get(name, -1) + 1
            label = f"{name}.{port or simulator.plan.network[name].neuron.ports[0]}#{place}"
            self.drives[label] = _as_it_lies(value, simulator) or self._laid_out(value, simulator, phase.steps)

    def _laid_out(self, value: Drive, simulator: Cpu, steps: int) -> Laid:
        """A drive in an array of its own."""
        size = (steps, simulator.plan.dt, self.replicas, self.given.batch)
        made = expand(value, *size, simulator.dtype)
        array: Array = (made.x if isinstance(made, Held) else made).detach().numpy()
        self.copied = True
        return laid(np.ascontiguousarray(array) if array.strides[-1] != array.itemsize else array)

    @property
    def samples(self) -> Array:
        """Ids of the samples, `[R, B, 1]`."""
        ids = self.given.samples.numpy()
        return np.broadcast_to(ids[None, :, None], (self.replicas, len(ids), 1))


def _as_it_lies(value: Drive, simulator: Cpu) -> Laid | None:
    """A drive of the right type, row by row; one for all replicas is read by each."""
    held = isinstance(value, Held)
    tensor = value.x if isinstance(value, Held) else value
    if not isinstance(tensor, Tensor) or tensor.dtype != simulator.dtype or not tensor.is_cpu:
        return None
    *steps, rows, units = tensor.stride()
    if units != 1 and tensor.shape[-1] > 1:
        return None
    replicas = steps.pop() if len(steps) > (not held) else 0
    size = tensor.itemsize
    return Laid(tensor.data_ptr(), 0 if held else steps[0] * size, replicas, rows, size, tensor)


class Phases:
    """The phases that a simulator knows, as long as somebody else holds them."""

    def __init__(self, simulator: Cpu):
        self._simulator = simulator
        # None: seen once, and many never come again
        self._known: WeakKeyDictionary[Phase, tuple[Known, Sources] | None] = WeakKeyDictionary()

    def find(self, phase: Phase, batch: int) -> Known | None:
        """What is known of a phase that is as it was."""
        found = self._known.get(phase)
        if found is None:
            return None
        known, sources = found
        return known if known.given.batch == batch and sources.remain(phase) else None

    def of(self, phase: Phase, batch: int) -> Known:
        """What is known of a phase, or found out."""
        known = self.find(phase, batch)
        if known is not None:
            return known
        known = Known(self._simulator, phase, batch)
        if phase not in self._known:
            self._known[phase] = None
            return known
        sources = Sources(phase)
        lasting = not known.copied and sources.shared(self._simulator.dtype, self._simulator.device)
        self._known[phase] = (known, sources) if lasting else None
        return known
