"""Populations, traces and rules as Triton kernels; see `simulator.py`."""

from neurosim.backends.triton.simulator import Triton
from neurosim.backends.triton.source import check

__all__ = ["Triton", "check"]
