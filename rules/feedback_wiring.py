"""Error populations, one per hidden layer: how backprop and the feedback-alignment family send an error down.

For a hidden population h below a population k:

    error_h = J_h^T sum_k B_hk^T gate(error_k),    gate(error_k) = slope_k * J_k^T error_k

where B is a feedback projection, slope_k the derivative of k's neurons and J_k the Jacobian of k's lateral (a layer
norm; the identity without one). `error_h` is fed to the port `feedback` of h, one to one, before J_h: the modulator passes
through the lateral itself. All of it has zero delay and ends at teaching ports, so nothing is a cycle.
"""

from __future__ import annotations

from collections.abc import Callable

from neurosim.connectivity import OneToOne
from neurosim.lateral import Pullback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import GatedRelay, Relay
from neurosim.wiring import ERROR, with_error

Feedback = Callable[[Projection, str, str], Projection]


def error_of(population: str) -> str:
    """Name of a hidden population's error."""
    return f"error_{population}"


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


def with_errors(network: Network, forward: tuple[Projection, ...], feedback: Feedback, loss: str, output: str | None) -> Network:
    """`network` with an error population for every hidden post population of `forward`, fed by `feedback(projection)`.

    `feedback(p, pre, post)` gets a forward projection p from h to k and returns the projection from `pre`, k's gated error, to
    `post`, the error population of h.
    """
    network = with_error(network, loss, output)
    hidden = dict.fromkeys(p.post for p in forward if p.post != network.output)
    for name in hidden:
        network = network.with_parts(
            populations=(Population(error_of(name), network[name].size, Relay()),),
            projections=(Projection(error_of(name), name, 1.0, OneToOne(), port="feedback", delay=0),),
        )
    for projection in network.forward():
        if projection.pre in hidden:
            source, populations, wires = gated_error(network, projection.post)
            network = network.with_parts(populations, (*wires, feedback(projection, source, error_of(projection.pre))))
    return network
