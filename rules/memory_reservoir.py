"""The memory network of BioHSIC: a reservoir that gives a layer its third factor, wired as populations.

    r = tanh(u),      tau du/dt = -u + W_r r + W_x x + W_y y + W_z z,      xi = W_o r -> port `feedback` of the layer

x is the input, y the target and z the layer's activity; W_r, W_x, W_y, W_z are random and fixed, so that r remembers
earlier samples as long as activity is carried from one presentation to the next. Only W_o learns, from a teacher that
knows the window (`neurosim.modulator.HSIC` with a buffer), by one of two rules:

    least_mean_squares      dW_o = lr (scale m - xi) r,      m the teacher's third factor
    reward_modulated_hebb   dW_o = lr [P > mean P] (xi - mean xi) r,      P = -|scale m - xi|^2, with noise on xi

With lr 0 the readout stays as it is, and nothing of the teacher is used.

K. Daruwalla, M. Lipasti, Front. Comput. Neurosci. 18:1240348 (2024), doi 10.3389/fncom.2024.1240348; the second rule
after G. M. Hoerzer, R. Legenstein, W. Maass, Cereb. Cortex 24 (2014), doi 10.1093/cercor/bhs348.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.connectivity import OneToOne
from neurosim.factor import Apply, Factor, One, Trace, post, pre
from neurosim.modulator import HSIC, Success, Towards
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyRate, NoiseSource, Relay
from neurosim.random import Uniform
from neurosim.reservoir import recurrent
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import choice, positive
from neurosim.wiring import TARGET

from .feedback_wiring import with_feedback
from .reward_modulated_hebb import above

LEARNING = ("least_mean_squares", "reward_modulated_hebb")


def memory_of(population: str) -> str:
    """Name of the reservoir that serves a population."""
    return f"memory_{population}"


def xi_of(population: str) -> str:
    """Name of the population that sends the third factor of another one."""
    return f"xi_{population}"


@dataclass(frozen=True)
class MemoryReservoir:
    """See the module. `size` units with time constant `tau_mem` (ms), spectral `radius` and connection `probability`;
    W_x, W_y, W_z are uniform in [-`input_scale`, `input_scale`].

    `learning` least_mean_squares | reward_modulated_hebb with rate `lr` per step; `scale`: xi is that many times the
    third factor (which is small beside the noise), and is divided by it on its way to the layer (least_mean_squares
    does not depend on it); `exploration` is the standard deviation
    of the noise on xi and `tau_mean` (ms) of both means, for reward_modulated_hebb.
    """

    size: int = 200
    tau_mem: float = 20.0
    radius: float = 1.2
    probability: float = 1.0
    input_scale: float = 1.0
    learning: str = "least_mean_squares"
    lr: float = 5e-3
    scale: float = 100.0
    exploration: float = 0.1
    tau_mean: float = 5.0

    def __post_init__(self) -> None:
        choice(self.learning, LEARNING, "learning of the memory reservoir")
        positive(self.scale, "scale of the memory reservoir")
        positive(self.input_scale, "input_scale of the memory reservoir")
        positive(self.lr, "lr of the memory reservoir", zero=True)
        positive(self.tau_mean, "tau_mean of the memory reservoir")
        positive(self.exploration, "exploration of the memory reservoir", zero=True)

    def rule(self, teacher: HSIC) -> ThreeFactorRule:
        """What the readout learns by; `teacher` reads the copy of the layer's activity at the readout."""
        error = Towards(teacher, post("rate"), self.scale)
        deviation: Factor = One("post")
        modulator: Any = error
        if self.learning == "reward_modulated_hebb":
            deviation = Apply(above, (post("rate"), Trace(post("rate"), self.tau_mean, "mean")))
            modulator = Success(error, self.tau_mean)
        return ThreeFactorRule(
            (Component((Term(deviation, pre("rate")),)),),
            modulator,
            reduce="mean",
            transforms=(Rate(self.lr),),
            name=self.learning,
        )

    def wired(self, network: Network, population: str, teacher: HSIC) -> Network:
        """`network`, which has a population `target`, with a memory for `population`; its `feedback` is then xi."""
        memory, xi, size = memory_of(population), xi_of(population), network[population].size
        neuron = LeakyRate(self.tau_mem, "tanh")
        reservoir, wiring = recurrent(memory, self.size, neuron, self.radius, self.probability)
        weight = Uniform(-self.input_scale, self.input_scale)
        rule = self.rule(teacher) if self.lr else None
        populations = [reservoir, Population(xi, size, Relay())]
        wires = [
            wiring,
            *(Projection(source, memory, weight, delay=0) for source in (network.input, TARGET, population)),
            Projection(memory, xi, 0.0, delay=0, rule=rule),
            Projection(population, xi, 1.0, OneToOne(), port="feedback", delay=0),
        ]
        if self.lr and self.learning == "reward_modulated_hebb" and self.exploration:
            noise = f"exploration_{population}"
            populations.append(Population(noise, size, NoiseSource(std=self.exploration)))
            wires.append(Projection(noise, xi, 1.0, OneToOne(), delay=0))
        network = network.with_parts(populations, wires)
        return with_feedback(network, Projection(xi, population, 1.0 / self.scale, OneToOne(), "feedback", delay=0))
