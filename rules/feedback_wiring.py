"""What backprop and the feedback-alignment family share: error populations, and one rule that reads what they send.

    dw_ij = lr m_i slope_i pre_j,    m_i = what arrives at port `feedback` of neuron i

For a hidden population h below a population k, the error travels down layer by layer:

    error_h = sum_k B_hk gate(error_k),    gate(error_k) = slope_k J_k^T error_k

where B is a feedback projection, slope_k the derivative of k's neurons and J_k the Jacobian of k's lateral (a layer
norm; the identity without one). `error_h` is fed to the port `feedback` of h, one to one, before J_h: the modulator
passes through the lateral itself. All of it has zero delay and ends at teaching ports, so nothing is a cycle. The rules
differ in B alone: transposes (backprop), random numbers, signs, or numbers that learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosim.connectivity import OneToOne
from neurosim.factor import post
from neurosim.lateral import Pullback
from neurosim.modulator import Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import GatedRelay, Relay
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import optimizer
from neurosim.types import ConfigurationError
from neurosim.wiring import ERROR, with_error, with_teaching

from .delta import pre_factor, readout_field

Back = Callable[[Projection, str, str], Projection]


@dataclass(frozen=True)
class ErrorDriven:
    """`lr`, `optimizer` none | momentum | adam | adamw with `beta1`, `beta2`, `weight_decay`; `when` step | phase |
    sample and `accumulate` sum | mean | last; `tau_trace` (ms) of the pre-synaptic rate trace on spiking networks;
    `loss` cross_entropy | mse.
    """

    lr: float = 1e-3
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-4
    when: str = "phase"
    accumulate: str = "mean"
    tau_trace: float = 20.0
    loss: str = "cross_entropy"
    layers: tuple[str, ...] | None = None

    title: ClassVar[str] = ""

    def transforms(self) -> tuple[Any, ...]:
        return optimizer(self.optimizer, self.lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay)

    def rule(self, term: Term, modulator: Any) -> ThreeFactorRule:
        """The rule of one projection: a term, its modulator, and the timing and transforms of all."""
        return ThreeFactorRule(
            (Component((term,)),),
            modulator,
            accumulate=self.accumulate,
            when=self.when,
            reduce="mean",
            transforms=self.transforms(),
            name=self.title,
        )

    def teach(self, network: Network, taught: tuple[Projection, ...]) -> Network:
        """`network`, whose error wiring is there, with the rule on every projection of `taught`."""
        feedback = Feedback(post("feedback"))
        return attach(
            network,
            tuple(p.name for p in taught),
            lambda p: self.rule(Term(post("slope"), pre_factor(network, p, self.tau_trace)), feedback),
        )

    def with_errors(self, network: Network, taught: tuple[Projection, ...], back: Back) -> Network:
        """`network` with the error populations that `taught` needs, fed through `back` (see `with_errors`)."""
        return with_errors(network, taught, back, self.loss, readout_field(network))


def error_of(population: str) -> str:
    """Name of a hidden population's error."""
    return f"error_{population}"


def back_of(projection: Projection) -> str:
    """Name of the feedback projection that runs against a forward one."""
    return f"back_{projection.name}"


def tied_back(projection: Projection, pre: str, post: str, how: str, weight: Any = 1.0) -> Projection:
    """The feedback tied to `projection` by "transpose" or "sign"; ConfigurationError where that cannot be."""
    if projection.connectivity.kind not in ("dense", "one_to_one"):
        raise ConfigurationError(
            f"the feedback of projection {projection.name!r} ({projection.connectivity.kind}) cannot be tied by {how}: "
            "that works on dense and one-to-one projections; feedback_alignment and bptt work on all"
        )
    tied = (projection.name, how)
    return Projection(pre, post, weight, projection.connectivity, delay=0, tied=tied, name=back_of(projection))


def hidden_of(network: Network, taught: tuple[Projection, ...]) -> tuple[str, ...]:
    """The hidden populations that `taught` projections end at."""
    return tuple(dict.fromkeys(p.post for p in taught if p.post != network.output))


def on_the_way(network: Network, taught: tuple[Projection, ...]) -> tuple[str, ...]:
    """The hidden populations that `taught` projections end at, and those above them: an error passes through these."""
    names = dict.fromkeys(hidden_of(network, taught))
    for _ in network.populations:
        names |= dict.fromkeys(p.post for p in network.forward() if p.pre in names and p.post != network.output)
    return tuple(names)


def gated_error(network: Network, population: str) -> tuple[str, tuple[Population, ...], tuple[Projection, ...]]:
    """The error of a population with respect to its drive: behind its lateral and its slope."""
    here = network[population]
    source = ERROR if population == network.output else error_of(population)
    name = f"gated_{source}"
    parts: list[Population] = []
    wires: list[Projection] = []
    if here.lateral is not None:
        pulled = f"pulled_{source}"
        parts.append(Population(pulled, here.size, Relay(), Pullback(population)))
        wires.append(Projection(source, pulled, 1.0, OneToOne(), delay=0))
        source = pulled
    parts.append(Population(name, here.size, GatedRelay()))
    wires.append(Projection(source, name, 1.0, OneToOne(), delay=0))
    wires.append(Projection(population, name, 1.0, OneToOne(), port="gate", output="slope", delay=0))
    return name, tuple(parts), tuple(wires)


def with_feedback(network: Network, wire: Projection) -> Network:
    """`network` with `wire` to a port `feedback`; ConfigurationError if another population sends there already, or
    another feedback has the name.
    """
    with_teaching(network, wire)
    return _joined(network, wire)


def _joined(network: Network, wire: Projection) -> Network:
    """`network` with `wire`; ConfigurationError if a different one is there under its name."""
    for other in network.projections:
        given = isinstance(other.weight, np.ndarray) or other.weight == wire.weight  # numbers put there by hand stay
        if other.name == wire.name and not (given and (other.pre, other.tied) == (wire.pre, wire.tied)):
            raise ConfigurationError(
                f"projection {wire.name!r} already carries the feedback of another rule; all layers below it share one"
            )
    return network.with_parts(projections=(wire,))


def with_errors(network: Network, taught: tuple[Projection, ...], back: Back, loss: str, output: str | None) -> Network:
    """`network` with an error population for every hidden post population of `taught`, and for those above it.

    `back(p, pre, post)` gets a forward projection p from h to k and returns the feedback projection, named
    `back_of(p)`, from `pre`, k's gated error, to `post`, the error population of h. Raises ConfigurationError where
    another kind of feedback already arrives.
    """
    network = with_error(network, loss, output)
    hidden = on_the_way(network, taught)
    network = network.with_parts([Population(error_of(name), network[name].size, Relay()) for name in hidden])
    for name in hidden_of(network, taught):
        wire = Projection(error_of(name), name, 1.0, OneToOne(), port="feedback", delay=0)
        network = with_feedback(network, wire)
    for projection in network.forward():
        if projection.pre in hidden:
            source, populations, wires = gated_error(network, projection.post)
            network = network.with_parts(populations, wires)
            network = _joined(network, back(projection, source, error_of(projection.pre)))
    return network
