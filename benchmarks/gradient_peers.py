"""Forward and backward through a layer in plain torch, and what the packages upon torch share: loss and gradient.

Where the derivative of a package is that of the work but for a factor, the loss is scaled: every path from a weight to
the loss has one surrogate, since none passes the reset.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient


class Spike(torch.autograd.Function):
    """A step with the derivative of the fast sigmoid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] / (1.0 + ctx.slope * x.abs()) ** 2, None


class Loss:
    """Half the squared distance of the rates from those of the work; `factor` is what a package's derivative lacks."""

    def __init__(self, work: LayerGradient, factor: float = 1.0):
        self.target, self.factor = torch.from_numpy(work.target), factor

    def gradient(self, spikes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes, and the gradient of the weight that they come from."""
        distance = spikes.mean(0) - self.target
        loss = 0.5 * self.factor * (distance**2).sum(-1).mean()
        (gradient,) = torch.autograd.grad(loss, (weight,))
        return spikes.detach(), gradient


def linear_of(work: LayerGradient, factor: float = 1.0) -> torch.nn.Linear:
    """The weights of the work, times a factor."""
    linear = torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = factor * torch.from_numpy(work.weight)
    return linear


def gradient(work: LayerGradient) -> Contender:
    x, loss = torch.from_numpy(work.x), Loss(work)
    weight = torch.from_numpy(work.weight.copy()).requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        current = (x.reshape(-1, work.inputs) @ weight.T).view(work.steps, work.batch, work.units)
        v, spikes = torch.zeros(work.batch, work.units), []
        for arriving in current.unbind(0):  # an index per step would make the backward pass quadratic in steps
            v = work.leak * v + arriving
            spike = Spike.apply(v - 1.0, work.slope)  # type: ignore[no-untyped-call]
            v = v * (1.0 - spike.detach())
            spikes.append(spike)
        return loss.gradient(torch.stack(spikes), weight)

    return in_process("torch, one product, unbind", run, work.read)
