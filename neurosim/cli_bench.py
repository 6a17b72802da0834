"""`bench`: how fast the backends of this package are, here and now."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neurosim.backends import BACKENDS
from neurosim.benchmark import GPU, HEAD, LARGE, WORKS, Measured, apart, backend_of, lines, measure, usual, work
from neurosim.cli_errors import unknown
from neurosim.cli_show import table
from neurosim.types import ConfigurationError

BENCH = f"""\
usage: python -m neurosim bench [name ...] [backend=cpu] [repeats=5] [threads=1] [size=full|small]

Times the backends (backend=cpu,reference: one after the other, in turn, each in a process of its own) at works whose
results are known, and says what the machine could do at best. Medians of the repeats; the first run of each is not
counted; ratios are of CPU time with one thread, else of time by the clock. A row whose results are wrong is void. Peak
MB is the most resident memory of the process. size=small shows that it runs, not how fast. Beside other simulators:
benchmarks/compare.py in the repository.

names: {", ".join(WORKS)} (none: all but the large {", ".join(LARGE)})"""

DEFAULTS = {"backend": "cpu", "repeats": "5", "threads": "1", "size": "full"}


def bench(words: Sequence[str]) -> int:
    """Measure and print; 1 if a row is void."""
    names = [word for word in words if "=" not in word] or usual()
    for name in names:
        if name in GPU:
            raise ConfigurationError(f"benchmark {name!r} ({GPU[name]}) needs a GPU; bench runs on the CPU")
        if name not in WORKS:
            raise ConfigurationError(unknown("benchmark", name, list(WORKS)))
    given = dict(word.split("=", 1) for word in words if "=" in word)
    for key in given:
        if key not in DEFAULTS:
            raise ConfigurationError(unknown("setting of bench", key, list(DEFAULTS)))
    settings = {**DEFAULTS, **given}
    repeats, threads = (_count(key, settings[key]) for key in ("repeats", "threads"))
    if settings["size"] not in ("full", "small"):
        raise ConfigurationError(f"size is {settings['size']!r}; allowed: full, small")
    backends = settings["backend"].split(",")
    for backend in backends:
        if backend not in BACKENDS:
            raise ConfigurationError(unknown("backend", backend, list(BACKENDS)))
    torch.set_num_threads(threads)
    return _measure(names, backends, repeats, threads, settings["size"] == "small")


def _count(key: str, value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise ConfigurationError(f"{key} is {value!r}; it must be a whole number of at least 1")
    return int(value)


def _measure(names: Sequence[str], backends: Sequence[str], repeats: int, threads: int, small: bool) -> int:
    rows: list[Sequence[str]] = [HEAD]
    void = False
    for name in names:
        one = work(name, small)
        with apart([backend_of(one, backend, threads) for backend in backends]) as contenders:
            found = measure(contenders, one.checks, repeats)
        measured = Measured(name, one, found, one.limit(), clock="cpu" if threads == 1 else "wall")
        rows += lines(name, measured.json())
        void = void or any(row.void for row in measured.rows)
    for line in table(rows):
        print(line)
    return int(void)
