"""How fast the backends are: works with known results, measured side by side; see `measure.py`."""

from neurosim.benchmark.isolated import Recipe, apart, backend_of
from neurosim.benchmark.measure import Check, Contender, Failed, Row, Sample, in_process, measure, void_reason
from neurosim.benchmark.report import HEAD, Entry, Measured, lines, markdown
from neurosim.benchmark.work import Work
from neurosim.benchmark.works import GPU, LARGE, WORKS, usual, work

__all__ = [
    "GPU", "HEAD", "LARGE", "WORKS", "Check", "Contender", "Entry", "Failed", "Measured", "Recipe", "Row", "Sample",
    "Work", "apart", "backend_of", "in_process", "lines", "markdown", "measure", "usual", "void_reason", "work",
]  # fmt: skip
