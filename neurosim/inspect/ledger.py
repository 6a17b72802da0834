"""The learning ledger: what plasticity costs, counted from the equation, for one sample and one network.

Bytes that a rule keeps (N a number of `width` bytes, 4 in float32):

- traces: N per neuron for each trace that the rule reads at its two ends (rules that read the same trace share it);
- eligibility: N per synapse for each component with a memory, or that another one reads before its update;
- gathered: N per synapse for G, where weights do not change in every step;
- transforms: N per synapse for each memory of an optimizer.

Work in a step of learning (one that is not the last of its phase), and of a whole sample with all stages of its trial:

- reads and writes of weights: one of each per update and synapse; one read more per synapse in a step in which a gain
  depends on the weight and no update is made;
- multiply-adds: a trace 1 per neuron (mode "mean": 2). A component's term has one factor at each end, perhaps a gain: k
  of them that are not the constant 1 are k - 1 multiplications per synapse, the last of which adds (k = 0, 1: an
  addition, counted as 1); a memory 1 more per synapse. The modulator 1 per synapse where there is an eligibility, else
  1 per post-synaptic neuron and term. An update: the multiplications, divisions, powers and function calls in the
  source of its transforms and constraints, per synapse;
- broadcast bytes: what a synapse gets that neither end sends it, in a step and (a declared signal) once a sample. A
  modulator of class "layer" needs N from every neuron of the layer, a competition or the Jacobian of a lateral the sums
  that it takes, a transform each total that it asks of the whole projection.

A synapse of a convolution counts once in the weight and at every position in its eligibility and in the work; a bias is
a synapse from a constant 1. Delays, and what a modulator computes or remembers, are not counted. A gradient rule is no
local rule: it stores what its neurons did in every step of a phase, which is listed as its eligibility.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from neurosim.backends.needs import CONSTANT, canonical
from neurosim.backends.plan import Plan
from neurosim.backends.resolve import Synapses
from neurosim.factor import One, fields, traces
from neurosim.inspect.sums import pullback_values
from neurosim.inspect.wiring import competitions, scalars
from neurosim.lateral import Pullback
from neurosim.network import Network
from neurosim.rule import Component, GradientRule, OfComponent, OfWeight, Term, ThreeFactorRule


@dataclass(frozen=True)
class Work:
    """Weight reads, weight writes, multiply-adds (None: not counted), bytes broadcast."""

    reads: int = 0
    writes: int = 0
    multiply_adds: int | None = 0
    broadcast: float = 0.0


@dataclass(frozen=True)
class Account:
    """What the rule of one projection keeps (bytes) and does, in a step and in a sample; `synapses` with biases."""

    projection: str
    rule: str
    synapses: int
    traces: int
    eligibility: int
    gathered: int
    transforms: int
    step: Work
    sample: Work
    shared: frozenset[tuple[str, Any]] = field(default=frozenset(), repr=False)  # its traces: (population, trace)


def ledger(plan: Plan, steps: int, width: int = 4) -> tuple[Account, ...]:
    """One account per plastic projection; `steps` in a presentation, `width` bytes per number."""
    return tuple(
        _gradient(plan, synapses, synapses.projection.rule, steps, width)
        if isinstance(synapses.projection.rule, GradientRule)
        else Counting(plan, synapses, synapses.projection.rule, width).account(steps)
        for synapses in plan.plastic()
    )


def trace_bytes(plan: Plan, accounts: tuple[Account, ...], width: int = 4) -> int:
    """Bytes of all traces together: those that several rules read are there once."""
    every = frozenset().union(*(account.shared for account in accounts))
    return width * sum(_units(plan.network, population) for population, _ in every)


def _units(network: Network, population: str) -> int:
    return 1 if population == CONSTANT else network[population].units


@dataclass(frozen=True)
class Counting:
    """The counts of one three-factor rule on one projection."""

    plan: Plan
    synapses: Synapses
    rule: ThreeFactorRule
    width: int

    def account(self, steps: int) -> Account:
        rule, weights, sites = self.rule, self.weights, self.sites
        kept = [c for index, c in enumerate(rule.components) if c.has_memory or self._read_before(index)]
        shared = frozenset(self._traces())
        return Account(
            self.synapses.name,
            rule.name,
            weights + self.biases,
            self.width * sum(_units(self.plan.network, population) for population, _ in shared),
            self.width * len(kept) * sites,
            self.width * (weights + self.biases) * (rule.when != "step"),
            self.width * (weights * _slots(rule.chain) + self.biases * _slots(rule.bias_chain)),
            self._work(1, 1 if rule.accumulate != "last" or rule.when == "step" else 0, int(rule.when == "step"), 0),
            self._sample(steps),
            shared,
        )

    # ---- sizes ------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> int:
        """Weights of one network (the mean over replicas, where these differ in their edges)."""
        edges = self.synapses.edges
        if edges is not None:
            return round(sum(edges.counts) / len(edges.counts))
        return math.prod(self.synapses.weight_shape)

    @property
    def biases(self) -> int:
        return self.synapses.bias_units if self.synapses.has_bias else 0

    @property
    def sites(self) -> int:
        """Places where a post and a pre value meet: synapses, those of a convolution at every position."""
        positions = self.synapses.post.units // self.synapses.post.shape[0]
        return (self.weights + self.biases) * (positions if self.synapses.kind == "convolution" else 1)

    def _traces(self) -> Iterator[tuple[str, Any]]:
        ends = [(self.synapses.post.name, self.rule.post_factors()), (self.synapses.pre.name, self.rule.pre_factors())]
        for population, factors in ends:
            for factor in factors:
                for trace in traces(factor):
                    yield population, canonical(trace)
                    if self.biases and trace.end == "pre":
                        yield CONSTANT, canonical(trace)

    def _read_before(self, index: int) -> bool:
        terms = (term for component in self.rule.components for term in component.terms)
        gains = (term.gain for term in terms)
        return any(isinstance(gain, OfComponent) and gain.index == index and gain.read == "before" for gain in gains)

    @property
    def _remembers(self) -> bool:
        return any(c.has_memory or self._read_before(index) for index, c in enumerate(self.rule.components))

    # ---- work -------------------------------------------------------------------------------------------------------

    def _sample(self, steps: int) -> Work:
        """All stages of a trial in which the projection learns."""
        forming = updates = learning = 0
        stages = [stage for stage in self.plan.network.trial if self._learns(stage.learn)]
        for stage in stages:
            length = stage.steps or steps
            learning += length
            forming += 1 if self.rule.accumulate == "last" and self.rule.when != "step" else length
            updates += {"step": length, "phase": 1, "sample": 0}[self.rule.when]
        updates += int(self.rule.when == "sample" and bool(stages))
        return self._work(learning, forming, updates, 1)

    def _learns(self, learn: bool | tuple[str, ...]) -> bool:
        return learn if isinstance(learn, bool) else self.synapses.name in learn

    def _work(self, steps: int, forming: int, updates: int, samples: int) -> Work:
        """Of `steps` in which it learns, `forming` of which form a change."""
        both, evaluated = self.weights + self.biases, steps if self._remembers else forming
        reads = max(evaluated if self._reads_weight() else 0, updates)
        work = steps * self._tracing() + evaluated * self._components() + forming * self._modulating()
        sent = forming * self._each_step() + updates * self._totals() + samples * self._signals()
        return Work(reads * both, updates * both, work + updates * self._updating(), self.width * sent)

    def _reads_weight(self) -> bool:
        return any(isinstance(term.gain, OfWeight) for component in self.rule.components for term in component.terms)

    def _tracing(self) -> int:
        cost = {"sum": 1, "nearest": 1, "mean": 2}
        return sum(
            cost[trace.mode] * _units(self.plan.network, population) for population, trace in set(self._traces())
        )

    def _components(self) -> int:
        return self.sites * sum(_component(component) for component in self.rule.components)

    def _modulating(self) -> int:
        if self.rule.modulator.scope == "none":
            return 0
        if self._remembers:
            return self.sites
        return self.synapses.post.units * len(self.rule.components[-1].terms)

    def _updating(self) -> int:
        limits = sum(operations(constraint.apply) for constraint in self.rule.constraints)
        return self.weights * (_chain(self.rule.chain) + limits) + self.biases * _chain(self.rule.bias_chain)

    # ---- what is broadcast ------------------------------------------------------------------------------------------

    def _each_step(self) -> float:
        network, projection, post = self.plan.network, self.synapses.projection, self.synapses.post
        read = {leaf.name for factor in self.rule.post_factors() for leaf in fields(factor)}
        ports = read & set(post.neuron.teaching)
        numbers = float(sum(values for _, values in competitions(network, projection, ports)))
        numbers += len(list(scalars(network, projection, ports)))
        if self.rule.modulator.scope == "layer":
            numbers += post.units
        if self.rule.modulator.of_output and post.lateral is not None and not isinstance(post.lateral, Pullback):
            numbers += pullback_values(post.lateral, post.shape[0], torch.float64)
        return numbers

    def _totals(self) -> int:
        """Numbers of the whole projection that its transforms ask for."""
        return sum(_names(transform.update, "total_") for transform in self.rule.chain if not transform.pointwise)

    def _signals(self) -> int:
        network = self.plan.network
        widths = {"input": network[network.input].units, "label": network[network.output].units}
        return sum(widths.get(name, 1) for name in self.rule.modulator.signals())


def _component(component: Component) -> int:
    return sum(map(_term, component.terms)) + component.has_memory


def _term(term: Term) -> int:
    numbers = sum(not isinstance(factor, One) for factor in (term.post, term.pre)) + (term.gain is not None)
    return max(numbers - 1, 1)


def _slots(chain: tuple[Any, ...]) -> int:
    return sum(len(transform.memory) for transform in chain)


def _chain(chain: tuple[Any, ...]) -> int:
    return sum(operations(transform.step if transform.pointwise else transform.update) for transform in chain)


def operations(function: Any) -> int:
    """Multiplications, divisions, powers, remainders and function calls in the source of a function."""
    kinds = ast.Mult | ast.Div | ast.Pow | ast.Mod
    return sum(
        isinstance(node, ast.Call) or (isinstance(node, ast.BinOp) and isinstance(node.op, kinds))
        for node in ast.walk(_tree(function))
    )


def _names(function: Any, start: str) -> int:
    """Calls of attributes whose name begins with `start`."""
    called = (node.func for node in ast.walk(_tree(function)) if isinstance(node, ast.Call))
    return sum(isinstance(name, ast.Attribute) and name.attr.startswith(start) for name in called)


def _tree(function: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _gradient(plan: Plan, synapses: Synapses, rule: GradientRule, steps: int, width: int) -> Account:
    """Every state and output of the network in every step; what autograd does with it is not counted."""
    values = sum(p.units * (len(p.neuron.states) + len(p.neuron.outputs)) for p in plan.network.populations)
    weights = Counting(plan, synapses, rule, width)  # type: ignore[arg-type]
    both = weights.weights + weights.biases
    return Account(
        synapses.name,
        rule.name,
        both,
        0,
        width * values * (steps if rule.through_time else 1),
        0,
        width * (weights.weights * _slots(rule.chain) + weights.biases * _slots(rule.bias_chain)),
        Work(0, 0, None, math.nan),
        Work(both, both, None, math.nan),
    )
