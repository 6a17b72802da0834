"""The derivative of a step as a step of its own, against torch's autograd of the same source."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from zoo import VARIANTS, drive

from neurosim import neuron as neurons
from neurosim.backends.derivative import passed_on, pullback
from neurosim.backends.specialise import for_numba, for_torch
from neurosim.neuron import LIF
from neurosim.release import TsodyksMarkram
from neurosim.surrogate import FastSigmoid
from neurosim.types import ConfigurationError
from neurosim.vocabulary import (
    abs,
    exp,
    fill,
    heaviside,
    log,
    max,
    min,
    power,
    row_sum,
    sigmoid,
    sqrt,
    stop_gradient,
    tanh,
    where,
)

DT, SIZE, EVEN = 0.5, 64, 16
EVERYTHING = {
    **VARIANTS,
    "TsodyksMarkram": TsodyksMarkram(0.3, 130.0, 530.0),
    "AdEx, v_th per neuron": neurons.AdEx(v_th=np.linspace(-45.0, -40.0, SIZE)),
}


def parts(model):
    """Places of states, of inputs whose cotangents are wanted, of constants that are numbers; all arguments."""
    generator = np.random.default_rng(1)
    ports = ("spike",) if isinstance(model, TsodyksMarkram) else model.ports
    states = {name: np.full(SIZE, value) + 0.0 for name, value in model.initial().items()}
    for name in states:  # spread about where it starts; counts of refractory steps stay whole
        width = 0.2 * (1.0 + np.abs(states[name]))
        drawn = generator.integers(0, 3, SIZE) if name == "refractory" else generator.normal(0.0, 1.0, SIZE) * width
        states[name] = states[name] + drawn
    inputs = {"spike": generator.random(SIZE).round()} if ports == ("spike",) else drive(model, 1, SIZE, seed=2)
    inputs = {name: np.array(value).reshape(-1) for name, value in inputs.items()}
    for name, value in {**states, **inputs}.items():  # some sit at the threshold, or at the kink of relu, with no input
        threshold = np.broadcast_to(getattr(model, "v_th", 0.0), SIZE)
        value[:EVEN] = threshold[:EVEN] if name == "v" else 0.0
    constants = [np.asarray(value) for value in model.constants(DT)]
    first = len(states) + len(inputs)
    numbers = tuple(first + k for k, value in enumerate(constants) if value.ndim == 0)
    arguments = [*states.values(), *inputs.values(), *constants]
    return len(states), tuple(range(len(states), len(states) + len(ports))), numbers, arguments


def by_autograd(model, arguments, numbers, given, wanted):
    """Cotangents of the arguments `wanted` from those of the results `given`; None is told apart from zero."""
    tensors = [
        float(value) if place in numbers else torch.tensor(value, requires_grad=place in wanted)
        for place, value in enumerate(arguments)
    ]
    results = for_torch(model.step, getattr(model, "surrogate", None))(*tensors)
    pairs = [(results[place], g) for place, g in given.items() if results[place].requires_grad]
    if not pairs:
        return [None] * len(wanted)
    tops, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(tops, [tensors[p] for p in wanted], [torch.tensor(g) for g in cotangents],
                               allow_unused=True)  # fmt: skip


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_neuron(name, through_time):
    """On numba, neuron by neuron, from states about the threshold, at it, and in silence after a spike."""
    model = EVERYTHING[name]
    states, inputs, numbers, arguments = parts(model)
    surrogate = getattr(model, "surrogate", None)
    made = pullback(model.step, states, inputs, (states,), surrogate is not None, numbers, through_time)
    generator = np.random.default_rng(3)
    given = {place: generator.normal(size=SIZE) for place in made.takes}
    wanted = [*(range(states) if through_time else ()), *inputs]
    expected = dict(zip(wanted, by_autograd(model, arguments, numbers, given, wanted), strict=True))
    for place in set(wanted) - set(made.gives):
        assert expected[place] is None or not expected[place].any(), place
    if not made.gives:
        return
    compiled = for_numba(made.function, surrogate, "float64")
    taken = [np.broadcast_to(arguments[place], SIZE) for place in made.reads] + list(given.values())
    found = np.array([compiled(*(value[i] for value in taken)) for i in range(SIZE)]).T
    assert any(row.any() for row in found) or name == "NoiseSource"  # white noise keeps nothing
    for place, row in zip(made.gives, found, strict=True):
        wants = np.zeros(SIZE) if expected[place] is None else expected[place].numpy()
        np.testing.assert_allclose(row, wants, rtol=1e-13, atol=1e-14 * np.abs(wants).max(initial=0.0))


def test_what_later_steps_hand_back_is_found():
    """Of LIF nothing comes back to the count of silent steps, of an adaptive neuron something does to its threshold;
    without time to no state at all."""
    assert pullback(LIF().step, 2, (2, 3), (2,)).gives == (0, 2, 3)
    assert pullback(LIF().step, 2, (2,), (2,)).takes == (0, 2)
    adaptive = neurons.AdaptiveLIF()
    assert pullback(adaptive.step, 3, (3,), (3,)).takes == (0, 1, 3)
    assert pullback(adaptive.step, 3, (3,), (3,), through_time=False).gives == (3,)
    assert pullback(LIF().step, 2, (2,), (2,), surrogate=False).gives == ()


def words(x, y, z):
    return (
        where(x > y, x * y, y / x) + exp(x) + log(y) + tanh(x) * sqrt(y) - abs(z) + min(x, z) * max(y, z),
        power(y, x) + power(y, 2.0) + y**3 + 2.0**x + sigmoid(-x) + stop_gradient(x) * y + fill(x, 2.0) * z,
        min(x, 0.5) * max(0.5, z) + heaviside(x) * z - (-x) / (1.0 - y),
    )


def test_every_word():
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(2, SIZE))
    y = generator.random(SIZE) + 0.1
    x[:4], z[2:6], y[8:10] = 0.5, (0.5, 0.5, 0.0, 0.0), z[8:10]
    x[10:12] = z[10:12]
    surrogate = FastSigmoid(2.0)
    made = pullback(words, 0, (0, 1, 2), (0, 1, 2))
    tensors = [torch.tensor(value, requires_grad=True) for value in (x, np.abs(y), z)]
    cotangents = generator.normal(size=(3, SIZE))
    expected = torch.autograd.grad(for_torch(words, surrogate)(*tensors), tensors, list(torch.tensor(cotangents)))
    with torch.no_grad():
        found = for_torch(made.function, surrogate)(*tensors, *torch.tensor(cotangents))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    compiled = for_numba(made.function, surrogate)
    by_numba = np.array([compiled(*row) for row in zip(x, np.abs(y), z, *cotangents, strict=True)]).T
    np.testing.assert_allclose(by_numba, np.stack([value.numpy() for value in expected]), rtol=1e-12, atol=1e-12)


def test_a_value_stands_once_and_only_what_is_needed():
    made = pullback(LIF().step, 2, (2, 3), (2,))
    lines = [line.split(" = ")[1] for line in made.text.splitlines() if " = " in line]
    assert len(lines) == len(set(lines))
    assert inspect.getsource(made.function) == made.text
    assert "steps" not in made.text  # the length of the silence decides no derivative
    assert made is pullback(LIF().step, 2, (2, 3), (2,))


def test_float32_stays_float32():
    made = pullback(LIF().step, 2, (2, 3), (2,))
    step = for_numba(made.function, FastSigmoid(), "float32")
    step(*[np.float32(0.5)] * (len(made.reads) + len(made.takes)))
    (returns,) = [overload.signature.return_type for overload in step.overloads.values()]
    assert {str(kind) for kind in returns} == {"float32"}


def test_results_that_only_pass_on():
    assert passed_on(neurons.Relay().step) == {0: 0}
    assert passed_on(neurons.StaticRate("linear").step) == {0: 0}
    assert passed_on(LIF().step) == {}


def total(x):
    return (row_sum(x),)


def test_what_is_no_scalar_step_is_refused():
    with pytest.raises(ConfigurationError, match="total uses row_sum, which a trace does not have"):
        pullback(total, 0, (0,), (0,))
