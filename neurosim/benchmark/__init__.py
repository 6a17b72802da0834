"""How fast the backends are: works with known results, measured side by side; see `measure.py`."""

from neurosim.benchmark.measure import Check, Contender, Row, in_process, measure, void_reason
from neurosim.benchmark.report import HEAD, Measured, lines, markdown
from neurosim.benchmark.work import Work
from neurosim.benchmark.works import WORKS, work

__all__ = [
    "HEAD", "WORKS", "Check", "Contender", "Measured", "Row", "Work", "in_process", "lines", "markdown", "measure",
    "void_reason", "work",
]  # fmt: skip
