"""One source on three machines: plain Python, torch, numba. And what is refused."""

from __future__ import annotations

import math
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
from alone import simulate, tensor
from zoo import VARIANTS, drive

from neurosim.backends import elementary
from neurosim.backends.specialise import for_numba, for_torch
from neurosim.neuron import LIF
from neurosim.release import TsodyksMarkram
from neurosim.surrogate import FastSigmoid
from neurosim.types import ConfigurationError
from neurosim.vocabulary import (
    abs,
    exp,
    fill,
    log,
    matmul,
    max,
    min,
    power,
    row_max,
    row_mean,
    row_rank,
    row_softmax,
    row_sort,
    row_sum,
    row_top_k,
    sigmoid,
    sqrt,
    stop_gradient,
    tanh,
    transpose,
    where,
)

STEPS, SIZE, DT = 60, 8, 0.5
EVERYTHING = {**VARIANTS, "TsodyksMarkram": TsodyksMarkram(0.3, 130.0, 530.0)}
# these use exp, tanh or a sigmoid; the others only + - * / and comparisons, where both must agree bit for bit
TRANSCENDENTAL = {
    "CobaLIF",
    "AdEx",
    "LeakyRate",
    "LeakyRate sigmoid",
    "Perturbed",
    "Perturbed LeakyRate after",
    "StaticRate",
    "StaticRate sigmoid",
    "TwoCompartment",
}


def inputs_of(model):
    if isinstance(model, TsodyksMarkram):
        return {"spike": (np.random.default_rng(0).random((STEPS, SIZE)) < 0.2).astype(float)}
    return drive(model, STEPS, SIZE)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_torch_and_numba_agree(name: str, dtype: str) -> None:
    """One step from the same state, over recorded states; 4 ulp of the largest input where exp or tanh is used."""
    model, number = EVERYTHING[name], np.dtype(dtype).type
    inputs = {key: value.astype(dtype) for key, value in inputs_of(model).items()}
    constants = [number(value) for value in model.constants(DT)]
    on_torch, on_numba = for_torch(model.step, model.surrogate), for_numba(model.step, model.surrogate, dtype)
    state = [np.full(SIZE, value, dtype) for value in model.initial().values()]
    for t in range(STEPS):
        arguments = [*state, *(values[t] for values in inputs.values())]
        expected = on_torch(
            *(torch.from_numpy(value) for value in arguments), *(torch.tensor(value) for value in constants)
        )
        expected = np.stack([value.expand(SIZE).numpy() for value in expected])
        ours = np.array([on_numba(*(value[i] for value in arguments), *constants) for i in range(SIZE)]).T
        assert expected.dtype == dtype
        if name in TRANSCENDENTAL:
            largest = np.maximum(1.0, np.abs(np.stack(arguments)).max())
            np.testing.assert_allclose(ours, expected, rtol=0, atol=4 * np.finfo(dtype).eps * largest)
        else:
            np.testing.assert_array_equal(ours, expected)
        state = list(expected[: len(model.states)])


def test_numba_stays_in_float32() -> None:
    """A literal would make numba compute in float64."""
    step = for_numba(LIF().step, FastSigmoid(), "float32")
    constants = [np.float32(value) for value in LIF().constants(DT)]
    step(*[np.float32(0.5)] * 4, *constants)
    (returns,) = [overload.signature.return_type for overload in step.overloads.values()]
    assert {str(kind) for kind in returns} == {"float32"}


def test_torch_keeps_dtype_and_broadcasts() -> None:
    constants = [torch.tensor(value, dtype=torch.float32) for value in LIF().constants(DT)]
    state = torch.zeros(3, 2, 4)  # [R, B, N]
    result = for_torch(LIF().step, FastSigmoid())(state, state, state + 2.0, state, *constants)
    assert {(value.dtype, value.shape) for value in result} == {(torch.float32, (3, 2, 4))}


@pytest.mark.parametrize("name", [name for name, model in VARIANTS.items() if model.surrogate is not None])
def test_without_slope_everything_else_stays(name: str) -> None:
    model = VARIANTS[name]
    values = [tensor(value[0]) for value in inputs_of(model).values()]
    states = [tensor(np.full(SIZE, value)) for value in model.initial().values()]
    arguments = [*states, *values, *(tensor(value) for value in model.constants(DT))]
    full = for_torch(model.step, model.surrogate)(*arguments)
    lean = for_torch(model.step, model.surrogate, slope=False)(*arguments)
    slope = len(model.states) + model.outputs.index("slope")  # what comes after it is made of it
    assert all(torch.equal(first, second) for first, second in zip(full[:slope], lean[:slope], strict=True))
    assert lean[slope].shape == full[slope].shape
    assert (lean[slope] == 0).all()
    assert (full[slope] != 0).any()


def test_specialised_functions_are_cached() -> None:
    assert for_torch(LIF().step, FastSigmoid()) is for_torch(LIF(tau_mem=5.0).step, FastSigmoid())
    assert for_torch(LIF().step, FastSigmoid()) is not for_torch(LIF().step, FastSigmoid(slope=2.0))
    assert for_numba(LIF().step) is for_numba(LIF().step)


def test_original_step_is_untouched() -> None:
    for_torch(LIF().step, FastSigmoid())
    v, *_ = LIF().step(0.0, 0.0, 0.5, 0.0, *LIF().constants(DT))
    assert isinstance(v, float)


def scalar_words(x, y):
    return (where(x > y, x, y), exp(x), log(y), tanh(x), sqrt(y), abs(x), min(x, y), max(x, y), min(x, 0.5),
            max(0.5, x), power(y, x), sigmoid(x), stop_gradient(x), fill(x, 2.0))  # fmt: skip


def test_every_scalar_word() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=20), generator.random(20) + 0.1
    plain = np.stack(scalar_words(x, y))
    torch_values = np.stack([value.numpy() for value in for_torch(scalar_words)(tensor(x), tensor(y))])
    compiled = for_numba(scalar_words)
    np.testing.assert_allclose(torch_values, plain, rtol=1e-15)
    np.testing.assert_allclose(np.array([compiled(*pair) for pair in zip(x, y, strict=True)]).T, plain, rtol=1e-15)
    by_hand = [math.exp(x[0]), math.log(y[0]), math.tanh(x[0]), math.sqrt(y[0])]
    np.testing.assert_allclose(plain[1:5, 0], by_hand, rtol=1e-15)


def array_words(x, y):
    return (row_sum(x), row_mean(x), row_max(x), row_sort(x), row_rank(x), row_top_k(x, 2), row_softmax(x),
            matmul(x, transpose(y)), where(x > y, x, 0.0), exp(x), sigmoid(x), max(x, y))  # fmt: skip


def test_every_array_word() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(4, 7)), generator.normal(size=(4, 7))
    x[1, 2] = x[1, 5] = x[1].max() + 1  # a tie, at the top
    plain = array_words(x, y)
    on_torch, on_numba = for_torch(array_words)(tensor(x), tensor(y)), for_numba(array_words)(x, y)
    for first, second, third in zip(plain, on_torch, on_numba, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(third, first, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(plain[4][1][[2, 5]], [0, 1])
    np.testing.assert_array_equal(plain[5].sum(-1), [2, 2, 2, 2])
    np.testing.assert_allclose(plain[6].sum(-1), 1.0)


def test_row_words_take_one_row() -> None:
    x = np.random.default_rng(0).normal(size=6)

    for batched, alone in zip(for_numba(rows_only)(x[None]), for_numba(rows_only)(x), strict=True):
        np.testing.assert_array_equal(batched[0], alone)


def rows_only(x):
    return row_sum(x), row_softmax(x), row_top_k(x, 3), row_sort(x)


def rbf_row(z, coefficients, two_sigma_squared):
    """xi = sum_p c_p k(z_N, z_p) (z_N - z_p), the newest row last; k = exp(-|z_N - z_p|^2 / (2 sigma^2))."""
    difference = z[..., -1:, :] - z
    weight = coefficients * exp(-row_sum(difference * difference) / two_sigma_squared)
    return matmul(weight[..., None, :], difference)[..., 0, :]


def test_array_function_runs_batched_in_torch_and_on_matrices_in_numba() -> None:
    generator = np.random.default_rng(0)
    z, coefficients = generator.normal(size=(3, 5, 10, 6)), generator.normal(size=(3, 5, 10))
    batched = for_torch(rbf_row)(tensor(z), tensor(coefficients), 2.0)
    assert batched.shape == (3, 5, 6)
    compiled = for_numba(rbf_row)
    for r in range(3):
        for b in range(5):
            rows, c = z[r, b], coefficients[r, b]
            expected = sum(
                c[p] * np.exp(-np.sum((rows[-1] - rows[p]) ** 2) / 2.0) * (rows[-1] - rows[p]) for p in range(10)
            )
            np.testing.assert_allclose(batched[r, b], expected, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(compiled(rows, c, 2.0), expected, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(rbf_row(rows, c, 2.0), expected, rtol=1e-12, atol=1e-14)


def adam(change, weight, count, first, second, lr, beta1, beta2, eps):
    """A pointwise transform: (change, weight, count, *memory, *constants) -> (change, *memory)."""
    first = beta1 * first + (1.0 - beta1) * change
    second = beta2 * second + (1.0 - beta2) * change * change
    unbiased = first / (1.0 - power(beta1, count))
    return lr * unbiased / (sqrt(second / (1.0 - power(beta2, count))) + eps), first, second


def test_pointwise_transform() -> None:
    generator = np.random.default_rng(0)
    gradients, settings = generator.normal(size=(20, 9)), (0.01, 0.9, 0.99, 1e-8)
    parameter = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    on_torch, on_numba = for_torch(adam), for_numba(adam)
    memory, compiled_memory = [torch.zeros(9, dtype=torch.float64)] * 2, np.zeros((9, 2))
    weight, compiled_weight = torch.zeros(9, dtype=torch.float64), np.zeros(9)
    for count, gradient in enumerate(gradients, 1):
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
        change, *memory = on_torch(torch.from_numpy(gradient), weight, tensor(count), *memory, *settings)
        weight = weight - change
        for i in range(9):
            moved, *compiled_memory[i] = on_numba(
                gradient[i], compiled_weight[i], float(count), *compiled_memory[i], *settings
            )
            compiled_weight[i] -= moved
    np.testing.assert_allclose(weight, parameter.detach(), rtol=1e-12)
    np.testing.assert_allclose(compiled_weight, weight, rtol=1e-12)


def uses_module(x):
    return math.exp(x)


def uses_method(x):
    return x.sum()


def uses_branch(x):
    return x if x > 0 else -x


def uses_builtin(x):
    return float(x)


def uses_loop(x):
    for _ in x:
        x = x + 1.0
    return x


def uses_list(x):
    return x * TABLE[0]


def uses_undefined(x):
    return undefined(x)  # noqa: F821


def uses_inner(x):
    return (lambda y: y + 1.0)(x)


def calls_helper_that_branches(x):
    return uses_branch(x) + 1.0


TABLE = [1.0]


@pytest.mark.parametrize("machine", [for_torch, for_numba])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (uses_module, r"uses_module uses the attribute .exp"),
        (uses_method, r"uses_method uses the attribute .sum"),
        (uses_branch, r"a branch"),
        (uses_builtin, r"the builtin float"),
        (uses_loop, r"a loop"),
        (uses_list, r"TABLE, a list"),
        (uses_undefined, r"the undefined name undefined"),
        (uses_inner, r"an inner function"),
        (calls_helper_that_branches, r"uses_branch uses a branch"),
        (math.exp, r"not a plain Python function"),
    ],
)
def test_outside_the_vocabulary_is_a_clear_error(machine, function, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        machine(function)


def test_where_with_two_numbers_is_refused_in_torch() -> None:
    with pytest.raises(ConfigurationError, match="heaviside"):
        for_torch(where_of_numbers)(torch.ones(2))


def where_of_numbers(x):
    return where(x > 0.0, 1.0, 0.0)


def test_only_for_numba_imports_numba() -> None:
    code = (
        "import sys; from neurosim.backends.specialise import for_torch; from neurosim.neuron import LIF; "
        "for_torch(LIF().step); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_recorded_run_is_the_same_on_both_machines() -> None:
    """A whole trajectory of an arithmetic-only neuron, spikes and voltages bit for bit."""
    neuron = LIF(t_ref=1.0)
    inputs, step = drive(neuron, 400, 5), for_numba(LIF().step, FastSigmoid())
    expected = simulate(neuron, DT, inputs, steps=400, size=5)
    constants = neuron.constants(DT)
    for i in range(5):
        v, refractory = 0.0, 0.0
        for t in range(400):
            v, refractory, spike, _ = step(v, refractory, inputs["basal"][t, i], inputs["current"][t, i], *constants)
            assert (v, spike) == (expected["v"][t, i], expected["spike"][t, i])
    assert expected["spike"].sum() > 20


@pytest.mark.parametrize(
    ("function", "exact", "dtype", "units", "span"),
    [
        (elementary.exp32, np.exp, np.float32, 1, (-110.0, 90.0)),
        (elementary.exp64, np.exp, np.float64, 1, (-760.0, 720.0)),
        (elementary.tanh32, np.tanh, np.float32, 2, (-12.0, 12.0)),
        (elementary.tanh64, np.tanh, np.float64, 2, (-25.0, 25.0)),
    ],
)
def test_elementary_functions_are_right_to_the_last_places(function, exact, dtype, units, span):
    special = [-np.inf, np.inf, np.nan, 0.0, -0.0, 1e-300, -1e-30]
    x = np.concatenate([np.linspace(*span, 200_001), np.linspace(-1.5, 1.5, 100_001), special]).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        wanted = exact(x.astype(np.longdouble))
        rounded = wanted.astype(dtype)
    found = np.array([function(value) for value in x])
    unit = np.spacing(np.where(np.isfinite(rounded), np.maximum(np.abs(rounded), np.nextafter(dtype(0), dtype(1))), 1))
    finite = np.isfinite(x) & np.isfinite(rounded)
    assert (np.abs(found[finite] - wanted[finite]) <= units * unit[finite].astype(np.longdouble)).all()
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    np.testing.assert_array_equal(np.signbit(found[x == 0]), np.signbit(rounded[x == 0]))


def test_logarithms_and_cosines_are_right_to_the_last_places():
    x = np.concatenate(
        [np.geomspace(1e-300, 1e300, 100_001), np.linspace(0.5, 2.0, 100_001), np.arange(1, 50) * 2.0**-53]
    )
    exact = np.log(x.astype(np.longdouble))
    found = np.array([elementary.log64(value) for value in x])
    assert (np.abs(found - exact) <= np.spacing(np.maximum(np.abs(exact).astype(float), 1e-300))).all()
    x = np.concatenate([np.linspace(-900.0, 900.0, 100_001), np.linspace(-7.0, 7.0, 100_001), [0.0, -0.0]])
    found = np.array([elementary.cos64(value) for value in x])
    assert (np.abs(found - np.cos(x.astype(np.longdouble))) <= 2.0**-52).all()


def test_a_choice_of_numbers_takes_the_wider_type():
    @numba.njit
    def chosen(condition):
        return elementary.select(condition, np.float32(0.1), 2)

    assert chosen(True) == np.float32(0.1)
    assert chosen(False) == 2.0
