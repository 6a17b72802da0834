"""Wiring that learning schemes share: an error population, and feedback of it.

Populations and projections, nothing else.
"""

from __future__ import annotations

from neurosim.connectivity import OneToOne
from neurosim.lateral import Softmax
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.types import choice

TARGET, PREDICTION, ERROR = "target", "prediction", "error"


def with_error(network: Network, loss: str = "cross_entropy", output: str | None = None) -> Network:
    """Add the populations `target` (driven by the task), `prediction` and `error` = target - prediction, without delay.

    `prediction` relays the field `output` of the output population (None: what leaves by its axon), through a softmax
    for "cross_entropy", as it is for "mse": either way the error is minus the gradient of the loss with respect to
    that field. The error arrives at the output population's port `feedback`.
    """
    choice(loss, ("cross_entropy", "mse"), "loss")
    size = network[network.output].units
    lateral = Softmax() if loss == "cross_entropy" else None
    return network.with_parts(
        populations=(
            Population(TARGET, size, Relay()),
            Population(PREDICTION, size, Relay(), lateral),
            Population(ERROR, size, Relay()),
        ),
        projections=(
            Projection(network.output, PREDICTION, 1.0, OneToOne(), output=output, delay=0),
            Projection(TARGET, ERROR, 1.0, OneToOne(), delay=0),
            Projection(PREDICTION, ERROR, -1.0, OneToOne(), delay=0),
            Projection(ERROR, network.output, 1.0, OneToOne(), port="feedback", delay=0),
        ),
    )
