"""Products for all steps of a phase at once, where a projection reads a drive and its weight stays the same.

What arrives then is itself a drive: one matrix product in place of one per step, or, where few inputs are not zero, a
product that visits those only and reads each part of the weights for all steps while the cache holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch

from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.neuron.relay import relay
from neurosim.phase import Held, Phase
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array

if TYPE_CHECKING:
    from neurosim.backends.cpu.delivery import Delivery
    from neurosim.backends.cpu.simulator import Cpu

LEAST_WORK = 2**16  # multiplications of all steps below which the way round by a drive costs more than it brings
LEAST_ROWS = 256  # steps x rows below which laying out the weights anew costs more than it brings (784 -> 500: 2 ms)
MOST_BYTES = 2**28  # what arrives in all steps has to be kept
FEW = 0.2  # part of the inputs that are not zero, below which visiting those only is quicker (measured)
CACHED = 2**22  # bytes of a weight by pre neuron up to which it is read as it lies (784 x 500: 0.9 instead of 2.0 ms)
TILE = 128  # post neurons whose weights (Q x 128) stay in the second cache while all rows are visited


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


def arriving(
    simulator: Cpu, deliveries: dict[str, Delivery], names: tuple[str, ...], context: Context
) -> Iterator[tuple[str, Array]]:
    """What arrives along the projections, `[T, R, B, P]` by label."""
    for name in names:
        synapses = simulator.plan.synapses[name]
        ((_, drive),) = context.drive[synapses.pre.name]
        weight = simulator.learning.effective_weight(synapses, context.learned, context)
        laid = deliveries[name].by_pre
        parts = [
            _product(drive[:, r], weight[r], synapses, None if laid is None else laid[r]) for r in range(len(weight))
        ]
        out = torch.stack(parts, dim=1) if len(parts) > 1 else parts[0][:, None]  # stack would copy also a single one
        if synapses.has_bias:
            out += simulator.learning.effective_bias(synapses, context.learned, context)[:, None]
        yield label(name), out.numpy()


def _product(drive: Any, weight: Any, synapses: Synapses, laid: Array | None) -> Any:
    """`[T, B, Q]` times `[P, Q]` transposed; `laid [Q, P]` is the same weight, if there is one."""
    steps, batch, _ = drive.shape
    rows = drive.reshape(steps * batch, -1).contiguous()
    if synapses.sent == "spike":
        pointer, index, few = nonzero_inputs(rows.numpy(), int(FEW * rows.numel()))
        if few:
            out = np.empty((len(rows), len(weight)), rows.numpy().dtype)
            if laid is not None and laid.nbytes <= CACHED:
                listed_product(rows.numpy(), pointer, index, laid, out)
            else:
                sparse_product(rows.numpy(), pointer, index, weight.numpy(), out)
            return torch.from_numpy(out).view(steps, batch, -1)
    return (rows @ weight.T).view(steps, batch, -1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def nonzero_inputs(rows, most):  # type: ignore[no-untyped-def]
    """Where `rows [K, Q]` are not zero: `pointer [K + 1]` and columns, and whether there are no more than `most`."""
    pointer, index, count = np.zeros(len(rows) + 1, np.int64), np.empty(most + rows.shape[1] + 1, np.int32), 0
    for k in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            index[np.uint64(count)] = j
            count += rows[np.uint64(k), np.uint64(j)] != 0
        if count > most:
            return pointer, index, False
        pointer[k + 1] = count
    return pointer, index, True


@numba.njit(nogil=True, cache=True, error_model="numpy")
def sparse_product(rows, pointer, index, weight, out):  # type: ignore[no-untyped-def]
    """out_kp = sum_j rows_kj weight_pj over the inputs listed, in the order of j."""
    u, part, own = np.uint64, np.zeros((weight.shape[1], TILE), weight.dtype), np.empty(TILE, weight.dtype)
    for first in range(0, weight.shape[0], TILE):
        width = min(TILE, weight.shape[0] - first)
        for p in range(width):
            for j in range(weight.shape[1]):
                part[u(j), u(p)] = weight[u(first + p), u(j)]
        for k in range(rows.shape[0]):
            at, stop = pointer[u(k)], pointer[u(k + 1)]
            own[:] = 0
            while at + 4 <= stop:  # four at a time, but one after the other in the sum: `own` is read and written once
                a, b, c, d = (u(index[u(at)]), u(index[u(at + 1)]), u(index[u(at + 2)]), u(index[u(at + 3)]))
                xa, xb, xc, xd = rows[u(k), a], rows[u(k), b], rows[u(k), c], rows[u(k), d]
                for p in range(TILE):
                    i = u(p)
                    own[i] = (((own[i] + part[a, i] * xa) + part[b, i] * xb) + part[c, i] * xc) + part[d, i] * xd
                at += 4
            while at < stop:
                a = u(index[u(at)])
                xa = rows[u(k), a]
                for p in range(TILE):
                    own[u(p)] += part[a, u(p)] * xa
                at += 1
            for p in range(width):
                out[u(k), u(first + p)] = own[u(p)]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def listed_product(rows, pointer, index, weight, out):  # type: ignore[no-untyped-def]
    """The same with `weight [Q, P]`, which the second cache holds as it is."""
    u = np.uint64
    for k in range(rows.shape[0]):
        at, stop, own = pointer[u(k)], pointer[u(k + 1)], out[u(k)]
        own[:] = 0
        while at + 4 <= stop:
            a, b, c, d = (u(index[u(at)]), u(index[u(at + 1)]), u(index[u(at + 2)]), u(index[u(at + 3)]))
            xa, xb, xc, xd = rows[u(k), a], rows[u(k), b], rows[u(k), c], rows[u(k), d]
            wa, wb, wc, wd = weight[a], weight[b], weight[c], weight[d]
            for p in range(weight.shape[1]):
                i = u(p)
                own[i] = (((own[i] + wa[i] * xa) + wb[i] * xb) + wc[i] * xc) + wd[i] * xd
            at += 4
        while at < stop:
            a = u(index[u(at)])
            xa, wa = rows[u(k), a], weight[a]
            for p in range(weight.shape[1]):
                own[u(p)] += wa[u(p)] * xa
            at += 1
