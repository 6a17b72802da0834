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
from neurosim.experiment import Experiment, Interrupted, Result, RunLoop
from neurosim.run_figures import plot
from neurosim.run_folder import open_run
from neurosim.types import ConfigurationError

ROOT = Path("runs")
# What a run puts into its folder.
PARTS = ("config.yaml", "metrics.csv", "checkpoint.npz", "result.json", "trace.h5", "trace", "figures")
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
    target = _claim(asked, made, folder)
    return _carry_out(wanted, target, made, asked, resume=False)


def _carry_out(wanted: Experiment, target: Path, made: Composed, asked: Screen, resume: bool) -> Result:
    console = None if asked.quiet else Console(soft_wrap=True)
    loop = None
    try:
        loop = RunLoop(wanted, target, made.text, console, resume)
        _check_end(loop)
        if console is not None:
            console.print(_headline(made, wanted, loop, resume), highlight=False, markup=False)
        result = loop.run()
    except Exception as error:
        if not resume and (loop is None or not _has_learned(loop)) and not isinstance(error, Interrupted):
            _give_back(target)  # what cannot run at all leaves nothing behind
        raise
    finally:
        shutil.rmtree(target / ASIDE, ignore_errors=True)
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


def _headline(made: Composed, wanted: Experiment, loop: RunLoop, resume: bool) -> str:
    names = made.names
    parts = [
        f"{names['task']}, rule {names['rule']}, network {names['network']}",
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


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


# ---- the folder ------------------------------------------------------------------------------------------------------


def _claim(asked: Screen, made: Composed, folder: Path | None) -> Path:
    """An empty folder for the run: the one asked for, or the next free number."""
    if asked.folder is None and folder is None:
        names = made.names
        return numbered(ROOT / f"{names['task']}-{_safe(names['rule'])}-{names['network']}")
    target = Path(asked.folder) if asked.folder is not None else folder
    assert target is not None
    if target.exists() and not target.is_dir():
        raise ConfigurationError(f"folder {target} is a file; give a folder for the results")
    if target.is_dir() and any(target.iterdir()):
        if not (target / "config.yaml").is_file():
            raise ConfigurationError(f"folder {target} is not empty and holds no run; give another folder")
        if not asked.overwrite:
            raise ConfigurationError(
                f"folder {target} holds a run already; give another one, or overwrite=true to delete it"
            )
        _set_aside(target)
    target.mkdir(parents=True, exist_ok=True)
    return target


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
    saved = open_run(folder).config
    made = _continued(saved, arguments)
    asked = screen(made.config)
    wanted = experiment(made.config)
    torch.set_num_threads(asked.threads)
    return _carry_out(wanted, folder, made, asked, resume=True)


def _continued(saved: dict[str, Any], arguments: Sequence[str]) -> Composed:
    """The saved configuration with the few settings that may change; ConfigurationError for any other."""
    words = parse(arguments)
    keys = [*(["rule"] if words.rule is not None else []), *(["experiment"] if words.experiment else []), *words.groups]
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
