"""Trials in stages: what each drives, silences and learns, from which activity it starts, and who may ask for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal, pair, simulate, weight

from neurosim.adapter import Last, Poisson
from neurosim.factor import One, post
from neurosim.learner import Settings, SimulatorLearner
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyRate, NoiseSource, Relay
from neurosim.phase import Held, Phase, staged
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.stage import Stage
from neurosim.types import ConfigurationError

COUNT = ThreeFactorRule((Component((Term(post("rate"), One("pre")),)),), accumulate="sum", when="sample", reduce="sum")
WAKE, SLEEP = Stage("wake"), Stage("sleep", learn=("wire",), teach=False, silent=("wire",), noise=False, steps=2)


def taught() -> Network:
    """`target` drives the output beside the input, and a noise source; the wire adds up what the output sends."""
    parts = (
        Population("input", 3, Relay()),
        Population("output", 2, Relay()),
        Population("target", 2, Relay()),
        Population("noise", 2, NoiseSource(std=1.0)),
    )
    wires = (
        Projection("input", "output", 1.0, delay=0, name="wire", rule=COUNT),
        Projection("target", "output", np.eye(2), delay=0),
        Projection("noise", "output", np.eye(2), delay=0),
    )
    return Network(parts, wires)


class Watched(SimulatorLearner):
    """Keeps the phases that it runs."""

    def __init__(self, network: Network, **settings):
        options = {"batch": 4, "dt": 1.0, "replicas": 2, "seed": 3, "dtype": "float64", "device": "cpu"}
        super().__init__(network, Poisson(500.0), Last(), Settings(5, **settings), backend="reference", **options)
        self.seen: list[tuple[Phase, ...]] = []
        run = self.simulator.run
        self.simulator.run = lambda state, phases, probes=(): (self.seen.append(phases), run(state, phases, probes))[1]


X, Y = np.random.default_rng(0).uniform(size=(1, 4, 3)), np.array([[0, 1, 1, 0]])


def test_a_learner_shows_the_stages_of_the_trial():
    test = Stage("test", learn=False, teach=False, noise=False)
    learner = Watched(taught().with_trial((WAKE, SLEEP), test))
    state = learner.train_step(learner.init(), X, Y, 0)
    learner.evaluate(state, X[0], Y[0])
    (wake, sleep), (tested,) = learner.seen
    assert [(p.name, p.steps, p.learn, p.silent, p.noise) for p in (wake, sleep, tested)] == [
        ("wake", 5, True, (), True),
        ("sleep", 2, ("wire",), ("wire",), False),
        ("test", 5, False, (), False),
    ]
    assert ["target" in phase.drive for phase in (wake, sleep, tested)] == [True, False, False]
    assert torch.equal(wake.drive["input"][:2], sleep.drive["input"])  # the same sample, encoded with the same noise
    assert not torch.equal(wake.drive["input"], tested.drive["input"])
    assert state.clock == 7


def test_the_plain_trial_is_one_stage():
    learner = Watched(taught())
    learner.evaluate(learner.train_step(learner.init(), X, Y, 0), X[0], Y[0])
    (train,), (tested,) = learner.seen
    assert (train.name, train.learn, "target" in train.drive) == ("train", True, True)
    assert (tested.name, tested.learn, "target" in tested.drive) == ("test", False, False)


def test_a_rule_of_the_sample_acts_once_on_all_stages():
    """G is the sum over both stages; silence, the target and noise are those of the stage."""
    net = taught()
    x, y = normal(4, 3), normal(4, 2)
    shown = Phase("p", 3, {"input": Held(x), "target": Held(y)})
    phases = [staged(stage, shown) for stage in (Stage("wake", noise=False), SLEEP)]
    _, state, recording = simulate(net, phases, (Probe("output", "rate"),), batch=4)
    rate = recording["output.rate"]
    np.testing.assert_allclose(rate[:3], np.tile(x.sum(1)[:, None] + y, (3, 1, 1)), rtol=0, atol=1e-14)
    assert (rate[3:] == 0).all()
    expected = 1.0 + 3 * (x.sum(1)[:, None] + y).sum(0)[:, None]
    np.testing.assert_allclose(weight(state)[0], np.tile(expected, 3), rtol=0, atol=1e-13)


@pytest.mark.parametrize("start", ["carried", "trial"])
def test_where_a_stage_starts(start):
    net = Network(
        (Population("input", 2, Relay()), Population("output", 2, LeakyRate(5.0, "linear"))),
        (Projection("input", "output", np.eye(2), delay=0),),
    )
    first = Phase("first", 4, {"input": Held(np.ones((1, 2)))})
    simulator, state, _ = simulate(net, first)
    second = staged(Stage("b", start=start), Phase("second", 3))
    end, recording = simulator.run(state, (Phase("a", 4, {"input": Held(3 * np.ones((1, 2)))}), second), (
        Probe("output", "v"),
    ))  # fmt: skip
    leak = np.exp(-np.arange(1, 5) / 5.0)
    before = 1 - leak[3]
    after = 3 - (3 - before) * leak
    expected = np.concatenate([after, (before if start == "trial" else after[3]) * leak[:3]])
    np.testing.assert_allclose(recording["output.v"][:, 0, 0], expected, rtol=0, atol=1e-14)
    assert end.clock == 11


def test_all_rules_but_those_that_rest():
    """Also a rule that is attached after the trial was made."""
    awake = Stage("awake", resting=("wire",))
    net = taught().with_trial((awake, SLEEP))
    assert [stage.learn for stage in net.trial] == [(), ("wire",)]
    later = net.with_projections(lambda p: replace(p, rule=COUNT))
    assert [stage.learn for stage in later.trial] == [("target_output", "noise_output"), ("wire",)]
    with pytest.raises(ConfigurationError, match="no projection 'no'"):
        taught().with_trial((Stage("a", resting=("no",)),))


def test_one_kind_of_trial():
    net = taught().with_trial((WAKE, SLEEP))
    assert net.with_trial((WAKE, SLEEP)).trial == (WAKE, SLEEP)
    with pytest.raises(ConfigurationError, match=r"as wake \(carried\), then sleep \(carried\), another"):
        net.with_trial((WAKE,))
    with pytest.raises(ConfigurationError, match="a network has one kind of trial"):
        net.with_trial((WAKE, SLEEP), Stage("test", learn=False, noise=False))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Stage("a", start="rest"), "start of stage 'a' is 'rest'; allowed: carried, trial"),
        (lambda: Stage("a", steps=0), "stage 'a' has steps 0"),
        (lambda: Phase("p", 1, start="rest"), "start of phase 'p' is 'rest'"),
        (lambda: pair(1, 1).with_trial(()), "a trial needs at least one stage"),
        (lambda: pair(1, 1).with_trial((WAKE,), Stage("test")), "the test stage does not learn"),
        (lambda: pair(1, 1).with_trial((WAKE,), Stage("test", learn=False, steps=3)), "steps of the presentation"),
        (lambda: pair(1, 1).with_trial((WAKE, WAKE)), "two stages are named 'wake'"),
        (lambda: pair(1, 1).with_trial((Stage("a", silent=("no",)),)), "no projection 'no'"),
        (lambda: pair(1, 1).with_trial((Stage("a", learn=("no",)),)), "no projection 'no'"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
