"""The LIF layer in SpikingJelly, several steps at once (its fastest way without a GPU).

LIFNode without decay of the input: v <- (1 - 1 / tau) v + i. Its soft sign has the derivative of the fast sigmoid times
slope / 2; with it the package runs a backward pass of its own, not autograd's.
"""

from __future__ import annotations

import torch
from gradient_peers import Loss, linear_of
from spikingjelly.activation_based import functional, neuron, surrogate
from torch_peers import without_gradient

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient
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


def gradient(work: LayerGradient) -> Contender:
    x, linear, loss = torch.from_numpy(work.x), linear_of(work), Loss(work, 2.0 / work.slope)
    cell = neuron.LIFNode(
        tau=1.0 / (1.0 - work.leak), decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m",
        surrogate_function=surrogate.SoftSign(work.slope), detach_reset=True,
    )  # fmt: skip

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        functional.reset_net(cell)
        return loss.gradient(cell(linear(x)), linear.weight)

    return in_process("SpikingJelly LIFNode", run, work.read)
