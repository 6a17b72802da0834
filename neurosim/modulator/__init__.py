"""The third factor of a rule."""

from neurosim.modulator.base import Broadcast, Feedback, Memory, Modulator, Shuffled, Unmodulated, View
from neurosim.modulator.change import Decrease
from neurosim.modulator.hsic import HSIC
from neurosim.modulator.imitation import Success, Towards
from neurosim.modulator.least_squares import RecursiveLeastSquares

__all__ = [
    "HSIC",
    "Broadcast",
    "Decrease",
    "Feedback",
    "Memory",
    "Modulator",
    "RecursiveLeastSquares",
    "Shuffled",
    "Success",
    "Towards",
    "Unmodulated",
    "View",
]
