"""Reward-modulated Hebbian learning of a readout by exploration (Hoerzer, Legenstein, Maass 2014).

    dw_ij = lr M (z_i - mean z_i) r_j,       M = P - mean P   or   1 if P > mean P, else 0,
    P = -sum_i (target_i - z_i)^2,

z is the readout's rate with exploration noise on it, r_j the activity of the reservoir as it arrives, and the means are
low-pass traces: what the noise has just done to the output is reinforced if the performance has just become better.
No neuron is told its error: `performance` is a population of one neuron, driven by the squared errors, that arrives at
the port `feedback` of every readout neuron. With targets that are not given all the time, P is 0 where none is.

G. M. Hoerzer, R. Legenstein, W. Maass, "Emergence of complex computational structures from chaotic neural networks
through reward-modulated Hebbian learning", Cereb. Cortex 24 (2014), doi 10.1093/cercor/bhs348 (M of 0 or 1, noise
uniform in +-0.5, means over 5 ms, lr 5e-4 / (1 + t / 20 s), steps of 1 ms). Noise is normal here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurosim.connectivity import Dense, OneToOne
from neurosim.factor import Apply, Trace, post
from neurosim.modulator import Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import GatedRelay, NoiseSource, Relay
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach, split
from neurosim.transform import Annealed, Rate
from neurosim.types import choice, positive
from neurosim.vocabulary import heaviside
from neurosim.wiring import ERROR, compared, with_teaching

from .delta import pre_factor, readout_field

SQUARED, PERFORMANCE, EXPLORATION = "squared_error", "performance", "exploration"


def above(now: float, mean: float) -> float:
    """now - mean."""
    return now - mean


def is_above(now: float, mean: float) -> float:
    """1 where now > mean, else 0."""
    return 1.0 - heaviside(mean - now)  # type: ignore[no-any-return]


SUCCESS = {"graded": above, "binary": is_above}


def with_performance(network: Network, loss: str, output: str | None) -> Network:
    """Add `performance` = -sum error^2, one neuron that arrives at the port `feedback` of the output population."""
    network = compared(network, loss, output)
    size = network[network.output].units
    network = network.with_parts(
        populations=(Population(SQUARED, size, GatedRelay()), Population(PERFORMANCE, 1, Relay())),
        projections=(
            Projection(ERROR, SQUARED, 1.0, OneToOne(), delay=0),
            Projection(ERROR, SQUARED, 1.0, OneToOne(), port="gate", delay=0),
            Projection(SQUARED, PERFORMANCE, -1.0, Dense(), delay=0),
        ),
    )
    return with_teaching(network, Projection(PERFORMANCE, network.output, 1.0, Dense(), port="feedback", delay=0))


def with_exploration(network: Network, sd: float) -> Network:
    """Add white noise to the drive of the output population, which is silent when the network is tested."""
    wire = Projection(EXPLORATION, network.output, 1.0, OneToOne(), delay=0)
    network = network.with_parts(
        (Population(EXPLORATION, network[network.output].units, NoiseSource(std=sd)),),
        (wire,),
    )
    silent = tuple(dict.fromkeys((*network.test.silent, wire.name)))
    return network.with_trial(network.trial, replace(network.test, silent=silent))


@dataclass(frozen=True)
class RewardModulatedHebb:
    """See the module. The projections to the output learn, all others stay as they are.

    `lr` is the rate at the start, and falls as lr / (1 + k / half) with the k-th update (`half` None: it stays);
    `success` graded | binary; `exploration` is the standard deviation of the noise in each step (0: none); `tau_mean`
    (ms) of both means; `tau_trace` (ms): spikes are read out by their low-pass trace; `loss` mse | cross_entropy says
    what the target is compared with: the output or its softmax.
    """

    lr: float = 5e-4
    half: float | None = 20000.0
    success: str = "binary"
    exploration: float = 0.3
    tau_mean: float = 5.0
    tau_trace: float = 20.0
    loss: str = "mse"
    layers: tuple[str, ...] | None = None

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        """The rule of one projection to the output."""
        tau = positive(self.tau_mean, "tau_mean")
        rate, arriving = post(readout_field(network) or network[projection.post].axon), post("feedback")
        success = SUCCESS[choice(self.success, tuple(SUCCESS), "success")]
        deviation = Apply(above, (rate, Trace(rate, tau, "mean")))
        reward = Apply(success, (arriving, Trace(arriving, tau, "mean")))
        annealed = () if self.half is None else (Annealed(self.half),)
        return ThreeFactorRule(
            (Component((Term(deviation, pre_factor(network, projection, self.tau_trace)),)),),
            Feedback(reward, of_output=False),
            reduce="mean",
            transforms=(Rate(self.lr), *annealed),
            name="reward_modulated_hebb",
        )

    def __call__(self, network: Network) -> Network:
        _, outputs = split(network, self.layers)
        network = with_performance(network, self.loss, readout_field(network))
        if positive(self.exploration, "exploration", zero=True) != 0:
            network = with_exploration(network, self.exploration)
        return attach(network, tuple(p.name for p in outputs), lambda p: self.rule(network, p))
