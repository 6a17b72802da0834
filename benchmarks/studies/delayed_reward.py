"""The distal reward problem in small (Izhikevich 2007): which of 20 synapses earned a reward that comes 1 to 3 s late?

One LIF neuron gets 20 synapses. Now and then one of them, any, is paired with it (a pre spike, and a post spike 10 ms
later); spikes in between are random. Pairings of synapse 0, and of no other, are followed by a reward 1 to 3 s later,
by when other synapses have been paired too. The null: rewards as many and of the same kind, but those that another
network earned: python benchmarks/studies/delayed_reward.py [reference | cpu] (a minute in all on `cpu`, ten on
`reference`, on a free core). What is there already is not done again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosim.backends import compile
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, SpikeRelay
from neurosim.phase import Phase
from neurosim.rules.dopamine_stdp import DopamineSTDP
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.types import Array

WIRE, TARGET = "input_output", 0
SEEDS = [list(range(5)), list(range(10, 30))]
SETTINGS: dict[str, Any] = {"A_minus": 1.5, "tau_e": 1000.0, "reward": "driven", "output": "same"}
RULES = {"dopamine_stdp": DopamineSTDP(lr=1.5e-3, **SETTINGS), "reward_stdp": RewardSTDP(lr=0.05, **SETTINGS)}


@dataclass(frozen=True)
class World:
    """`seconds` of it; `pairings` a second, over all `synapses`; rates of random pre and post spikes in Hz; the rest in
    ms."""

    synapses: int = 20
    seconds: int = 900
    pairings: float = 1.0
    rate_pre: float = 0.5
    rate_post: float = 0.5
    lag: int = 10
    delay: tuple[int, int] = (1000, 3000)
    dt: float = 5.0
    chunk: int = 2  # seconds of a phase

    @property
    def steps(self) -> int:
        return round(1000 * self.seconds / self.dt)


@dataclass(frozen=True)
class Events:
    """Steps of pre spikes with their synapse, of forced post spikes, and of rewards, of one network."""

    pre: Array
    synapse: Array
    post: Array
    reward: Array


def events(world: World, seed: int) -> Events:
    """What happens to the network of a seed."""
    random = np.random.default_rng([seed, 2007])
    last = world.steps - round((world.lag + world.delay[1]) / world.dt)
    pairs = random.poisson(world.pairings * world.seconds)
    when, which = random.integers(0, last, pairs), random.integers(0, world.synapses, pairs)
    late = random.integers(*(round(ms / world.dt) for ms in world.delay), pairs)
    stray = random.poisson(world.rate_pre * world.synapses * world.seconds)
    alone = random.poisson(world.rate_post * world.seconds)
    lag = round(world.lag / world.dt)
    return Events(
        np.concatenate([when, random.integers(0, world.steps, stray)]),
        np.concatenate([which, random.integers(0, world.synapses, stray)]),
        np.concatenate([when + lag, random.integers(0, world.steps, alone)]),
        (when + lag + late)[which == TARGET],
    )


def network(scheme: Any, synapses: int) -> Network:
    """The synapses start at half of what makes the neuron fire at once."""
    wire = Projection("input", "output", 0.5, delay=0, name=WIRE)
    parts = Population("input", synapses, SpikeRelay()), Population("output", 1, LIF(10.0, 1.0))
    described: Network = scheme(Network(parts, (wire,)))
    return described


def chunks(world: World, all_events: list[Events], rewards: list[Array]) -> Iterator[dict[str, torch.Tensor]]:
    """The drives of one phase after the other, `[T, R, 1, N]`."""
    length, networks = round(1000 * world.chunk / world.dt), range(len(all_events))
    for start in range(0, world.steps, length):
        drive = {
            "input": np.zeros((length, len(networks), 1, world.synapses)),
            "output": np.zeros((length, len(networks), 1, 1)),
            "reward": np.zeros((length, len(networks), 1, 1)),
        }
        for r in networks:
            one = all_events[r]
            inside = (one.pre >= start) & (one.pre < start + length)
            drive["input"][one.pre[inside] - start, r, 0, one.synapse[inside]] = 1.0
            for name, times, size in (("output", one.post, 2.0), ("reward", rewards[r], 1.0)):
                np.add.at(drive[name], (times[(times >= start) & (times < start + length)] - start, r, 0, 0), size)
        yield {name: torch.from_numpy(value) for name, value in drive.items()}


def learn(scheme: Any, world: World, seeds: list[int], backend: str = "reference") -> tuple[Array, list[int]]:
    """Final weights `[2 S, N]` and numbers of rewards: the networks of the seeds, then as many whose rewards are those
    of the first."""
    everything = [events(world, seed) for seed in (*seeds, *(seed + 1000 for seed in seeds))]
    rewards = [one.reward for one in everything[: len(seeds)]] * 2
    simulator = compile(
        network(scheme, world.synapses), world.dt, replicas=len(everything), dtype="float64", backend=backend
    )
    state = simulator.init(1)
    for drive in chunks(world, everything, rewards):
        state, _ = simulator.run(state, Phase("world", len(drive["reward"]), drive))
    return state.learned["weight"][WIRE][:, 0].numpy(), [len(times) for times in rewards]


def judged(weights: Array) -> list[dict[str, float]]:
    """Of each network: the rewarded synapse, the largest and the mean of the others, and how many are above it."""
    others = np.delete(weights, TARGET, 1)
    return [
        {
            "rewarded": round(float(w[TARGET]), 4),
            "largest": round(float(o.max()), 4),
            "mean": round(float(o.mean()), 4),
            "above": int((o >= w[TARGET]).sum()),
        }
        for w, o in zip(weights, others, strict=True)
    ]


def measure(scheme: Any, world: World, seeds: list[int], backend: str = "reference") -> dict[str, Any]:
    started = time.time()
    weights, rewards = learn(scheme, world, seeds, backend)
    found = judged(weights)
    return {
        "seeds": seeds,
        "backend": backend,
        "rewards": rewards[: len(seeds)],
        "true": found[: len(seeds)],
        "shuffled": found[len(seeds) :],
        "minutes": (time.time() - started) / 60,
    }


def line(label: str, arm: str, one: dict[str, Any]) -> str:
    """A row of the table: how often synapse 0 was found, and the weights of the first five networks."""
    found = one[arm]
    shown = ", ".join(f"{x['rewarded']:.2f} / {x['largest']:.2f}" for x in found[:5])
    return f"| {label} | {arm} | {sum(x['above'] == 0 for x in found)} of {len(found)} | {shown} |"


def main(output: Path, backend: str) -> None:
    torch.set_num_threads(1)
    done = json.loads(output.read_text()) if output.exists() else {}
    for name, scheme in RULES.items():
        for seeds in SEEDS:
            label = f"{name}, seeds {seeds[0]} to {seeds[-1]}"
            if label not in done:
                done[label] = measure(scheme, World(), seeds, backend)
                output.write_text(json.dumps(done, indent=1) + "\n")
            for arm in ("true", "shuffled"):
                print(line(label, arm, done[label]), flush=True)


if __name__ == "__main__":
    main(Path("docs/results/delayed_reward.json"), sys.argv[1] if len(sys.argv) > 1 else "reference")
