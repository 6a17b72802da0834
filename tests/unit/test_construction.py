"""What a parameter cannot be is told when an object is made, in one sentence that names the parameter."""

from __future__ import annotations

import dataclasses
import inspect
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neurosim import adapter, constraint, lateral, neuron, surrogate, transform
from neurosim.neuron import LIF, AdEx, LeakyController, LeakyRate, TwoCompartment
from neurosim.neuron.base import WORDS
from neurosim.neuron.rate import ACTIVATIONS
from neurosim.random import Uniform
from neurosim.types import ConfigurationError, numeric, within

MODULES: tuple[ModuleType, ...] = (neuron, transform, constraint, lateral, adapter)
NEEDED: dict[str, Any] = {"lr": 0.1, "decay": 0.1, "limit": 1.0, "total": 4, "percent": 50.0, "alpha": 0.2, "block": 4,
                          "k": 2, "by": 1.0, "sd": 1.0, "neuron": LIF()}  # fmt: skip
WORD = ("bool", "str", "tuple")  # annotations of fields that hold no number
ELSEWHERE = ("surrogate", "transforms", "of", "neuron")  # objects and names: looked at by whoever uses them


def numbers() -> list[tuple[type, str]]:
    """Every numeric parameter of every class that a user can make."""
    found = []
    for module in MODULES:
        for name in getattr(module, "__all__", dir(module)):
            kind = getattr(module, name)
            ours = inspect.isclass(kind) and kind.__module__.startswith(module.__name__)
            if not (ours and dataclasses.is_dataclass(kind) and name[0] != "_"):
                continue
            for field in dataclasses.fields(kind):
                plain = str(field.type).split(" ")[0].split("[")[0]
                if field.init and plain not in WORD and field.name not in (*ELSEWHERE, *WORDS):
                    found.append((kind, field.name))
    return found


NUMBERS = numbers()


def made(kind: type, **given: Any) -> Any:
    """`kind` with something sensible for what has no default."""
    needed = {
        field.name: NEEDED[field.name]
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name in NEEDED
    }
    return kind(**{**needed, **given})


def test_the_classes_are_all_there() -> None:
    kinds = {kind.__name__ for kind, _ in NUMBERS}
    assert {"LIF", "AdEx", "LeakyRate", "Rate", "Adam", "Bounds", "LayerNorm", "Poisson", "Latency", "Mean"} <= kinds


@pytest.mark.parametrize(("kind", "parameter"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("wrong", ["a", {"x": 1}, [[1.0], [1.0, 2.0]], True], ids=["word", "dict", "ragged", "truth"])
def test_a_wrong_type_is_one_sentence(kind: type, parameter: str, wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"\b{parameter}\b") as told:
        made(kind, **{parameter: wrong})
    assert "\n" not in str(told.value)


BAD = [
    (LIF, {"tau_mem": -1.0}, r"tau_mem is -1\.0; it must be a finite number > 0"),
    (LIF, {"t_ref": -1.0}, r"t_ref is -1\.0; it must be a finite number >= 0"),
    (LIF, {"v_th": np.nan}, r"v_th is nan; it must be a finite number"),
    (LIF, {"tau_mem": np.array([5.0, 0.0])}, r"tau_mem is \[5\. 0\.\]"),
    (LIF, {"reset": "maybe"}, r"reset is 'maybe'; allowed: to_v_reset"),
    (LIF, {"surrogate": "fast_sigmoid"}, r"surrogate is 'fast_sigmoid'; it must be an object"),
    (LIF, {"surrogate": surrogate.FastSigmoid}, r"surrogate is the class FastSigmoid"),
    (AdEx, {"delta_t": 0.0}, r"delta_t is 0\.0"),
    (LeakyRate, {"activation": "gelu"}, r"activation is 'gelu'; allowed: relu"),
    (TwoCompartment, {"tau_basal": -1.0}, r"tau_basal is -1\.0"),
    (LeakyController, {"tau_leak": 0.0}, r"tau_leak is 0\.0; it must be a number > 0, or inf"),
    (LeakyController, {"leak_of": "both"}, r"leak_of is 'both'"),
]


@pytest.mark.parametrize(("kind", "given", "sentence"), BAD)
def test_a_bad_neuron_cannot_be_made(kind: type, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        kind(**given)


def test_what_is_allowed_can_be_made() -> None:
    assert LIF(tau_mem=Uniform(5.0, 10.0), surrogate=None).surrogate is None
    assert TwoCompartment(tau_mem=0.0, tau_basal=None).tau_basal is None
    assert LeakyController(tau_leak=np.inf).tau_leak == np.inf
    assert LIF(tau_mem=5, v_th=np.ones((2, 3))).tau_mem == 5


def test_the_words_of_an_activation_are_those_there_are() -> None:
    assert WORDS["activation"] == tuple(ACTIVATIONS)


def test_within_keeps_to_its_ends() -> None:
    assert within(0, 0, 1, "x") == 0
    assert within([0.5, 1], 0, 1, "x") == [0.5, 1]
    for value, ends in ((0, "(]"), (1, "[)"), (np.nan, "[]"), (2, "[]")):
        with pytest.raises(ConfigurationError, match=rf"x is {value}; it must be in \{ends[0]}0, 1\{ends[1]}"):
            within(value, 0, 1, "x", ends)


def test_numeric_gives_float64() -> None:
    assert numeric([1, 2], "x").dtype == np.float64
