"""`show`: what a command line would build, without running it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from neurosim.backends.plan import Plan
from neurosim.backends.resolve import Synapses
from neurosim.cli_build import experiment, screen
from neurosim.cli_config import composed
from neurosim.cli_run import many
from neurosim.experiment import Experiment
from neurosim.factor import Apply, Coefficient, Factor, Field, Trace
from neurosim.learner import SimulatorLearner
from neurosim.memory import size
from neurosim.network import Network, Population
from neurosim.recorded import keeps_eligibility
from neurosim.rule import (
    Component,
    GradientRule,
    OfComponent,
    OfWeight,
    PerSynapse,
    SynapseNoise,
    Term,
    ThreeFactorRule,
)
from neurosim.stage import TEST, TRAIN, Stage
from neurosim.task import Dataset

KINDS = {"dense": "dense", "one_to_one": "one to one", "sparse": "sparse, by edges", "convolution": "convolution"}


def show(arguments: Sequence[str]) -> None:
    """Print what `run <arguments>` would build."""
    made = composed(arguments)
    screen(made.config)
    wanted = experiment(made.config)
    dataset, network = wanted.build()
    wanted.presentations(len(dataset.train))
    wanted.check_memory(network)
    learner = wanted.learner(network)
    wanted.rehearse(dataset, learner)
    for line in report(wanted, dataset, network, learner):
        print(line)
    print("\nsettings (any of them may be given as key=value)")
    for key, value in flat({key: value for key, value in made.config.items() if key not in ("names", "scheme")}):
        print(f"  {key} = {value}")


def report(wanted: Experiment, dataset: Dataset, network: Network, learner: SimulatorLearner) -> Iterator[str]:
    """All that is worth knowing about an experiment, line by line."""
    plan = learner.simulator.plan
    yield from _training(wanted, dataset)
    yield "\npopulations"
    yield from table([_population(population) for population in network.populations])
    yield "\nprojections"
    yield from table([_projection(synapses, plan) for synapses in plan.synapses.values()])
    yield "\nrules"
    yield from _rules(plan, wanted)
    if (network.trial, network.test) != ((TRAIN,), TEST):
        yield "\nhow a sample is shown, stage by stage"
        yield from table([_stage(stage) for stage in (*network.trial, network.test)])
    yield f"\nbackend {wanted.backend}"
    yield from (f"  {line}" for line in learner.simulator.uncompiled() or ["the whole time loop is compiled"])
    yield from (f"  {line}" for line in learner.simulator.shortcuts())
    yield from (f"  {line}" for line in filter(None, [learner.simulator.compilation()]))
    yield "\nmemory"
    yield from table(list(_memory(wanted.memory(network), wanted)))


def _training(wanted: Experiment, dataset: Dataset) -> Iterator[str]:
    train, validation, test = len(dataset.train), len(dataset.validation), len(dataset.test)
    shown = "sliding windows" if wanted.presentation == "windows" else "batches"
    epochs, presentations = many(wanted.epochs, "epoch"), many(wanted.presentations(train), "presentation")
    replicas = f"{many(wanted.replicas, 'replica')} that differ in {', '.join(wanted.vary)}"
    yield f"task      {dataset.name}: {dataset.inputs} inputs, {dataset.classes} classes"
    yield f"          {train} training, {validation} validation, {test} test examples"
    yield f"training  {epochs} of {presentations}, {shown} of {wanted.batch} examples"
    yield f"          {wanted.settings.steps} steps of {wanted.dt:g} ms each; {replicas}"
    yield f"encoder   {describe(wanted.encoder)}"
    yield f"decoder   {describe(wanted.decoder)}"
    yield f"backend   {wanted.backend} ({wanted.dtype}, {wanted.device})"


def _stage(stage: Stage) -> list[str]:
    learn = ", ".join(stage.learn) if isinstance(stage.learn, tuple) else "all rules" if stage.learn else "nothing"
    start = "from the activity at its start" if stage.start == "trial" else "going on"
    silent = f"; silent: {', '.join(stage.silent)}" if stage.silent else ""
    noise, target = "noise" if stage.noise else "no noise", "target" if stage.teach else "no target"
    steps = "" if stage.steps is None else f"; {stage.steps} steps"
    return [stage.name, f"{start}; {noise}; {target}; learns: {learn}{silent}{steps}"]


def describe(value: Any) -> str:
    """An object with its parameters: `LIF(tau_mem=10, ...)`."""
    if value is None:
        return "none"
    if isinstance(value, Field | Trace | Apply):
        return factor(value)
    if not is_dataclass(value):
        return f"{value:g}" if isinstance(value, float) else str(value)
    inner = ", ".join(f"{field.name}={describe(getattr(value, field.name))}" for field in fields(value) if field.init)
    return f"{type(value).__name__}({inner})" if inner else type(value).__name__


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with aligned columns; the last one runs free."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield (
            "  "
            + "  ".join([cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)] + [row[-1]]).rstrip()
        )


def _population(population: Population) -> list[str]:
    shape = " x ".join(map(str, population.shape))
    lateral = f", then {describe(population.lateral)}" if population.lateral is not None else ""
    return [population.name, shape, describe(population.neuron) + lateral]


def _projection(synapses: Synapses, plan: Plan) -> list[str]:
    projection = synapses.projection
    edges = synapses.edges
    weights = sum(edges.counts) // len(edges.counts) if edges is not None else math.prod(synapses.weight_shape)
    bias = f" + {synapses.bias_units} biases" if synapses.has_bias else ""
    if isinstance(synapses.delay, int):
        delay = f"delay {synapses.delay * plan.dt:g} ms"
    else:
        delay = f"delays {synapses.shortest * plan.dt:g} to {synapses.longest * plan.dt:g} ms"
    taught = projection.rule.name or type(projection.rule).__name__ if projection.rule is not None else "fixed"
    if projection.tied is not None:
        taught = f"the {'signs' if projection.tied[1] == 'sign' else 'transpose'} of {projection.tied[0]}"
    return [
        synapses.name,
        f"{synapses.pre.name}.{synapses.sent} -> {synapses.post.name}.{synapses.port}",
        f"{weights} weights{bias}",
        f"{KINDS[synapses.kind]} {' x '.join(map(str, synapses.weight_shape))}".rstrip(),
        delay,
        f"{'' if synapses.driving else 'teaching; '}{taught}",
    ]


# ---- rules -----------------------------------------------------------------------------------------------------------


def _rules(plan: Plan, wanted: Experiment) -> Iterator[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for synapses in plan.plastic():
        groups.setdefault(tuple(_rule(synapses, wanted)), []).append(synapses.name)
    for lines, projections in groups.items():
        yield f"  {lines[0]} on {', '.join(projections)}"
        yield from (f"    {line}" for line in lines[1:])
    if not groups:
        yield "  none: nothing learns"


def _rule(synapses: Synapses, wanted: Experiment) -> Iterator[str]:
    rule = synapses.projection.rule
    yield rule.name or type(rule).__name__
    if isinstance(rule, GradientRule):
        time = "through all steps of a presentation" if rule.through_time else "through one step at a time"
        output = f"{describe(rule.decoder)} of {rule.output}"
        yield f"change      the gradient of the {rule.loss} loss of {output}, {time}: a baseline, not local"
    else:
        yield from _local(rule)
        yield f"path        {_path(synapses, rule)}"
    yield f"transforms  {', '.join(map(describe, rule.chain)) or 'none'}"
    yield f"constraints {', '.join(map(describe, rule.constraints)) or 'none'}"


def _local(rule: ThreeFactorRule) -> Iterator[str]:
    for index, component in enumerate(rule.components):
        label = "change" if len(rule.components) == 1 else f"component {index}"
        yield f"{label:11} {_component(component)}"
    modulator = (
        f"{describe(rule.modulator)} (locality: {rule.modulator.scope})" if rule.modulator.scope != "none" else "1"
    )
    yield f"modulator   {modulator}"
    when = {"step": "in every step", "phase": "at the end of a presentation", "sample": "at the end of a sample"}[
        rule.when
    ]
    over = {"sum": "sum", "mean": "mean", "last": "last"}[rule.accumulate]
    steps = (
        "" if rule.when == "step" else f", from the {over} of its steps" if over != "last" else ", from its last step"
    )
    yield f"when        {when}{steps}; over the batch: {rule.reduce}"


def _component(component: Component) -> str:
    terms = " + ".join(map(_term, component.terms))
    if component.tau is not None:
        return f"{terms}, remembered with tau {component.tau:g} ms"
    if component.decay is not None:
        return f"{terms}, remembered with decay {factor(component.decay)}"
    return terms


def _term(term: Term) -> str:
    gain = "" if term.gain is None else f" x gain {gain_of(term.gain)}"
    return f"post {factor(term.post)} x pre {factor(term.pre)}{gain}"


def gain_of(gain: Any) -> str:
    """A gain in words."""
    if isinstance(gain, OfWeight):
        arguments = ", ".join(["w", *map(describe, gain.constants)])
        return f"{getattr(gain.fn, '__name__', 'f')}({arguments})"
    if isinstance(gain, PerSynapse):
        return describe(gain.value) if np.ndim(gain.value) == 0 else "of a number per synapse"
    if isinstance(gain, OfComponent):
        return f"component {gain.index} ({gain.read} this step)"
    return f"noise of sd {gain.sd:g}" if isinstance(gain, SynapseNoise) else describe(gain)


def factor(value: Factor) -> str:
    """A factor in words."""
    if isinstance(value, Field):
        return value.name
    if isinstance(value, Trace):
        return f"trace({factor(value.of)}, tau {value.tau:g} ms, {value.mode}, read {value.read})"
    if isinstance(value, Apply):
        return f"{getattr(value.fn, '__name__', 'f')}({', '.join(map(factor, value.arguments))})"
    return "coefficient" if isinstance(value, Coefficient) else "1"


def _path(synapses: Synapses, rule: ThreeFactorRule) -> str:
    """How the change of this rule is formed, and why."""
    kind = KINDS[synapses.kind]
    if keeps_eligibility(rule):
        return f"{kind}; an eligibility per synapse and example, because a component has a memory"
    if rule.share != "sum" or rule.reduce == "sequential":
        why = f"share is {rule.share}" if rule.share != "sum" else "reduce is sequential"
        return f"{kind}; an eligibility per synapse and example is formed when a change is due, because {why}"
    return f"{kind}; one product per term over the whole batch, no eligibility is formed"


# ---- memory ----------------------------------------------------------------------------------------------------------


def _memory(parts: dict[str, int], wanted: Experiment) -> Iterator[list[str]]:
    notes = {
        "weights": "with biases",
        "transforms": "memories of optimizers",
        "activity": f"states, traces and delays of {wanted.batch} examples at once",
        "eligibility": "per synapse and example",
        "evaluation": f"activity, input and output of {wanted.settings.evaluate_batch} examples at once",
    }
    for name, count in parts.items():
        yield [name, size(count), notes[name]]
    yield ["total", size(sum(parts.values())), "for all replicas"]


def flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by full key, without the names of classes."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif key != "_target_":
            yield f"{prefix}{key}", written(value)


def written(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
