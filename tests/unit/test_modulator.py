"""Third factors by themselves: what they declare, their memories, the parameters of HSIC, and its numbers as a
gradient.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal

from neurosim.backends.specialise import for_torch
from neurosim.factor import post
from neurosim.modulator import HSIC, Broadcast, Feedback, Shuffled, Unmodulated, View
from neurosim.modulator.hsic import coefficients, kernel_matrix, objective, third_factor
from neurosim.types import ConfigurationError

HSIC_4 = HSIC(post("rate"), 4, 2.0, 0.5, 0.6, 0.7)


def view(value, signals=None, last=True, clock=0):
    return View(
        post=lambda factor: value,
        pre=lambda factor: value,
        weight=torch.zeros(1, 2, 3, dtype=torch.float64),
        signals=signals or {},
        phase="p",
        step=0,
        clock=clock,
        first=True,
        last=last,
        permutation=lambda stream, n: torch.arange(n).flip(0)[None],
        specialise=for_torch,
    )


def test_what_they_declare():
    assert [m.scope for m in (Unmodulated(), Feedback(post("x")), Broadcast("r"), HSIC_4, Shuffled(HSIC_4))] == [
        "none", "neuron", "broadcast", "layer", "layer"]  # fmt: skip
    assert Feedback(post("x")).factors() == (post("x"),)
    assert HSIC_4.factors() == (post("rate"),)
    assert HSIC_4.signals() == ("input", "label")
    assert Broadcast("r").signals() == ("r",)
    for inner in (HSIC_4, Broadcast("r"), Unmodulated(), Feedback(post("x"))):
        shuffled = Shuffled(inner)
        assert (shuffled.factors(), shuffled.signals(), shuffled.init()) == (
            inner.factors(),
            inner.signals(),
            inner.init(),
        )
        assert (shuffled.every_step, shuffled.of_output) == (inner.every_step, inner.of_output)


def test_values():
    value = torch.tensor(normal(1, 2, 3))
    assert Unmodulated().update(view(value), {})[0].item() == 1.0
    assert torch.equal(Feedback(post("x")).update(view(value), {})[0], value)
    assert torch.equal(Shuffled(Feedback(post("x"))).update(view(value), {})[0], value.flip(-1))
    reward = torch.tensor([[[2.0], [4.0]]])
    m, memory = Broadcast("r", 4.0).update(view(value, {"r": reward}), {})
    assert m.tolist() == [[[2.0], [4.0]]]
    assert memory["mean"].tolist() == [[[0.5], [1.0]]]
    kept = Broadcast("r", 4.0).update(view(value, {"r": reward}, last=False), memory)
    assert kept[0].tolist() == [[[1.5], [3.0]]]
    assert kept[1] is memory


@pytest.mark.parametrize("seed", range(3))
def test_exact_form_is_the_gradient(seed):
    x, y, z = (torch.tensor(normal(6, d, seed=seed)) for d in (3, 2, 5))
    kernels = [kernel_matrix(v, s) for v, s in ((x, 0.5), (y, 0.6))]
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(x, y, leaf, 2.0, (0.5, 0.6, 0.7)), leaf)
    c = coefficients(*kernels, 2.0, "exact") * 2 / (0.7**2 * 5)
    np.testing.assert_allclose(third_factor(z.numpy(), c.numpy(), 2 * 0.7**2 * 5), slope[-1], rtol=0, atol=1e-15)
    for form in ("repository", "published"):
        other = coefficients(*kernels, 2.0, form)
        assert (other - coefficients(*kernels, 2.0, "exact")).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["gamma", "sigma_x", "sigma_y", "sigma_z", "form"])
def test_every_parameter_matters(name):
    z, signals = (
        torch.tensor(normal(1, 4, 5)),
        {"input": torch.tensor(normal(1, 4, 3)), "label": torch.tensor(normal(1, 4, 2))},
    )
    other = replace(HSIC_4, **{name: "published" if name == "form" else 1.3})
    first, second = (m.update(view(z, signals), {})[0] for m in (HSIC_4, other))
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"window": 1}, "window is 1; the HSIC window must be a whole number of at least 2 samples"),
        ({"window": 2.5}, "window is 2.5"),
        ({"window": True}, "window is True"),
        ({"form": "approximate"}, "form of the HSIC modulator is 'approximate'; allowed: exact, repository, published"),
        ({"memory": "ring"}, "memory of the HSIC modulator is 'ring'; allowed: batch, buffer"),
        ({"sigma_x": 0.0}, "sigma_x is 0.0"),
        ({"sigma_y": -1.0}, "sigma_y is -1.0"),
        ({"sigma_z": float("nan")}, "sigma_z is nan"),
        ({"gamma": -1.0}, "gamma is -1.0"),
    ],
)
def test_errors(change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        replace(HSIC_4, **change)
