"""What the rules of a network need: which fields and traces they read, and how many past steps must be remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neurosim.backends.resolve import Synapses
from neurosim.factor import Apply, Coefficient, Factor, Field, Trace, traces
from neurosim.network import Network, Population
from neurosim.rule import GradientRule, ThreeFactorRule
from neurosim.types import ConfigurationError

CONSTANT = ""  # the "population" whose every field is 1: the pre-synaptic end of a bias

Leaf = Field | Trace  # canonical: end "post", read "after"
Key = tuple[str, Leaf]  # (population, leaf): one remembered value per neuron


def canonical(leaf: Leaf) -> Leaf:
    """A field or trace as stored with its population: without the end, and read after its update."""
    if isinstance(leaf, Field):
        return Field("post", leaf.name)
    return Trace(canonical(leaf.of), leaf.tau, leaf.mode)


def leaves(factor: Factor) -> Iterator[Leaf]:
    """The fields and traces that a factor reads directly."""
    if isinstance(factor, Apply):
        for argument in factor.arguments:
            yield from leaves(argument)
    elif isinstance(factor, Field | Trace):
        yield factor


def coefficients(factor: Factor) -> Iterator[Coefficient]:
    """The numbers per neuron that a factor reads."""
    if isinstance(factor, Apply):
        for argument in factor.arguments:
            yield from coefficients(argument)
    elif isinstance(factor, Coefficient):
        yield factor


def _rules(all_synapses: Iterable[Synapses]) -> Iterator[tuple[Synapses, ThreeFactorRule]]:
    for synapses in all_synapses:
        if isinstance(synapses.projection.rule, ThreeFactorRule):
            yield synapses, synapses.projection.rule


def check_rules(network: Network, all_synapses: Iterable[Synapses], replicas: int) -> None:
    """ConfigurationError where a rule reads what is not there, or has numbers for other neurons than there are."""
    gradient = [s.projection.rule for s in all_synapses if isinstance(s.projection.rule, GradientRule)]
    for baseline in gradient:
        network[baseline.output]
        for name in ("decoder", "loss", "target", "output", "through_time"):
            if getattr(baseline, name) != getattr(gradient[0], name):
                raise ConfigurationError(f"gradient rules differ in {name}; all that learn together share one loss")
    for synapses, rule in _rules(all_synapses):
        for end, population, factors in (
            ("post", synapses.post, rule.post_factors()),
            ("pre", synapses.pre, rule.pre_factors()),
        ):
            for factor in factors:
                _check_factor(factor, end, synapses, population)
                for coefficient in coefficients(factor):
                    _check_coefficient(coefficient, synapses, population, replicas)


def _check_factor(factor: Factor, end: str, synapses: Synapses, population: Population) -> None:
    if factor.end != end:
        raise ConfigurationError(
            f"the modulator of projection {synapses.name!r} reads a {factor.end} factor; it may read {end} factors only"
        )
    for leaf in leaves(factor):
        name = _innermost(leaf).name
        if name not in population.fields():
            raise ConfigurationError(
                f"the rule of projection {synapses.name!r} reads {name!r} at its {end} end; "
                f"{population.name!r} has: {', '.join(population.fields())}"
            )


def _check_coefficient(coefficient: Coefficient, synapses: Synapses, population: Population, replicas: int) -> None:
    shape, units = coefficient.values.shape, population.units
    if shape not in ((), (units,), (replicas, units)):
        raise ConfigurationError(
            f"a Coefficient at the {coefficient.end} end of projection {synapses.name!r} has shape {shape}; "
            f"allowed for {population.name!r}: a number, {(units,)} or {(replicas, units)}"
        )


def _innermost(leaf: Leaf) -> Field:
    return leaf if isinstance(leaf, Field) else _innermost(leaf.of)


def merged_traces(all_synapses: Iterable[Synapses]) -> tuple[tuple[str, Trace], ...]:
    merged: dict[tuple[str, Trace], None] = {}
    for synapses, rule in _rules(all_synapses):
        for factor in rule.post_factors():
            for trace in traces(factor):
                merged[synapses.post.name, canonical(trace)] = None  # type: ignore[index]
        for factor in rule.pre_factors():
            for trace in traces(factor):
                merged[synapses.pre.name, canonical(trace)] = None  # type: ignore[index]
                if synapses.has_bias:
                    merged[CONSTANT, canonical(trace)] = None  # type: ignore[index]
    return tuple(merged)


def history(all_synapses: Iterable[Synapses]) -> dict[Key, int]:
    """Steps to remember: the longest delay at which a projection sends, or a rule reads, a value ("before" reads one
    more).
    """
    depth: dict[Key, int] = {}

    def need(population: str, leaf: Leaf, delay: int) -> None:
        extra = 1 if isinstance(leaf, Trace) and leaf.read == "before" else 0
        if delay + extra > 0:
            key = (population, canonical(leaf))
            depth[key] = max(depth.get(key, 0), delay + extra)

    for synapses in all_synapses:
        if synapses.projection.release is None:
            need(synapses.pre.name, Field("post", synapses.sent), synapses.longest)
        else:
            need(released_by(synapses.name), Field("post", "released"), synapses.longest)
    for synapses, rule in _rules(all_synapses):
        for factor in rule.post_factors():
            for leaf in leaves(factor):
                need(synapses.post.name, leaf, synapses.dendritic)
        for factor in rule.pre_factors():
            for leaf in leaves(factor):
                need(synapses.pre.name, leaf, synapses.longest)
                if synapses.has_bias:
                    need(CONSTANT, leaf, 0)
    return depth


def released_by(projection: str) -> str:
    """The name under which the released amounts of a projection with short-term plasticity are remembered."""
    return f"release/{projection}"
