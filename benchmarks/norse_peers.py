"""The LIF layer in Norse. LIFBox: v <- v + dt tau^-1 (i - v), so that weights are divided by 1 - leak.

SuperSpike's derivative is 1 / (1 + |v - v_th|)^2 whatever its alpha (Norse 1.1.0), so that for the gradient all
potentials are `slope` times as large. Its reset function is a parameter; the one here passes no gradient.
"""

from __future__ import annotations

import norse.torch as norse
import torch
from gradient_peers import Loss, linear_of
from torch_peers import without_gradient

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient
from neurosim.benchmark.layers import Layer


def layer(work: Layer) -> Contender:
    x, linear = torch.from_numpy(work.x), torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight) / (1.0 - work.leak)
    settings = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(1000.0 * (1.0 - work.leak)), v_th=torch.tensor(1.0))
    cell = norse.LIFBoxCell(settings, dt=0.001)

    def run() -> torch.Tensor:
        state, spikes = None, []
        for current in linear(x):
            spike, state = cell(current, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return without_gradient("Norse LIFBoxCell", run, work.read)


def to_zero(spike: torch.Tensor, v: torch.Tensor, reset: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return (1.0 - spike.detach()) * v


def gradient(work: LayerGradient) -> Contender:
    share = 1.0 - work.leak
    x, linear, loss = torch.from_numpy(work.x), linear_of(work, work.slope / share), Loss(work, 1.0 / share)
    settings = norse.LIFBoxParameters(
        tau_mem_inv=torch.tensor(1000.0 * share), v_th=torch.tensor(work.slope), reset_method=to_zero
    )
    cell = norse.LIFBoxCell(settings, dt=0.001)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        state, spikes = None, []
        for current in linear(x).unbind(0):
            spike, state = cell(current, state)
            spikes.append(spike)
        return loss.gradient(torch.stack(spikes), linear.weight)

    return in_process("Norse LIFBoxCell", run, work.read)
