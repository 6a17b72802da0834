"""Which populations and teaching ports have to be known before which, at whatever delay, and which only together."""

from __future__ import annotations

from collections.abc import Collection

from neurosim.backends.plan import Plan
from neurosim.backends.resolve import Synapses
from neurosim.network import lateral_source


def _node(synapses: Synapses) -> str:
    """What a projection reads: a population, or a teaching port of one (filled when all populations have run)."""
    pre = synapses.pre
    return f"{pre.name}.{synapses.sent}" if synapses.sent in pre.neuron.teaching else pre.name


def readers(plan: Plan, silent: Collection[str]) -> dict[str, set[str]]:
    """What every population and teaching port reads, at whatever delay."""
    before: dict[str, set[str]] = {name: set() for name in plan.order}
    for population in plan.network.populations:
        source = lateral_source(population)
        if source is not None:
            before[population.name].add(source)
    for synapses in plan.synapses.values():
        target = synapses.post.name if synapses.driving else f"{synapses.post.name}.{synapses.port}"
        for node in (target, _node(synapses)) if synapses.name not in silent else ():
            before.setdefault(node, set())
        if synapses.name not in silent:
            before[target].add(_node(synapses))
    return before


def why_not(plan: Plan, names: Collection[str]) -> str:
    """Why populations that lead back to themselves cannot be run by `cpu/recurrent.py`, or ""."""
    for name in names:
        if name not in plan.neurons:
            return f"the teaching port {name!r}"
        if plan.network[name].lateral is not None:
            return f"the lateral of {name!r}"
    for synapses in plan.synapses.values():
        if synapses.pre.name not in names:
            continue
        if synapses.sent in synapses.pre.neuron.ports:
            return f"projection {synapses.name!r}, which sends what arrives at a port"
        if synapses.post.name in names:
            plain = synapses.kind in ("dense", "one_to_one") and synapses.combine == "sum"
            sends = synapses.sent in synapses.pre.neuron.outputs and synapses.projection.release is None
            if not (plain and sends and isinstance(synapses.delay, int)):
                return f"projection {synapses.name!r}, which is not dense or one to one or does not send an output"
    return ""
