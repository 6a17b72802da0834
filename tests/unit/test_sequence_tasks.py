"""Tasks that are sequences: what is shown and asked for, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.tasks.delayed_recall import DelayedRecall
from neurosim.tasks.sine import Sine
from neurosim.types import ConfigurationError

SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize("selective", [False, True])
def test_symbols_are_asked_for_in_order(selective):
    task = DelayedRecall(symbols=3, length=2, delay=5, selective=selective, train=40, validation=20, test=10)
    data = task.load(0)
    assert (data.classes, data.shape, data.inputs, data.rows) == (3, (4,), 4, 9)
    for name, size in zip(SPLITS, (40, 20, 10), strict=True):
        split = getattr(data, name)
        assert (split.x.shape, split.y.shape, split.y.dtype) == ((size, 9, 4), (size, 9), np.int64)
        for x, y in zip(split.x, split.y, strict=True):
            shown = [(row, symbol) for row, symbol in zip(*np.nonzero(x[:, :3]), strict=True)]
            assert [symbol for _, symbol in shown] == y[-2:].tolist()
            assert (y[:-2] == -1).all()
            assert x[:, 3].tolist() == [0] * 7 + [1] * 2
            rows = [row for row, _ in shown]
            assert rows == sorted(rows)
            assert (rows == [0, 1]) or selective
    rows = {tuple(np.nonzero(x[:, :3])[0]) for x in data.train.x}
    assert (len(rows) > 10) == selective


def test_examples_depend_on_seed_and_number_only():
    base = DelayedRecall(length=3)
    assert np.array_equal(base.load(0).train.y, base.load(0).train.y)
    assert not np.array_equal(base.load(0).train.y, base.load(1).train.y)
    assert not np.array_equal(base.load(0).validation.y, base.load(0).test.y)
    assert np.array_equal(base.load(0).train.y[:7], DelayedRecall(length=3, train=7).load(0).train.y)
    counts = np.bincount(base.load(0).train.y[:, -1])
    assert counts.min() > 90


def test_a_sine_is_one_period():
    data = Sine(period=40, amplitude=2.0, harmonics=(1.0, 0.0, 0.5), train=3).load(0)
    t = np.arange(1, 41)
    wanted = 2.0 * (np.sin(2 * np.pi * t / 40) + 0.5 * np.sin(6 * np.pi * t / 40))
    assert (data.classes, data.inputs, data.rows, len(data.train), len(data.test)) == (1, 1, 40, 3, 1)
    np.testing.assert_allclose(data.train.y, np.tile(wanted[None, :, None], (3, 1, 1)), atol=1e-14)
    assert data.train.x.shape == (3, 40, 1)
    assert not data.train.x.any()


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        (DelayedRecall, {"symbols": 1}, "symbols is 1"),
        (DelayedRecall, {"length": 0}, "length is 0"),
        (DelayedRecall, {"delay": -1}, "delay is -1"),
        (DelayedRecall, {"selective": "yes"}, "selective is 'yes'"),
        (DelayedRecall, {"train": 0}, "train is 0"),
        (Sine, {"period": 0}, "period is 0"),
        (Sine, {"period": 8}, "4 harmonics need more than 8"),
        (Sine, {"amplitude": 0.0}, "amplitude"),
        (Sine, {"harmonics": ()}, "harmonics is"),
        (Sine, {"harmonics": (0.0, 0.0)}, "one of them not 0"),
        (Sine, {"test": 0}, "test is 0"),
    ],
)
def test_refused(kind, change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        kind(**change)
