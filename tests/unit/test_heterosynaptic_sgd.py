"""`HeterosynapticSGD`: torch's SGD with a matrix before the change; what is not coupled is torch's, bit for bit."""

from __future__ import annotations

import copy
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from neurosim.interop.torch import HeterosynapticSGD
from neurosim.transform import Heterosynaptic
from neurosim.types import ConfigurationError


def module(dtype=torch.float64, seed=0):
    """A net with every usual shape of a parameter: 4-D, 2-D, 1-D and 0-D."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.PReLU(), nn.Linear(5, 3)
    )
    net.register_parameter("scale", nn.Parameter(torch.tensor(0.5)))
    return net.to(dtype)


def train(net, optimizer, steps=6, seed=1, set_to_none=True):
    """Parameters after each step of a squared error on random images."""
    generator = torch.Generator().manual_seed(seed)
    dtype, rows = next(net.parameters()).dtype, []
    for _ in range(steps):
        x = torch.randn(7, 2, 4, 4, generator=generator).to(dtype)
        optimizer.zero_grad(set_to_none)
        (net.scale * net(x) - 1.0).pow(2).mean().backward()
        optimizer.step()
        rows.append([parameter.detach().clone() for parameter in net.parameters()])
    return rows


def same(ours, theirs):
    return all(
        torch.equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


PLAIN = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.8, "nesterov": True},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02, "maximize": True},
    {"momentum": 0.7, "dampening": 0.7, "weight_decay": 0.3},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_alpha_zero_is_torchs_sgd_bit_for_bit(options, dtype):
    one, other = module(dtype), module(dtype)
    ours = train(one, HeterosynapticSGD(one.parameters(), lr=0.05, alpha=0.0, **options))
    theirs = train(other, torch.optim.SGD(other.parameters(), lr=0.05, **options))
    assert same(ours, theirs)
    third = module(dtype)
    assert not same(train(third, HeterosynapticSGD(third.parameters(), lr=0.05, alpha=0.2, **options)), theirs)


def test_the_velocity_is_not_the_memory_of_the_gradient():
    """Gradients that are set to zero in place leave it as it was."""
    one, other = module(), module()
    ours = train(one, HeterosynapticSGD(one.parameters(), 0.05, 0.9, alpha=0.0), set_to_none=False)
    assert same(ours, train(other, torch.optim.SGD(other.parameters(), 0.05, 0.9), set_to_none=False))


def solved(gradient, alpha, block):
    """H^-1 along the rows of a gradient, by linear solves."""
    rows = gradient.reshape(len(gradient), -1).copy()
    for start in range(0, rows.shape[1], block):
        part = rows[:, start : start + block]
        h = (1 - alpha) * np.eye(part.shape[1]) + alpha
        rows[:, start : start + block] = np.linalg.solve(h, part.T).T
    return rows.reshape(gradient.shape)


@pytest.mark.parametrize("options", PLAIN, ids=str)
@pytest.mark.parametrize(("alpha", "block"), [(0.5, 4), (-0.2, 3), (0.9, 5)])
def test_the_direction_of_sgd_is_coupled_in_blocks_of_one_row(options, alpha, block):
    """H^-1 acts on what torch's SGD takes away: rows of linear layers, filters of convolutions, no vector or number."""
    net, lr = module(), 0.05
    optimizer = HeterosynapticSGD(net.parameters(), lr=lr, alpha=alpha, block=block, **options)
    shadow = module()
    sgd = torch.optim.SGD(shadow.parameters(), lr=1.0, **options)
    for step in range(4):
        before = [parameter.detach().clone() for parameter in net.parameters()]
        train(net, optimizer, 1, seed=step)
        for own, twin, start in zip(net.parameters(), shadow.parameters(), before, strict=True):
            twin.data, twin.grad = start.clone(), own.grad.clone()  # the same weights and gradients, torch's velocity
        sgd.step()
        for own, twin, start in zip(net.parameters(), shadow.parameters(), before, strict=True):
            direction = (start - twin.detach()).numpy()
            expected = lr * (solved(direction, alpha, block) if start.dim() > 1 else direction)
            np.testing.assert_allclose((start - own.detach()).numpy(), expected, rtol=0, atol=1e-12)


def once(gradient, **options):
    """What one step of rate 1 takes from a single parameter."""
    parameter = nn.Parameter(torch.zeros(gradient.shape, dtype=torch.float64))
    parameter.grad = torch.tensor(gradient)
    HeterosynapticSGD([parameter], lr=1.0, **options).step()
    return -parameter.detach().numpy()


G = np.random.default_rng(0).standard_normal((3, 2, 3, 3))


def test_groupings_and_normalisation_are_those_of_the_transform():
    flat = once(G, alpha=0.5, block=4, grouping="flat")
    np.testing.assert_allclose(flat.reshape(1, -1), solved(G.reshape(1, -1), 0.5, 4), rtol=0, atol=1e-13)
    permuted = [once(G, alpha=0.5, block=4, grouping="permuted", seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(permuted[0], permuted[1])
    assert np.abs(permuted[0] - permuted[2]).max() > 0.1
    assert np.abs(permuted[0] - once(G, alpha=0.5, block=4)).max() > 0.1
    rows = once(G, alpha=0.5, block=4, normalise="norm").reshape(3, -1)
    for start in range(0, 18, 4):
        part = slice(start, start + 4)
        sizes = (np.linalg.norm(value[:, part], axis=1) for value in (rows, G.reshape(3, -1)))
        np.testing.assert_allclose(next(sizes), next(sizes), rtol=1e-13)


def test_alpha_zero_leaves_overflow_where_it_is():
    """An infinite gradient is one weight's own; a sum over its block would spoil the others."""
    gradient = np.array([[1.0, np.inf, 2.0, -3.0], [0.0, 1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(once(gradient, alpha=0.0), gradient)


def test_two_parameters_of_one_shape_are_permuted_differently():
    pair = [nn.Parameter(torch.zeros(3, 18, dtype=torch.float64)) for _ in range(2)]
    for parameter in pair:
        parameter.grad = torch.tensor(G.reshape(3, 18))
    HeterosynapticSGD(pair, lr=1.0, alpha=0.5, grouping="permuted").step()
    assert (pair[0] - pair[1]).abs().max().item() > 0.1


def test_groups_have_their_own_settings():
    net = module()
    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = HeterosynapticSGD(
        [{"params": matrices, "alpha": 0.5, "block": 3}, {"params": others}], lr=0.1, alpha=0.0
    )
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2, 2))], "lr": 0.3, "block": 2})
    assert [(group["alpha"], group["block"], group["lr"]) for group in optimizer.param_groups] == [
        (0.5, 3, 0.1),
        (0.0, 4, 0.1),
        (0.0, 2, 0.3),
    ]
    before = copy.deepcopy(net)
    train(net, optimizer, 1)
    for own, start in zip(net.parameters(), before.parameters(), strict=True):
        gradient = own.grad.numpy()
        expected = solved(gradient, 0.5, 3) if own.dim() > 1 else gradient
        np.testing.assert_allclose((start - own).detach().numpy(), 0.1 * expected, rtol=0, atol=1e-14)


def test_a_setting_changed_while_training_counts():
    """Schedulers write to the groups."""
    net, other = module(), module()
    ours = HeterosynapticSGD(net.parameters(), lr=0.1, alpha=0.5)
    train(net, ours, 1)
    train(other, HeterosynapticSGD(other.parameters(), lr=0.1, alpha=0.5), 1)
    ours.param_groups[0].update(alpha=0.0, lr=0.02)
    plain = torch.optim.SGD(other.parameters(), lr=0.02)
    assert same(train(net, ours, 1, seed=2), train(other, plain, 1, seed=2))


OPTIONS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "alpha": 0.5, "block": 3, "grouping": "permuted"}


def test_state_dict_goes_round():
    """Three steps, a state dict through a file into an optimizer of other settings, and three more: the same bits."""
    whole, half = module(), module()
    rows = train(whole, HeterosynapticSGD(whole.parameters(), **OPTIONS), 3)
    first = HeterosynapticSGD(half.parameters(), **OPTIONS)
    assert same(train(half, first, 3), rows)
    resumed = copy.deepcopy(half)
    second = HeterosynapticSGD(resumed.parameters(), lr=1.0, alpha=0.1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    assert second.state_dict()["param_groups"] == first.state_dict()["param_groups"]
    assert same(train(resumed, second, 3, seed=9), train(half, first, 3, seed=9))
    forgetful = HeterosynapticSGD(whole.parameters(), **OPTIONS)
    assert not same(train(whole, forgetful, 3, seed=9), train(copy.deepcopy(half), second, 3, seed=9))


def test_torchs_velocity_can_be_taken_over():
    net, other = module(), module()
    sgd, twin = (torch.optim.SGD(one.parameters(), lr=0.05, momentum=0.9) for one in (net, other))
    assert same(train(net, sgd, 3), train(other, twin, 3))
    ours = HeterosynapticSGD(net.parameters(), lr=0.05, momentum=0.9, alpha=0.0)
    state = ours.state_dict()
    ours.load_state_dict({**state, "state": sgd.state_dict()["state"]})
    assert same(train(net, ours, 2, seed=3), train(other, twin, 2, seed=3))


def test_it_can_be_copied():
    net = module()
    optimizer = HeterosynapticSGD(net.parameters(), **OPTIONS)
    train(net, optimizer, 2)
    both = copy.deepcopy((net, optimizer))
    assert same(train(net, optimizer, 2, seed=4), train(*both, 2, seed=4))


def test_closure_and_what_has_no_gradient():
    net = module()
    optimizer = HeterosynapticSGD(net.parameters(), lr=0.1)
    assert optimizer.step() is None
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = net[5].weight.pow(2).sum()
        loss.backward()
        calls.append(torch.is_grad_enabled())
        return loss

    before = [parameter.detach().clone() for parameter in net.parameters()]
    assert optimizer.step(closure).item() == before[-2].pow(2).sum().item()
    moved = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert calls == [True]
    assert [index for index, did in enumerate(moved) if did] == [len(before) - 2]


def test_momentum_that_starts_at_zero():
    """v = (1 - dampening) g after the first step, not g."""
    gradient = np.random.default_rng(1).standard_normal((2, 4))
    options = {"momentum": 0.9, "dampening": 0.75, "alpha": 0.3, "block": 2}
    whole = once(gradient, **options)
    np.testing.assert_allclose(once(gradient, momentum_start="zero", **options), 0.25 * whole, rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lr": -0.1}, "lr of HeterosynapticSGD is -0.1; it must be a finite number >= 0"),
        ({"momentum": -0.1}, "momentum of HeterosynapticSGD is -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay of HeterosynapticSGD is nan"),
        ({"nesterov": True}, "nesterov of HeterosynapticSGD needs a momentum above 0 and a dampening of 0"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov of HeterosynapticSGD needs"),
        ({"momentum_start": "late"}, "momentum_start of HeterosynapticSGD is 'late'; allowed: gradient, zero"),
        ({"alpha": 1.0}, "alpha of Heterosynaptic is 1.0"),
        ({"block": 0}, "block of Heterosynaptic is 0"),
    ],
)
def test_errors(options, sentence):
    parameter = nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(ConfigurationError, match=sentence):
        HeterosynapticSGD([parameter], **options)
    optimizer = HeterosynapticSGD([parameter])
    with pytest.raises(ConfigurationError, match=sentence):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], **options})


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ConfigurationError, match="takes no sparse gradients"):
        HeterosynapticSGD(embedding.parameters()).step()


def test_one_equation_in_one_place(monkeypatch):
    """The optimizer has no coupling of its own: without the transform's there is none."""
    monkeypatch.setattr(Heterosynaptic, "update", lambda self, change, weight, layout: 2.0 * change)
    np.testing.assert_array_equal(once(G, alpha=0.5), 2.0 * G)


def test_only_who_asks_for_it_loads_it():
    ask = "import sys, neurosim; print([name for name in sys.modules if name.startswith('neurosim.interop')])"
    done = subprocess.run([sys.executable, "-c", ask], cwd="/", check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
