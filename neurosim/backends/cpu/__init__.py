"""The CPU backend; see `simulator.py`."""

from neurosim.backends.cpu.simulator import Cpu

__all__ = ["Cpu"]
