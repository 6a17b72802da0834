"""The original linear and XOR points against an independent copy of the arrays.

`data/biohsic_synthetic.npz` (lin_x, lin_y, lin_w, xor_x, xor_y) was made by running the original code's generators
(`data.py` of github.com/darsnack/biological-hsic, MIT licence) in JAX with `jax_threefry_partitionable=False` and the
keys 42 (points) and 24 (weight). The counts below were read off that run, not off this package.
"""

from pathlib import Path

import numpy as np
import pytest

from neurosim.tasks.linear import Linear
from neurosim.tasks.points import original_arrays
from neurosim.tasks.xor import Xor

GOLDEN = np.load(Path(__file__).with_name("data") / "biohsic_synthetic.npz", allow_pickle=False)


def test_packaged_arrays_are_the_golden_ones():
    packaged = original_arrays()
    assert sorted(packaged) == sorted(GOLDEN.files) == ["lin_w", "lin_x", "lin_y", "xor_x", "xor_y"]
    for name in GOLDEN.files:
        assert packaged[name].dtype == GOLDEN[name].dtype
        assert np.array_equal(packaged[name], GOLDEN[name])


@pytest.mark.parametrize(("task", "prefix"), [(Linear(original=True), "lin"), (Xor(original=True), "xor")])
def test_tasks_give_the_rows_in_order(task, prefix):
    data = task.load(5)
    x, y = GOLDEN[f"{prefix}_x"].astype(np.float64), GOLDEN[f"{prefix}_y"]
    assert (data.train.x.dtype, data.train.y.dtype) == (np.float64, np.int64)
    assert np.array_equal(data.train.x, x[:900])
    assert np.array_equal(data.train.y, y[:900])
    assert np.array_equal(data.test.x, x[900:])
    assert np.array_equal(data.test.y, y[900:])


def test_linear_facts():
    data = Linear(original=True).load(0)
    weight = GOLDEN["lin_w"].astype(np.float64)
    assert weight == pytest.approx([-0.9435144, -0.4910064], abs=1e-7)
    assert data.train.x[:3].ravel() == pytest.approx(
        [0.5757053, -0.742198, -0.38391876, 0.20116854, 0.4797194, -0.5488303], abs=1e-7
    )
    assert data.train.y[:8].tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    assert (data.train.y.sum(), data.test.y.sum()) == (448, 54)
    for split in (data.train, data.validation, data.test):
        assert np.array_equal(split.y, split.x @ weight > 0)


def test_xor_facts():
    data = Xor(original=True).load(0)
    assert (data.train.y.sum(), data.test.y.sum()) == (433, 54)
    counts = {"train": [225, 209, 224, 242], "test": [23, 33, 21, 23]}
    for name, expected in counts.items():
        split = getattr(data, name)
        corner = (split.x > 0.5).astype(int)
        assert np.bincount(2 * corner[:, 0] + corner[:, 1]).tolist() == expected
        assert np.array_equal(split.y, corner[:, 0] ^ corner[:, 1])
        assert (split.x - corner).std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * split.x.size))


def test_divided_as_in_the_original():
    assert np.array_equal(
        Xor(original=True, divide_by=255.0).load(0).train.x, GOLDEN["xor_x"][:900].astype(float) / 255
    )
