"""What becomes of the output layer under a rule without a teacher: the delta rule, the same rule, or nothing.

Alone on the command line (`rule=stdp`) such a rule teaches the hidden layers, and the output layer reads them out by
the delta rule. In `rule=layered:stdp/backprop` the output layer is the other rule's business and nothing is added
here.
"""

from __future__ import annotations

from neurosim.network import Network, Projection
from neurosim.scheme import attach, split
from neurosim.transform import optimizer
from neurosim.types import choice
from neurosim.wiring import with_error

from .delta import output_rule, readout_field

OUTPUTS = ("delta", "same", "none")


def taught(network: Network, layers: tuple[str, ...] | None, output: str) -> tuple[Projection, ...]:
    """The projections that the rule itself teaches: those to hidden populations, with `output` "same" all of them."""
    choice(output, OUTPUTS, "output")
    hidden, outputs = split(network, layers)
    return (*hidden, *outputs) if output == "same" else hidden


def with_readout(
    network: Network, layers: tuple[str, ...] | None, output: str, lr_output: float, tau_trace: float | None = None
) -> Network:
    """`network` with the delta rule (AdamW, rate `lr_output`, at each phase's end) on the output, if `output` is
    "delta".

    `tau_trace` (ms): spikes are read out by their low-pass trace.
    """
    _, outputs = split(network, layers)
    if choice(output, OUTPUTS, "output") != "delta" or not outputs:
        return network
    network = with_error(network, output=readout_field(network))
    transforms = optimizer("adamw", lr_output, beta2=0.99, weight_decay=1e-4)
    return attach(
        network,
        tuple(p.name for p in outputs),
        lambda p: output_rule(network, p, tau_trace, transforms, when="phase", accumulate="last"),
    )
