"""Surrogates against snnTorch's backward functions, their parameters, and the lookup."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import snntorch.surrogate as snn
import torch

from neurosim.backends.specialise import for_numba, for_torch
from neurosim.surrogate import SURROGATES, LeakySpike, Sigmoid, Surrogate, Triangular, surrogate
from neurosim.types import ConfigurationError
from neurosim.vocabulary import heaviside, pseudo_derivative

POINTS = np.concatenate([np.linspace(-3, 3, 121), [0.0, 1.0, -1.0, 1e-9, -1e-9]])


def both(x):
    return heaviside(x), pseudo_derivative(x)


class Saved:
    """What snnTorch's backward reads of its context, for the function whose wrapper does not run."""

    def __init__(self, out: torch.Tensor, slope: float) -> None:
        self.saved_tensors, self.slope = (out,), slope


def snntorch_gradient(function, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


PEERS = [
    ("fast_sigmoid", {"slope": 5.0}, snn.fast_sigmoid(slope=5.0)),
    ("atan", {"alpha": 3.0}, snn.atan(alpha=3.0)),
    ("sigmoid", {"slope": 4.0}, snn.sigmoid(slope=4.0)),
    ("signed_threshold", {"threshold": 0.75}, snn.triangular(threshold=0.75)),
    ("straight_through_estimator", {}, snn.straight_through_estimator()),
    ("spike_rate_escape", {"beta": 2.0, "slope": 6.0}, snn.spike_rate_escape(beta=2.0, slope=6.0)),
    ("SFS", {"slope": 5.0, "B": 0.5}, snn.SFS(slope=5.0, B=0.5)),
]


@pytest.mark.parametrize(("name", "parameters", "peer"), PEERS, ids=[peer[0] for peer in PEERS])
def test_backward_is_that_of_snntorch(name: str, parameters: dict[str, float], peer) -> None:
    x = torch.tensor(POINTS)
    ours = snntorch_gradient(for_torch(heaviside_of, surrogate(name, **parameters)), x)
    torch.testing.assert_close(ours, snntorch_gradient(peer, x), rtol=1e-14, atol=1e-14)


def heaviside_of(x):
    return heaviside(x)


def test_leaky_spike_is_that_of_snntorch() -> None:
    """snnTorch 1.0's own LSO() calls another function by mistake, so its backward is called by hand."""
    x = torch.tensor(POINTS)
    peer = snn.LeakySpikeOperator.backward(Saved((x > 0).to(x.dtype), 0.25), torch.ones_like(x))
    torch.testing.assert_close(
        snntorch_gradient(for_torch(heaviside_of, LeakySpike(slope=0.25)), x), peer, rtol=0, atol=0
    )


def test_triangular_is_the_hat_of_eprop() -> None:
    hat = 0.3 / 0.5 * np.maximum(0, 1 - np.abs(POINTS) / 0.5)
    np.testing.assert_allclose(Triangular(gamma=0.3, width=0.5).derivative(POINTS, 0.6, 0.5), hat, atol=1e-16)
    assert Triangular(gamma=0.3, width=0.5).constants() == (0.6, 0.5)


@pytest.mark.parametrize("name", SURROGATES)
def test_torch_numba_and_plain_python_agree(name: str) -> None:
    made = surrogate(name)
    torch_both, numba_both = for_torch(both, made), for_numba(both, made)
    step, slope = torch_both(torch.tensor(POINTS))
    compiled = np.array([numba_both(x) for x in POINTS])
    np.testing.assert_array_equal(step, POINTS >= 0)
    np.testing.assert_array_equal(compiled[:, 0], POINTS >= 0)
    np.testing.assert_allclose(slope, made.derivative(POINTS, *made.constants()), rtol=1e-15)
    np.testing.assert_allclose(compiled[:, 1], slope, rtol=1e-15)


@pytest.mark.parametrize("name", SURROGATES)
def test_every_parameter_changes_the_derivative(name: str) -> None:
    base = surrogate(name)
    for field in fields(base):
        other = surrogate(name, **{field.name: 0.7 * getattr(base, field.name)})
        assert not np.array_equal(
            base.derivative(POINTS, *base.constants()), other.derivative(POINTS, *other.constants())
        ), field.name


def test_sigmoid_does_not_overflow() -> None:
    far = torch.tensor([-1e4, 1e4], dtype=torch.float64)
    np.testing.assert_array_equal(for_torch(both, Sigmoid())(far)[1], [0.0, 0.0])


def test_without_surrogate_the_derivative_is_zero() -> None:
    x = torch.tensor(POINTS, requires_grad=True)
    step, slope = for_torch(both)(x)
    assert not step.requires_grad
    assert (slope == 0).all()


def test_second_derivative_and_vmap() -> None:
    """The backward is differentiable itself, and torch.func can batch it."""
    x = torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True)
    function = for_torch(heaviside_of, surrogate("fast_sigmoid", slope=2.0))
    (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    slope = 2.0 * x.detach().abs() + 1
    torch.testing.assert_close(second, -4.0 * torch.sign(x.detach()) / slope**3)
    batched = torch.func.vmap(torch.func.grad(lambda v: function(v)))(x.detach())
    torch.testing.assert_close(batched, 1 / slope**2)


def test_lookup() -> None:
    made: Surrogate = surrogate("fast_sigmoid", slope=3.0)
    assert made == SURROGATES["fast_sigmoid"](slope=3.0)
    with pytest.raises(ConfigurationError, match="allowed: fast_sigmoid, atan"):
        surrogate("fastsigmoid")
    with pytest.raises(ConfigurationError, match="draws random numbers"):
        surrogate("SSO")
    with pytest.raises(ConfigurationError, match="alpha"):
        surrogate("fast_sigmoid", alpha=2.0)


@pytest.mark.parametrize("name", [name for name in SURROGATES if fields(surrogate(name))])
def test_bad_parameter(name: str) -> None:
    for field in fields(surrogate(name)):
        for bad in (np.nan, np.inf) if field.name == "B" else (-1.0, np.nan, np.inf):
            with pytest.raises(ConfigurationError, match=field.name):
                surrogate(name, **{field.name: bad})
