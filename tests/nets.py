"""Small networks and phases that tests of the core share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neurosim.backends import compile
from neurosim.backends.simulator import Simulator, State
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe, Recording
from neurosim.types import Array


def normal(*shape: int, seed: int = 0) -> Array:
    """Standard normal numbers, the same in every run."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def raster(*shape: int, probability: float = 0.3, seed: int = 0) -> Array:
    """Spikes (0 or 1), the same in every run."""
    return (np.random.default_rng([seed, *shape]).random(shape) < probability).astype(float)


def simulate(
    network: Network,
    phases: Any,
    probes: tuple[Probe, ...] = (),
    *,
    batch: int = 1,
    dt: float = 1.0,
    replicas: int | None = None,
    seed: int = 0,
    state: State | None = None,
    edit: Any = None,
) -> tuple[Simulator, State, Recording]:
    """Compile in float64, run, and give everything back; `edit(state)` changes the start state."""
    simulator = compile(network, dt, replicas=replicas, seed=seed, dtype="float64")
    state = simulator.init(batch) if state is None else state
    state, recording = simulator.run(state if edit is None else edit(state), phases, probes)
    return simulator, state, recording


def pair(pre: int | tuple[int, ...], post: int | tuple[int, ...], *, spikes: bool = False, **wire: Any) -> Network:
    """Two relays, "input" and "output", joined by one projection "wire"; whatever is driven comes out of either."""
    neuron = SpikeRelay() if spikes else Relay()
    return Network(
        (Population("input", pre, neuron), Population("output", post, neuron)),
        (Projection("input", "output", **{"name": "wire", "delay": 0, **wire}),),
    )


def with_rule(network: Network, rule: Any, name: str = "wire") -> Network:
    return network.with_projections(lambda p: replace(p, rule=rule) if p.name == name else p)


def silent_pair(pre: int, post: int, rule: Any, **wire: Any) -> Network:
    """Two spike relays whose spikes are both driven from outside; the projection between them delivers nothing.

    Its weight arrives at the teaching port of the post population, so that only the rule sees both ends.
    """
    return pair(pre, post, spikes=True, port="feedback", rule=rule, **wire)


def drive(x: Array, name: str = "input") -> dict[str, Array]:
    return {name: x}


def weight(state: State, name: str = "wire", part: str = "weight") -> Array:
    """The weight (or bias) of a projection, with its replica axis."""
    value: Array = state.learned[part][name].numpy()
    return value


__all__ = ["Phase", "drive", "normal", "pair", "raster", "silent_pair", "simulate", "weight", "with_rule"]
