"""What rate rules read at the two ends of a synapse, and their rate per layer."""

from __future__ import annotations

from neurosim.factor import Factor, Trace, post
from neurosim.network import Network, Projection
from neurosim.types import ConfigurationError, positive


def activity(network: Network, projection: Projection, tau_trace: float) -> Factor:
    """What the post neuron sends: its rate, or the low-pass trace (`tau_trace`, ms) of its spikes."""
    axon = post(network[projection.post].axon)
    return Trace(axon, positive(tau_trace, "tau_trace"), "mean") if axon.name == "spike" else axon


def rates(lr: float | tuple[float, ...], layers: tuple[Projection, ...]) -> dict[str, float]:
    """The learning rate of each projection taught: one for all, or one for each from the input on."""
    each = (lr,) * len(layers) if isinstance(lr, int | float) else tuple(lr)
    if len(each) != len(layers):
        names = ", ".join(projection.name for projection in layers)
        raise ConfigurationError(
            f"lr has {len(each)} values for {len(layers)} projections ({names}); give one, or one for each"
        )
    return {projection.name: float(value) for projection, value in zip(layers, each, strict=True)}
