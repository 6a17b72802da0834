"""Rules that work together: convolutions without a teacher under a head with one, a readout, and coupled synapses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from nets import normal
from plain import as_trial, described, shown, train
from test_table import AFTER_ANOTHER, BATCH, INPUTS, OUTPUTS, REFUSED, STEPS, TABLE, config

from neurosim.backends import compile
from neurosim.connectivity import AveragePool, Conv2d, MaxPool
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.random import Normal
from neurosim.recorder import Probe
from neurosim.rule import ThreeFactorRule
from neurosim.rules.backprop import Backprop
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.softhebb import SoftHebb
from neurosim.scheme import Composed, PerLayer
from neurosim.transform import Heterosynaptic as Coupling
from neurosim.types import ConfigurationError

CLASSES, SIDE, SHOWN = 3, 6, 12
CONVOLUTIONS, HEAD = ("kernels0", "kernels1"), ("dense", "readout")
SOFTHEBB = SoftHebb(lr=0.1)
ALIGNED = FeedbackAlignment(lr=0.01, optimizer="adam", loss="cross_entropy")


def convolutional(pool=AveragePool):
    """1 x 6 x 6 - 4 x 6 x 6 - pool - 6 x 2 x 2 - dense 8 - 3."""
    shapes = {
        "input": ((1, SIDE, SIDE), Relay()),
        "maps0": ((4, SIDE, SIDE), StaticRate("relu")),
        "pooled": ((4, 3, 3), Relay()),
        "maps1": ((6, 2, 2), StaticRate("relu")),
        "hidden": (8, StaticRate("tanh")),
        "output": (CLASSES, StaticRate("linear")),
    }
    wires = [
        Projection("input", "maps0", Normal(0.0, 1.0), Conv2d(3, padding=1), delay=0, name="kernels0"),
        Projection("maps0", "pooled", connectivity=pool(2), delay=0, name="pool"),
        Projection("pooled", "maps1", Normal(0.0, 0.5), Conv2d(2), delay=0, name="kernels1"),
        Projection("maps1", "hidden", Normal(0.0, 0.3), delay=0, bias=True, name="dense"),
        Projection("hidden", "output", Normal(0.0, 0.1), delay=0, bias=True, name="readout"),
    ]
    return Network(tuple(Population(name, *parts) for name, parts in shapes.items()), tuple(wires))


def stripes(index):
    """Noisy pictures of rows, columns and diagonals, and their labels."""
    i, j = np.indices((SIDE, SIDE))
    kinds = np.stack([i % 2, j % 2, (i + j) % 3 == 0]).astype(float)
    labels = np.arange(SHOWN) % CLASSES
    x = kinds[labels] - kinds[labels].mean((1, 2), keepdims=True) + 0.2 * normal(SHOWN, SIDE, SIDE, seed=index)
    return x.reshape(SHOWN, -1), np.eye(CLASSES)[labels]


def shown_to(simulator, presentations):
    """(start, end, accuracy on new pictures per replica) of a network taught by stripes."""
    net = simulator.plan.network
    start = state = simulator.init(SHOWN)
    for k in range(presentations):
        x, y = stripes(k)
        drive = {"input": Held(x), **({"target": Held(y)} if net.has("target") else {})}
        state, _ = simulator.run(state, Phase("train", 1, drive))
    x, y = stripes(999)
    _, recording = simulator.run(state, Phase("test", 1, {"input": Held(x)}, learn=False), (Probe("output", "rate"),))
    return start, state, (recording["output.rate"][0].argmax(-1) == y.argmax(-1)).mean(-1)


def weights(state, names):
    return {name: state.learned["weight"][name].numpy() for name in names}


@pytest.mark.parametrize("pool", [AveragePool, MaxPool])
@pytest.mark.parametrize("schemes", [(SOFTHEBB, SOFTHEBB, ALIGNED, ALIGNED), (SOFTHEBB, ALIGNED)], ids=["4", "2"])
def test_softhebb_convolutions_under_a_feedback_alignment_head(pool, schemes):
    """Kernels go to the unit sphere without a teacher, as they would alone; the head learns what they send."""
    layered = PerLayer(schemes)(convolutional(pool))
    titles = {p.name: p.rule.name for p in layered.forward() if p.rule is not None}
    unsupervised = (*CONVOLUTIONS, *HEAD[: len(schemes) == 2])
    assert titles == {
        name: "softhebb" if name in unsupervised else "feedback_alignment" for name in (*CONVOLUTIONS, *HEAD)
    }
    start, state, accuracy = shown_to(compile(layered, 1.0, replicas=4, dtype="float64"), 150)
    for name in CONVOLUTIONS:
        norms = [np.linalg.norm(weights(s, [name])[name].reshape(4, -1, *s.learned["weight"][name][0, 0].shape), axis=(2, 3, 4)) for s in (start, state)]
        assert np.abs(norms[1] - 1).mean() < 0.5 * np.abs(norms[0] - 1).mean()
    print(accuracy, norms)
    assert accuracy.min() > 0.9
