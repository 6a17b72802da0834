"""Kolen-Pollack feedback (Kolen, Pollack 1994; Akrout et al. 2019): feedback weights learn as the forward ones do.

    dw_kj = lr delta_k pre_j - decay w_kj,    delta_k = slope_k m_k,
    dB_jk = lr pre_j delta_k - decay B_jk,    m_j = sum_k B_jk delta_k

Both synapses see the same two factors, one as post and pre, the other as pre and post. What they differ in at the
start dies out by (1 - decay) with every update, so B becomes the transpose of w, and nothing is tied. A feedback
synapse ends at an error neuron that gets a copy of the activity of the neuron it serves; its rule is of the two ends
only.

J. F. Kolen, J. B. Pollack, "Backpropagation without weight transport", ICNN 1994; M. Akrout, C. Wilson,
P. C. Humphreys, T. Lillicrap, D. Tweed, "Deep learning without weight transport", NeurIPS 2019, arXiv 1904.05391.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.connectivity import OneToOne
from neurosim.factor import Factor, Trace, post, pre
from neurosim.modulator import Unmodulated
from neurosim.network import Network, Projection
from neurosim.random import LecunNormal
from neurosim.rule import Term
from neurosim.scheme import attach, chosen
from neurosim.transform import WeightDecay
from neurosim.types import ConfigurationError

from .feedback_wiring import ErrorDriven, back_of, error_of


@dataclass(frozen=True)
class KolenPollack(ErrorDriven):
    """See the module. `decay` of both weights with every update; `scale`: B starts with standard deviation scale /
    sqrt(number of units that send the error); the other parameters are those of `ErrorDriven`.
    """

    decay: float = 1e-3
    scale: float = 1.0

    title: ClassVar[str] = "kolen_pollack"

    def transforms(self) -> tuple[Any, ...]:
        return (*super().transforms(), WeightDecay(self.decay))

    def _start(self, projection: Projection, pre: str, post: str) -> Projection:
        return Projection(pre, post, LecunNormal(self.scale), delay=0, name=back_of(projection))

    def _activity(self, network: Network, projection: Projection) -> Factor:
        """The copy of what a forward synapse reads at its pre end, at the post end of the feedback synapse."""
        copy = post("feedback")
        return Trace(copy, self.tau_trace, "mean") if network.sent(projection) == "spike" else copy

    def _learned(self, network: Network, forward: Projection) -> Network:
        """The feedback projection against `forward` with its rule, and a copy of the activity for it."""
        if forward.connectivity.kind != "dense":
            kind = forward.connectivity.kind
            raise ConfigurationError(f"kolen_pollack needs dense projections, but {forward.name!r} is {kind}")
        copy = Projection(
            forward.pre, error_of(forward.pre), 1.0, OneToOne(), "feedback", forward.output, forward.delay
        )
        for other in network.projections:
            if other.name == copy.name and (other.output, other.delay) != (copy.output, copy.delay):
                raise ConfigurationError(
                    f"projections from {forward.pre!r} send different fields or have different delays; "
                    "kolen_pollack needs one for all"
                )
        rule = self.rule(Term(self._activity(network, forward), pre("rate")), Unmodulated())
        return attach(network.with_parts(projections=(copy,)), (back_of(forward),), lambda _: rule)

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        wired = self.with_errors(network, taught, self._start)
        for projection in taught:
            if wired.has(error_of(projection.pre)):
                wired = self._learned(wired, projection)
        return self.teach(wired, taught)
