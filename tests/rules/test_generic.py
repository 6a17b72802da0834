"""What every rule has to keep, from the one table of all rules: starting anew, silence, batches, replicas, `list`."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from backends import leaves
from hydra.utils import instantiate
from plain import as_trial, shown
from test_table import AFTER_ANOTHER, BATCH, INPUTS, OUTPUTS, REFUSED, STEPS, TABLE, config

from neurosim.backends import compile
from neurosim.backends.moment import label
from neurosim.backends.plan import Plan
from neurosim.backends.simulator import State
from neurosim.cli import main
from neurosim.phase import Held, Phase
from neurosim.random import Distribution
from neurosim.recorder import Probe
from neurosim.rule import GradientRule, ThreeFactorRule
from neurosim.rules.biohsic import BioHSIC
from neurosim.scheme import Composed
from neurosim.types import ConfigurationError

DT = 1.0
SPIKING = [rule for rule in TABLE if (rule, "spiking") not in REFUSED]
HOME = {rule: "spiking" if rule in SPIKING else "layered" for rule in TABLE}
ON_CPU = ("backprop", "biohsic", "eprop", "reward_stdp", "softhebb")  # test_on_cpu has all; here, its buffers
# No memory of an optimizer, no readout by another rule, no bounds that can be left open.
PLAIN = {"optimizer": "none", "output": "none", "normalise": "none", "w_min": None, "w_max": None}

NEEDED = {"diehl_cook": {"w_max": 1.0}}  # soft bounds


def made(rule: str, network: str, **parameters: Any) -> Any:
    """The network of a rule with `parameters` where it has them; null and coupling follow BioHSIC."""
    whole = config(rule, network)
    parameters = {**parameters, **NEEDED.get(rule, {})}
    scheme = _with(instantiate(whole.rule), parameters)
    if rule in AFTER_ANOTHER:
        scheme = Composed((_with(BioHSIC(window=BATCH), parameters), scheme))
    return scheme(instantiate(whole.network)(INPUTS, OUTPUTS))


def _with(scheme: Any, parameters: dict[str, Any]) -> Any:
    names = {field.name for field in fields(scheme)}
    return replace(scheme, **{name: value for name, value in parameters.items() if name in names})


def trial(index: int, net: Any, batch: int = BATCH) -> Any:
    return as_trial(shown(index, STEPS, batch), net, {"reward": torch.ones(batch, 1)})


def trained(simulator: Any, net: Any, trials: int = 2) -> State:
    """A state after `trials` presentations, with activity that is not at rest."""
    state = simulator.init(BATCH)
    for k in range(trials):
        state, _ = simulator.run(state, trial(k, net))
    return state


def same(ours: Any, theirs: Any) -> None:
    """Two trees of states hold the same bits."""
    other = dict(leaves(theirs))
    assert len(other) == len(dict(leaves(ours)))
    for path, value in leaves(ours):
        assert torch.equal(value, other[path]), path


def moved(state: State, start: State) -> set[str]:
    """The projections whose weights differ."""
    return {name for name, value in state.learned["weight"].items() if (value != start.learned["weight"][name]).any()}


# ---- starting anew ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "backend"), [(rule, "reference") for rule in TABLE] + [(rule, "cpu") for rule in ON_CPU]
)
def test_reset_equals_a_fresh_object(rule, backend):
    """Nothing but what was learned, and the clock that addresses noise, outlives `fresh`: in the state as in the
    object."""
    net = made(rule, HOME[rule], success="graded")
    used, new = (compile(net, DT, replicas=2, dtype="float64", backend=backend) for _ in range(2))
    state = trained(used, net)
    reset, start = used.fresh(state), new.init(BATCH, learned=state.learned)._replace(clock=state.clock)
    carried = dict(leaves(state.activity))
    assert any(not torch.equal(value, carried[path]) for path, value in leaves(reset.activity))
    same(reset.activity, start.activity)
    probe = Probe(net.output, net[net.output].axon)
    asked = Phase("asked", STEPS, {"input": Held(shown(5).x)}, learn=False)
    (_, ours), (_, theirs) = used.run(reset, asked, (probe,)), new.run(start, asked, (probe,))
    np.testing.assert_array_equal(ours[probe.key], theirs[probe.key])
    (after, _), (expected, _) = used.run(reset, trial(2, net)), new.run(start, trial(2, net))
    same((after.activity, after.learned), (expected.activity, expected.learned))
    assert moved(after, state)


# ---- silence ---------------------------------------------------------------------------------------------------------

# Rules that change weights although nothing arrives, and why. All others wait for an event at the synapse.
STIRRED = {
    "deep_feedback_control": "the controller drives the hidden layers, and noise the feedback weights in sleep",
    "hebbnet": "what is added is the change less the mean of the earlier ones",
    "kolen_pollack": "forward and feedback weights decay with every update",
    "node_perturbation": "the noise on a neuron makes it fire, an event for the layer above",
    "weight_perturbation": "the noise is on the weights, and what it does to the output's bias changes the loss",
}
# Rules with a memory per synapse.
TAGGED = ("dopamine_stdp", "eprop", "reward_stdp")
# Rules that filter nothing: they read the step's own values.
TRACELESS = ("bptt", "deep_feedback_control", "krotov_hopfield", "softhebb", "weight_perturbation")
# Where the reward comes from; undriven, dopamine falls silent too.
UNDRIVEN = {"dopamine_stdp": {"reward": "driven"}}


def without_biases(state: State) -> State:
    """A bias is an input that never falls silent."""
    bias = {name: torch.zeros_like(value) for name, value in state.learned["bias"].items()}
    return state._replace(learned={**state.learned, "bias": bias})


@pytest.mark.parametrize("rule", TABLE)
def test_without_events_weights_stay(rule):
    """The teacher goes on, the input is silent; weights that nobody may touch (`learn` off) stay under every rule."""
    net = made(rule, HOME[rule], **PLAIN)
    simulator = compile(net, DT, replicas=2, dtype="float64")
    start = without_biases(simulator.fresh(trained(simulator, net)))
    state = frozen = start
    for k in range(2):
        quiet = [replace(one, drive={p: x for p, x in one.drive.items() if p != "input"}) for one in trial(k, net)]
        state, _ = simulator.run(state, quiet)
        frozen, _ = simulator.run(frozen, [replace(one, learn=False) for one in trial(k, net)])
    assert not moved(frozen, start)
    assert bool(moved(state, start)) == (rule in STIRRED)
    assert ("input_hidden0" in moved(state, start)) == (rule in ("hebbnet", "kolen_pollack", "weight_perturbation"))
    if rule == "kolen_pollack":
        for name in moved(state, start):
            now, before = state.learned["weight"][name], start.learned["weight"][name]
            torch.testing.assert_close(now, 0.999**2 * before, rtol=1e-12, atol=0)  # its `decay`, of two updates


def silence(simulator: Any, state: State, part: str, learn: bool) -> tuple[State, State, set[str]]:
    """(start, end, sources that said nothing) of a silent phase from rest, but for one `part` of the activity."""
    rest = without_biases(simulator.fresh(state))
    start = rest._replace(activity={**rest.activity, part: state.activity[part]})
    sources = {
        label(name, trace.of): Probe(name, trace.of.name)
        for name, trace in simulator.plan.traces
        if name and hasattr(trace.of, "name")
    }
    quiet = replace(trial(0, simulator.plan.network)[0], drive={}, learn=learn, noise=False)
    end, recording = simulator.run(start, quiet, tuple(dict.fromkeys(sources.values())))
    return start, end, {name for name, probe in sources.items() if not recording[probe.key].any()}


@pytest.mark.parametrize("learn", [True, False], ids=["learning", "not learning"])
@pytest.mark.parametrize("rule", SPIKING)
def test_traces_decay_without_events(rule, learn):
    """By exp(-dt / tau) in every step, whether anything learns or not."""
    net = made(rule, "spiking", **PLAIN, **UNDRIVEN.get(rule, {}))
    simulator = compile(net, DT, replicas=2, dtype="float64")
    start, end, mute = silence(simulator, trained(simulator, net), "trace", learn)
    traces = [(label(name, trace), trace.tau) for name, trace in simulator.plan.traces if label(name, trace.of) in mute]
    assert bool(traces) == (rule not in TRACELESS)
    for name, tau in traces:
        expected = math.exp(-STEPS * DT / tau) * start.activity["trace"][name]
        torch.testing.assert_close(end.activity["trace"][name], expected, rtol=1e-12, atol=0, msg=name)
    assert not traces or any(start.activity["trace"][name].any() for name, _ in traces)


@pytest.mark.parametrize("rule", SPIKING)
def test_eligibilities_decay_without_events(rule):
    """By exp(-dt / tau) while the rule runs; one that does not run (`learn` off) keeps what it has."""
    net = made(rule, "spiking", **PLAIN, **({"reward": "reward"} if rule == "reward_stdp" else {}))
    simulator = compile(net, DT, replicas=2, dtype="float64")
    state = trained(simulator, net)
    tags = state.activity["eligibility"]
    assert bool(tags) == (rule in TAGGED)
    start, end, _ = silence(simulator, state, "eligibility", learn=True)
    _, kept, _ = silence(simulator, state, "eligibility", learn=False)
    for name in tags:
        (component,) = net.projection(name).rule.components
        (before,), (after,) = (one.activity["eligibility"][name]["weight"] for one in (start, end))
        assert before.any()
        torch.testing.assert_close(after, math.exp(-STEPS * DT / component.tau) * before, rtol=1e-12, atol=0)
        assert torch.equal(kept.activity["eligibility"][name]["weight"][0], before)
    if rule == "reward_stdp":  # a tag that meets a reward moves its weight, and only that one
        assert moved(end, start) == set(tags)


# ---- batches ---------------------------------------------------------------------------------------------------------

# Rules whose change of a batch is more than the changes of its rows, and why.
TOGETHER = {"force": "one matrix P for all rows, moved by each"}
# Rules for which a row alone is no batch: the batch is the window of BioHSIC, which the last two follow here.
WINDOWED = ("biohsic", *AFTER_ANOTHER)
# Rules whose update is no linear function of the change, and why.
NONLINEAR = {
    "diehl_cook": "clips weights and holds the sum of each neuron's",
    "hebbnet": "keeps the largest changes only",
    "inhibitory_stdp": "clips weights at 0",
    "krotov_hopfield": "divides the change by its largest entry",
    "softhebb": "divides the change by its largest entry",
}
AWAKE = {"sleep_steps": 0}  # feedback weights that learn first would let the rows meet


def gathered(net: Any, raw: bool, reduce: str | None = None) -> Any:
    """Rules that act once, at a phase's end; `raw`: what they add is the change, with `reduce` over the rows."""

    def once(p: Any) -> Any:
        bare = {"transforms": (), "constraints": (), "bias_transforms": None} if raw else {}
        if isinstance(p.rule, GradientRule):
            return replace(p, rule=replace(p.rule, **bare))
        if not isinstance(p.rule, ThreeFactorRule):
            return p
        when = "phase" if p.rule.when == "step" else p.rule.when
        more = {"when": when, "accumulate": "sum" if p.rule.when == "step" else p.rule.accumulate}
        return replace(p, rule=replace(p.rule, **bare, **more, reduce=reduce or p.rule.reduce))

    return net.with_projections(once)


def changes(net: Any, rows: slice) -> dict[tuple[str, str], Any]:
    """What the rows of one presentation, shown as a batch of their own, add to every weight and bias that learns."""
    whole = shown(2, STEPS)
    part = replace(whole, x=whole.x[rows], y=whole.y[rows])
    samples = torch.arange(BATCH)[rows]
    reward = torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)[rows]
    simulator = compile(net, DT, dtype="float64")
    start = simulator.init(len(samples))
    phases = [replace(one, samples=samples) for one in as_trial(part, net, {"reward": reward})]
    state, _ = simulator.run(start, phases)
    return {
        (kind, p.name): (state.learned[kind][p.name] - start.learned[kind][p.name]).numpy()
        for p in net.projections
        if p.rule is not None
        for kind in ("weight", "bias")
        if p.name in start.learned[kind]
    }


def apart(net: Any, reduce: dict[str, str]) -> tuple[list[Any], list[Any]]:
    """(changes of the batch, sums or means of the changes of its rows)."""
    batch, rows = changes(net, slice(None)), [changes(net, slice(k, k + 1)) for k in range(BATCH)]
    joined = {"sum": np.sum, "mean": np.mean}
    expected = [joined[reduce[name]]([row[kind, name] for row in rows], 0) for kind, name in batch]
    assert any(np.abs(value).max() > 1e-9 for value in expected)
    return list(batch.values()), expected


def close(ours: list[Any], theirs: list[Any]) -> bool:
    return all(np.abs(a - b).max() <= 1e-11 * max(1.0, np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("rule", TABLE)
def test_the_change_of_a_batch_is_that_of_its_rows(rule, reduce):
    net = gathered(made(rule, HOME[rule], **PLAIN, **AWAKE, success="graded"), raw=True, reduce=reduce)
    how = {p.name: "mean" if isinstance(p.rule, GradientRule) else reduce for p in net.projections if p.rule}
    if rule in WINDOWED:
        with pytest.raises(ConfigurationError, match="window is 3 samples, but the batch has 1"):
            apart(net, how)
    else:
        assert close(*apart(net, how)) == (rule not in TOGETHER)


@pytest.mark.parametrize("rule", [rule for rule in TABLE if rule not in WINDOWED])
def test_the_update_of_a_batch_is_that_of_its_rows(rule):
    """With the rule's own transforms and constraints, and its own sum or mean."""
    net = gathered(made(rule, HOME[rule], **PLAIN, **AWAKE, success="graded"), raw=False)
    how = {p.name: getattr(p.rule, "reduce", "mean") for p in net.projections if p.rule}
    assert close(*apart(net, how)) == (rule not in {**TOGETHER, **NONLINEAR})


# ---- replicas --------------------------------------------------------------------------------------------------------


def alone(net: Any, plan: Plan, replica: int) -> Any:
    """The network with the numbers that the plan drew for one replica."""

    def given(p: Any) -> Any:
        numbers = {}
        if isinstance(p.weight, Distribution) or (p.tied is not None and p.tied[1] == "sign"):
            numbers["weight"] = plan.initial_weight(p.name)[replica].numpy()
        if isinstance(p.bias, Distribution):
            numbers["bias"] = plan.initial_bias(p.name)[replica].numpy()
        return replace(p, **numbers)

    return net.with_projections(given)


@pytest.mark.parametrize("rule", TABLE)
def test_replicas_equal_separate_runs(rule, monkeypatch):
    """Three in one program, and three programs with these weights and these replicas' noise."""
    net = made(rule, HOME[rule], success="graded")
    together = compile(net, DT, replicas=3, dtype="float64", seed=4)
    state = trained(together, net)
    values = dict(leaves((state.activity, state.learned)))
    assert moved(state, together.init(BATCH))
    for replica in range(3):
        simulator = compile(alone(net, together.plan, replica), DT, replicas=1, dtype="float64", seed=4)
        monkeypatch.setattr(Plan, "replica_ids", property(lambda plan, own=replica: torch.tensor([own])))
        other = dict(leaves(((end := trained(simulator, net)).activity, end.learned)))
        monkeypatch.undo()
        assert list(other) == list(values)
        for path, value in values.items():
            own = value[replica : replica + 1] if value.dim() and len(value) == 3 else value
            torch.testing.assert_close(own, other[path], rtol=1e-9, atol=1e-11, msg=f"replica {replica}: {path}")
    first, second = (state.learned["weight"][net.forward()[0].name][k] for k in range(2))
    assert not torch.equal(first, second)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_every_rule_is_listed_with_a_line(capsys):
    """Two training steps of each from the command line: tests/cli/test_run.py, `test_every_rule_runs`."""
    assert main(["list", "rules"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in lines] == list(TABLE)
    assert all(len(line) > 20 for _, line in lines)
