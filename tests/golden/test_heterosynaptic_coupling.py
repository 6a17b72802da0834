"""The heterosynaptic transform against linear solves, on dense weights and on convolution kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from load import golden
from nets import pair, simulate, weight

from neurosim.connectivity import Conv2d
from neurosim.factor import post, pre
from neurosim.phase import Phase
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Heterosynaptic, Rate

ARRAYS, META = golden("heterosynaptic")


@pytest.mark.parametrize("case", range(len(META["cases"])))
def test_one_step_of_descent(case: int) -> None:
    """W <- W - lr H^-1 g: batch row i drives post neuron i alone, with -g_i as the pre activity, so that the sum over
    the batch is -g; a convolution has one position, at which its patch is that row."""
    value = {name: ARRAYS[f"c{case}.{name}"] for name in ("w", "grad", "block", "alpha", "lr", "w_new_perrow")}
    transforms = (Heterosynaptic(float(value["alpha"]), int(value["block"])), Rate(float(value["lr"])))
    rule = ThreeFactorRule((Component((Term(post("feedback"), pre("rate")),)),), reduce="sum", transforms=transforms)
    posts, sizes = len(value["w"]), (value["w"][0].size, len(value["w"]))
    wire: dict[str, Any] = {"weight": value["w"], "rule": rule}
    if value["w"].ndim == 4:
        sizes, wire["connectivity"] = (value["w"].shape[1:], (posts, 1, 1)), Conv2d(value["w"].shape[-1])
    phase = Phase("p", 1, {"input": -value["grad"].reshape(1, posts, -1), "output.feedback": np.eye(posts)[None]})
    _, state, _ = simulate(pair(*sizes, **wire), phase, batch=posts)
    np.testing.assert_allclose(
        weight(state)[0], value["w_new_perrow"], rtol=0, atol=1e-12 * np.abs(value["w_new_perrow"]).max()
    )


def test_the_cases_cover_what_is_hard() -> None:
    shapes = [len(case["shape"]) for case in META["cases"]]
    assert len(shapes) == 8
    assert 4 in shapes
    assert any(case["alpha"] < 0 for case in META["cases"])
    assert any(case["tail"] for case in META["cases"])
    assert any(case["block"] > np.prod(case["shape"]) for case in META["cases"])
