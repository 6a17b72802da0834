"""Populations, traces and rules as Triton kernels; see `simulator.py`."""

from neurosim.backends.triton.simulator import Triton

__all__ = ["Triton"]
