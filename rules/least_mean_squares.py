"""Least mean squares: a readout that follows its target, corrected in every time step (Widrow, Hoff 1960).

    dw_ij = lr * error_i * slope_i * r_j,      error = target - output,

with r_j the activity of the reservoir as it arrives and slope_i = 1 for a linear readout without memory. The error is a
population, and arrives at the port `feedback` of the readout. In a step in which r is large, w moves so far that the
output comes lr |r|^2 of the way to its target: 0 < lr |r|^2 < 2 is the condition for it to get nearer.

B. Widrow, M. Hoff, "Adaptive switching circuits", IRE WESCON Convention Record 4 (1960). As the readout of a reservoir:
H. Jaeger, H. Haas, "Harnessing nonlinearity", Science 304 (2004), doi 10.1126/science.1091277.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.network import Network
from neurosim.scheme import attach, split
from neurosim.transform import Rate
from neurosim.wiring import with_error

from .delta import output_rule, readout_field


@dataclass(frozen=True)
class LeastMeanSquares:
    """See the module. The projections to the output learn, all others stay as they are.

    `lr` per step and unit of activity squared; `tau_trace` (ms): spikes are read out by their low-pass trace; `loss`
    mse (the output itself is compared with the target) | cross_entropy (its softmax).
    """

    lr: float = 1e-3
    tau_trace: float = 20.0
    loss: str = "mse"
    layers: tuple[str, ...] | None = None

    def __call__(self, network: Network) -> Network:
        _, outputs = split(network, self.layers)
        network = with_error(network, self.loss, output=readout_field(network))
        return attach(
            network,
            tuple(p.name for p in outputs),
            lambda p: output_rule(network, p, self.tau_trace, (Rate(self.lr),), when="step"),
        )
