"""One modulator and the pointwise transforms, each from one source, on torch and on numba.

Bit for bit where only + - * / and sums in one order are used; where exp or power is, within a few units in the last
place (ulp) of the sum's terms.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurosim.backends.specialise import for_numba, for_torch
from neurosim.modulator.hsic import coefficients, kernel_matrix, third_factor
from neurosim.transform import Adam, Clip, Momentum, Rate, Schedule, WeightDecay, optimizer

DTYPES = ["float64", "float32"]


def window(dtype: str, samples: int = 10, units: int = 7, seed: int = 0):
    """(z, coefficients, width) of a window as the modulator has them, with copies of the newest sample."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(samples, units)).astype(dtype)
    z[1 : samples - 1 : 5] = z[-1]
    x, y = generator.normal(size=(samples, 3)), np.eye(2)[generator.integers(2, size=samples)]
    kernels = (kernel_matrix(torch.as_tensor(value), 0.5) for value in (x, y))
    c = coefficients(*kernels, gamma=2.0, form="exact").numpy() * 2.0 / units
    return z, c.astype(dtype), np.dtype(dtype).type(2.0 * units)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [2, 10, 33])
@pytest.mark.parametrize("seed", range(5))
def test_third_factor(seed: int, samples: int, dtype: str) -> None:
    """`samples` terms, each exact to a few ulp of its own size: exp, the sum below it, one product, one sum."""
    z, c, width = window(dtype, samples, seed=seed)
    on_torch = for_torch(third_factor)(torch.from_numpy(z), torch.from_numpy(c), float(width)).numpy()
    on_numba = for_numba(third_factor, None, dtype)(z, c, width)
    plain = third_factor(z, c, width)
    assert on_torch.dtype == on_numba.dtype == np.dtype(dtype)
    difference = z[-1] - z
    exponent = (difference**2).sum(-1) / width
    terms = np.abs(c * np.exp(-exponent))[:, None] * np.abs(difference)
    # An error of u in the exponent's sum of 7 squares moves exp(-e) by e u: the larger the distance, the larger.
    tolerance = ((4 + 8 * exponent)[:, None] * terms).sum(0) * np.finfo(dtype).eps
    assert np.abs(plain).max() > 100 * tolerance.max()
    for value in (on_torch, on_numba):
        assert (np.abs(value - plain) <= tolerance).all()
    assert (np.abs(on_torch - on_numba) <= tolerance).all()


def test_third_factor_of_replicas_and_rows_is_that_of_each() -> None:
    """torch takes `[R, B, N, H]` at once, numba one window at a time; both are that of the single window."""
    windows = [window("float64", seed=k) for k in range(6)]
    z, c = (np.stack([one[part] for one in windows]).reshape(2, 3, *windows[0][part].shape) for part in (0, 1))
    batched = for_torch(third_factor)(torch.from_numpy(z), torch.from_numpy(c), windows[0][2]).numpy()
    compiled = for_numba(third_factor)
    for k, one in enumerate(windows):
        np.testing.assert_allclose(batched[k // 3, k % 3], compiled(*one), rtol=1e-13, atol=1e-16)


EXACT = {
    "Rate": (Rate(0.3),),
    "WeightDecay": (WeightDecay(0.02),),
    "Clip": (Clip(0.7),),
    "Momentum": (Momentum(0.8),),
    "Momentum ema": (Momentum(0.8, "ema"),),
    "Momentum nesterov": (Momentum(0.8, nesterov=True),),
    "Schedule": (Schedule(12, 0.25),),
    "momentum, rate": optimizer("momentum", 0.1),
}
ROUNDED = {
    "Adam": (Adam(0.8, 0.9, 1e-6),),
    "adamw": optimizer("adamw", 0.1, beta1=0.8, beta2=0.95, weight_decay=0.02),
}


def updates(chain, dtype: str, machine: str, changes):
    """Weights `[updates + 1, n]` of a chain of transforms, on one machine."""
    number = np.dtype(dtype).type
    weight = np.linspace(-1, 1, changes.shape[1]).astype(dtype)
    memory = [{name: np.zeros_like(weight) for name in transform.memory} for transform in chain]
    rows = [weight]
    for count, change in enumerate(changes):
        for transform, kept in zip(chain, memory, strict=True):
            old, constants = [kept[name] for name in transform.memory], transform.constants()
            if machine == "torch":
                tensors = [torch.from_numpy(value) for value in (change, weight, *old)]
                result = for_torch(transform.step)(*tensors[:2], float(count), *tensors[2:], *constants)
                change, *new = (value.numpy() for value in result)
            else:
                step = for_numba(transform.step, None, dtype)
                fixed = [number(value) for value in constants]
                each = [step(*ends, number(count), *more, *fixed) for *ends, more in _elements(change, weight, old)]
                change, *new = np.array(each, dtype).T
            kept.update(zip(transform.memory, new, strict=True))
        weight = weight + change
        rows.append(weight)
    return np.stack(rows)


def _elements(change, weight, old):
    for i in range(len(change)):
        yield change[i], weight[i], [value[i] for value in old]


def changes(dtype: str):
    return np.random.default_rng(1).normal(size=(20, 9)).astype(dtype)


@pytest.mark.parametrize("name", EXACT)
def test_transform_bit_for_bit(name: str) -> None:
    on_torch, on_numba = (
        updates(EXACT[name], "float64", machine, changes("float64")) for machine in ("torch", "numba")
    )
    assert np.abs(on_torch[-1] - on_torch[0]).max() > 0.1
    np.testing.assert_array_equal(on_torch, on_numba)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", {**EXACT, **ROUNDED})
def test_transform_within_rounding(name: str, dtype: str) -> None:
    """20 updates of a weight of size up to 20: 4 ulp of the largest. In float32 torch rounds a constant such as
    1 - beta after the subtraction, numba before it; power differs by one ulp between the two."""
    chain = {**EXACT, **ROUNDED}[name]
    on_torch, on_numba = (updates(chain, dtype, machine, changes(dtype)) for machine in ("torch", "numba"))
    assert on_torch.dtype == on_numba.dtype == np.dtype(dtype)
    tolerance = 4 * np.finfo(dtype).eps * np.abs(on_torch).max() * (1 if dtype == "float64" else 4)
    np.testing.assert_allclose(on_numba, on_torch, rtol=0, atol=tolerance)


@pytest.mark.parametrize("chain", [EXACT["Momentum nesterov"], ROUNDED["adamw"]])
def test_is_torch_s_own_optimizer(chain) -> None:
    """G is minus the gradient: the same weights as torch.optim.AdamW, and as SGD with Nesterov momentum."""
    weight = torch.linspace(-1, 1, 9, dtype=torch.float64).requires_grad_()
    if len(chain) == 3:
        theirs = torch.optim.AdamW([weight], lr=0.1, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.02)
    else:
        theirs = torch.optim.SGD([weight], lr=1.0, momentum=0.8, nesterov=True)
    for change in changes("float64"):
        weight.grad = -torch.from_numpy(change)
        theirs.step()
    ours = updates(chain, "float64", "numba", changes("float64"))
    np.testing.assert_allclose(ours[-1], weight.detach().numpy(), rtol=1e-12)
