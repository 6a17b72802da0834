"""Products for many steps of a phase at once, where a projection reads a drive and its weight stays the same.

What arrives then is itself a drive: one matrix product for thousands of rows, right before these steps run; or, where
few inputs are not zero, a product for all steps that visits those only and reads each part of the weights for all of
them while the cache holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.cpu.listed import laid_product, listed_product, nonzero_inputs, tiles
from neurosim.backends.cpu.program import Program
from neurosim.backends.cpu.rooms import room
from neurosim.backends.cpu.spans import Span, spans, steps_of_product
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
MOST_BYTES = 2**28  # of what arrives in all steps, where it has to be kept: spikes are listed for all steps
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
        and (synapses.sent != "spike" or size * np.dtype(simulator.dtype_name).itemsize <= MOST_BYTES)
        and not changes(synapses, phase)
        and not (projection.tied and changes(plan.synapses[projection.tied[0]], phase))
    )


def changes(synapses: Synapses, phase: Phase) -> bool:
    """Does the weight change within the phase?"""
    rule = synapses.projection.rule
    learns = phase.learn if isinstance(phase.learn, bool) else synapses.name in phase.learn
    return learns and isinstance(rule, ThreeFactorRule) and rule.when == "step"


def label(name: str) -> str:
    """The drive that a projection becomes."""
    return f"{name}|ahead"


@dataclass
class Coming:
    """What arrives along a projection, by the label of the drive that it becomes: all steps `[T, R, B, P]`, or room for
    some of them, for which `form` is called before they run.
    """

    label: str
    array: Array
    form: Callable[[Span, Array], None] | None = None


class Products:
    """What the products of one phase leave for those of the next: weights in tiles."""

    def __init__(self) -> None:
        # By projection: the weight they were made of, how often it had been written to, and they.
        self._tiles: dict[str, tuple[Any, int, list[Array]]] = {}
        self._last: dict[str, Any] = {}  # the weight of the last phase

    def arriving(
        self, simulator: Cpu, deliveries: dict[str, Delivery], names: tuple[str, ...], context: Context
    ) -> list[Coming]:
        """What arrives along the projections; it lasts until the next phase."""
        found = []
        for name in names:
            synapses = simulator.plan.synapses[name]
            ((_, drive),) = context.drive[synapses.pre.name]
            weight = simulator.learning.effective_weight(synapses, context.learned, context)
            bias = simulator.learning.effective_bias(synapses, context.learned, context) if synapses.has_bias else None
            steps, replicas, batch, _ = drive.shape
            units, dtype = synapses.post.units, np.dtype(simulator.dtype_name)
            whole = synapses.sent == "spike"  # how many inputs are zero is asked of all steps
            length = steps if whole else min(steps, steps_of_product(replicas * batch, units, dtype.itemsize))
            product = torch.from_numpy(room((replicas, length, batch, units), dtype))
            if whole:
                for r in range(replicas):
                    rows, out = drive[:, r].reshape(steps * batch, -1).contiguous(), product[r].flatten(0, 1)
                    if not self._listed(synapses, rows, weight, deliveries[name].by_pre, r, out):
                        torch.mm(rows, weight[r].T, out=out)
                if bias is not None:
                    product += bias[:, None, None]
            form = None if whole else partial(_form, drive, weight, bias)
            found.append(Coming(label(name), product.transpose(0, 1).numpy(), form))
        return found

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


def _form(drive: Tensor, weight: Tensor, bias: Tensor | None, span: Span, array: Array) -> None:
    """x w^T of the steps of a span, at the beginning of `array [K, R, B, P]`."""
    first, stop = span
    out = torch.from_numpy(array)[: stop - first].transpose(0, 1)
    for r, one in enumerate(out):
        torch.mm(drive[first:stop, r].flatten(0, 1), weight[r].T, out=one.flatten(0, 1))
    if bias is not None:
        out += bias[:, None, None]


def formed(coming: Sequence[Coming], program: Program, first: int, steps: int) -> Iterator[tuple[int, int]]:
    """Parts of some steps of a phase (first, stop), each when all that arrives in it has been formed."""
    waiting = [one for one in coming if one.form]
    length = min((len(one.array) for one in waiting), default=steps)
    for start, stop in spans(first, first + steps, length):
        for one in waiting:
            assert one.form is not None
            one.form((start, stop), one.array)
            program.place(one.label, one.array, start)
        yield start, stop
