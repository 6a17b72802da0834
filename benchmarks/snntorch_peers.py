"""The LIF layer in snnTorch: Leaky with reset to zero in the step of the spike.

Of the gradient's work the reset is done by hand: a gradient passes Leaky's own reset in that step.
"""

from __future__ import annotations

import snntorch
import torch
from gradient_peers import Loss, linear_of
from snntorch import surrogate
from torch_peers import without_gradient

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient
from neurosim.benchmark.layers import Layer


def layer(work: Layer) -> Contender:
    x, linear = torch.from_numpy(work.x), torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight)
    cell = snntorch.Leaky(beta=work.leak, threshold=1.0, reset_mechanism="zero", reset_delay=False)

    def run() -> torch.Tensor:
        mem, spikes = cell.init_leaky(), []
        for current in linear(x):
            spike, mem = cell(current, mem)
            spikes.append(spike)
        return torch.stack(spikes)

    return without_gradient("snnTorch Leaky", run, work.read)


def gradient(work: LayerGradient) -> Contender:
    x, linear, loss = torch.from_numpy(work.x), linear_of(work), Loss(work)
    cell = snntorch.Leaky(
        beta=work.leak, threshold=1.0, reset_mechanism="none", spike_grad=surrogate.fast_sigmoid(slope=work.slope)
    )

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        mem, spikes = cell.init_leaky(), []
        for current in linear(x).unbind(0):
            spike, mem = cell(current, mem)
            mem = mem * (1.0 - spike.detach())
            spikes.append(spike)
        return loss.gradient(torch.stack(spikes), linear.weight)

    return in_process("snnTorch Leaky", run, work.read)
