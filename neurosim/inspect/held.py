"""What a rule carries with it: arrays that its objects and functions hold, by closure or as attributes.

A rule sees its `View`; an array that it holds besides is a side door, and the certificate moves it in place.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch

from neurosim.factor import Apply, Factor, Trace
from neurosim.rule import OfWeight, ThreeFactorRule
from neurosim.types import Array, Tensor

DEEPEST = 6


def held(rule: ThreeFactorRule) -> Iterator[tuple[str, Any]]:
    """(path, array) of every array that a rule holds, except parameters of transforms and constraints."""
    seen: set[int] = set()
    yield from _walk(rule.modulator, type(rule.modulator).__name__, seen, 0)
    for part in (*rule.chain, *rule.bias_chain, *rule.constraints):
        own = {field.name for field in fields(part)} if is_dataclass(part) else set()
        for name, value in getattr(part, "__dict__", {}).items():
            if name not in own:
                yield from _walk(value, f"{type(part).__name__}.{name}", seen, 0)
        for method in ("step", "update", "apply"):
            yield from _walk(getattr(type(part), method, None), f"{type(part).__name__}.{method}", seen, 0)
    for function in _functions(rule):
        yield from _walk(function, getattr(function, "__name__", "f"), seen, 0)


def _functions(rule: ThreeFactorRule) -> Iterator[Any]:
    for component in rule.components:
        for term in component.terms:
            yield from _applied(term.post)
            yield from _applied(term.pre)
            if isinstance(term.gain, OfWeight):
                yield term.gain.fn
        if component.decay is not None:
            yield from _applied(component.decay)


def _applied(factor: Factor) -> Iterator[Any]:
    if isinstance(factor, Apply):
        yield factor.fn
        for argument in factor.arguments:
            yield from _applied(argument)
    elif isinstance(factor, Trace):
        yield from _applied(factor.of)


def _walk(value: Any, path: str, seen: set[int], depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST or id(value) in seen or isinstance(value, type | types.ModuleType | str | int | float):
        return
    seen.add(id(value))
    if isinstance(value, Tensor | np.ndarray):
        yield path, value
        return
    for name, inner in _inside(value):
        yield from _walk(inner, f"{path}{name}", seen, depth + 1)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, with the end of its path."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", inner) for index, inner in enumerate(value))
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f".{name}", cell.cell_contents) for name, cell in cells)
        yield from ((f".{name}", value.__globals__[name]) for name in value.__code__.co_names if _global(value, name))
        yield from ((f"({index})", inner) for index, inner in enumerate(value.__defaults__ or ()))
    elif isinstance(value, types.MethodType):
        yield "", value.__self__
        yield "", value.__func__
    elif not isinstance(value, types.BuiltinFunctionType):
        yield from ((f".{name}", inner) for name, inner in getattr(value, "__dict__", {}).items())
        update = getattr(type(value), "update", None)
        if isinstance(update, types.FunctionType):
            yield ".update", update


def _global(function: types.FunctionType, name: str) -> bool:
    """Is `name` an array or a container among the globals of a function?"""
    return isinstance(function.__globals__.get(name), Tensor | np.ndarray | dict | list | tuple)


@contextmanager
def moved(array: Any) -> Iterator[None]:
    """Inside, the array has other values, in place: whoever holds it sees them."""
    part = _writable(array)
    before = part.clone() if isinstance(part, Tensor) else part.copy()
    part[...] = _other(before)
    try:
        yield
    finally:
        part[...] = before


def can_move(array: Any) -> bool:
    """Can this array be changed in place, and would it then differ?"""
    if isinstance(array, np.ndarray):
        return bool(array.flags.writeable) and array.size > 0 and array.dtype.kind in "fiub"
    return bool(array.numel() > 0) and not array.is_complex()


def _writable(array: Any) -> Any:
    """The array, or for an expanded tensor the memory behind it."""
    if isinstance(array, Tensor):
        array = array.detach()
        for axis, stride in enumerate(array.stride()):
            if stride == 0:
                array = array.narrow(axis, 0, 1)
    return array


def _other(values: Array | Tensor) -> Any:
    """Other values of the same kind: turned around for whole numbers (they may be labels or indices)."""
    if isinstance(values, Tensor):
        if values.dtype == torch.bool:
            return ~values
        if values.is_floating_point():
            return values + 0.37
        turned = values.max() + values.min() - values
        return turned if bool((turned != values).any()) else 1 - values.clamp(0, 1)
    return _other(torch.from_numpy(values.copy())).numpy()
