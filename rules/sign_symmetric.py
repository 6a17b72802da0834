"""Sign-symmetric feedback (Liao, Leibo, Poggio 2016): feedback has the forward weights' signs, not their sizes.

    dw_ij = lr m_i slope_i pre_j,    m_i = sum_k B_ik delta_k,    delta_k = slope_k m_k,    B_ik = |B_ik| sign(w_ki)

`size` "uniform" has |B| = scale sqrt(2 / (units of both layers)), "random" the sizes of a normal distribution, drawn
once. Not local: one bit per weight has to get from the forward synapse to the feedback synapse
(`tied=(projection, "sign")`).

Q. Liao, J. Z. Leibo, T. Poggio, "How important is weight symmetry in backpropagation?", AAAI 2016, arXiv 1510.05067.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from neurosim.network import Network, Projection
from neurosim.random import LecunNormal
from neurosim.scheme import chosen
from neurosim.types import choice, positive

from .feedback_wiring import ErrorDriven, tied_back


@dataclass(frozen=True)
class SignSymmetric(ErrorDriven):
    """See the module. `size` uniform | random; `scale` of |B| (random: before the absolute value, standard deviation
    scale / sqrt(number of units that send the error)); the other parameters are those of `ErrorDriven`.
    """

    size: str = "uniform"
    scale: float = 1.0

    local: ClassVar[bool] = False
    title: ClassVar[str] = "sign_symmetric"

    def _sizes(self, pres: int, posts: int) -> Any:
        positive(self.scale, "scale")
        if choice(self.size, ("uniform", "random"), "size") == "random":
            return LecunNormal(self.scale)
        return self.scale * sqrt(2.0 / (pres + posts))

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)

        def signed(projection: Projection, pre: str, post: str) -> Projection:
            sizes = self._sizes(network[projection.pre].units, network[projection.post].units)
            return tied_back(projection, pre, post, "sign", sizes)

        return self.teach(self.with_errors(network, taught, signed), taught)
