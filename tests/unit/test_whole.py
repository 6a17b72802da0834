"""Whole numbers found in a step's code: that bounds hold is tried on numbers drawn at random."""

import inspect

import numpy as np
import pytest

from neurosim import neuron as neurons
from neurosim.backends.whole import binary, counts, range_of, results
from neurosim.neuron import LIF, AdaptiveLIF, CobaLIF, CubaLIF, DelayedResetLIF, PoissonSource, SpikeRelay
from neurosim.neuron.base import Model
from neurosim.vocabulary import fill, heaviside, max, min, where

DT = 0.1
MODELS = [
    model
    for model in vars(neurons).values()
    if inspect.isclass(model)
    and issubclass(model, Model)
    and model is not Model
    and all(one.default is not one.empty for one in inspect.signature(model).parameters.values())
]


def found(model):
    kinds = counts(model.step, len(model.states), model.constants(DT))
    return {model.states[place]: kind for place, kind in kinds.items()}


@pytest.mark.parametrize("model", [LIF, AdaptiveLIF, CubaLIF, CobaLIF])
@pytest.mark.parametrize(
    ("t_ref", "kinds"),
    [
        (5.0, {"refractory": "uint8"}),
        (25.5, {"refractory": "uint8"}),
        (25.6, {"refractory": "uint16"}),
        (6553.5, {"refractory": "uint16"}),
        (6553.6, {}),
        (np.array([1.0, 30.0, 2.0]), {"refractory": "uint16"}),
    ],
)
def test_steps_of_silence_that_are_left_are_counts(model, t_ref, kinds):
    assert found(model(t_ref=t_ref)) == kinds


def test_what_is_no_count_is_none():
    assert found(DelayedResetLIF()) == {"spiked": "uint8", "refractory": "uint8"}
    assert found(SpikeRelay()) == {}
    assert binary(SpikeRelay().step, 0) == (False, True)  # graded values pass; its slope is 1
    assert binary(PoissonSource(rate=3.0).step, 0) == (True,)
    assert binary(LIF.step, 2)[0]
    assert len(MODELS) > 15


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_bounds_hold(model):
    """No step leaves the bounds that were found for it, whatever arrives; a kept count is the same number."""
    made, generator = model(), np.random.default_rng(1)
    constants = made.constants(DT)
    kinds = counts(made.step, len(made.states), constants)
    ones = binary(made.step, len(made.states))
    for _ in range(40):
        states = [
            generator.integers(0, np.iinfo(kinds[k]).max, 50, endpoint=True).astype(float)
            if k in kinds
            else generator.normal(0.0, 30.0, 50)
            for k in range(len(made.states))
        ]
        rest = [generator.normal(0.0, 30.0, 50) for _ in (*made.ports, *made.draws)]
        with np.errstate(all="ignore"):
            got = made.step(*states, *rest, *constants)
        for place, kind in kinds.items():
            np.testing.assert_array_equal(np.asarray(got[place]).astype(kind), got[place])
        for always, value in zip(ones, got[len(made.states) :], strict=True):
            assert not always or np.isin(value, (0.0, 1.0)).all()


@pytest.mark.parametrize(
    ("step", "bounds"),
    [
        (lambda x, y: x + y, (2, 8)),
        (lambda x, y: x - y, (-3, 3)),
        (lambda x, y: x * y, (0, 15)),
        (lambda x, y: (x - 1.0) * y, None),  # may be -0
        (lambda x, y: -(x - 2.0), None),
        (lambda x, y: x / y, None),
        (lambda x, y: max(x, y), (2, 5)),
        (lambda x, y: min(x, y), (0, 3)),
        (lambda x, y: where(x > y, x, 7.0), (0, 7)),
        (lambda x, y: where(x > y, x, 0.5), None),
        (lambda x, y: heaviside(x - 0.3) + fill(y, 2.0), (2, 3)),
        (lambda x, y: x * 1e4 * 1e4, None),  # more than float32 counts
    ],
)
def test_arithmetic_of_bounds(step, bounds):
    assert results(step, [(0, 5), (2, 3)]) == (bounds,)


@pytest.mark.parametrize("value", [0.5, -0.0, np.inf, np.nan, 2.0**25, np.array([1.0, 1.5])])
def test_what_has_no_bounds(value):
    assert range_of(value) is None
