"""Reward-modulated spike-timing-dependent plasticity (MSTDP, and MSTDPET with an eligibility trace; Florian 2007).

    e_ij <- exp(-dt / tau_e) e_ij + A_plus S_i x_j - A_minus y_i S_j        without tau_e: this step's pairs only
    dw_ij = lr (r - mean r) e_ij,       w_min <= w <= w_max

S are spikes, x and y traces of pre and post spikes as in `neurosim.rules.stdp`, r is the reward: one number for all
synapses. `reward` names where it comes from: a broadcast signal of the phase (`mean r` is its running mean over
samples), or a population `reward` of one neuron that projects to the `feedback` port of every neuron taught, where
`mean r` is a low-pass trace. With "driven" the phases drive that population, step by step; with "task" the output does,

    r = sum_k target_k prediction_k,       the probability that the softmax of the output gives to the right class.

R. V. Florian, "Reinforcement learning through modulation of spike-timing-dependent synaptic plasticity", Neural
Computation 19 (2007), doi 10.1162/neco.2007.19.6.1468.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.connectivity import Dense, OneToOne
from neurosim.constraint import Bounds
from neurosim.factor import Apply, Field, Trace, post
from neurosim.modulator import Broadcast, Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import GatedRelay, Relay
from neurosim.rule import Component, PerSynapse, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate
from neurosim.types import positive
from neurosim.wiring import PREDICTION, TARGET, compared

from .delta import readout_field
from .feedback_wiring import with_feedback
from .readout import taught, with_readout
from .stdp import pair_terms

TASK, DRIVEN, MATCH, REWARD = "task", "driven", "match", "reward"


def difference(now: float, mean: float) -> float:
    """now - mean."""
    return now - mean


def with_reward(network: Network, posts: tuple[str, ...], source: str = TASK) -> Network:
    """Add the population `reward`, one neuron, which arrives at the port `feedback` of `posts`.

    `source` "task": it is the sum of the population `match` = target * prediction; "driven": phases drive it.
    """
    network = network.with_parts((Population(REWARD, 1, Relay()),))
    if source == TASK:
        network = compared(network, output=readout_field(network)).with_parts(
            populations=(Population(MATCH, network[network.output].units, GatedRelay()),),
            projections=(
                Projection(PREDICTION, MATCH, 1.0, OneToOne(), delay=0),
                Projection(TARGET, MATCH, 1.0, OneToOne(), port="gate", delay=0),
                Projection(MATCH, REWARD, 1.0, Dense(), delay=0),
            ),
        )
    for name in posts:
        network = with_feedback(network, Projection(REWARD, name, 1.0, Dense(), port="feedback", delay=0))
    return network


def less_mean(arriving: Field | Trace, tau_reward: float | None) -> Feedback:
    """What arrives at the neuron, less its low-pass trace of tau_reward (ms); None: as it is."""
    if tau_reward is None:
        return Feedback(arriving, of_output=False)
    mean = Trace(arriving, positive(tau_reward, "tau_reward"), "mean", "before")
    return Feedback(Apply(difference, (arriving, mean)), of_output=False)


def reward_modulator(reward: str, tau_reward: float | None) -> Any:
    """The signal `reward`, or what the population `reward` ("task", "driven") sends, less its running mean (None: as it
    is).
    """
    if reward in (TASK, DRIVEN):
        return less_mean(post("feedback"), tau_reward)
    return Broadcast(reward, tau_reward)


@dataclass(frozen=True)
class RewardSTDP:
    """See the module. `A_plus`, `A_minus`, `tau_plus`, `tau_minus`, `pairing`, `read_pre`, `read_post`, `w_min`,
    `w_max` as in STDP; `tau_e` (ms) of the eligibility trace, None for none; `lr` the change per unit of reward and
    eligibility.

    `reward` "task", "driven" or the name of a signal; `tau_reward` of its running mean, in samples for a signal, else
    in ms; None: no mean is taken away. `reduce` over the batch; `output` and `lr_output` as in STDP.
    """

    A_plus: float = 1.0
    A_minus: float = 1.0
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    tau_e: float | None = 25.0
    lr: float = 0.01
    reward: str = "reward"
    tau_reward: float | None = None
    w_min: float | None = 0.0
    w_max: float | None = 1.0
    pairing: str = "all"
    read_pre: str = "after"
    read_post: str = "after"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    title: ClassVar[str] = "reward_stdp"

    def modulator(self) -> Any:
        return reward_modulator(self.reward, self.tau_reward)

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        growth = PerSynapse(positive(self.A_plus, "A_plus", zero=True))
        loss = PerSynapse(-positive(self.A_minus, "A_minus", zero=True))
        taus, reads = (self.tau_plus, self.tau_minus), (self.read_pre, self.read_post)
        terms = pair_terms(network, projection, growth, loss, taus, self.pairing, reads)
        return ThreeFactorRule(
            (Component(terms, tau=self.tau_e),),
            self.modulator(),
            reduce=self.reduce,
            transforms=(Rate(self.lr),),
            constraints=(Bounds(self.w_min, self.w_max),),
            bias_transforms=(Rate(0.0),),  # a bias has no spikes to pair
            name=self.title,
        )

    def wired(self, network: Network) -> Network:
        """`network` with the reward, the rule and the readout."""
        learning = taught(network, self.layers, self.output)
        if self.reward in (TASK, DRIVEN):
            network = with_reward(network, tuple(dict.fromkeys(p.post for p in learning)), self.reward)
        network = attach(network, tuple(p.name for p in learning), lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_plus)

    def __call__(self, network: Network) -> Network:
        return self.wired(network)
