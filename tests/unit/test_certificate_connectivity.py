"""The locality certificate on convolutions, sparse projections and delays: classes, and leaks that it must name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from neurosim.backends.synapse import SparseOperation
from neurosim.connectivity import Conv2d, Dense, FixedProbability
from neurosim.inspect.certificate import certify
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, Relay, StaticRate
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.softhebb import SoftHebb
from neurosim.rules.stdp import STDP
from neurosim.scheme import change_rules
from neurosim.transform import Normalised

BATCH = 2
FIRST = "input_hidden"
DELAYS = np.array([[1.0, 2.0, 1.0], [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [2.0, 3.0, 1.0]])


def convolutional() -> Network:
    """1 x 3 x 3, a kernel of 2 x 2 to 2 x 2 x 2, then 2 outputs."""
    return Network(
        (
            Population("input", (1, 3, 3), Relay()),
            Population("hidden", (2, 2, 2), StaticRate("tanh")),
            Population("output", 2, StaticRate("linear")),
        ),
        (
            Projection("input", "hidden", connectivity=Conv2d(2), delay=0, bias=True),
            Projection("hidden", "output", delay=0),
        ),
    )


def flat(connectivity: Any, delay: Any, neuron: Any = None) -> Network:
    hidden = StaticRate("tanh") if neuron is None else neuron
    return Network(
        (
            Population("input", 3, Relay()),
            Population("hidden", 4, hidden),
            Population("output", 2, StaticRate("linear")),
        ),
        (
            Projection("input", "hidden", connectivity=connectivity, delay=delay),
            Projection("hidden", "output", delay=0.0),
        ),
    )


NETWORKS = {
    "convolution": convolutional,
    "sparse": lambda: flat(FixedProbability(0.7), 0.0),
    "delays": lambda: flat(Dense(), DELAYS),
    "sparse with delays": lambda: flat(FixedProbability(0.7), DELAYS),
}


def findings(net: Network) -> Any:
    certificate = certify(net, 1.0, batch=BATCH)
    assert certificate.local, certificate.leaks
    return {finding.projection: finding for finding in certificate.findings}


def rejection(net: Network) -> str:
    certificate = certify(net, 1.0, batch=BATCH)
    assert not certificate.local
    return " | ".join(certificate.leaks)


@pytest.mark.parametrize("kind", NETWORKS)
def test_classes(kind):
    net = NETWORKS[kind]()
    assert findings(FeedbackAlignment()(net))[FIRST].scope == "neuron"
    assert findings(Hebb(output="none")(net))[FIRST].scope == "synapse"


def test_a_competition_of_a_convolution_is_of_the_layer():
    found = findings(SoftHebb(output="none")(convolutional()))[FIRST]
    assert found.scope == "layer"


def test_spikes_with_a_delay_each():
    net = STDP(w_min=-1.0, output="none")(flat(Dense(), DELAYS, LIF(10.0, 0.1, reset="subtract")))
    assert findings(net)[FIRST].scope == "synapse"


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_total_over_the_projection(kind):
    net = change_rules(
        Hebb(output="none")(NETWORKS[kind]()),
        lambda p, rule: replace(rule, transforms=(Normalised("all"), *rule.chain)),
    )
    found = findings(net)[FIRST]
    assert found.scope == "layer"
    assert [item.what for item in found.shared] == ["total_max"]


@dataclass(frozen=True)
class Turn:
    """change <- change + a tenth of another entry's, `by` further in the array that holds them."""

    by: int
    axis: int
    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def update(self, change: Any, weight: Any, layout: Any) -> Any:
        return change + 0.1 * torch.roll(change, self.by, self.axis)


@pytest.mark.parametrize(
    ("kind", "turn"), [("convolution", Turn(1, 1)), ("sparse", Turn(5, 0)), ("delays", Turn(3, 0))]
)
def test_a_transform_that_mixes_neurons(kind, turn):
    net = change_rules(
        FeedbackAlignment()(NETWORKS[kind]()),
        lambda p, rule: replace(rule, transforms=(turn,), bias_transforms=()) if p.name == FIRST else rule,
    )
    assert f"the rule of {FIRST} reads hidden.slope of other neurons" in rejection(net)


def test_the_edge_of_another_neuron(monkeypatch):
    """The wiring half: an edge that reads what belongs to its neighbour."""
    right = SparseOperation.deliver
    monkeypatch.setattr(SparseOperation, "deliver", lambda self, weight, read: right(self, weight.roll(4), read))
    said = rejection(Hebb(output="none")(NETWORKS["sparse"]()))
    assert f"by projection {FIRST}, moves with weights of other neurons" in said


def test_what_another_delay_would_read(monkeypatch):
    """An edge that hears every input: what was sent at other times than its own is no input of it."""
    right = SparseOperation.deliver

    def every(self: Any, weight: Any, read: Any) -> Any:
        return right(self, weight, lambda delay: read(delay).roll(1, -1))

    monkeypatch.setattr(SparseOperation, "deliver", every)
    said = rejection(Hebb(output="none")(NETWORKS["sparse with delays"]()))
    assert f"by projection {FIRST}, moves with unit" in said
