"""What a rule's own file says about it: its equation and where it comes from."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

YEAR = re.compile(r"\b(1[89]|20)\d\d\b")


def paragraphs(scheme: Any) -> Iterator[str]:
    """The paragraphs of the docstring of the module that a scheme is from, with their line breaks."""
    text = inspect.cleandoc(sys.modules[type(scheme).__module__].__doc__ or "")
    yield from (part for part in text.split("\n\n") if part.strip())


def equations(scheme: Any) -> tuple[str, ...]:
    """The lines of the equations before the paper in the docstring; what the rule does, where there are none."""
    found = list(paragraphs(scheme))
    lines = [line for part in found if part.startswith("    ") for line in part.splitlines()]
    if lines:
        return tuple(re.sub(r" {2,}", "   ", line.strip().rstrip(",;")) for line in lines)
    return (one_line(found[0]) if found else "",)


def source(scheme: Any) -> str:
    """The last paragraph with a year in it: the paper."""
    dated = [part for part in paragraphs(scheme) if YEAR.search(part) and not part.startswith("    ")]
    return one_line(dated[-1]) if dated else "no paper: a control, or a baseline of this package"


def one_line(text: str) -> str:
    return " ".join(text.split())
