"""Which synapses heterosynaptic coupling puts together, and how long a change is afterwards; on every connectivity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import normal, pair, simulate, weight

from neurosim.connectivity import Conv2d, EdgeList, FixedProbability, OneToOne
from neurosim.factor import post, pre
from neurosim.phase import Phase
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Heterosynaptic

B, R = 3, 2
ORDER = np.random.default_rng(0).permutation(40)
LAYOUTS = {
    "dense": (7, 5, {}),
    "convolution": ((2, 4, 4), (3, 3, 3), {"connectivity": Conv2d(2)}),
    "drawn": (9, 5, {"connectivity": FixedProbability(0.6)}),
    "listed": (10, 4, {"connectivity": EdgeList(np.repeat(np.arange(4), 10)[ORDER], np.tile(np.arange(10), 4)[ORDER])}),
    "delayed": (7, 5, {"delay": np.zeros((5, 7))}),
}


def both(layout, *transforms):
    """(simulator, changes without, changes with `transforms`) of one step, flat."""
    before, after, wire = LAYOUTS[layout] if isinstance(layout, str) else layout
    x, y = (normal(1, R, B, int(np.prod(size)), seed=seed) for seed, size in ((1, before), (2, after)))
    result = []
    for chain in ((), transforms):
        rule = ThreeFactorRule((Component((Term(post("feedback"), pre("rate")),)),), transforms=chain)
        net = pair(before, after, rule=rule, weight=0.0, **wire)
        simulator, state, _ = simulate(net, Phase("p", 1, {"input": x, "output.feedback": y}), batch=B, replicas=R)
        result.append(weight(state))
    return simulator, *result


def rows(layout, simulator, values):
    """The inputs of each neuron in their order: `[replica][neuron]` -> indices of the flat weight."""
    edges = simulator.plan.synapses["wire"].edges
    if edges is None:
        count = values[0].size // values.shape[1]
        return [
            [
                np.arange(r * values[0].size + i * count, r * values[0].size + (i + 1) * count)
                for i in range(values.shape[1])
            ]
            for r in range(R)
        ]
    posts, pres, first = edges.post.numpy(), edges.pre.numpy(), 0
    result = []
    for count in edges.counts:
        own = np.arange(first, first + count)
        result.append([own[posts[own] == i][np.argsort(pres[own[posts[own] == i]])] for i in np.unique(posts[own])])
        first += count
    return result


def solve(values, alpha, block):
    """H^-1 on consecutive blocks of a vector."""
    result = values.copy()
    for start in range(0, len(values), block):
        n = len(values[start : start + block])
        result[start : start + block] = np.linalg.solve((1 - alpha) * np.eye(n) + alpha, values[start : start + block])
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("alpha", "block"), [(0.6, 4), (-0.3, 3), (0.5, 1000)])
def test_flat_goes_on_across_neurons_but_not_across_replicas(layout, alpha, block):
    simulator, alone, coupled = both(layout, Heterosynaptic(alpha, block, "flat"))
    for neurons in rows(layout, simulator, alone):
        entries = np.concatenate(neurons)
        expected = solve(alone.ravel()[entries], alpha, block)
        np.testing.assert_allclose(coupled.ravel()[entries], expected, rtol=0, atol=1e-12)


def partners(layout, alpha, **options):
    """Which entries of the weight each one is coupled with `[E, E]`: found by moving one entry of the change."""
    simulator, alone, _ = both(layout)
    operation = simulator.operations["wire"]
    change, size = torch.from_numpy(alone), alone.size
    transform = Heterosynaptic(alpha, **options)
    base = transform.update(change, change, operation).reshape(-1)
    result = np.zeros((size, size), bool)
    for entry in range(size):
        moved = change.reshape(-1).clone()
        moved[entry] += 1.0
        other = transform.update(moved.reshape(change.shape), change, operation).reshape(-1)
        result[entry] = (other != base).numpy()
    return simulator, alone, result


@pytest.mark.parametrize("layout", LAYOUTS)
def test_permuted_groups_have_the_same_sizes_and_other_members(layout):
    simulator, alone, together = partners(layout, 0.4, block=3, grouping="permuted")
    np.testing.assert_array_equal(together, together.T)
    consecutive = partners(layout, 0.4, block=3)[2]
    assert (together != consecutive).any()
    for neurons in rows(layout, simulator, alone):
        for own in neurons:
            inside = together[own][:, own]
            assert inside.sum() == together[own].sum()  # nobody of another neuron, nobody of another replica
            sizes = [3] * (len(own) // 3 * 3) + [len(own) % 3] * (len(own) % 3)
            assert sorted(inside.sum(1)) == sorted(sizes)
            for group in inside:  # all who are together with me are together
                assert inside[group][:, group].all()
    again, other = (partners(layout, 0.4, block=3, grouping="permuted", seed=seed)[2] for seed in (0, 1))
    np.testing.assert_array_equal(together, again)
    assert (together != other).any()


def test_permuted_groups_differ_by_neuron_and_replica_and_projection():
    simulator, alone, together = partners("dense", 0.4, block=3, grouping="permuted")
    patterns = [together[own][:, own].tobytes() for neurons in rows("dense", simulator, alone) for own in neurons]
    assert len(set(patterns)) > 5  # of 10 rows
    assert simulator.operations["wire"].name == "wire"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grouping", ["row", "flat", "permuted"])
@pytest.mark.parametrize(("alpha", "block"), [(0.75, 4), (-0.3, 3), (0.4, 1)])
def test_trace_gives_a_mean_gain_of_one(layout, grouping, alpha, block):
    """sum_i dw_i / dg_i = number of synapses, block by block and so in the whole."""
    simulator, alone, _ = both(layout)
    transform = Heterosynaptic(alpha, block, grouping, "trace")
    zero, gains = torch.zeros(alone.shape, dtype=torch.float64), []
    for entry in range(alone.size):
        one = zero.reshape(-1).clone()
        one[entry] = 1.0
        gains.append(transform.update(one.reshape(zero.shape), zero, simulator.operations["wire"]).reshape(-1)[entry])
    np.testing.assert_allclose(gains, 1.0, rtol=0, atol=1e-14)  # H^-1 has one number on its diagonal


def test_trace_is_a_scale_of_each_block():
    """The mean gain of a short block is its own."""
    _, alone, coupled = both("dense", Heterosynaptic(0.75, 4, normalise="trace"))
    for replica in range(R):
        for change, ours in zip(alone[replica], coupled[replica], strict=True):
            for part in (slice(0, 4), slice(4, 7)):
                n = len(change[part])
                inverse = np.linalg.inv(0.25 * np.eye(n) + 0.75)
                expected = inverse @ change[part] / (np.trace(inverse) / n)
                np.testing.assert_allclose(ours[part], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.99, -0.3])
def test_norm_keeps_the_length_and_turns_the_direction(layout, alpha):
    simulator, alone, coupled = both(layout, Heterosynaptic(alpha, 3, normalise="norm"))
    _, _, free = both(layout, Heterosynaptic(alpha, 3))
    for neurons in rows(layout, simulator, alone):
        for own in neurons:
            for start in range(0, len(own), 3):
                g, ours, long = (value.ravel()[own[start : start + 3]] for value in (alone, coupled, free))
                np.testing.assert_allclose(np.linalg.norm(ours), np.linalg.norm(g), rtol=1e-12)
                np.testing.assert_allclose(ours, long * np.linalg.norm(g) / np.linalg.norm(long), rtol=0, atol=1e-12)


def test_norm_of_no_change_is_no_change():
    simulator, alone, _ = both("dense")
    zero = torch.zeros(alone.shape, dtype=torch.float64)
    ours = Heterosynaptic(0.5, 3, normalise="norm").update(zero, zero, simulator.operations["wire"])
    np.testing.assert_array_equal(ours, 0.0)


@pytest.mark.parametrize("grouping", ["row", "flat", "permuted"])
@pytest.mark.parametrize("normalise", ["none", "trace", "norm"])
def test_who_has_no_neighbours_keeps_the_change(grouping, normalise):
    transform = Heterosynaptic(0.7, 4, grouping, normalise)
    _, alone, coupled = both((6, 6, {"connectivity": OneToOne()}), transform)
    assert np.abs(alone).max() > 0.1
    np.testing.assert_allclose(coupled, alone, rtol=1e-14)
    _, alone, coupled = both("dense", Heterosynaptic(0.0, 4, grouping, normalise))
    np.testing.assert_array_equal(alone, coupled)
