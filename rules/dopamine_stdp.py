"""Dopamine-modulated spike-timing-dependent plasticity (Izhikevich 2007): rewards that come seconds late.

    e_ij <- exp(-dt / tau_e) e_ij + A_plus S_i x_j - A_minus y_i S_j
    D    <- exp(-dt / tau_d) D + r
    dw_ij = lr (D - mean D) e_ij,       w_min <= w <= w_max

S are spikes, x and y traces of pre and post spikes as in `neurosim.rules.stdp`, e the synaptic tag, D the concentration
of dopamine: every reward r raises it, and it is the same for all synapses. The reward is a population of one neuron, as
in `neurosim.rules.reward_stdp`, of which this is the form with a memory in the third factor too. A pair that came long
before the reward still counts if its tag, which decays with tau_e (a second in the paper), is there; the pairs of other
synapses in between are not followed by reward more often than by none, and cancel.

E. M. Izhikevich, "Solving the distal reward problem through linkage of STDP and dopamine signaling", Cerebral Cortex 17
(2007), doi 10.1093/cercor/bhl152.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosim.factor import Trace, post
from neurosim.network import Network
from neurosim.types import choice, positive

from .reward_stdp import DRIVEN, TASK, RewardSTDP, less_mean


@dataclass(frozen=True)
class DopamineSTDP(RewardSTDP):
    """See the module. `reward` task | driven; `tau_d` (ms) of dopamine, `tau_e` (ms) of the tag; `tau_reward` (ms) of
    the running mean of D, None: no mean is taken away. `lr` is per step; the other parameters are those of RewardSTDP.
    """

    A_minus: float = 1.5
    tau_e: float | None = 1000.0
    lr: float = 1e-3
    reward: str = TASK
    tau_d: float = 200.0

    title: ClassVar[str] = "dopamine_stdp"

    def modulator(self) -> Any:
        choice(self.reward, (TASK, DRIVEN), "reward")
        return less_mean(Trace(post("feedback"), positive(self.tau_d, "tau_d"), "sum"), self.tau_reward)

    def __call__(self, network: Network) -> Network:
        return self.wired(network)
