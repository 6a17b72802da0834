"""The LIF layer in Norse. LIFBox: v <- v + dt tau^-1 (i - v), so that weights are divided by 1 - leak."""

from __future__ import annotations

import norse.torch as norse
import torch
from torch_peers import without_gradient

from neurosim.benchmark import Contender
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
