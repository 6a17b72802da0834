"""The LIF layer in Sinabs: v <- leak v + i, one spike at most, reset to zero. Its time axis is the second one."""

from __future__ import annotations

import torch
from sinabs.activation import MembraneReset, SingleSpike
from sinabs.layers import LIF
from torch_peers import without_gradient

from neurosim.benchmark import Contender
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
