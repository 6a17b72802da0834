"""The learning schemes that the package has, found by reading its folder `rules/`."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import neurosim.configs
import neurosim.rules

RULES = Path(str(neurosim.rules.__file__)).parent
CONFIGS = Path(str(neurosim.configs.__file__)).parent


def schemes() -> dict[str, type[Any]]:
    """Class name -> class, of every dataclass with `__call__` that a file of `rules/` defines."""
    found: dict[str, type[Any]] = {}
    for path in sorted(RULES.glob("*.py")):
        if path.stem == "__init__":
            continue
        module = importlib.import_module(f"neurosim.rules.{path.stem}")
        for name, value in vars(module).items():
            own = inspect.isclass(value) and value.__module__ == module.__name__
            if own and is_dataclass(value) and "__call__" in vars(value):
                assert name not in found, f"two rules are named {name}"
                found[name] = value
    return found
