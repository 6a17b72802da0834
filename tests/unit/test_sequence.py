"""Examples that last: rows of input and target in time, rows without a target, and what is scored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurosim.adapter import Count, Hold, Mean, Poisson
from neurosim.backends import compile
from neurosim.learner import Settings, SimulatorLearner
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held
from neurosim.random import Stream
from neurosim.recorder import Probe
from neurosim.rules.least_mean_squares import LeastMeanSquares
from neurosim.sequence import Scores, decoded, encoded, held, label_of, rows_in, target
from neurosim.types import ConfigurationError

CPU, F64 = torch.device("cpu"), torch.float64
LABELS = np.array([[[-1, 2, 0], [1, -1, -1]]])  # [1, B = 2, T = 3]
READOUT = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def learner(rule: bool = True, steps: int = 6, outputs: int = 3, **settings) -> SimulatorLearner:
    """Two inputs and a linear readout: the output is W x at every moment."""
    network = Network(
        (Population("input", 2, Relay()), Population("output", outputs, StaticRate("linear"))),
        (Projection("input", "output", READOUT[:outputs], delay=0),),
    )
    network = LeastMeanSquares(lr=0.1)(network) if rule else network
    shown = Settings(steps, **settings)
    where = {"dtype": "float64", "device": "cpu", "backend": "reference"}
    return SimulatorLearner(network, Hold(), Mean(), shown, batch=2, dt=1.0, replicas=2, seed=0, **where)


def sequences(n: int, rows: int, seed: int = 0):
    return np.random.default_rng(seed).normal(size=(n, rows, 2))


# ---- targets


def test_labels_per_row():
    got = target(LABELS, 3, F64, CPU)
    np.testing.assert_array_equal(got.given[:, 0].numpy(), [[0, 1], [1, 0], [1, 0]])
    np.testing.assert_array_equal(got.value[:, 0, 0].numpy(), [[0, 0, 0], [0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(got.mean[0].numpy(), [[0.5, 0, 0.5], [0, 1, 0]])
    assert got.classes


def test_one_label_for_all_rows():
    got = target(np.array([[2, 0]]), 3, F64, CPU)
    assert (tuple(got.value.shape), tuple(got.given.shape)) == ((1, 1, 2, 3), (1, 1, 2))
    np.testing.assert_array_equal(got.mean[0].numpy(), np.eye(3)[[2, 0]])


def test_values_per_row():
    y = np.arange(12.0).reshape(1, 2, 3, 2)
    y[0, 1, 0, 1] = np.nan
    got = target(y, 2, F64, CPU)
    np.testing.assert_array_equal(got.given[:, 0].numpy(), [[1, 0], [1, 1], [1, 1]])
    np.testing.assert_array_equal(got.value[1, 0].numpy(), y[0, :, 1])
    np.testing.assert_array_equal(got.value[0, 0, 1].numpy(), [0, 0])
    np.testing.assert_array_equal(got.mean[0, 1].numpy(), y[0, 1, 1:].mean(0))
    assert not got.classes


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (np.zeros(3, int), r"labels has shape \(3,\); allowed: \[R, B\] or \[R, B, T\]"),
        (np.zeros((1, 2, 3)), r"values has shape \(1, 2, 3\); allowed: \[R, B, T, K\]"),
        (np.zeros((1, 2, 3, 2)), "2 values per row, but the network has 3 outputs"),
    ],
)
def test_targets_of_another_shape(y, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        target(y, 3, F64, CPU)


def test_one_label_of_an_example():
    np.testing.assert_array_equal(label_of(LABELS[0]), [0, 1])
    np.testing.assert_array_equal(label_of(np.array([4, 5])), [4, 5])
    np.testing.assert_array_equal(label_of(np.zeros((2, 3, 1))), [-1, -1])


# ---- time


def test_each_row_is_shown_for_an_equal_part():
    value = torch.arange(6.0).reshape(3, 1, 1, 2)
    drive = held(value, 6)
    np.testing.assert_array_equal(drive[:, 0, 0].numpy(), [0, 0, 2, 2, 4, 4])
    once = held(value[:1], 6)
    assert isinstance(once, Held)
    assert tuple(once.x.shape) == (1, 2)
    with pytest.raises(ConfigurationError, match="steps is 7, but an example has 3 rows of time"):
        held(value, 7)


@pytest.mark.parametrize("replicas", [None, 2])
def test_encoding_row_by_row(replicas):
    x = torch.from_numpy(sequences(5, 3)).flatten(1)
    x = x if replicas is None else torch.stack([x, x + 1])
    ids = torch.arange(2), torch.arange(5)
    drive = encoded(Hold(2.0), x, 2, 12, 1.0, Stream(0, "e"), *ids)
    rows = x.unflatten(-1, (3, 2)).movedim(-2, 0)
    np.testing.assert_array_equal(drive.numpy(), 2.0 * rows.repeat_interleave(4, 0).numpy())


def test_noise_of_a_row_is_drawn_at_its_own_steps():
    x, ids = torch.full((4, 6), 0.5, dtype=F64), (torch.arange(2), torch.arange(4))
    rows = encoded(Poisson(500.0), x, 2, 30, 1.0, Stream(0, "e"), *ids)
    whole = Poisson(500.0)(x[:, :2], 30, 1.0, Stream(0, "e"), *ids)
    np.testing.assert_array_equal(rows.numpy(), whole.numpy())


def test_an_example_that_is_no_sequence_is_encoded_as_ever():
    x, ids = torch.ones(4, 2), (torch.arange(2), torch.arange(4))
    assert isinstance(encoded(Hold(), x, 2, 7, 1.0, Stream(0, "e"), *ids), Held)
    with pytest.raises(ConfigurationError, match="5 values, which are no rows for 2 inputs"):
        rows_in(5, 2)


def test_decoding_row_by_row():
    output = torch.arange(6.0).reshape(6, 1, 1, 1)
    np.testing.assert_array_equal(decoded(Count(), output, 3, 1.0).flatten().numpy(), [1, 5, 9])


# ---- the learner


def test_input_and_target_change_together():
    """dw = 0.1 mean_b(error x) in each of the 6 steps, 2 for each row; no change in a row without a target."""
    one, x = learner(), sequences(2, 3)
    state = one.train_step(one.init(), x[None], LABELS, 0)
    w = READOUT.copy()
    for step in range(6):
        row = step // 2
        wrong = (np.eye(3)[LABELS[0, :, row]] - x[:, row] @ w.T) * (LABELS[0, :, row] >= 0)[:, None]
        w = w + 0.1 * wrong.T @ x[:, row] / 2
    for replica in range(2):
        np.testing.assert_allclose(state.learned["weight"]["input_output"][replica].numpy(), w, rtol=0, atol=1e-14)


def test_targets_that_differ_by_replica():
    one, x = learner(), sequences(2, 3)
    both = np.concatenate([LABELS, (LABELS + 1) % 3])
    state = one.train_step(one.init(), x[None], both, 0)
    for replica in range(2):
        alone = one.train_step(one.init(), x[None], both[[replica]], 0)
        name = "input_output"
        np.testing.assert_allclose(
            state.learned["weight"][name][replica].numpy(), alone.learned["weight"][name][0].numpy(), atol=1e-15
        )


@pytest.mark.parametrize("evaluate_batch", [1, 3, 100])
def test_scores_of_labels(evaluate_batch):
    one, x = learner(evaluate_batch=evaluate_batch), sequences(5, 3)
    y = np.random.default_rng(1).integers(-1, 3, (5, 3))
    y[:, 1] = 2
    score = one.evaluate(one.init(), x, y[None])
    loss, right = [], []
    for values, labels in zip(x @ READOUT.T, y, strict=True):
        rows = [row for row in range(3) if labels[row] >= 0]
        loss.append(np.mean([np.log(np.exp(values[row]).sum()) - values[row, labels[row]] for row in rows]))
        right.append(np.mean([values[row].argmax() == labels[row] for row in rows]))
    np.testing.assert_allclose(score.loss, [np.mean(loss)] * 2, rtol=1e-12)
    np.testing.assert_allclose(score.accuracy, [np.mean(right)] * 2, rtol=1e-12)


@pytest.mark.parametrize("evaluate_batch", [2, 100])
def test_scores_of_values(evaluate_batch):
    """Half the squared error, and the explained part of the variance."""
    one, x = learner(outputs=2, evaluate_batch=evaluate_batch), sequences(5, 3)
    y = x + 0.3 * np.random.default_rng(2).normal(size=x.shape)
    score = one.evaluate(one.init(), x, y)
    squared = ((x - y) ** 2).sum()
    np.testing.assert_allclose(score.loss, [0.5 * squared / 15] * 2, rtol=1e-12)
    np.testing.assert_allclose(score.accuracy, [1 - squared / ((y - y.mean((0, 1))) ** 2).sum()] * 2, rtol=1e-12)
    assert score.accuracy[0] > 0.8


def test_values_without_a_target_are_not_scored():
    one, x = learner(outputs=2), sequences(5, 3)
    y = x.copy()
    y[:, 0] = np.nan
    assert one.evaluate(one.init(), x, y).accuracy.tolist() == [1.0, 1.0]


def test_response_has_a_value_per_row():
    one, x = learner(), sequences(4, 3)
    value, recording = one.respond(one.init(), x, np.zeros((1, 4, 3), int), 0, [Probe("output", "rate")])
    np.testing.assert_allclose(value[:, 0].numpy(), np.swapaxes(x @ READOUT.T, 0, 1), rtol=1e-14)
    assert recording["output.rate"].shape == (6, 2, 4, 3)


def test_one_label_for_a_sequence():
    """The label holds all the time and the decoder sees the whole output."""
    one, x, y = learner(), sequences(4, 3), np.array([0, 1, 2, 1])
    value, _ = one.respond(one.init(), x, y, 0)
    np.testing.assert_allclose(value[0].numpy(), (x @ READOUT.T).mean(1), rtol=1e-14)
    assert one.evaluate(one.init(), x, y).loss.shape == (2,)


def test_an_error_is_silent_without_a_target():
    network = learner().network
    simulator = compile(network, 1.0, dtype="float64")
    assert "error.shunt" in simulator.units
    scores = Scores()
    scores.add(torch.zeros(1, 1, 2, 3, dtype=F64), target(np.array([[0, 1]]), 3, F64, CPU))
    np.testing.assert_allclose(scores.result()[0], [np.log(3)])
