"""`run`: a new run in a folder of its own, or one that goes on from its checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from neurosim.cli_build import Screen, experiment, screen
from neurosim.cli_config import GROUPS, Composed, composed, parse
from neurosim.cli_parts import PARTS as PARTS_OF_NETWORK
from neurosim.experiment import Experiment
from neurosim.memory import size
from neurosim.run_figures import plot
from neurosim.run_folder import open_run
from neurosim.run_loop import Interrupted, Result, RunLoop
from neurosim.types import ConfigurationError

ROOT = Path("runs")
# What a run puts into its folder.
PARTS = ("config.yaml", "metrics.csv", "credit.csv", "checkpoint.npz", "result.json", "trace.h5", "trace", "figures")
ASIDE = ".before"  # where an overwritten run waits until the new one has learned something
CONTINUED = (
    "epochs",
    "backend.dtype",
    "backend.device",
    "backend.name",
    "figures",
    "quiet",
)  # may stand beside resume=


def run(arguments: Sequence[str], folder: Path | None = None) -> Result:
    """Carry out `run <arguments>`; `folder` stands in for the numbered default."""
    for index, argument in enumerate(arguments):
        if argument.partition("=")[0] == "resume":
            return _resume(argument.partition("=")[2], [*arguments[:index], *arguments[index + 1 :]])
    made = composed(arguments)
    asked = screen(made.config)
    wanted = experiment(made.config)
    torch.set_num_threads(asked.threads)
    target = _target(asked, made, folder)
    numbers = asked.folder is None and folder is None
    console = None if asked.quiet else Console(soft_wrap=True)
    loop = RunLoop(wanted, target, made.text, console, False)  # what cannot run is told here, without a folder
    loop.folder = numbered(target) if numbers else _claimed(target)
    try:
        result = _carry_out(loop, wanted, made)
    except Exception as error:
        if not _has_learned(loop) and not isinstance(error, Interrupted):
            _give_back(loop.folder)  # what does not get to learning leaves nothing behind
            if numbers:
                forget(target)
        raise
    finally:
        shutil.rmtree(loop.folder / ASIDE, ignore_errors=True)
    return _shown_result(result, asked, console)


def _carry_out(loop: RunLoop, wanted: Experiment, made: Composed, resume: bool = False) -> Result:
    _check_end(loop)
    if loop.console is not None:
        loop.console.print(_headline(made, wanted, loop, resume), highlight=False, markup=False)
    return loop.run()


def _shown_result(result: Result, asked: Screen, console: Console | None) -> Result:
    if asked.figures:
        plot(result.folder)
    if console is not None:
        console.print(f"results in {shown(result.folder)}", highlight=False, markup=False)
    return result


def _has_learned(loop: RunLoop) -> bool:
    return loop.epoch > 1 or loop.presentation > 0


def _check_end(loop: RunLoop) -> None:
    done, epochs = loop.epoch - 1, loop.experiment.epochs
    if done > epochs:
        raise ConfigurationError(f"epochs is {epochs}, but the run in {shown(loop.folder)} has done {done}; give more")


WORDS = ("rule", "network", "neuron", "output_neuron", "input_neuron", "lateral")


def _headline(made: Composed, wanted: Experiment, loop: RunLoop, resume: bool) -> str:
    names = made.names
    parts = [
        ", ".join([names["task"], *(f"{word} {names[word]}" for word in WORDS if word in names)]),
        f"backend {wanted.backend} ({wanted.dtype}, {wanted.device})",
        f"{many(wanted.replicas, 'replica')}, {many(wanted.epochs, 'epoch')} of {many(loop.per_epoch, 'presentation')}",
        f"trace up to {size(loop.planned())}",
    ]
    start = f"going on in epoch {loop.epoch} of {shown(loop.folder)}: " if resume else ""
    return start + "; ".join(parts)


def many(count: int, what: str) -> str:
    """A count with its noun."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def shown(folder: Path) -> str:
    """A path as short as can be: relative where it lies below the current folder."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_absolute() and folder.is_relative_to(here) else folder)


# ---- the folder ------------------------------------------------------------------------------------------------------


def _target(asked: Screen, made: Composed, folder: Path | None) -> Path:
    """The folder of the run, or the one that is to hold its number; nothing is made yet."""
    if asked.folder is None and folder is None:
        chosen = (made.names[part] for part in ("network", *PARTS_OF_NETWORK) if part in made.names)
        return ROOT / "-".join((made.names["task"], _safe(made.names["rule"]), *chosen))
    target = Path(asked.folder) if asked.folder is not None else folder
    assert target is not None
    if target.exists() and not target.is_dir():
        raise ConfigurationError(f"folder {target} is a file; give a folder for the results")
    if _holds_something(target):
        if not (target / "config.yaml").is_file():
            raise ConfigurationError(f"folder {target} is not empty and holds no run; give another folder")
        if not asked.overwrite:
            raise ConfigurationError(
                f"folder {target} holds a run already; give another one, or overwrite=true to delete it"
            )
    return target


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _claimed(target: Path) -> Path:
    """The folder, empty."""
    if _holds_something(target):
        _set_aside(target)
    target.mkdir(parents=True, exist_ok=True)
    return target


def forget(parent: Path) -> None:
    """Take away the folders that held a number, up to `runs`, as far as they are empty."""
    for folder in (parent, *parent.parents):
        if folder == Path():
            return
        with suppress(OSError):
            folder.rmdir()


def _set_aside(folder: Path) -> None:
    """Put an old run away until it is sure that the new one works."""
    aside = folder / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for name in PARTS:
        if (folder / name).exists():
            (folder / name).rename(aside / name)


def _give_back(folder: Path) -> None:
    """Take away what a failed run left, and bring back the old run, if there was one."""
    for name in PARTS:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if (folder / ASIDE).is_dir():
        for path in (folder / ASIDE).iterdir():
            path.rename(folder / path.name)
    else:
        with suppress(OSError):  # somebody else's file is in it: not ours to take away
            folder.rmdir()


def _safe(text: str) -> str:
    return text.replace(":", "-").replace("/", "-")


def numbered(parent: Path) -> Path:
    """The next free number in `parent`; made at once, so that two runs never share one."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0)
    while True:
        try:
            (parent / str(number)).mkdir()
            return parent / str(number)
        except FileExistsError:
            number += 1


# ---- resume ----------------------------------------------------------------------------------------------------------


def _resume(name: str, arguments: Sequence[str]) -> Result:
    if not name:
        raise ConfigurationError("resume= has no value; give a run's folder, as in resume=runs/xor-biohsic-layered/1")
    folder = Path(name)
    saved = {key: value for key, value in open_run(folder).config.items() if key != "quiet"}
    made = _continued(saved, arguments)
    asked = screen(made.config)
    wanted = experiment(made.config)
    torch.set_num_threads(asked.threads)
    console = None if asked.quiet else Console(soft_wrap=True)
    loop = RunLoop(wanted, folder, made.text, console, True)
    try:
        result = _carry_out(loop, wanted, made, resume=True)
    finally:
        shutil.rmtree(folder / ASIDE, ignore_errors=True)
    return _shown_result(result, asked, console)


def _continued(saved: dict[str, Any], arguments: Sequence[str]) -> Composed:
    """The saved configuration with the few settings that may change; ConfigurationError for any other."""
    words = parse(arguments)
    keys = [
        *(["rule"] if words.rule is not None else []),
        *(["experiment"] if words.experiment else []),
        *words.groups,
        *words.parts,
    ]
    config = OmegaConf.create(saved)
    for sign, key, value in words.settings:
        if sign or key not in CONTINUED:
            keys.append(key)
        else:
            OmegaConf.update(config, key, OmegaConf.create(f"value: {value.removeprefix('=')}").value)
    if "backend" in keys:
        keys.remove("backend")
        OmegaConf.update(config, "backend.name", words.groups["backend"])
    if keys:
        raise ConfigurationError(
            f"{keys[0]} cannot change when a run goes on; beside resume= only epochs=, figures= and quiet= may be given"
        )
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    names = plain.get("names")
    if not isinstance(names, dict) or not set(GROUPS) <= set(names):
        raise ConfigurationError("the config.yaml of that folder is not one of a run: it does not name task and rule")
    return Composed({str(key): value for key, value in plain.items()}, names)
