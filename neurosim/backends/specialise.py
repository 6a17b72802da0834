"""One source, several machines: give the words of `neurosim.vocabulary` the meaning they have in torch or in numba.

`for_torch` and `for_numba` take a scalar step function (of a neuron, a release, a pointwise transform) or an array
function (lateral, modulator) and return the same code bound to other words, recursively into the functions it calls.
Nothing is translated: the byte code is the same. A third machine is one more `Machine` and one more function like
those two.

What a function may not use (attributes, branches, loops, builtins, modules) is refused here with its name.
"""

from __future__ import annotations

import builtins
import dis
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import CellType, FunctionType
from typing import Any

import torch

from neurosim.surrogate import Surrogate
from neurosim.types import DTYPES, ConfigurationError, choice
from neurosim.vocabulary import ARRAY_WORDS, SCALAR_WORDS, WORDS

Function = Callable[..., Any]
_REFUSED = {"FOR_ITER": "a loop", "MAKE_FUNCTION": "an inner function", "IMPORT_NAME": "an import"}
_SPOKEN = ", ".join(word.__name__ for word in SCALAR_WORDS + ARRAY_WORDS)


@dataclass
class Machine:
    """What a word means on one machine; what becomes of each rebound function (`finish`) and number (`number`)."""

    name: str
    words: Mapping[str, Function]
    finish: Callable[[Function], Function] = lambda function: function
    number: Callable[[Any], Any] = lambda value: value
    done: dict[Function, Function] = field(default_factory=dict)


def rebind(function: Function, machine: Machine) -> Function:
    """`function` with the words of `machine`; ConfigurationError where it leaves the vocabulary."""
    if function in machine.done:
        return machine.done[function]
    if not isinstance(function, FunctionType):
        raise ConfigurationError(f"{function!r} is not a plain Python function; a step must be one")
    names = _global_names(function)
    bound = {name: _convert(_lookup(function, name), name, function, machine) for name in names}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = tuple(CellType(_convert(cell.cell_contents, name, function, machine)) for name, cell in cells)
    code = function.__code__.replace(co_consts=tuple(machine.number(value) for value in function.__code__.co_consts))
    scope = {"__builtins__": builtins, "__name__": function.__module__, **bound}
    made = FunctionType(code, scope, function.__name__, None, closure)
    made.__defaults__ = function.__defaults__
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    machine.done[function] = machine.finish(made)
    return machine.done[function]


def _global_names(function: FunctionType) -> list[str]:
    """Global names the byte code loads; refuses what no machine but Python can do."""
    names: list[str] = []
    for instruction in dis.get_instructions(function):
        operation = instruction.opname
        if operation in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.append(str(instruction.argval))
        elif operation in ("LOAD_ATTR", "LOAD_METHOD"):
            raise _outside(function, f"the attribute .{instruction.argval}")
        elif "JUMP" in operation and "IF" in operation:
            raise _outside(function, "a branch (if, and, or, a chained comparison): write where(condition, yes, no)")
        elif operation in _REFUSED:
            raise _outside(function, _REFUSED[operation])
    return list(dict.fromkeys(names))


def _outside(function: FunctionType, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{function.__qualname__} uses {what}, which is outside the vocabulary; allowed: arithmetic, "
        f"comparisons, indexing, functions made of the same, and {_SPOKEN}"
    )


def _lookup(function: FunctionType, name: str) -> Any:
    if name in function.__globals__:
        return function.__globals__[name]
    if hasattr(builtins, name):
        raise _outside(function, f"the builtin {name} (neurosim.vocabulary has where, abs, min, max, ...)")
    raise _outside(function, f"the undefined name {name}")


def _convert(value: Any, name: str, function: FunctionType, machine: Machine) -> Any:
    if isinstance(value, FunctionType):
        if value not in WORDS:
            return rebind(value, machine)
        word = WORDS[value]
        if word not in machine.words:
            raise ConfigurationError(f"{function.__qualname__} uses {word}, which {machine.name} does not have")
        return machine.words[word]
    if isinstance(value, int | float):
        return machine.number(value)
    raise _outside(function, f"{name}, a {type(value).__name__}")


# ---- torch -----------------------------------------------------------------------------------------------------------


def _torch_where(condition: Any, yes: Any, no: Any) -> torch.Tensor:
    if not isinstance(yes, torch.Tensor) and not isinstance(no, torch.Tensor):
        raise ConfigurationError(
            "where(condition, yes, no) with two plain numbers has no dtype under torch; "
            "use heaviside(x), or fill(x, value) for one branch"
        )
    return torch.where(condition, yes, no)


def _torch_min(x: Any, y: Any) -> torch.Tensor:
    if not isinstance(y, torch.Tensor):
        return torch.clamp(x, max=y)
    return torch.minimum(x, y) if isinstance(x, torch.Tensor) else torch.clamp(y, max=x)


def _torch_max(x: Any, y: Any) -> torch.Tensor:
    if not isinstance(y, torch.Tensor):
        return torch.clamp(x, min=y)
    return torch.maximum(x, y) if isinstance(x, torch.Tensor) else torch.clamp(y, min=x)


def _torch_power(x: Any, y: Any) -> Any:
    # Two plain numbers stay numbers: Adam's bias correction then costs no tensor operation.
    return torch.pow(x, y) if isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor) else x**y


def _torch_row_rank(x: torch.Tensor) -> torch.Tensor:
    order = torch.argsort(x, dim=-1, descending=True, stable=True)
    return torch.argsort(order, dim=-1, stable=True).to(x.dtype)


def _unit_step(x: torch.Tensor) -> torch.Tensor:
    return (x >= 0).to(x.dtype)


TORCH_WORDS: dict[str, Function] = {
    "where": _torch_where, "exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "sqrt": torch.sqrt, "abs": torch.abs,
    "min": _torch_min, "max": _torch_max, "power": _torch_power, "sigmoid": torch.sigmoid,
    "stop_gradient": torch.Tensor.detach,
    "heaviside": _unit_step, "pseudo_derivative": torch.zeros_like, "fill": torch.full_like,
    "row_sum": lambda x: x.sum(-1), "row_mean": lambda x: x.mean(-1), "row_max": lambda x: x.amax(-1),
    "row_sort": lambda x: x.sort(-1).values, "row_rank": _torch_row_rank,
    "row_top_k": lambda x, k: (_torch_row_rank(x) < k).to(x.dtype),
    "row_softmax": lambda x: torch.softmax(x, -1), "matmul": torch.matmul, "transpose": lambda x: x.transpose(-1, -2),
}  # fmt: skip


class _SurrogateStep(torch.autograd.Function):
    """Forward: unit step. Backward: the surrogate's derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, derivative: Function) -> torch.Tensor:
        return _unit_step(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, ctx.derivative = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.derivative(x), None


@cache
def for_torch(step: Function, surrogate: Surrogate | None = None, slope: bool = True) -> Function:
    """`step` on torch tensors of any shape, differentiable. With `surrogate`, `heaviside` has its backward and
    `pseudo_derivative(x)` is its derivative, without a graph; without one, both derivatives are zero.
    Constants may be tensors or Python numbers. `slope=False` is for runs in which nobody reads the output `slope`
    (or what is made of it, as `slope_theta`): it is then 0, and a quarter of the operations of a spiking neuron is
    saved. Cached by (step, surrogate, slope)."""
    machine = Machine("torch", TORCH_WORDS)
    if surrogate is not None:
        machine = Machine("torch", {**TORCH_WORDS, **_torch_surrogate(surrogate)})
    if not slope:
        machine.words = {**machine.words, "pseudo_derivative": _no_slope}
    return rebind(step, machine)


def _no_slope(x: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(())  # broadcasts


def _torch_surrogate(surrogate: Surrogate) -> dict[str, Function]:
    scalar, constants = for_torch(surrogate.derivative), surrogate.constants()

    def derivative(x: torch.Tensor) -> Any:
        return scalar(x, *constants)

    def heaviside(x: torch.Tensor) -> Any:
        # without a graph to build, the plain comparison is several times cheaper than an autograd function
        if torch.is_grad_enabled() and x.requires_grad:
            return _SurrogateStep.apply(x, derivative)  # type: ignore[no-untyped-call]
        return _unit_step(x)

    def pseudo_derivative(x: torch.Tensor) -> Any:
        return derivative(x.detach())

    return {"heaviside": heaviside, "pseudo_derivative": pseudo_derivative}


# ---- numba -----------------------------------------------------------------------------------------------------------


@cache
def for_numba(step: Function, surrogate: Surrogate | None = None, dtype: str = "float64") -> Any:
    """`step` compiled by numba (a dispatcher to call from other numba code): scalars in, scalars out; array functions
    take 1-D and 2-D arrays. Literals take `dtype`, so that float32 stays float32 as in torch. No fast-math: arithmetic
    is bit for bit that of torch. Compiled in memory only: numba's file cache does not see what a name was bound to.
    Cached by (step, surrogate, dtype). Imports numba, which the rest of the package does not need."""
    from neurosim.backends import words_numba

    choice(dtype, list(DTYPES), "dtype")
    words = words_numba.words(dtype)
    if surrogate is not None:
        scalar = for_numba(surrogate.derivative, None, dtype)
        words["pseudo_derivative"] = words_numba.with_constants(scalar, surrogate.constants(), dtype)
    return rebind(step, Machine("numba", words, words_numba.compiled, words_numba.literal(dtype)))
