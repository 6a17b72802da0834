"""A reservoir: a population that remembers through random recurrent wiring which no rule changes (Jaeger 2001; Maass,
Natschlaeger, Markram 2002), and the network of one reservoir with its readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosim.connectivity import Dense, FixedProbability
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Neuron, Relay
from neurosim.random import LecunNormal, Normal, Uniform
from neurosim.types import ConfigurationError, positive


def recurrent(
    name: str, size: int, neuron: Neuron, radius: float, probability: float, initial: float = 0.0
) -> tuple[Population, Projection]:
    """A population with random wiring onto itself, with the delay of a step.

    Each pair is joined with `probability` (1: every unit also with itself), by a normal weight of variance radius^2 /
    (mean number of inputs): the spectral radius of such a matrix tends to `radius` as it grows (Girko 1985; within some
    10 % for 100 units). `initial` is the standard deviation of the state `v` at the start.
    """
    positive(radius, "radius of a reservoir", zero=True)
    kind = Dense() if probability == 1 else FixedProbability(probability)  # one product instead of many edges
    wiring = Projection(name, name, LecunNormal(radius) if radius else 0.0, kind)
    positive(initial, "initial of a reservoir", zero=True)
    start = {"v": Normal(0.0, initial)} if initial else {}
    return Population(name, size, neuron, initial=start), wiring


@dataclass(frozen=True)
class Reservoir:
    """input -> reservoir -> output, with recurrent wiring within the reservoir and, if asked for, from the output back.

    `size` units of `neuron` with spectral `radius`, connection `probability` and `initial` states (see `recurrent`).
    `input_scale` and `feedback_scale`: weights uniform in [-scale, scale] from the input and from the output (0: no
    projection). `output_neuron` reads the reservoir without delay, with start weights `output_weight` and a `bias` if
    asked for; `input_neuron` as in `Layered`. Called with the number of inputs and outputs, it returns the Network; all
    but the readout is meant to stay as it is, but a rule may teach any of it.
    """

    neuron: Neuron
    output_neuron: Neuron
    size: int = 200
    radius: float = 0.9
    probability: float = 0.1
    input_scale: float = 1.0
    feedback_scale: float = 0.0
    output_weight: Any = 0.0
    bias: bool = False
    initial: float = 0.0
    input_neuron: Neuron | None = None

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ConfigurationError(f"size of the reservoir is {self.size!r}; it must be a whole number >= 1")
        positive(self.input_scale, "input_scale of the reservoir")
        positive(self.feedback_scale, "feedback_scale of the reservoir", zero=True)

    def __call__(self, inputs: int, outputs: int) -> Network:
        population, wiring = recurrent("reservoir", self.size, self.neuron, self.radius, self.probability, self.initial)
        populations = (
            Population("input", inputs, Relay() if self.input_neuron is None else self.input_neuron),
            population,
            Population("output", outputs, self.output_neuron),
        )
        arriving = Uniform(-self.input_scale, self.input_scale)
        projections = [
            Projection("input", "reservoir", arriving, delay=0),
            wiring,
            Projection("reservoir", "output", self.output_weight, delay=0, bias=self.bias),
        ]
        if self.feedback_scale:
            back = Uniform(-self.feedback_scale, self.feedback_scale)
            projections.append(Projection("output", "reservoir", back))
        return Network(populations, tuple(projections))
