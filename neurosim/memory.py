"""How much memory a run takes, before it is taken: counted from shapes, nothing of that size is allocated."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch

from neurosim.backends.resolve import Synapses
from neurosim.learner import SimulatorLearner
from neurosim.recorded import keeps_eligibility
from neurosim.rule import ThreeFactorRule
from neurosim.types import ConfigurationError

CGROUPS = (  # limit and use of a container: cgroup v2, v1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def planned_memory(learner: SimulatorLearner, replicas: int) -> dict[str, int]:
    """Bytes by what they hold, for `replicas` copies of a network that `learner` carries with one replica.

    `weights` with biases; `transforms`: memories of optimizers; `activity`: states, traces and delays of a batch;
    `eligibility` per synapse and example, where rules keep one; `evaluation`: activity before and after a step, all
    values of a step, input and recorded output of `evaluate_batch` examples. Temporaries of a step come on top.
    """
    plan, settings = learner.simulator.plan, learner.settings
    item = torch.empty(0, dtype=learner.dtype).element_size()
    alone = _bytes(learner.simulator.init(1, {}).activity)
    # The recorded output is there three times while it is decoded: as rows, as an array, as a tensor.
    shown = 3 * learner.outputs + (learner.inputs if getattr(learner.encoder, "spikes", False) else 0)
    values = sum(population.units * (len(population.fields()) + 1) for population in plan.network.populations)
    parts = {
        "weights": item * sum(synapse_count(s) + _biases(s) for s in plan.synapses.values() if not s.projection.tied),
        "transforms": item * sum(map(_transforms, plan.plastic())),
        "activity": alone * learner.batch,
        "eligibility": item * sum(_eligibility(s, learner.batch) for s in plan.plastic()),
        "evaluation": settings.evaluate_batch * (2 * alone + item * (values + settings.steps * shown)),
    }
    return {name: replicas * count for name, count in parts.items()}


def check_memory(parts: dict[str, int], replicas: int, device: str) -> None:
    """ConfigurationError, with the estimate, if a run cannot fit."""
    needed, free = sum(parts.values()), free_memory(device)
    if free is not None and needed > free:
        most = max(parts, key=lambda name: parts[name])
        raise ConfigurationError(
            f"the run would need about {size(needed)} of memory, most of it for {most}, and {size(free)} are free; "
            f"lower replicas (here {replicas}), batch, settings.evaluate_batch or the sizes of the network"
        )


def free_memory(device: str) -> int | None:
    """Bytes that can still be had on a device; None where the system does not say."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    found = [count for count in (_available(), *(_left(*paths) for paths in CGROUPS)) if count is not None]
    return min(found, default=None)


def size(count: float) -> str:
    """Bytes in words."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    for unit in units:
        if count < 1000 or unit == units[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _available() -> int | None:
    """What the kernel thinks can be had without swapping; elsewhere than on Linux all that is built in."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        names = getattr(os, "sysconf_names", {})
        if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left(limit: str, used: str) -> int | None:
    """What a container may still take; None without a limit ("max")."""
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):
        return None


def synapse_count(synapses: Synapses) -> int:
    """Weights of a projection in one replica."""
    if synapses.edges is None:
        return math.prod(synapses.weight_shape)
    return -(-sum(synapses.edges.counts) // len(synapses.edges.counts))


def _biases(synapses: Synapses) -> int:
    return synapses.bias_units if synapses.has_bias else 0


def _transforms(synapses: Synapses) -> int:
    rule = synapses.projection.rule
    slots = [sum(len(transform.memory) for transform in chain) for chain in (rule.chain, rule.bias_chain)]
    return slots[0] * synapse_count(synapses) + slots[1] * _biases(synapses)


def _eligibility(synapses: Synapses, batch: int) -> int:
    rule = synapses.projection.rule
    if not isinstance(rule, ThreeFactorRule) or not keeps_eligibility(rule):
        return 0
    return len(rule.components) * batch * _positions(synapses)


def _positions(synapses: Synapses) -> int:
    """Synapses, a convolution's shared ones counted at every position."""
    weights = synapse_count(synapses)
    return weights * (synapses.post.units // synapses.post.shape[0]) if synapses.kind == "convolution" else weights


def _bytes(tree: Any) -> int:
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(map(_bytes, tree.values()))
    return sum(map(_bytes, tree)) if isinstance(tree, tuple | list) else 0
