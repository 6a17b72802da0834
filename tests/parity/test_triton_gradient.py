"""Steps through time in both directions on Triton, against autograd through the torch steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backends import DT as NETWORK_DT
from backends import device_of
from nets import normal, raster
from test_gradient_phases import WIRES, B, beside, compared, rates, shown, wired
from zoo import VARIANTS, drive

from neurosim.backends.specialise import for_torch
from neurosim.backends.triton.through import Through
from neurosim.network import Projection
from neurosim.phase import Held, Phase
from neurosim.random import Normal
from neurosim.recorder import Probe

T, R, BATCH, N, DT = 5, 2, 2, 4, 0.5
DEVICE = device_of("triton")


def constant(value):
    array = torch.as_tensor(np.asarray(value, dtype=np.float64))
    return float(array) if array.dim() == 0 else array.to(DEVICE)


def by_torch(neuron, start, ports, draws, constants, wanted):
    """The wanted sequences, by the neuron's step in torch."""
    step, states, kept = for_torch(neuron.step, neuron.surrogate), list(start), {place: [] for place in wanted}
    for t in range(T):
        results = step(*states, *(port[t] for port in ports), *(draw[t] for draw in draws), *constants)
        states = list(results[: len(states)])
        for place in wanted:
            kept[place].append(results[place].expand(R, BATCH, N))
    return {place: torch.stack(values) for place, values in kept.items()}


def slopes(made, weights, leaves):
    """The gradient of a weighted sum of all sequences; zeros where none passes."""
    terms = [(made[place] * weight).sum() for place, weight in weights.items() if made[place].requires_grad]
    found = torch.autograd.grad(sum(terms), leaves, allow_unused=True) if terms else [None] * len(leaves)
    return [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True)]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_neuron(name):
    neuron, generator = VARIANTS[name], torch.Generator().manual_seed(1)

    def random():
        return torch.rand(T, R, BATCH, N, generator=generator, dtype=torch.float64).to(DEVICE)

    initial, inputs, constants = neuron.initial(), drive(neuron, T, N), tuple(neuron.constants(DT))
    start = [
        torch.full((R, BATCH, N), float(initial[state]), dtype=torch.float64, device=DEVICE) for state in neuron.states
    ]
    ports = [
        torch.as_tensor(inputs[p]).to(DEVICE).double()[:, None, None, :] * (1.0 + 0.1 * random()) for p in neuron.ports
    ]
    leaves = [tensor.requires_grad_() for tensor in (*start, *ports)]
    draws = [random() for _ in neuron.draws]
    first = len(neuron.states)
    wanted = (*range(min(first, 1)), *range(first, first + len(neuron.outputs)))
    weights = {place: random() for place in wanted}
    scan = Through("float64", neuron, constants, N, first, len(neuron.ports))
    found, _ = scan(start, [[port] for port in ports], draws, wanted, (T, R, BATCH), through_time=True)
    expected = by_torch(neuron, start, ports, draws, [constant(value) for value in constants], wanted)
    for place in wanted:
        torch.testing.assert_close(found[place], expected[place], rtol=1e-11, atol=1e-11)
    for got, one in zip(slopes(found, weights, leaves), slopes(expected, weights, leaves), strict=True):
        torch.testing.assert_close(got, one, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("wire", ["dense with delay", "depression", "convolution", "delays by synapse"])
def test_networks(wire):
    """A phase of a gradient rule runs population by population, as on the CPU backend."""
    phases = shown(("input", lambda k: raster(6, B, 5, seed=k)), steps=6)
    simulator = compared(wired(**WIRES[wire]), phases, [Probe("second", "spike", events=True)], backend="triton")
    assert not any("step by step" in reason for reason in simulator.uncompiled())


def test_laterals_and_held_inputs():
    phases = shown(("input", lambda k: Held(normal(B, 5, seed=k))), steps=6)
    compared(rates(), phases, [Probe("second", "rate")], learns=(), backend="triton")


def test_a_local_rule_beside():
    reward = {"reward": normal(B, 1), "label": normal(B, 4)}
    phases = [Phase(f"p{k}", 5, {"input": raster(5, B, 5, seed=k)}, reward) for k in range(2)]
    compared(beside("phase", "sum"), phases, [Probe("middle", "weight")], learns=(), backend="triton")


def test_a_loop_is_left_to_the_reference_and_told():
    network = wired(**WIRES["dense"])
    back = Projection("second", "first", Normal(0.0, 0.3), delay=NETWORK_DT, name="back")
    network = replace(network, projections=(*network.projections, back))
    simulator = compared(network, shown(("input", lambda k: raster(5, B, 5, seed=k)), steps=5), backend="triton")
    assert any("no kernel on this backend" in reason for reason in simulator.uncompiled())
