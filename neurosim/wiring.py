"""Wiring that learning schemes share: an error population, and feedback of it.

Populations and projections, nothing else.
"""

from __future__ import annotations

from neurosim.connectivity import Dense, OneToOne
from neurosim.lateral import LogSoftmax, Softmax
from neurosim.network import Network, Population, Projection
from neurosim.neuron import GatedRelay, Relay, SilencedRelay
from neurosim.types import ConfigurationError, choice

TARGET, PREDICTION, ERROR, LOSS = "target", "prediction", "error", "loss"
UNTAUGHT = f"{ERROR}.shunt"  # driven with 1 while there is no target


class PortTaken(ConfigurationError):
    """Two rules would read the sum of what each of them sends to one port."""


def with_teaching(network: Network, wire: Projection) -> Network:
    """`network` with `wire` to a teaching port; PortTaken if another population sends there already: an error, who won,
    a reward, each means something else to the rules that read it.
    """
    port = network.port(wire)
    for other in network.projections:
        if (other.post, network.port(other)) == (wire.post, port) and other.pre != wire.pre:
            rules = dict.fromkeys(
                p.rule.name for p in network.projections if p.post == wire.post and p.rule is not None
            )
            owner = f" (for {' and '.join(rules)})" if any(rules) else ""
            raise PortTaken(
                f"port {port!r} of {wire.post!r} already takes what {other.pre!r} sends{owner}, so {wire.pre!r} cannot "
                "send there too: rules would read the sum; let them teach different layers, as in rule=layered:a/b"
            )
    return network.with_parts(projections=(wire,))


def compared(network: Network, loss: str = "cross_entropy", output: str | None = None) -> Network:
    """Add the populations `target` (driven by the task), `prediction` and `error` = target - prediction, without delay.

    `prediction` relays the field `output` of the output population (None: what leaves by its axon), through a softmax
    for "cross_entropy", as it is for "mse": either way the error is minus the gradient of the loss with respect to
    that field. The task silences `error` (port `shunt`) while it has no target.
    """
    choice(loss, ("cross_entropy", "mse"), "loss")
    size = network[network.output].units
    lateral = Softmax() if loss == "cross_entropy" else None
    return network.with_parts(
        populations=(
            Population(TARGET, size, Relay()),
            Population(PREDICTION, size, Relay(), lateral),
            Population(ERROR, size, SilencedRelay()),
        ),
        projections=(
            Projection(network.output, PREDICTION, 1.0, OneToOne(), output=output, delay=0),
            Projection(TARGET, ERROR, 1.0, OneToOne(), delay=0),
            Projection(PREDICTION, ERROR, -1.0, OneToOne(), delay=0),
        ),
    )


def with_error(network: Network, loss: str = "cross_entropy", output: str | None = None) -> Network:
    """Add the populations of `compared`; the error arrives at the output population's port `feedback`."""
    wire = Projection(ERROR, network.output, 1.0, OneToOne(), port="feedback", delay=0)
    return with_teaching(compared(network, loss, output), wire)


def with_loss(network: Network, loss: str = "cross_entropy", output: str | None = None) -> Network:
    """Add the population `target` (driven by the task) and `loss`: one neuron whose rate is the sample's loss in this
    step, 0 where there is no target.

    "cross_entropy": -sum_k target_k log(softmax(o))_k, with o the field `output` of the output population (None: what
    leaves by its axon); "mse": half the sum of (target_k - o_k)^2. It is a scalar that the output layer forms of its
    own units; whoever wants it wires `loss` to a port.
    """
    size, terms, scores = network[network.output].units, f"{LOSS}_terms", f"log_{PREDICTION}"
    if choice(loss, ("cross_entropy", "mse"), "loss") == "mse":
        network = compared(network, loss, output)
        wires = [Projection(ERROR, terms, 1.0, OneToOne(), port=port, delay=0) for port in ("basal", "gate")]
    else:
        network = network.with_parts(
            (Population(TARGET, size, Relay()), Population(scores, size, Relay(), LogSoftmax()))
        )
        wires = [
            Projection(network.output, scores, 1.0, OneToOne(), output=output, delay=0),
            Projection(scores, terms, 1.0, OneToOne(), delay=0),
            Projection(TARGET, terms, 1.0, OneToOne(), port="gate", delay=0),
        ]
    populations = Population(terms, size, GatedRelay()), Population(LOSS, 1, Relay())
    total = Projection(terms, LOSS, 0.5 if loss == "mse" else -1.0, Dense(), delay=0)
    return network.with_parts(populations, (*wires, total))
