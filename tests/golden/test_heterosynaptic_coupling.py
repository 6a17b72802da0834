"""Heterosynaptic coupling against linear solves and the authors' optimizers: as a transform, and in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from load import golden
from nets import pair, simulate, weight

from neurosim.connectivity import Conv2d
from neurosim.factor import post, pre
from neurosim.interop.torch import HeterosynapticSGD
from neurosim.phase import Phase
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Heterosynaptic, Rate
from neurosim.types import Array

ARRAYS, META = golden("heterosynaptic")


EXPECTED = {"row": "w_new_perrow", "flat": "w_new_flat"}


def agree(ours: Any, theirs: Array) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("grouping", EXPECTED)
@pytest.mark.parametrize("case", range(len(META["cases"])))
def test_one_step_of_descent(case: int, grouping: str) -> None:
    """W <- W - lr H^-1 g: batch row i drives post neuron i alone, with -g_i as the pre activity, so that the sum over
    the batch is -g; a convolution has one position, at which its patch is that row."""
    value = {name: ARRAYS[f"c{case}.{name}"] for name in ("w", "grad", "block", "alpha", "lr", EXPECTED[grouping])}
    transforms = (Heterosynaptic(float(value["alpha"]), int(value["block"]), grouping), Rate(float(value["lr"])))
    rule = ThreeFactorRule((Component((Term(post("feedback"), pre("rate")),)),), reduce="sum", transforms=transforms)
    posts, sizes = len(value["w"]), (value["w"][0].size, len(value["w"]))
    wire: dict[str, Any] = {"weight": value["w"], "rule": rule}
    if value["w"].ndim == 4:
        sizes, wire["connectivity"] = (value["w"].shape[1:], (posts, 1, 1)), Conv2d(value["w"].shape[-1])
    phase = Phase("p", 1, {"input": -value["grad"].reshape(1, posts, -1), "output.feedback": np.eye(posts)[None]})
    _, state, _ = simulate(pair(*sizes, **wire), phase, batch=posts)
    agree(weight(state)[0], value[EXPECTED[grouping]])


@pytest.mark.parametrize("grouping", EXPECTED)
@pytest.mark.parametrize("case", range(len(META["cases"])))
def test_one_step_of_the_optimizer(case: int, grouping: str) -> None:
    value = {name: ARRAYS[f"c{case}.{name}"] for name in ("w", "grad", "block", "alpha", "lr", EXPECTED[grouping])}
    parameter = torch.nn.Parameter(torch.tensor(value["w"]))
    parameter.grad = torch.tensor(value["grad"])
    options = {"alpha": float(value["alpha"]), "block": int(value["block"]), "grouping": grouping}
    HeterosynapticSGD([parameter], lr=float(value["lr"]), **options).step()
    agree(parameter.detach(), value[EXPECTED[grouping]])


@pytest.mark.parametrize("kind", ["nomom", "ema", "heavyball"])
def test_three_steps_of_the_authors_optimizers(kind: str) -> None:
    """Without momentum, as a moving average that starts at 0, and as heavy ball with weight decay; biases are not
    coupled."""
    one = {name: ARRAYS[f"opt.{kind}.{name}"] for name in ("w0", "b0", "params", "grad_w", "grad_b", "w", "b", "m_w")}
    lr, momentum, block, alpha, decay = (float(number) for number in one["params"])
    weight, bias = (torch.nn.Parameter(torch.tensor(one[name])) for name in ("w0", "b0"))
    optimizer = HeterosynapticSGD(
        [weight, bias],
        lr=lr,
        momentum=momentum,
        dampening=momentum if kind == "ema" else 0.0,
        momentum_start="zero" if kind == "ema" else "gradient",
        weight_decay=decay,
        alpha=alpha,
        block=int(block),
        grouping="flat",
    )
    for step in range(3):
        weight.grad, bias.grad = torch.tensor(one["grad_w"][step]), torch.tensor(one["grad_b"][step])
        optimizer.step()
        agree(weight.detach(), one["w"][step])
        agree(bias.detach(), one["b"][step])
        if momentum:
            agree(optimizer.state[weight]["momentum_buffer"], one["m_w"][step])


def test_the_cases_cover_what_is_hard() -> None:
    shapes = [len(case["shape"]) for case in META["cases"]]
    assert len(shapes) == 8
    assert 4 in shapes
    assert any(case["alpha"] < 0 for case in META["cases"])
    assert any(case["tail"] for case in META["cases"])
    assert any(case["block"] > np.prod(case["shape"]) for case in META["cases"])
