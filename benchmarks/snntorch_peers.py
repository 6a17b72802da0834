"""The LIF layer in snnTorch: Leaky with reset to zero in the step of the spike."""

from __future__ import annotations

import snntorch
import torch
from torch_peers import without_gradient

from neurosim.benchmark import Contender
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
