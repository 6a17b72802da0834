"""Populations whose paths lead back to where they start, through all steps of a phase and back in one operation of
torch's autograd.

Forward goes step by step: what the projections among them bring is a product of this step's row, then every neuron's
compiled step runs (`scan.py`). Backward goes against time: every neuron's pullback, then its transposed products add to
the cotangents of what was sent, at the step at which it was sent. The gradients of the weights are one product each
over all steps, behind the loop. What arrives from outside is known for all steps before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosim.backends.cpu.call import Call, feed, spread
from neurosim.backends.cpu.machine import drive
from neurosim.types import Array, Tensor


@dataclass(frozen=True)
class Wire:
    """A projection among the populations: from the result `sent` of `pre` to the source `source` of port `port` of
    `post`, `delay` steps later. `dense`: is the weight `[R, P, Q]`, or `[R, N]` (one to one)?
    """

    pre: str
    post: str
    sent: int
    port: int
    source: int
    delay: int
    dense: bool


class Loop:
    """One run of such a group: `calls` in the order of a step, `weights` of the wires, and `past`, what was sent before
    the phase by (population, result): `[D, R, B, N]`, the oldest first.
    """

    def __init__(
        self,
        calls: Mapping[str, Call],
        wires: Sequence[Wire],
        weights: Sequence[Tensor],
        past: Mapping[tuple[str, int], Tensor],
        through_time: bool,
    ):
        self.calls, self.wires, self.through_time = calls, wires, through_time
        self.weights = [weight.detach() for weight in weights]
        self.needed = [weight.requires_grad for weight in weights]
        self.steps, *self.rows = next(iter(calls.values())).size[:3]
        self.sent: dict[tuple[str, int], Tensor] = {}
        for key, before in past.items():
            call = calls[key[0]]
            whole = np.empty((len(before) + self.steps, *call.size[1:]), call.scan.dtype)
            whole[: len(before)] = before.numpy()
            self.sent[key] = torch.from_numpy(whole)

    def _age(self, key: tuple[str, int]) -> int:
        """Steps before the phase that are kept of what is sent."""
        return len(self.sent[key]) - self.steps

    def _into(self, name: str) -> list[tuple[Wire, Tensor]]:
        return [(wire, weight) for wire, weight in zip(self.wires, self.weights, strict=True) if wire.post == name]

    def forward(self) -> list[Array]:
        """Run; the wanted sequences of every population, one population after the other."""
        plan, found = [], []
        for name, call in self.calls.items():
            kernel, arrays = call.ready()
            for (owner, place), whole in self.sent.items():
                if owner == name:
                    arrays[f"o{place}"] = whole.numpy()[self._age((owner, place)) :]
            found += call.found(arrays)
            deliveries = []
            for wire, weight in self._into(name):
                key = wire.pre, wire.sent
                first = self._age(key) - wire.delay
                rows = self.sent[key][first : first + self.steps].unbind(0)
                out = torch.from_numpy(call.arrays[f"q{wire.port}_{wire.source}"]).unbind(0)
                turned = weight.transpose(-1, -2) if wire.dense else weight[:, None, :]
                deliveries.append((torch.bmm if wire.dense else torch.mul, rows, turned, out))
            plan.append((feed(kernel, arrays), deliveries, arrays))
        for step in range(self.steps):
            for table, deliveries, _ in plan:
                for product, rows, weight, out in deliveries:
                    product(rows[step], weight, out=out[step])
                drive(table, step, step + 1, 0, self.rows[0], 0, self.rows[1])
        return found

    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Cotangents of every population's sources, then of the weights."""
        back = {key: torch.zeros_like(whole) for key, whole in self.sent.items()}  # of what was sent
        plan, ports = [], dict[str, dict[int, Array]]()
        waiting = iter(gradients)
        for name, call in self.calls.items():
            given = {}
            for place in call.wanted:
                g = next(waiting)
                if (name, place) in back:
                    own = back[name, place][self._age((name, place)) :]
                    if g is not None:
                        own += g
                    given[place] = own.numpy()
                elif g is not None:
                    given[place] = spread(g, call.size)
            kernel, arrays, ports[name] = call.ready_back(given)
            if kernel is not None:
                arrays |= call.old_states()
                arrays = {label: array[::-1] for label, array in arrays.items()}
                plan.append((feed(kernel, arrays), self._returns(name, back, ports[name]), arrays))
        for step in range(self.steps):
            for table, returns, _ in reversed(plan):
                drive(table, step, step + 1, 0, self.rows[0], 0, self.rows[1])
                now = self.steps - 1 - step
                for dense, rows, weight, targets, delay in returns:
                    if dense:
                        targets[now - delay].baddbmm_(rows[now], weight)
                    else:
                        targets[now - delay].addcmul_(rows[now], weight)
        found = [one for name, call in self.calls.items() for one in call.of_sources(ports[name])]
        return [*found, *(self._of_weight(k, ports) for k in range(len(self.wires)))]

    def _returns(self, name: str, back: Mapping[tuple[str, int], Tensor], ports: Mapping[int, Array]) -> list[Any]:
        """Where the cotangents of a population's ports go, step by step: a step before the phase takes them as well."""
        found = []
        for wire, weight in self._into(name):
            if wire.port in ports and (self.through_time or not wire.delay):
                targets = back[wire.pre, wire.sent].unbind(0)
                rows = torch.from_numpy(ports[wire.port]).unbind(0)
                first = self._age((wire.pre, wire.sent))
                own = weight if wire.dense else weight[:, None, :]
                found.append((wire.dense, rows, own, targets, wire.delay - first))
        return found

    def _of_weight(self, index: int, ports: Mapping[str, Mapping[int, Array]]) -> Tensor | None:
        """sum over steps and rows of the port's cotangent times what was sent."""
        wire = self.wires[index]
        if not self.needed[index] or wire.port not in ports[wire.post]:
            return None
        g, sent = torch.from_numpy(ports[wire.post][wire.port]), self.sent[wire.pre, wire.sent]
        first = self._age((wire.pre, wire.sent)) - wire.delay
        x = sent[first : first + self.steps]
        if not wire.dense:
            return (g * x).sum((0, 2))
        return torch.bmm(g.transpose(0, 1).flatten(1, 2).transpose(1, 2), x.transpose(0, 1).flatten(1, 2))


class Through(torch.autograd.Function):
    """A loop in torch's graph."""

    @staticmethod
    def forward(ctx: Any, loop: Loop, *tensors: Tensor) -> Any:
        ctx.loop = loop
        ctx.set_materialize_grads(False)
        return tuple(torch.from_numpy(array) for array in loop.forward())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.loop.backward(gradients)
