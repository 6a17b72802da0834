"""One population of one neuron type, run by itself: the step in a loop, no network. Shared by the tests of neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from neurosim.backends.specialise import for_torch
from neurosim.neuron import Neuron
from neurosim.types import Array


def tensor(value: Any) -> torch.Tensor:
    return torch.as_tensor(np.array(value, dtype=np.float64))


def simulate(
    neuron: Neuron,
    dt: float,
    inputs: Mapping[str, Array],
    *,
    steps: int,
    size: int,
    initial: Mapping[str, Any] | None = None,
) -> dict[str, Array]:
    """States after and outputs of each step, `[T, N]`; `inputs` are ports or draws `[T, N]`, missing ones are 0."""
    step, constants = for_torch(neuron.step, neuron.surrogate), [tensor(value) for value in neuron.constants(dt)]
    start = {**neuron.initial(), **(initial or {})}
    state = [tensor(np.broadcast_to(start[name], size)) for name in neuron.states]
    handed = [tensor(inputs.get(name, np.zeros((steps, size)))) for name in (*neuron.ports, *neuron.draws)]
    rows = []
    with torch.no_grad():
        for t in range(steps):
            result = step(*state, *(values[t] for values in handed), *constants)
            state = list(result[: len(neuron.states)])
            rows.append(torch.stack([value.expand(size) for value in result]))
    recorded = torch.stack(rows).numpy()
    return {name: recorded[:, k] for k, name in enumerate((*neuron.states, *neuron.outputs))}
