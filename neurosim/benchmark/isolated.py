"""Contenders in processes of their own, so that packages do not disturb each other and each has a peak of memory.

The processes are forked from one that has done nothing but load this package (Python's "forkserver"): no thread pool of
a measurement is copied, and the peak of a process is its own. They stay in the process group of the caller and do
nothing until they are asked for the next repeat.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from neurosim.benchmark.measure import Contender, Failed, Sample
from neurosim.benchmark.work import Work
from neurosim.types import ConfigurationError

CONTEXT = multiprocessing.get_context("forkserver")
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Recipe:
    """How a process of its own makes the contender `name`: `function(*arguments)` of the module `module` gives it, or
    several, of which the one with this name is taken.

    `threads` is the number of threads of torch and of all that asks OMP_NUM_THREADS when it is loaded.
    """

    name: str
    module: str
    function: str
    arguments: tuple[Any, ...] = ()
    own: bool = False
    threads: int = 1

    def make(self) -> Contender:
        made = getattr(importlib.import_module(self.module), self.function)(*self.arguments)
        for one in [made] if isinstance(made, Contender) else made:
            if isinstance(one, Contender) and (one is made or one.name == self.name):
                return one
        raise ConfigurationError(f"{self.module}.{self.function} makes no contender {self.name!r}")


def backend_of(work: Work, backend: str, threads: int = 1) -> Recipe:
    """A backend of this package at a work; what the work has computed so far is not sent along."""
    clean = replace(work)  # type: ignore[type-var]  # every work is a dataclass
    return Recipe(f"neurosim {backend}", __name__, "own", (clean, backend), True, threads)


def own(work: Work, backend: str) -> Contender:
    return work.own(backend)


def nothing() -> Contender:
    """A contender that does nothing: its peak is that of the packages alone."""
    return Contender("nothing", lambda: Sample(0.0, 0.0, {}))


def peak() -> float:
    """The most memory this process has had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


@contextmanager
def apart(recipes: list[Recipe]) -> Iterator[list[Contender]]:
    """Contenders that work in processes of their own, until the block ends."""
    CONTEXT.set_forkserver_preload([__name__])
    with ExitStack() as stack:
        yield [stack.enter_context(_process(recipe)) for recipe in recipes]


@contextmanager
def _process(recipe: Recipe) -> Iterator[Contender]:
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_serve, args=(there, recipe), daemon=True)
    process.start()
    there.close()

    def sample() -> Sample:
        try:
            here.send(True)
            answer = here.recv()
        except (EOFError, OSError):
            process.join()
            raise Failed(f"its process ended with code {process.exitcode}") from None
        if isinstance(answer, str):
            raise Failed(answer)
        return Sample(*answer)

    try:
        yield Contender(recipe.name, sample, recipe.own)
    finally:
        here.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(connection: Connection, recipe: Recipe) -> None:
    """Answer each request with a sample (its peak is that of this process unless it has one already) or a reason."""
    os.environ[THREADS] = str(recipe.threads)
    torch.set_num_threads(recipe.threads)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # simulators greet on stdout
    contender: Contender | None = None
    while True:
        try:
            connection.recv()
        except (EOFError, OSError):
            return
        try:
            contender = contender or recipe.make()
            sample = contender.sample()
            answer: Any = tuple(sample if sample.peak == sample.peak else sample._replace(peak=peak()))
        except Exception as error:
            answer = f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
        connection.send(answer)
