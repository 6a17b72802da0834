"""change <- H^-1 change, H = (1 - alpha) I + alpha 1 1^T on blocks of inputs of one neuron, by linear solve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal, pair, simulate, weight
from plain import DT, LAYERS, REPLICAS, described, shown, train

from neurosim.connectivity import Conv2d, EdgeList, FixedProbability, OneToOne
from neurosim.factor import post, pre
from neurosim.inspect.certificate import certify
from neurosim.phase import Phase
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.rules.backprop import Backprop
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.hebb import Hebb
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.scheme import Composed
from neurosim.transform import Heterosynaptic as Transform
from neurosim.transform import Rate
from neurosim.types import ConfigurationError

TRIAL = [[shown(0)]]
BASE = Backprop(lr=0.1, optimizer="none", when="phase")


def solve(rows, alpha, block):
    """H^-1 on each block of each row of a matrix `[P, Q]`; the last block of a row may be short."""
    result = np.empty_like(rows)
    for start in range(0, rows.shape[1], block):
        part = rows[:, start : start + block]
        n = part.shape[1]
        coupling = (1 - alpha) * np.eye(n) + alpha * np.ones((n, n))
        result[:, start : start + block] = np.linalg.solve(coupling, part.T).T
    return result


def changes(scheme, kind="leaky", trials=TRIAL):
    start, state = train(scheme(described(kind)), trials)
    return {
        (part, name): (state.learned[part][name] - start.learned[part][name]).numpy()
        for part in ("weight", "bias")
        for name in LAYERS
    }


@pytest.mark.parametrize("base", [BASE, BioHSIC(window=3, optimizer="none", lr=0.5, when="phase")])
@pytest.mark.parametrize(("alpha", "block"), [(0.2, 4), (0.9, 2), (-0.4, 3), (0.5, 100), (0.3, 1)])
def test_equation(base, alpha, block):
    alone, coupled = changes(base), changes(Composed((base, Heterosynaptic(alpha, block))))
    for (part, name), change in alone.items():
        for replica in range(REPLICAS):
            expected = solve(change[replica], alpha, block) if part == "weight" else change[replica]
            np.testing.assert_allclose(coupled[part, name][replica], expected, rtol=0, atol=1e-14)


def test_comes_before_the_optimizer():
    """Adam normalises what the coupling gives; coupling what Adam gives would be something else."""
    adam = Backprop(lr=0.1, optimizer="adam", when="phase")
    alone, coupled = changes(adam), changes(Composed((adam, Heterosynaptic(0.7, 4))))
    for name in LAYERS:
        change = coupled["weight", name]
        np.testing.assert_allclose(np.abs(change), 0.1, rtol=1e-3)  # Adam's first step has one size for every synapse
        assert np.abs(change - alone["weight", name]).max() > 0.1


def test_zero_is_no_coupling():
    alone, coupled = changes(BASE), changes(Composed((BASE, Heterosynaptic(0.0, 4))))
    for key, change in alone.items():
        np.testing.assert_array_equal(change, coupled[key])


def test_layers_restricts_it():
    alone, coupled = changes(BASE), changes(Composed((BASE, Heterosynaptic(0.5, 4, layers=LAYERS[:1]))))
    assert np.abs(alone["weight", LAYERS[0]] - coupled["weight", LAYERS[0]]).max() > 1e-4
    for name in LAYERS[1:]:
        np.testing.assert_array_equal(alone["weight", name], coupled["weight", name])


def test_two_couplings_are_their_product():
    trial = changes(Composed((BASE, Heterosynaptic(0.5, 2), Heterosynaptic(0.2, 3))))
    for name in LAYERS:
        change = changes(BASE)["weight", name][0]
        expected = solve(solve(change, 0.2, 3), 0.5, 2)  # a later scheme is put in front of an earlier one
        np.testing.assert_allclose(trial["weight", name][0], expected, rtol=0, atol=1e-14)


def test_flat_is_the_solve_over_the_whole_weight():
    alone, coupled = changes(BASE), changes(Composed((BASE, Heterosynaptic(0.5, 4, "flat"))))
    for (part, name), change in alone.items():
        for replica in range(REPLICAS):
            flat = solve(change[replica].reshape(1, -1), 0.5, 4).reshape(change[replica].shape)
            expected = flat if part == "weight" else change[replica]
            np.testing.assert_allclose(coupled[part, name][replica], expected, rtol=0, atol=1e-14)


def test_normalise_and_seed():
    """The control draws other groups for another seed; "norm" keeps the size of the change in every block."""
    alone, kept = (
        changes(one)["weight", LAYERS[0]] for one in (BASE, Composed((BASE, Heterosynaptic(0.7, 2, normalise="norm"))))
    )
    lengths = (np.linalg.norm(value.reshape(REPLICAS, -1, 2, 2), axis=-1) for value in (alone, kept))
    np.testing.assert_allclose(next(lengths), next(lengths), rtol=1e-12)
    assert np.abs(alone - kept).max() > 1e-4
    drawn = [
        changes(Composed((BASE, Heterosynaptic(0.7, 2, "permuted", seed=seed))))["weight", LAYERS[0]]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-4


@pytest.mark.parametrize(("grouping", "local"), [("row", True), ("permuted", True), ("flat", False)])
def test_a_block_of_two_neurons_is_no_local_rule(grouping, local):
    network = Composed((Hebb(output="none"), Heterosynaptic(0.5, 3, grouping)))(described("static", hidden=(3, 2)))
    found = certify(network, DT, batch=2)
    assert found.local == local
    if not local:
        assert any("of other neurons" in leak for leak in found.leaks)


def test_bias_keeps_its_own_transforms():
    network = BASE(described("leaky"))
    rule = replace(network.projection(LAYERS[0]).rule, bias_transforms=(Rate(0.3),))
    network = network.with_projections(lambda p: replace(p, rule=rule) if p.name == LAYERS[0] else p)
    coupled = Heterosynaptic(0.5, 4)(network).projection(LAYERS[0]).rule
    assert coupled.bias_transforms == (Rate(0.3),)
    assert Heterosynaptic(0.5, 4)(BASE(described("leaky"))).projection(LAYERS[0]).rule.bias_transforms == (Rate(0.1),)


def one_update(transform, pre_size, post_size, **wire):
    """(change without, change with) `transform`, of a product of two given activities, on any connectivity."""
    term = Term(post("feedback"), pre("rate"))
    x = normal(3, int(np.prod(pre_size)), seed=1)
    g = normal(3, int(np.prod(post_size)), seed=2)
    phase = Phase("p", 1, {"input": x[None], "output.feedback": g[None]})
    result = []
    for transforms in ((), (transform,)):
        rule = ThreeFactorRule((Component((term,)),), transforms=transforms)
        simulator, state, _ = simulate(pair(pre_size, post_size, rule=rule, **wire), phase, batch=3, replicas=REPLICAS)
        result.append(weight(state) - weight(simulator.init(3)))
    return simulator, *result


def test_convolution_couples_within_the_kernels_of_one_channel():
    _, alone, coupled = one_update(Transform(0.6, 4), (2, 4, 4), (3, 3, 3), connectivity=Conv2d(2), weight=0.1)
    for replica in range(REPLICAS):
        rows = alone[replica].reshape(3, -1)
        np.testing.assert_allclose(coupled[replica].reshape(3, -1), solve(rows, 0.6, 4), rtol=0, atol=1e-13)


def test_sparse_couples_the_inputs_that_a_neuron_has():
    """Neighbours are consecutive existing inputs, whatever the order of the edge list, replica by replica."""
    simulator, alone, coupled = one_update(Transform(0.6, 3), 9, 5, connectivity=FixedProbability(0.6), weight=0.1)
    check_edges(simulator, alone, coupled, 0.6, 3)
    order = np.random.default_rng(0).permutation(20)
    edges = EdgeList(np.repeat(np.arange(4), 5)[order], np.tile(np.arange(0, 10, 2), 4)[order])
    simulator, alone, coupled = one_update(Transform(0.6, 3), 10, 4, connectivity=edges, weight=0.1)
    check_edges(simulator, alone, coupled, 0.6, 3)


def check_edges(simulator, alone, coupled, alpha, block):
    edges = simulator.plan.synapses["wire"].edges
    posts, pres = edges.post.numpy(), edges.pre.numpy()
    assert np.abs(alone - coupled).max() > 1e-3
    for neuron in np.unique(posts):
        mine = np.flatnonzero(posts == neuron)
        mine = mine[np.argsort(pres[mine])]
        expected = solve(alone[None, mine], alpha, block)[0]
        np.testing.assert_allclose(coupled[mine], expected, rtol=0, atol=1e-13)


def test_one_to_one_has_no_neighbours():
    _, alone, coupled = one_update(Transform(0.6, 4), 6, 6, connectivity=OneToOne(), weight=0.1)
    assert np.abs(alone).max() > 0.1
    np.testing.assert_allclose(alone, coupled, rtol=1e-15)


@pytest.mark.parametrize(
    ("alpha", "block", "sentence"),
    [
        (1.0, 4, "alpha of Heterosynaptic is 1.0; it must be in"),
        (-0.34, 4, r"alpha of Heterosynaptic is -0.34; it must be in \(-0.33"),
        (0.2, 0, "block of Heterosynaptic is 0"),
        (0.2, 2.5, "block of Heterosynaptic is 2.5"),
        (0.2, True, "block of Heterosynaptic is True"),
    ],
)
def test_wrong_settings_are_one_sentence(alpha, block, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        Heterosynaptic(alpha, block)(BASE(described("leaky")))


def test_without_a_rule_before_it_there_is_nothing_to_couple():
    with pytest.raises(ConfigurationError, match="a rule comes first"):
        Heterosynaptic()(described("leaky"))
