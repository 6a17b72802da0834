"""`list`: what there is, one line each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from neurosim import neuron
from neurosim.backends import BACKENDS
from neurosim.cli_config import names, source
from neurosim.cli_errors import one_line, unknown
from neurosim.cli_parts import content
from neurosim.types import ConfigurationError

SENTENCE_END = re.compile(r"(?<!et al)\. ")
Rows = list[tuple[str, str]]


def listing(arguments: Sequence[str]) -> None:
    """Print all kinds, or those named."""
    for word in arguments:
        if word not in KINDS:
            raise ConfigurationError(unknown("list of", word, list(KINDS)))
    chosen = arguments or list(KINDS)
    for position, kind in enumerate(chosen):
        if len(chosen) > 1:
            print(f"{'' if position == 0 else chr(10)}{kind}")
        rows = KINDS[kind]()
        width = max((len(name) for name, _ in rows), default=0)
        for name, line in rows:
            print(f"  {name.ljust(width)}  {line}".rstrip())


def _files(group: str) -> Callable[[], Rows]:
    return lambda: [(name, _headline(source(group, name))) for name in names(group)]


def _headline(text: str) -> str:
    """The first comment of a configuration file that says something; without one, what the file sets."""
    comments = (line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#"))
    keys = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    return next((comment for comment in comments if "@package" not in comment), f"sets {', '.join(keys)}")


def _neurons() -> Rows:
    """Those that can be chosen, by the name that chooses them; then those that only Python can place."""
    chosen = {content("neuron", source("neuron", name)).neuron._target_.rpartition(".")[2] for name in names("neuron")}
    others = [(name, f"{line[:-1]}; in Python.") for name, line in _classes() if name not in chosen]
    return [*_files("neuron")(), *others]


def _classes() -> Rows:
    found = {name: getattr(neuron, name) for name in neuron.__all__ if name != "Neuron"}
    models = {name: kind for name, kind in found.items() if inspect.isclass(kind) and hasattr(kind, "step")}
    return sorted((name, first_sentence(kind)) for name, kind in models.items())


def first_sentence(kind: type) -> str:
    """The first sentence of a class's docstring."""
    text = one_line((inspect.getdoc(kind) or "").split("\n\n")[0])
    return f"{SENTENCE_END.split(text)[0].rstrip('.')}."


KINDS: dict[str, Callable[[], Rows]] = {
    "tasks": _files("task"),
    "rules": _files("rule"),
    "networks": _files("network"),
    "neurons": _neurons,
    "output_neurons": _files("output_neuron"),
    "input_neurons": _files("input_neuron"),
    "laterals": _files("lateral"),
    "backends": lambda: list(BACKENDS.items()),
    "encoders": _files("encoder"),
    "decoders": _files("decoder"),
    "probes": _files("probe"),
    "presets": _files("preset"),
    "experiments": _files("experiment"),
}
