"""Deliveries: what a projection brings to a port, in one step or in all steps of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from neurosim.backends.needs import released_by
from neurosim.backends.resolve import Synapses
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder


class Delivery:
    """One projection. `first` is set when the schedule is known: does it begin the sum at its port?"""

    def __init__(self, builder: Builder, synapses: Synapses):
        self.builder, self.synapses, self.first = builder, synapses, True
        name = synapses.name
        self.operation = builder.simulator.operations[name]
        released = synapses.projection.release is not None
        self.source = f"{released_by(name)}.released" if released else f"{synapses.pre.name}.{synapses.sent}"
        self.port = f"{synapses.post.name}.{synapses.port}"

    @property
    def weights(self) -> set[str]:
        """What is read besides the source: the weight, or that of the projection it is tied to."""
        tied = self.synapses.projection.tied
        return {f"w:{tied[0] if tied else self.synapses.name}"}

    def pointers(self) -> tuple[int, ...] | None:
        """Addresses of weight and bias; None where they are perturbed anew in every phase."""
        learned, name = self.builder.learned, self.synapses.name
        if getattr(self.synapses.projection.rule, "perturbation", None) is not None:
            return None
        tied = self.synapses.projection.tied
        used = [learned["weight"][tied[0] if tied else name]]
        used += [learned["bias"][name]] if self.synapses.has_bias else []
        return tuple(tensor.data_ptr() for tensor in used)

    def run(self, first: int, count: int) -> None:
        builder, synapses = self.builder, self.synapses
        learning, learned = builder.simulator.learning, builder.learned
        weight = learning.effective_weight(synapses, learned, builder.context)
        bias = learning.effective_bias(synapses, learned, builder.context) if synapses.has_bias else None
        if bias is not None and synapses.kind == "convolution":
            bias = bias.repeat_interleave(synapses.post.units // synapses.bias_units, -1)
        out = builder.values.buffers[self.port].folded(first, count)
        self._deliver(weight, out, first, count)
        if bias is not None:
            out += bias[:, None, :]

    def _deliver(self, weight: Tensor, out: Tensor, first: int, count: int) -> None:
        def read(delay: int) -> Tensor:
            value = self.builder.values.folded(self.source, first, count, delay)
            return value.expand(out.shape[0], out.shape[1], self.synapses.pre.units)

        if self.synapses.kind == "dense" and isinstance(self.synapses.delay, int):
            arriving, across = read(self.synapses.delay), weight.transpose(-1, -2)
            if self.first:
                torch.bmm(arriving, across.expand(len(out), -1, -1), out=out)
            else:
                out.baddbmm_(arriving, across.expand(len(out), -1, -1))
            return
        arriving = self.operation.deliver(weight, read)
        if self.first:
            out.copy_(arriving)
        elif self.synapses.combine == "max":
            torch.maximum(out, arriving, out=out)
        else:
            out += arriving


class Feed:
    """The drives of a port, on their way through its buffer."""

    def __init__(self, builder: Builder, port: str):
        self.builder, self.port, self.first = builder, port, True

    def pointers(self) -> tuple[int, ...]:
        """Addresses and strides of the drives."""
        given = [self.builder.given[drive] for drive in self.builder.drives[self.port]]
        return tuple(number for tensor in given for number in (tensor.data_ptr(), *tensor.stride()))

    def run(self, first: int, count: int) -> None:
        out = self.builder.values.buffers[self.port].steps(first, count)
        if self.first:
            out.zero_()
        for drive in self.builder.drives[self.port]:
            out += self.builder.given[drive].narrow(0, first, count).transpose(0, 1)
