"""The LIF layer in SpikingJelly, several steps at once (its fastest way without a GPU).

LIFNode without decay of the input: v <- (1 - 1 / tau) v + i.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, neuron
from torch_peers import without_gradient

from neurosim.benchmark import Contender
from neurosim.benchmark.layers import Layer


def layer(work: Layer) -> Contender:
    x, linear = torch.from_numpy(work.x), torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight)
    cell = neuron.LIFNode(tau=1.0 / (1.0 - work.leak), decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m")

    def run() -> torch.Tensor:
        functional.reset_net(cell)
        spikes: torch.Tensor = cell(linear(x))
        return spikes

    return without_gradient("SpikingJelly LIFNode", run, work.read)
