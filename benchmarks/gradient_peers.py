"""Forward and backward through a layer in plain torch and in snnTorch, written as a user of each would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient

try:
    import snntorch
    from snntorch import surrogate
except ImportError:
    snntorch = None


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


def layer_gradient(work: LayerGradient) -> Iterator[Contender | str]:
    """Contenders, or the name of a peer that is not installed."""
    x, target = torch.from_numpy(work.x), torch.from_numpy(work.target)
    weight = torch.from_numpy(work.weight.copy()).requires_grad_()

    def gradient(spikes: Tensor, leaf: Tensor) -> Tensor:
        loss = 0.5 * ((spikes.mean(0) - target) ** 2).sum(-1).mean()
        (slope,) = torch.autograd.grad(loss, (leaf,))
        return slope

    def hoisted() -> Tensor:
        current = (x.reshape(-1, work.inputs) @ weight.T).view(work.steps, work.batch, work.units)
        v, spikes = torch.zeros(work.batch, work.units), []
        for arriving in current.unbind(0):  # an index per step would make the backward pass quadratic in steps
            v = work.leak * v + arriving
            spike = Spike.apply(v - 1.0, work.slope)  # type: ignore[no-untyped-call]
            v = v * (1.0 - spike.detach())
            spikes.append(spike)
        return gradient(torch.stack(spikes), weight)

    yield in_process("torch, one product, unbind", hoisted, work.read)
    yield in_process("snnTorch Leaky", snntorch_leaky(work, x, gradient), work.read) if snntorch else "snnTorch"


def snntorch_leaky(
    work: LayerGradient, x: Tensor, gradient: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[], Tensor]:
    """Leaky, reset to zero by hand in the step of the spike: a gradient passes its own reset there."""
    linear = torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight.copy())
    cell = snntorch.Leaky(beta=work.leak, threshold=1.0, reset_mechanism="none",
                          spike_grad=surrogate.fast_sigmoid(slope=work.slope))  # fmt: skip

    def run() -> Tensor:
        mem, spikes = cell.init_leaky(), []
        for current in linear(x).unbind(0):
            spike, mem = cell(current, mem)
            mem = mem * (1.0 - spike.detach())
            spikes.append(spike)
        return gradient(torch.stack(spikes), linear.weight)

    return run
