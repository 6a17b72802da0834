"""The LIF layer in Sinabs: v <- leak v + i, one spike at most, reset to zero; any function can be the surrogate.

Its time axis is the second one.
"""

from __future__ import annotations

import torch
from gradient_peers import Loss, linear_of
from sinabs.activation import MembraneReset, SingleSpike
from sinabs.layers import LIF
from torch_peers import without_gradient

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient
from neurosim.benchmark.layers import Layer


def layer(work: Layer) -> Contender:
    x = torch.from_numpy(work.x).transpose(0, 1).contiguous()
    linear = torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight)
    cell = LIF(
        tau_mem=work.tau_mem / work.dt, spike_threshold=1.0, spike_fn=SingleSpike, reset_fn=MembraneReset(),
        norm_input=False,
    )  # fmt: skip

    def run() -> torch.Tensor:
        cell.reset_states()
        spikes: torch.Tensor = cell(linear(x))
        return spikes

    return without_gradient("Sinabs LIF", run, work.read)


def gradient(work: LayerGradient) -> Contender:
    """A call of the layer for each step: in one call for all, 512 units take 1.15 s instead of 0.18, because its loop
    takes each step by an index and the backward pass of that is quadratic in steps.
    """
    x, linear, loss = torch.from_numpy(work.x), linear_of(work), Loss(work)

    def derivative(v: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        return 1.0 / (1.0 + work.slope * (v - threshold).abs()) ** 2

    cell = LIF(
        tau_mem=work.tau_mem / work.dt, spike_threshold=1.0, spike_fn=SingleSpike, reset_fn=MembraneReset(),
        surrogate_grad_fn=derivative, norm_input=False,
    )  # fmt: skip
    cell.requires_grad_(False)

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        cell.reset_states()
        spikes = [cell(current.unsqueeze(1)).squeeze(1) for current in linear(x).unbind(0)]
        return loss.gradient(torch.stack(spikes), linear.weight)

    return in_process("Sinabs LIF, a call per step", run, work.read)
