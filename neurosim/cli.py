"""The command line: `python -m neurosim <verb> [key=value ...]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from neurosim import __version__
from neurosim.cli_bench import BENCH, bench
from neurosim.cli_certify import HELP, certify
from neurosim.cli_config import settings_text
from neurosim.cli_errors import sentence, unknown
from neurosim.cli_ledger import LEDGER, show_ledger
from neurosim.cli_list import KINDS, listing
from neurosim.cli_run import run
from neurosim.cli_show import show
from neurosim.cli_sweep import sweep
from neurosim.run_figures import plot
from neurosim.run_folder import open_run
from neurosim.run_loop import Interrupted
from neurosim.storage import export
from neurosim.types import ConfigurationError

USAGE = """\
usage: python -m neurosim <verb> [key=value ...]

  run      train and test a network      run task=xor rule=biohsic
  list     what there is                 list rules
  show     what run would build          show task=xor rule=biohsic
  certify  is a rule local?              certify rule=biohsic
  ledger   what learning costs           ledger task=xor rule=biohsic
  bench    how fast it is here           bench dense
  export   the trace as one file         export <run folder> target=trace.h5
  plot     the figures again             plot <run folder>

python -m neurosim <verb> --help says more about a verb; --version gives the version."""

RUN = """\
usage: python -m neurosim run task=<name> rule=<name> [key=value ...]
       python -m neurosim run experiment=<name> [key=value ...]
       python -m neurosim run resume=<run folder> [epochs=<more>]
       python -m neurosim run -m task=<name> rule=<name>,<name> seed=0,1 ...     every combination

rule=a+b lets one rule act after the other, rule=layered:a/b gives the last layer the second rule. A setting of a rule
is rule.<name>.<key>, with one rule also rule.<key>. `list` shows names, `show` all settings of a run. Ctrl-C saves.

Also by name: network, encoder, decoder, backend, probe, and of the network's parts neuron, output_neuron, input_neuron,
lateral (neuron=adex lateral=k_winners); dtype, device. Settings of every run:
"""
SHOW = """\
usage: python -m neurosim show task=<name> rule=<name> [key=value ...]

Prints what run with the same words would build."""
EXPORT = """\
usage: python -m neurosim export <run folder or trace file> target=<file> [overwrite=true]

The name of the file says what it becomes: .h5 (SONATA), .csv (spikes) or .npz (every array)."""
PLOT = "usage: python -m neurosim plot <run folder>\n\nDraws the figures of a run again, into its folder figures."
MULTIRUN = ("-m", "--multirun")


def _run(words: Sequence[str]) -> None:
    settings = [word for word in words if word not in MULTIRUN]
    _no_flags(settings)
    if len(settings) < len(words):
        sweep(settings)
    else:
        run(settings)


def _show(words: Sequence[str]) -> None:
    _no_flags(words)
    show(words)


def _certify(words: Sequence[str]) -> int:
    _no_flags(words)
    return certify(words)


def _ledger(words: Sequence[str]) -> None:
    _no_flags(words)
    show_ledger(words)


def _bench(words: Sequence[str]) -> int:
    _no_flags(words)
    return bench(words)


def _list(words: Sequence[str]) -> None:
    _no_flags(words)
    listing(words)


def _export(words: Sequence[str]) -> None:
    _no_flags(words)
    targets = [word.removeprefix("target=") for word in words if word.startswith("target=")]
    overwrite = [word.removeprefix("overwrite=") for word in words if word.startswith("overwrite=")]
    own = [word for word in words if not word.startswith(("target=", "overwrite="))]
    source = _folder("export", own, " target=<file>")
    if overwrite not in ([], ["true"], ["false"]):
        raise ConfigurationError(f"overwrite is {overwrite[-1]!r}; give it once, as true or false")
    if len(targets) != 1 or not targets[0]:
        raise ConfigurationError("export needs one target=<file> whose name ends in .h5, .csv or .npz")
    if source.is_dir():
        open_run(source)
    print(export(source, targets[0], overwrite=overwrite == ["true"]))


def _plot(words: Sequence[str]) -> None:
    _no_flags(words)
    folder = _folder("plot", words)
    open_run(folder)
    for path in plot(folder):
        print(path)


def _folder(verb: str, words: Sequence[str], more: str = "") -> Path:
    if len(words) != 1 or "=" in words[0]:
        given = f" it got {' '.join(words)!r};" if words else ""
        raise ConfigurationError(f"{verb} needs one run folder;{given} write {verb} <run folder>{more}")
    path = Path(words[0])
    if not path.exists():
        raise ConfigurationError(f"{path} does not exist; {verb} needs the folder of a run")
    return path


def _no_flags(words: Sequence[str]) -> None:
    for word in words:
        if word.startswith("-"):
            raise ConfigurationError(
                f"there is no option {word}; settings are key=value, options are --help and (for run) -m"
            )


VERBS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "run": _run,
    "list": _list,
    "show": _show,
    "export": _export,
    "plot": _plot,
    "certify": _certify,
    "ledger": _ledger,
    "bench": _bench,
}


def help_text(verb: str) -> str:
    """What `<verb> --help` prints."""
    listed = f"usage: python -m neurosim list [{'|'.join(KINDS)}] ...\n\nOne line for each; without a word, all."
    texts = {"list": listed, "show": SHOW, "certify": HELP, "ledger": LEDGER, "bench": BENCH}
    texts |= {"export": EXPORT, "plot": PLOT}
    return {"run": RUN + settings_text(), **texts}[verb]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code: 0, 1 if `certify` rejects a rule or a row of `bench` is void,
    2 for bad input, 128 + n after signal n.

    Bad input is one sentence on stderr; any other exception is a bug and keeps its traceback.
    """
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader went away (`list | head`): nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        said = sentence(error)
        if said is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return 2


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
    elif words[0] == "--version":
        print(f"neurosim {__version__}")
    elif words[0] not in VERBS:
        raise ConfigurationError(unknown("verb", words[0], list(VERBS)))
    elif {"-h", "--help"} & set(words[1:]):
        print(help_text(words[0]))
    else:
        return VERBS[words[0]](words[1:]) or 0
    return 0
