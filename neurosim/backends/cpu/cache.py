"""Compiled kernels, kept between processes: a file per kernel, found by the hash of all that it was made of.

numba's own file cache looks at a function's byte code and not at what its names were bound to, so a neuron with another
surrogate would get the old machine code. Here the key holds the kernel's text, the byte code, constants and names of
every function it calls, the words of the machine, the versions and the processor.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from neurosim.backends import elementary, words_numba
from neurosim.backends.cpu.machine import ARGUMENTS
from neurosim.surrogate import Surrogate
from neurosim.vocabulary import WORDS

FOLDER_VARIABLE = "NEUROSIM_CACHE"


def folder() -> Path:
    """Where compiled kernels are kept: NEUROSIM_CACHE, else `neurosim` in the user's cache folder."""
    given = os.environ.get(FOLDER_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(home) / "neurosim"


def fingerprint(function: Callable[..., Any]) -> str:
    """A hash of a step function's meaning: its code and, one by one, what its names and its closure are bound to."""
    return _hash(*_described(function, set()))


def _described(function: Any, seen: set[Any]) -> Iterator[str]:
    if function in seen:
        return
    seen.add(function)
    code = function.__code__
    yield repr((function.__qualname__, code.co_code, _plain(code.co_consts), code.co_names, code.co_varnames))
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    named = (function.__globals__[name] for name in code.co_names if name in function.__globals__)
    for value in (*cells, *named):
        if isinstance(value, FunctionType) and value not in WORDS:
            yield from _described(value, seen)
        else:
            yield repr(WORDS.get(value, value)) if isinstance(value, FunctionType) else repr(value)


def _plain(constants: tuple[Any, ...]) -> tuple[Any, ...]:
    """Constants of a code object without those that print an address."""
    return tuple(value for value in constants if not inspect.iscode(value))


def surrogate_fingerprint(surrogate: Surrogate | None) -> str:
    return "" if surrogate is None else _hash(fingerprint(surrogate.derivative), repr(surrogate.constants()))


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


_COMPILER: Any = CFunc  # its cache and its target are private, and nothing public does this


@cache
def _machine() -> str:
    """What decides the machine code besides the source."""
    here = Path(__file__).parent
    own = ("machine.py", "cache.py", "noise.py", "gather.py", "listed.py", "selection.py")
    sources = [Path(words_numba.__file__), Path(elementary.__file__), *(here / name for name in own)]
    return _hash(
        numba.__version__,
        sys.version,
        platform.machine(),
        repr(_COMPILER._targetdescr.target_context.codegen().magic_tuple()),
        *(source.read_text() for source in sources),
    )


class Shelf:
    """numba's cache protocol (`load_overload`, `save_overload`) for one kernel, by our key."""

    def __init__(self, key: str):
        self.path = folder() / f"{key}.kernel"

    def load_overload(self, signature: Any, target: Any) -> Any:
        target.refresh()
        try:
            return CompileResult._rebuild(target, *pickle.loads(self.path.read_bytes()))
        except Exception:  # nothing there, half a file, another numba: whatever it is, compiling again is right
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            part.write_bytes(dumps(result._reduce()))
            part.replace(self.path)  # two processes may compile the same kernel: the later one wins, whole
        except OSError:  # a full or read-only disk costs time at the next start, and nothing else
            return


class Compilations:
    """What compiling cost in this process, for `show` and the benchmark."""

    fresh = 0
    loaded = 0
    seconds = 0.0


_done: dict[str, Any] = {}


def compiled(text: str, bindings: dict[str, Any], parts: tuple[str, ...]) -> Any:
    """`kernel` of `text` as a C function of int64 only; `bindings` are its globals, described by `parts`."""
    key = _hash(_machine(), text, *parts)
    if key not in _done:
        started = time.perf_counter()
        scope = {"__name__": __name__, **bindings}  # a module that a later process can import again
        exec(compile(text, f"<kernel {key}>", "exec"), scope)
        made = _COMPILER(scope["kernel"], ((numba.int64,) * ARGUMENTS, numba.void), {}, {"error_model": "numpy"})
        made._cache = Shelf(key)
        made.compile()
        Compilations.fresh += not made._cache_hits
        Compilations.loaded += made._cache_hits
        Compilations.seconds += time.perf_counter() - started
        _done[key] = made
    return _done[key]
