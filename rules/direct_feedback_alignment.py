"""Direct feedback alignment (Nøkland 2016): the output error to every hidden layer, by fixed random weights.

    dw_ij = lr m_i slope_i pre_j,    m = B (target - prediction) in hidden layers, target - prediction at the output

No error passes through another hidden layer, so nothing below the output waits for what lies above it.

A. Nøkland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016, arXiv 1609.01596.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosim.network import Network, Projection
from neurosim.random import LecunNormal
from neurosim.scheme import chosen
from neurosim.wiring import ERROR, with_error

from .delta import readout_field
from .feedback_wiring import ErrorDriven, hidden_of, with_feedback


@dataclass(frozen=True)
class DirectFeedbackAlignment(ErrorDriven):
    """See the module. `scale`: B has standard deviation scale / sqrt(number of outputs); the other parameters are those
    of `ErrorDriven`.
    """

    scale: float = 1.0

    title: ClassVar[str] = "direct_feedback_alignment"

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        network = with_error(network, self.loss, readout_field(network))
        for name in hidden_of(network, taught):
            wire = Projection(ERROR, name, LecunNormal(self.scale), port="feedback", delay=0, name=f"direct_{name}")
            network = with_feedback(network, wire)
        return self.teach(network, taught)
