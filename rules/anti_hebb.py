"""Anti-Hebbian learning (Földiák 1990): what fires together loses its connection.

    dw_ij = - lr z_i x_j,     z the activity of the post neuron, x what arrives

On lateral connections it takes correlations away; on feed-forward ones it drives weights down without limit, unless
`row_norm` holds them. All else is as in `neurosim.rules.hebb`.

P. Földiák, "Forming sparse representations by local anti-Hebbian learning", Biol. Cybern. 64 (1990), doi
10.1007/BF02331346.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.network import Network

from .hebb import Hebb


@dataclass(frozen=True)
class AntiHebb(Hebb):
    """See the module; the parameters are those of Hebb."""

    title: ClassVar[str] = "anti_hebb"
    sign: ClassVar[float] = -1.0

    def __call__(self, network: Network) -> Network:
        return self.taught(network)
