"""Kernels from text: the same text for the device, for Triton's interpreter, and compiled ahead of time."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from neurosim.backends.triton.philox import PHILOX
from neurosim.backends.triton.words import LIBRARY
from neurosim.types import ConfigurationError, Tensor

HOPPER = GPUTarget("cuda", 90, 32)
_POINTERS = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32", torch.int64: "*i64",
}  # fmt: skip
_LINE = "    "


def interpreted() -> bool:
    """Do kernels run in Triton's interpreter (the environment variable TRITON_INTERPRET, when they are made)?"""
    return bool(triton.knobs.runtime.interpret)


def check(device: str) -> None:
    """ConfigurationError unless kernels can run on `device`."""
    if device == "cpu" and not interpreted():
        raise ConfigurationError(
            "backend 'triton' runs on a GPU and device is 'cpu'; give device=cuda, or backend=cpu "
            "(with TRITON_INTERPRET=1 in the environment its kernels are interpreted on the cpu, slowly, for tests)"
        )


@dataclass
class Text:
    """A kernel in the making: arguments in order, then lines. Arguments that change with a run are given by name."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def argument(self, name: str, value: Any) -> str:
        """An array, or an integer."""
        self.arguments[name] = value
        return name

    def line(self, text: str, depth: int = 1) -> None:
        self.lines.append(_LINE * depth + text)

    def done(self) -> Kernel:
        head = ", ".join([*self.arguments, *(f"{name}: tl.constexpr" for name in self.constants)])
        body = "\n".join(self.lines)
        return Kernel(f"{LIBRARY}\n\n{PHILOX}\n\n@jit\ndef {self.name}({head}):\n{body}\n", self)


@dataclass
class Kernel:
    """A kernel with the arguments that stay the same; `launch` takes those that change."""

    source: str
    text: Text

    def __post_init__(self) -> None:
        self.arguments = dict(self.text.arguments)
        self._function = function(self.source, self.text.name, triton.jit)

    def launch(self, grid: tuple[int, ...], **changed: Any) -> None:
        """Run it on a grid of programs."""
        options = {} if interpreted() else {"enable_fp_fusion": False}
        self._function[grid](**{**self.arguments, **changed}, **self.text.constants, **options)

    def compiled(self, target: GPUTarget = HOPPER) -> Any:
        """The kernel, compiled for a device that need not be there (its stages are in `asm`)."""
        made = function(self.source, self.text.name, JITFunction)
        signature = {name: _type(value) for name, value in self.arguments.items()}
        signature |= dict.fromkeys(self.text.constants, "constexpr")
        source = ASTSource(fn=made, signature=signature, constexprs=dict(self.text.constants))
        return triton.compile(source, target=target, options={"enable_fp_fusion": False})


def _type(value: Any) -> str:
    if isinstance(value, Tensor):
        return _POINTERS[value.dtype]
    return "i64" if isinstance(value, int) and value.bit_length() > 31 else "i32"


_made: dict[Any, Any] = {}


def function(source: str, name: str, jit: Callable[..., Any]) -> Any:
    """The function `name` of `source`, its functions decorated by `jit`; the same source is read once."""
    key = source, name, jit, interpreted()
    if key not in _made:
        digest = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
        file = f"<neurosim {name} {digest}>"
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # where Triton looks for it
        scope: dict[str, Any] = {"tl": tl, "jit": jit, "__name__": __name__}
        exec(compile(source, file, "exec"), scope)
        _made[key] = scope[name]
    return _made[key]


def blocks(count: int, block: int) -> tuple[int]:
    """Programs for `count` elements."""
    return (max(1, -(-count // block)),)


__all__ = ["Kernel", "Mapping", "Text", "blocks", "check", "interpreted"]
