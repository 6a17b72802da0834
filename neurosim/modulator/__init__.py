"""The third factor of a rule."""

from neurosim.modulator.base import Broadcast, Feedback, Memory, Modulator, Shuffled, Unmodulated, View
from neurosim.modulator.hsic import HSIC

__all__ = ["HSIC", "Broadcast", "Feedback", "Memory", "Modulator", "Shuffled", "Unmodulated", "View"]
