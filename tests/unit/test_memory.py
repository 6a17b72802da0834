"""The memory of a run: counted without taking it, right about what it will be, and a sentence where it is too much."""

from dataclasses import replace

import pytest
import torch
from test_experiment import small

from neurosim import memory
from neurosim.adapter import Poisson
from neurosim.experiment import Experiment
from neurosim.memory import check_memory, free_memory, planned_memory, size
from neurosim.network import Layered
from neurosim.neuron import DelayedResetLIF, LeakyRate
from neurosim.rules.delta import Delta
from neurosim.rules.eprop import EProp
from neurosim.types import ConfigurationError


def held(tree) -> int:
    """Bytes of the tensors of a state."""
    if isinstance(tree, torch.Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, dict):
        return sum(map(held, tree.values()))
    return sum(map(held, tree)) if isinstance(tree, tuple | list) else 0


def spiking(**changes) -> Experiment:
    network = Layered(DelayedResetLIF(), LeakyRate(5.0, "linear"), hidden=(6, 5), delay=2.0)
    return small(network=network, scheme=EProp(), **changes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("experiment", [small(), spiking()], ids=["rate", "spiking"])
def test_what_is_planned_is_what_a_state_holds(experiment, dtype):
    experiment = replace(experiment, dtype=dtype)
    _, network = experiment.build()
    parts, state = experiment.memory(network), experiment.learner(network).init()
    assert parts["weights"] == held(state.learned["weight"]) + held(state.learned["bias"])
    assert parts["transforms"] == held(state.learned["transform"])
    assert parts["activity"] == held(state.activity)


def test_eligibilities_are_counted_where_a_rule_keeps_one():
    experiment = spiking()
    _, network = experiment.build()
    learner = experiment.learner(network)
    dataset, _ = experiment.build()
    rows = experiment.rows(experiment.order(24, 1), 0)
    state = learner.train_step(learner.init(), dataset.train.x[rows], dataset.train.y[rows], 0)
    kept = sum(held(part["weight"]) for part in state.activity["eligibility"].values())
    assert 0 < kept <= experiment.memory(network)["eligibility"]
    assert small(scheme=Delta()).memory(small(scheme=Delta()).build()[1])["eligibility"] == 0


def test_evaluation_counts_its_examples_and_what_an_encoder_makes():
    plain = small()
    _, network = plain.build()
    more = replace(plain, settings=replace(plain.settings, evaluate_batch=1000))
    drawn = replace(plain, encoder=Poisson(outside="clip"))
    base = plain.memory(network)["evaluation"]
    assert more.memory(network)["evaluation"] == 2 * base
    assert drawn.memory(network)["evaluation"] - base == 3 * 500 * 4 * 3 * 2  # replicas, examples, bytes, steps, inputs


def test_nothing_of_the_size_is_taken():
    experiment = small(replicas=10**9)
    _, network = experiment.build()
    alone = replace(experiment, replicas=1).learner(network)
    assert sum(planned_memory(alone, 10**9).values()) > 10**12


def test_what_cannot_fit_is_told(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 5_000_000)
    check_memory({"weights": 4_000_000, "activity": 999_999}, 3, "cpu")
    with pytest.raises(
        ConfigurationError, match=r"about 6\.0 MB of memory, most of it for activity, and 5\.0 MB are fr"
    ):
        check_memory({"weights": 2_000_000, "activity": 4_000_000}, 3, "cpu")


def test_where_the_system_does_not_say_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    check_memory({"weights": 10**18}, 1, "cpu")


def test_a_container_counts(monkeypatch, tmp_path):
    free = free_memory("cpu")
    assert free is not None
    assert free > 10**6
    (tmp_path / "limit").write_text("5000\n")
    (tmp_path / "used").write_text("2000\n")
    monkeypatch.setattr(memory, "CGROUPS", ((str(tmp_path / "limit"), str(tmp_path / "used")),))
    assert free_memory("cpu") == 3000
    (tmp_path / "limit").write_text("max\n")
    assert free_memory("cpu") != 3000


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")]
)
def test_size_in_words(count, words):
    assert size(count) == words
