"""Spikes over sparse edges: the neurons that spiked are listed, and each adds its row of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurosim.backends.resolve import Synapses
from neurosim.backends.triton.delivery import Delivery

if TYPE_CHECKING:
    from neurosim.backends.triton.build import Builder


class EdgeDelivery(Delivery):
    @staticmethod
    def serves(builder: Builder, synapses: Synapses) -> bool:
        return False
