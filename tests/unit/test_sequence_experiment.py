"""Sequences through the whole loop: learning, scores, null, trace, resume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurosim import checkpoint
from neurosim.adapter import Hold, Mean, Poisson
from neurosim.experiment import Experiment
from neurosim.learner import Settings
from neurosim.neuron import LIF, LeakyRate, StaticRate
from neurosim.recorded import Recorded
from neurosim.reservoir import Reservoir
from neurosim.rules.force import Force
from neurosim.rules.least_mean_squares import LeastMeanSquares
from neurosim.run_folder import open_run
from neurosim.run_loop import RunLoop, run
from neurosim.tasks.delayed_recall import DelayedRecall
from neurosim.tasks.sine import Sine
from neurosim.types import ConfigurationError

ECHO = Reservoir(LeakyRate(5.0), StaticRate("linear"), 60)


def recall(**changes) -> Experiment:
    """Three symbols over a delay of three rows; T = 5."""
    settings = {
        "task": DelayedRecall(symbols=3, delay=3, train=120, validation=60, test=60),
        "network": ECHO,
        "scheme": LeastMeanSquares(lr=0.05),
        "encoder": Hold(),
        "decoder": Mean(),
        "settings": Settings(5),
        "epochs": 2,
        "batch": 6,
        "presentation": "batches",
        "vary": ("init", "order"),
        "replicas": 3,
        "recorded": Recorded(samples=4, training=1),
        **changes,
    }
    return Experiment(**settings)


def accuracy(folder) -> np.ndarray:
    rows = open_run(folder).metrics
    return rows["accuracy"][(rows["split"] == "test") & (rows["epoch"] == rows["epoch"].max())]


def test_a_symbol_is_recalled(tmp_path):
    run(recall(), tmp_path / "taught", "a: 1\n")
    run(recall(shuffle_labels=True), tmp_path / "null", "a: 1\n")
    assert (accuracy(tmp_path / "taught") > 0.95).all()
    assert (accuracy(tmp_path / "null") < 0.7).all()


def test_a_network_without_recurrence_cannot(tmp_path):
    run(recall(network=replace(ECHO, neuron=StaticRate("tanh"), radius=0.0)), tmp_path, "a: 1\n")
    assert (accuracy(tmp_path) < 0.6).all()


def test_spikes_and_several_steps_a_row(tmp_path):
    spiking = Reservoir(LIF(20.0, v_th=0.3, arrival="filtered"), StaticRate("linear"), 80, input_scale=3.0)
    settings = {"settings": Settings(50), "encoder": Poisson(max_rate=500.0), "scheme": Force(), "replicas": 2}
    run(recall(network=spiking, **settings), tmp_path, "a: 1\n")
    assert (accuracy(tmp_path) > 0.5).all()


def test_the_trace_has_one_label_per_example(tmp_path):
    run(recall(), tmp_path, "a: 1\n")
    trials = open_run(tmp_path).recordings.trials
    data = recall().task.load(0)
    shown = trials[trials["phase"] == "test"]
    np.testing.assert_array_equal(shown["label"], data.test.y[shown["sample"], -1])
    taught = trials[trials["phase"] == "train"]
    assert len(taught)
    np.testing.assert_array_equal(taught["label"], data.train.y[taught["sample"], -1])


def test_goes_on_where_it_stopped(tmp_path):
    run(recall(), tmp_path / "whole", "a: 1\n")
    run(recall(epochs=1), tmp_path / "parts", "a: 1\n")
    RunLoop(recall(), tmp_path / "parts", "a: 1\n", None, True).run()
    one, other = (checkpoint.load(tmp_path / name / "checkpoint.npz")[0] for name in ("whole", "parts"))
    for name, value in one["learned"]["weight"].items():
        np.testing.assert_array_equal(value, other["learned"]["weight"][name])


def test_a_periodic_signal_is_generated(tmp_path):
    """Values: FORCE through the loop, one period after the other; tested on what the network does by itself."""
    network = replace(ECHO, neuron=LeakyRate(10.0), size=150, radius=1.2, feedback_scale=1.0, initial=0.5)
    task = Sine(period=80, harmonics=(1.0,))
    settings = {
        "settings": Settings(80, carry=True, start="training"),
        "scheme": Force(),
        "epochs": 1,
        "batch": 1,
        "replicas": 2,
    }
    run(recall(task=task, network=network, **settings), tmp_path, "a: 1\n")
    assert (accuracy(tmp_path) > 0.95).all()
    rows = open_run(tmp_path).metrics
    assert (rows["accuracy"][rows["epoch"] == 0] < 0.5).all()
    trials = open_run(tmp_path).recordings.trials
    assert (trials["label"] == -1).all()


def test_steps_must_fit_the_rows(tmp_path):
    with pytest.raises(ConfigurationError, match="steps is 7, but an example has 5 rows of time"):
        run(recall(settings=Settings(7)), tmp_path, "a: 1\n")
