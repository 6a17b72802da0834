"""The store-and-recall task: what is shown, when, and what is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.tasks.store_recall import StoreRecall
from neurosim.types import ConfigurationError

SIZES = {"train": 200, "validation": 30, "test": 20}


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("distract", [False, True])
def test_the_bit_that_was_marked_is_asked_for(anywhere, distract):
    task = StoreRecall(rows=5, copies=3, anywhere=anywhere, distract=distract, **SIZES)
    data = task.load(0)
    assert (data.classes, data.shape, data.inputs, data.rows) == (2, (12,), 12, 5)
    stored = set()
    for name, size in SIZES.items():
        split = getattr(data, name)
        assert (split.x.shape, split.y.shape, split.y.dtype) == ((size, 5, 12), (size, 5), np.int64)
        groups = split.x.reshape(size, 5, 4, 3)
        assert (groups == groups[..., :1]).all()
        for zero, one, store, recall, y in zip(*groups[..., 0].transpose(2, 0, 1), split.y, strict=True):
            assert recall.tolist() == [0, 0, 0, 0, 1]
            assert store.sum() == 1
            row = int(store.argmax())
            stored.add(row)
            assert y.tolist() == [-1, -1, -1, -1, one[row]]
            shown = zero + one
            assert shown[row] == 1
            assert shown.tolist() == ([1, 1, 1, 1, 0] if distract else store.tolist())
    assert stored == ({0, 1, 2, 3} if anywhere else {0})


def test_examples_depend_on_seed_and_number_only():
    base = StoreRecall(anywhere=True, **SIZES).load(0)
    again, other = (StoreRecall(anywhere=True, **SIZES).load(seed) for seed in (0, 1))
    assert np.array_equal(base.train.x, again.train.x)
    assert not np.array_equal(base.train.x, other.train.x)
    assert not np.array_equal(base.validation.x[:20], base.test.x)
    few = StoreRecall(anywhere=True, **{**SIZES, "train": 7}).load(0)
    assert np.array_equal(few.train.x, base.train.x[:7])
    assert 80 < base.train.y[:, -1].sum() < 120
    fixed = StoreRecall(**SIZES).load(0).train  # what the distractors show says nothing about the answer
    assert abs(np.corrcoef(fixed.x[:, 1:-1, 5].mean(1), fixed.y[:, -1])[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rows": 1}, "task store_recall: rows is 1; it must be an integer >= 2"),
        ({"rows": 2.5}, "rows is 2.5"),
        ({"copies": 0}, "copies is 0"),
        ({"anywhere": 1}, "anywhere is 1; it must be true or false"),
        ({"distract": "no"}, "distract is 'no'"),
        ({"train": 0}, "train is 0"),
    ],
)
def test_bad_settings(change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        StoreRecall(**change)
