"""Laterals as kernels: the step of a population and the way of a modulator back through it, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backends import agree, both

from neurosim.backends import compile
from neurosim.backends.words_numba import ROW_FUNCTIONS
from neurosim.connectivity import Dense
from neurosim.factor import post, pre
from neurosim.lateral import (
    Centred,
    KWinners,
    LayerNorm,
    LogSoftmax,
    Pullback,
    Ranked,
    SignedSoftmax,
    Softmax,
    Triangle,
)
from neurosim.modulator import Feedback
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

UNITS, STEPS, BATCH = 7, 12, 4
LATERALS = [
    LayerNorm(), Centred(), Softmax(0.7), LogSoftmax(), KWinners(1), KWinners(3), KWinners(7), SignedSoftmax(0.5),
    Ranked(), Ranked(3, 0.4), Ranked(7, 0.4), Triangle(), Triangle(2.0), Triangle(0.5),
]  # fmt: skip


def network(lateral):
    """input -> layer (lateral), which a feedback teaches; `back` is the pullback of what drives it."""
    rule = ThreeFactorRule(
        (Component((Term(post("rate"), pre("rate")),)),),
        Feedback(post("feedback")),
        when="step",
        transforms=(Rate(0.01),),
    )
    return Network(
        [
            Population("input", UNITS, Relay()),
            Population("layer", UNITS, Relay(), lateral),
            Population("back", UNITS, Relay(), Pullback("layer")),
        ],
        [Projection("input", "layer", np.eye(UNITS), Dense(), name="in", delay=0, rule=rule)],
    )


def values(seed, ties=False):
    """Random numbers, of which, with ties, several are the largest."""
    x = torch.randn(STEPS, BATCH, UNITS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * x).round() / 2 if ties else x


@pytest.mark.parametrize("lateral", LATERALS, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_every_lateral(lateral, ties):
    drive = {"layer": values(0, ties), "input": 0.1 * values(1), "layer.feedback": values(2), "back": values(3)}
    drive["input"][: STEPS // 2] = 0.0  # in the first half the layer sees its drive alone, ties and all
    probes = [Probe("layer", "rate"), Probe("back", "rate"), Probe("in", "weight")]
    results = both(network(lateral), Phase("p", STEPS, drive), probes, batch=BATCH, replicas=2)
    agree(results, 1e-11)
    assert not results[1][0].uncompiled()
    if not isinstance(lateral, Ranked):  # whose pullback is 0
        assert np.ptp(results[1][2]["back.rate"]) > 0.1
        assert np.ptp(results[1][2]["in.weight"], axis=0).max() > 1e-4


@pytest.mark.parametrize("lateral", [KWinners(9), Ranked(9, 0.4)])
def test_more_winners_than_units_are_refused(lateral):
    simulator = compile(network(lateral), 0.5, backend="cpu")
    with pytest.raises(ConfigurationError, match="is 9, but the population has 7 units"):
        simulator.run(simulator.init(1), Phase("p", 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [0, 1, 2, 5, 16, 17, 40])
def test_the_k_largest_with_many_equals(k, dtype):
    """Those of the lowest ranks in a stable sort, where k is small, large, and larger than the row."""
    for units in (1, 3, 20, 200):
        x = np.round(np.random.default_rng(k).standard_normal(units), 1).astype(dtype)
        found = np.empty_like(x)
        ROW_FUNCTIONS["row_top_k"](x, found, dtype(k))
        rank = np.argsort(np.argsort(-x, kind="stable"), kind="stable")
        np.testing.assert_array_equal(found, rank < k)
