"""Back-propagation of the error (Rumelhart, Hinton, Williams 1986), as wiring: the baseline of every local rule.

    dw_ij = lr m_i slope_i pre_j,    m_i = sum_k w_ki delta_k,    delta_k = slope_k m_k,

with m = target - prediction at the top. Each step's error goes down in that step; nothing goes back in time (that is
`bptt`). On static rate units this is the exact gradient of the loss; on leaky units it leaves out the paths through
earlier steps. Not local: the feedback weights are tied to the forward weights (`tied=(projection, "transpose")`).

D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by back-propagating errors", Nature 323 (1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.network import Network, Projection
from neurosim.scheme import chosen

from .feedback_wiring import ErrorDriven, tied_back


@dataclass(frozen=True)
class Backprop(ErrorDriven):
    """See the module; the parameters are those of `ErrorDriven`."""

    local: ClassVar[bool] = False
    title: ClassVar[str] = "backprop"

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        return self.teach(self.with_errors(network, taught, _transposed), taught)


def _transposed(projection: Projection, pre: str, post: str) -> Projection:
    return tied_back(projection, pre, post, "transpose")
