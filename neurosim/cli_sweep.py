"""`run -m`: Hydra's own sweeper takes `key=a,b` apart; every combination is a run of its own.

Hydra sees plain keys only (`rule.lr` as `key_rule_lr`), because a rule expression must be resolved before a
configuration is composed: that happens in each job.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table

from neurosim.cli_build import experiment, screen
from neurosim.cli_config import GROUPS, HOW, composed, take_apart
from neurosim.cli_errors import one_line
from neurosim.cli_parts import PARTS
from neurosim.cli_run import ROOT, forget, numbered, run, shown
from neurosim.run_loop import Result
from neurosim.types import ConfigurationError

QUIET = (
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.sweep.subdir=${hydra.job.num}",
)
NAMES = (*GROUPS, *PARTS, "experiment")
OWN = ("folder", "resume", "overwrite")


class Stop(BaseException):
    """Carries a job's exception past Hydra, which would print and swallow it."""

    def __init__(self, cause: BaseException):
        super().__init__(str(cause))
        self.cause = cause


def sweep(arguments: Sequence[str]) -> None:
    """Run every combination of the values that `arguments` list."""
    keys, encoded = _encode(arguments)
    own_folder = not any(argument.startswith("hydra.sweep.dir=") for argument in arguments)
    parent = numbered(ROOT / "sweep") if own_folder else None
    words = [*QUIET, *encoded, *([f"hydra.sweep.dir={parent}"] if parent is not None else [])]
    jobs: list[list[str]] = []
    try:
        if not any(argument.startswith("hydra/") for argument in arguments):  # another sweeper wants results
            _hydra(words, lambda job, _: jobs.append(_checked(job)), keys)
        done: list[tuple[list[str], Result]] = []
        _hydra(words, lambda job, folder: _job(job, folder, jobs, done), keys)
    finally:
        if parent is not None and not any(parent.glob("*/config.yaml")):
            shutil.rmtree(parent, ignore_errors=True)
            forget(parent.parent)
    if not _quiet(arguments):
        Console(soft_wrap=True).print(_table(done))


def _encode(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Overrides in Hydra's sight, and what their keys mean."""
    keys: dict[str, str] = {}
    encoded = []
    for argument in arguments:
        if argument.startswith("hydra"):
            encoded.append(argument)
            continue
        sign, key, value = take_apart(argument)
        if key in OWN:
            raise ConfigurationError(
                f"{key}= does not work with -m: every job has a folder of its own, below hydra.sweep.dir=<folder>"
            )
        # A prefix, because Hydra takes a folder of the package, such as `neuron`, for a group of configurations.
        plain = "key_" + "".join(letter if letter.isalnum() else "_" for letter in key)
        if plain in keys:
            raise ConfigurationError(f"{key} is given twice: {keys[plain]} and {argument}")
        keys[plain] = sign + key
        encoded.append(f"+{plain}{value}")
    return keys, encoded


def _checked(job: list[str]) -> list[str]:
    """A job's words, once it is known that they fit together: a sweep must not break off in the night."""
    made = composed(job)
    screen(made.config)
    experiment(made.config)
    return job


def _job(job: list[str], folder: Path, jobs: list[list[str]], done: list[tuple[list[str], Result]]) -> float:
    if not _quiet(job):
        of = f" of {len(jobs)}" if jobs else ""
        print(f"job {len(done) + 1}{of}: {' '.join(job)}", flush=True)
    result = run(job, folder)
    varying = [word for word in job if any(word not in other for other in jobs)] or job
    done.append((varying, result))
    return result.summary("validation")[0]


def _quiet(words: Sequence[str]) -> bool:
    return any(word.lower() == "quiet=true" for word in words)  # Hydra writes True


def _table(done: Sequence[tuple[list[str], Result]]) -> Table:
    table = Table(title=f"{len(done)} jobs, accuracy in % with 95 % interval over replicas")
    for heading in ("job", "validation", "test", "folder"):
        table.add_column(heading, overflow="fold")
    for words, result in done:
        cells = []
        for split in ("validation", "test"):
            mean, half, _ = result.summary(split)
            cells.append(f"{100 * mean:.2f}" + (f" ± {100 * half:.2f}" if half == half else ""))
        table.add_row(" ".join(words), *cells, shown(result.folder))
    return table


def _hydra(words: Sequence[str], action: Callable[[list[str], Path], Any], keys: dict[str, str]) -> None:
    """Hydra's main on a command line; `action(job's words, job's folder)` is the job."""

    def job(_: Any) -> Any:
        config = HydraConfig.get()
        own = [_decoded(word, keys) for word in config.overrides.task]
        try:
            return action(own, Path(config.runtime.output_dir))
        except BaseException as error:
            raise Stop(error) from error

    GlobalHydra.instance().clear()
    with _process(["neurosim", "--multirun", *words]):
        try:
            hydra.main(version_base="1.3", config_path=None)(job)()
        except Stop as stop:
            raise stop.cause from None
        except HydraException as error:
            raise ConfigurationError(
                f"the sweep cannot be read ({one_line(error)}); {HOW}, and several values as epochs=1,2"
            ) from error
        finally:
            GlobalHydra.instance().clear()


def _decoded(word: str, keys: dict[str, str]) -> str:
    plain, _, value = word.lstrip("+").partition("=")
    key = keys[plain]
    # Hydra escapes what it splits: `layered\:a/b`. Names have nothing to escape.
    return f"{key}={value.replace(chr(92), '')}" if key in NAMES else f"{key}={value}"


@contextmanager
def _process(argv: list[str]) -> Iterator[None]:
    """What Hydra's main reads from the process: its arguments, and that exceptions are wanted as they are."""
    old_argv, old_wish = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = old_argv
        if old_wish is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = old_wish
