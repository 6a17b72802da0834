"""The null deals the third factor to random neurons: the same values, at other places, anew in every step."""

from __future__ import annotations

import numpy as np
import pytest
from plain import BATCH, DT, LAYERS, REPLICAS, as_phase, described, shown, train

from neurosim.backends import compile
from neurosim.recorder import Probe
from neurosim.rules.backprop import Backprop
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.delta import Delta
from neurosim.rules.eprop import EProp
from neurosim.rules.hebb import Hebb
from neurosim.rules.shuffled import Shuffled
from neurosim.scheme import Composed
from neurosim.types import ConfigurationError

BASE = BioHSIC(window=BATCH, optimizer="none", lr=0.0)
STEPS = 6


def modulators(scheme, norm=False):
    """The third factor `[T, R, B, N]` of every layer, with weights that stay as they are."""
    network = scheme(described("leaky", norm))
    simulator = compile(network, DT, replicas=REPLICAS, seed=3, dtype="float64")
    phase = as_phase(shown(0, steps=STEPS), network)
    probes = [Probe(name, "modulator") for name in LAYERS]
    recording = simulator.run(simulator.init(BATCH), phase, probes)[1]
    return [recording[f"{name}.modulator"] for name in LAYERS]


def test_keeps_the_values_and_changes_their_places():
    for before, after in zip(modulators(BASE)[:2], modulators(Composed((BASE, Shuffled())))[:2], strict=True):
        np.testing.assert_array_equal(np.sort(before, -1), np.sort(after, -1))
        newest = before[:, :, -1], after[:, :, -1]  # the rows of the batch that are not 0
        assert np.abs(newest[0]).min() > 0
        orders = [np.argsort(values, -1) for values in newest]
        assert (orders[0] != orders[1]).any(-1).mean() > 0.9


def test_every_step_and_replica_has_its_own_order():
    before, after = modulators(BASE)[0][:, :, -1], modulators(Composed((BASE, Shuffled())))[0][:, :, -1]
    moved = {
        tuple(np.argmax(a[:, None] == b[None], -1))
        for a, b in zip(*(v.reshape(-1, 6) for v in (before, after)), strict=True)
    }
    assert len(moved) > STEPS * REPLICAS // 2


def test_the_whole_batch_is_dealt_alike():
    """Rows of one batch share the permutation: only who gets which value is lost, not what rows have in common."""
    scheme = Backprop(lr=0.0, optimizer="none")
    before, after = modulators(scheme)[0], modulators(Composed((scheme, Shuffled())))[0]
    places = np.argmax(before[..., :, None] == after[..., None, :], -2)
    np.testing.assert_array_equal(places, places[:, :, :1].repeat(BATCH, 2))


def test_the_output_layer_is_left_alone():
    before, after = modulators(BASE)[2], modulators(Composed((BASE, Shuffled())))[2]
    np.testing.assert_array_equal(before, after)


def test_layers_restricts_it():
    before, after = modulators(BASE), modulators(Composed((BASE, Shuffled(layers=LAYERS[1:]))))
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1] != after[1]).any()


def test_is_dealt_before_the_layer_norm():
    """What the synapses get then sums to zero over the layer, as a pulled back cotangent does."""
    before, after = modulators(BASE, norm=True)[0], modulators(Composed((BASE, Shuffled())), norm=True)[0]
    np.testing.assert_allclose(after.sum(-1), 0.0, atol=1e-14)
    assert np.abs(np.sort(before, -1) - np.sort(after, -1)).max() > 1e-6


def test_changes_what_is_learned_and_nothing_else():
    trials = [[shown(0)], [shown(1)]]
    scheme = BioHSIC(window=BATCH, optimizer="none", lr=0.5)
    start, state = train(scheme(described("leaky")), trials)
    other_start, other = train(Composed((scheme, Shuffled()))(described("leaky")), trials)
    for name in LAYERS:
        np.testing.assert_array_equal(start.learned["weight"][name], other_start.learned["weight"][name])
        assert (state.learned["weight"][name] != other.learned["weight"][name]).any()


def test_without_a_rule_before_it_there_is_nothing_to_shuffle():
    with pytest.raises(ConfigurationError, match="a rule comes first, as in rule=biohsic"):
        Shuffled()(described("leaky"))


def test_the_delta_rule_is_left_alone():
    """It has no hidden rule to shuffle."""
    trials = [[shown(0)]]
    _, state = train(Delta(lr=0.1)(described("leaky")), trials)
    _, other = train(Composed((Delta(lr=0.1), Shuffled()))(described("leaky")), trials)
    for name in LAYERS:
        np.testing.assert_array_equal(state.learned["weight"][name], other.learned["weight"][name])


def test_a_null_that_would_be_the_rule_itself():
    """Two factors only, or (e-prop with rates regularised) a third one that is no modulator."""
    for scheme, name in ((Hebb(), "hebb"), (EProp(c_reg=1.0), "eprop")):
        with pytest.raises(ConfigurationError, match=f"but {name} has none: nothing would be shuffled"):
            Shuffled()(scheme(described("spiking")))
