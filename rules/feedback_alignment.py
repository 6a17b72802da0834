"""Feedback alignment (Lillicrap, Cownden, Tweed, Akerman 2016): the error travels down through fixed random weights.

    dw_ij = lr m_i slope_i pre_j,    m_i = sum_k B_ik delta_k,    delta_k = slope_k m_k,

with m = target - prediction at the top, as in backprop; but B is drawn once and never changes, instead of the transpose
of the forward weights.

T. P. Lillicrap, D. Cownden, D. B. Tweed, C. J. Akerman, "Random synaptic feedback weights support error
backpropagation for deep learning", Nat. Commun. 7:13276 (2016), doi 10.1038/ncomms13276.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.network import Network, Projection
from neurosim.random import LecunNormal
from neurosim.scheme import chosen

from .feedback_wiring import ErrorDriven, back_of


@dataclass(frozen=True)
class FeedbackAlignment(ErrorDriven):
    """See the module. `scale`: B has standard deviation scale / sqrt(number of units that send the error); the other
    parameters are those of `ErrorDriven`.
    """

    scale: float = 1.0

    title: ClassVar[str] = "feedback_alignment"

    def _random(self, projection: Projection, pre: str, post: str) -> Projection:
        return Projection(pre, post, LecunNormal(self.scale), delay=0, name=back_of(projection))

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        return self.teach(self.with_errors(network, taught, self._random), taught)
