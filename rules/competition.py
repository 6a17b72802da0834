"""Wiring of competitive layers: a population that sees the drive of another one and tells it who won.

`competition_<name>` has the size of the population `name`, gets its input u one to one, and its lateral turns u into
the activity y of a competition (softmax, signed softmax, ranks). y arrives, one to one and in the same step, at the
port `feedback` of `name`, where rules read it. A convolutional population competes over its channels, position by
position.
"""

from __future__ import annotations

from typing import Any

from neurosim.connectivity import OneToOne
from neurosim.factor import Apply, Field, One, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.rule import OfWeight, Term
from neurosim.wiring import with_teaching

WON = post("feedback")


def competition_of(population: str) -> str:
    """Name of a population's competition."""
    return f"competition_{population}"


def with_competition(network: Network, taught: tuple[Projection, ...], lateral: Any) -> Network:
    """`network` with a competition for every population that the projections `taught` end at."""
    for drive, name in dict.fromkeys((network.port(p), p.post) for p in taught):
        rival = competition_of(name)
        network = network.with_parts(
            populations=(Population(rival, network[name].size, Relay(), lateral),),
            projections=(Projection(name, rival, 1.0, OneToOne(), output=drive, delay=0),),
        )
        network = with_teaching(network, Projection(rival, name, 1.0, OneToOne(), port="feedback", delay=0))
    return network


def itself(w: float) -> float:
    """w."""
    return w


def less_product(y: float, u: float) -> float:
    """-y u."""
    return -y * u


def bounded_hebb(network: Network, projection: Projection) -> tuple[Term, Term]:
    """y_i x_j - y_i u_i w_ij: Hebb's growth, and a decay that holds the norm of the weights."""
    drive: Field = post(network.port(projection))
    growth = Term(WON, pre(network.sent(projection)))
    return growth, Term(Apply(less_product, (WON, drive)), One("pre"), OfWeight(itself))
