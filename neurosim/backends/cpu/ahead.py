"""Products for all steps of a phase at once, where a projection reads a drive and its weight stays the same.

What arrives then is itself a drive: one matrix product in place of one per step, or, where few inputs are not zero, a
product that visits those only and reads each part of the weights for all steps while the cache holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.cpu.listed import laid_product, listed_product, nonzero_inputs, tiles
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.neuron.relay import relay
from neurosim.phase import Held, Phase
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, Tensor

if TYPE_CHECKING:
    from neurosim.backends.cpu.delivery import Delivery
    from neurosim.backends.cpu.simulator import Cpu

LEAST_WORK = 2**16  # multiplications of all steps below which the way round by a drive costs more than it brings
LEAST_ROWS = 256  # steps x rows below which laying out the weights anew costs more than it brings (784 -> 500: 2 ms)
MOST_BYTES = 2**28  # what arrives in all steps has to be kept
MOST_KEPT = 2**26  # what arrives keeps its memory up to here from one phase to the next
CACHED = 2**22  # bytes of a weight by pre neuron up to which it is read as it lies (784 x 500: 0.9 instead of 2.0 ms)
FEW = 0.25  # part of the inputs that are not zero, below which visiting those only is quicker (28 us at 0.05, 185 all)


def chosen(simulator: Cpu, phase: Phase, batch: int) -> tuple[str, ...]:
    """The projections that are delivered ahead in a phase."""
    return tuple(name for name, one in simulator.plan.synapses.items() if _fits(simulator, one, phase, batch))


def _fits(simulator: Cpu, synapses: Synapses, phase: Phase, batch: int) -> bool:
    plan, projection, pre = simulator.plan, synapses.projection, synapses.pre
    model = plan.neurons[pre.name]
    plain = (
        synapses.kind == "dense"
        and synapses.combine == "sum"
        and isinstance(synapses.delay, int)
        and synapses.delay == 0
        and projection.release is None
        and synapses.name not in phase.silent
        and synapses.driving
    )
    drives = [value for target, value in phase.drive.items() if target.partition(".")[0] == pre.name]
    passed_on = (
        getattr(model, "step", None) is relay
        and pre.lateral is None
        and synapses.sent == model.outputs[0]
        and not plan.driving[pre.name]
        and len(drives) == 1
        and not isinstance(drives[0], Held)
    )
    rows = phase.steps * plan.replicas * batch
    size = rows * synapses.post.units
    return (
        plain
        and passed_on
        and phase.steps > 1
        and phase.steps * batch >= LEAST_ROWS
        and size * synapses.pre.units >= LEAST_WORK
        and size * np.dtype(simulator.dtype_name).itemsize <= MOST_BYTES
        and not _changes(synapses, phase)
        and not (projection.tied and _changes(plan.synapses[projection.tied[0]], phase))
    )


def _changes(synapses: Synapses, phase: Phase) -> bool:
    """Does the weight change within the phase?"""
    rule = synapses.projection.rule
    learns = phase.learn if isinstance(phase.learn, bool) else synapses.name in phase.learn
    return learns and isinstance(rule, ThreeFactorRule) and rule.when == "step"


def label(name: str) -> str:
    """The drive that a projection becomes."""
    return f"{name}|ahead"


class Products:
    """What the products of one phase leave for those of the next: weights in tiles, and room for what arrives."""

    def __init__(self) -> None:
        # By projection: the weight they were made of, how often it had been written to, and they.
        self._tiles: dict[str, tuple[Any, int, list[Array]]] = {}
        self._last: dict[str, Any] = {}  # the weight of the last phase
        self._rooms: dict[str, Tensor] = {}

    def arriving(
        self, simulator: Cpu, deliveries: dict[str, Delivery], names: tuple[str, ...], context: Context
    ) -> Iterator[tuple[str, Array]]:
        """What arrives along the projections, `[T, R, B, P]` by label; it lasts until the next phase."""
        for name in names:
            synapses = simulator.plan.synapses[name]
            ((_, drive),) = context.drive[synapses.pre.name]
            weight = simulator.learning.effective_weight(synapses, context.learned, context)
            steps, replicas, batch, _ = drive.shape
            out = self._room(name, (replicas, steps * batch, synapses.post.units), weight.dtype)
            for r in range(replicas):
                rows = drive[:, r].reshape(steps * batch, -1).contiguous()
                if not self._listed(synapses, rows, weight, deliveries[name].by_pre, r, out[r]):
                    torch.mm(rows, weight[r].T, out=out[r])
            if synapses.has_bias:
                out += simulator.learning.effective_bias(synapses, context.learned, context)[:, None]
            yield label(name), out.view(replicas, steps, batch, -1).transpose(0, 1).numpy()

    def _listed(
        self, synapses: Synapses, rows: Tensor, weight: Tensor, laid: Array | None, r: int, out: Tensor
    ) -> bool:
        """The product with the inputs that are not zero, where they are few. Tiles pay where a weight is used again;
        one that is new in every phase is read as the kernels have it, `laid [R, Q, P]`.
        """
        if synapses.sent != "spike":
            return False
        pointer, index, value, few = nonzero_inputs(rows.numpy(), int(FEW * rows.numel()))
        if not few:
            return False
        made, version, parts = self._tiles.get(synapses.name, (None, 0, []))
        fresh = made is not weight or version != weight._version
        again = self._last.get(synapses.name) is weight
        if r == len(weight) - 1:
            self._last[synapses.name] = weight
        if fresh and not again and laid is not None and laid[r].nbytes <= CACHED:
            laid_product(pointer, index, value, laid[r], out.numpy())
            return True
        if fresh:
            parts = [tiles(one) for one in weight.numpy()]
            self._tiles[synapses.name] = weight, weight._version, parts
        listed_product(pointer, index, value, parts[r], out.numpy())
        return True

    def _room(self, name: str, shape: tuple[int, int, int], dtype: Any) -> Tensor:
        """Memory that the last phase had is used again: new pages cost as much as writing them twice."""
        kept = self._rooms.get(name)
        if kept is None or kept.shape != shape:
            kept = torch.empty(shape, dtype=dtype)
            if kept.numel() * kept.element_size() <= MOST_KEPT:
                self._rooms[name] = kept
        return kept
