"""The sums of dense rows in registers: the bits of sums that are made one input after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurosim.backends.cpu.machine import drive
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.wires import dense
from neurosim.backends.cpu.writer import Buffer

REPLICAS, BATCH = 2, 3


def buffer(values):
    return Buffer(np.ascontiguousarray(values[None]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("posts", [1, 7, 8, 9, 16, 17, 24, 31, 33, 40, 50, 63, 64, 65, 130])
@pytest.mark.parametrize("pres", [1, 15, 16, 37])
def test_sums_of_a_row(dtype, first, posts, pres):
    generator = np.random.default_rng(posts)
    x = generator.normal(size=(REPLICAS, BATCH, pres)).astype(dtype) * (generator.random((REPLICAS, BATCH, pres)) < 0.6)
    weight = generator.normal(size=(REPLICAS, pres, posts)).astype(dtype)
    before = generator.normal(size=(REPLICAS, BATCH, posts)).astype(dtype)
    guarded = np.concatenate((before.ravel(), np.full(64, 7.0, dtype)))  # what lies behind the port stays
    out = Buffer(guarded[: before.size].reshape(1, *before.shape))
    kernel = dense(dtype, (BATCH, posts, pres), buffer(x), 0, weight, None, out, first)
    drive(table([kernel]), 0, 1, 0, REPLICAS, 0, BATCH)
    expected = np.zeros_like(before) if first else before.copy()
    for j in range(pres):
        expected += np.where(x[..., j : j + 1] != 0, weight[:, None, j] * x[..., j : j + 1], 0)
    np.testing.assert_array_equal(out.array[0], expected)
    assert (guarded[before.size :] == 7.0).all()


def test_a_weight_without_an_input_reaches_nobody():
    """No input, no product: weights that are infinite or no numbers stay where they are."""
    x, weight = np.zeros((1, 1, 20), np.float32), np.full((1, 20, 70), np.inf, np.float32)
    x[0, 0, 3], weight[0, 3] = 2.0, 0.5
    weight[0, 4] = np.nan
    out = buffer(np.zeros((1, 1, 70), np.float32))
    kernel = dense("float32", (1, 70, 20), buffer(x), 0, weight, None, out, True)  # a table knows addresses only
    drive(table([kernel]), 0, 1, 0, 1, 0, 1)
    assert (out.array == 1.0).all()


def test_kernels_of_another_process(tmp_path):
    """Kernels are kept between processes, each of which makes its first ones in an order of its own."""
    code = "from test_cpu_dense import kinds; kinds({order}); print('done')"
    for order in ("None", "-1"):
        found = subprocess.run(
            [sys.executable, "-c", code.format(order=order)],
            env={**os.environ, "NEUROSIM_CACHE": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
        )
        assert found.stdout.strip() == "done", found.stderr


def kinds(order):
    """Two kinds of kernels that the first process makes, and two more; the second takes them in the other order."""
    every = [("float32", True), ("float64", True), ("float32", False), ("float64", False)]
    for dtype, first in (every if order is None else every[::order])[: 2 if order is None else 4]:
        test_sums_of_a_row(dtype, first, 70, 20)
