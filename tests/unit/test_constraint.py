"""Constraints on the new weight, on dense, sparse, one-to-one and delayed projections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal, pair, simulate, weight

from neurosim.connectivity import EdgeList, OneToOne
from neurosim.constraint import Bounds, Dale, DividedByMax, RowNorm
from neurosim.factor import One
from neurosim.phase import Phase
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.types import ConfigurationError

P, Q = 4, 4
SIGNS = np.array([1, -1, -1, 1])
START = normal(P, Q)
POSTS, PRES = np.divmod(np.random.default_rng(0).permutation(P * Q), Q)
LAYOUTS = {
    "dense": {"weight": START},
    "delayed": {"weight": START, "delay": np.ones((P, Q))},
    "sparse": {"weight": START[POSTS, PRES], "connectivity": EdgeList(POSTS, PRES)},
}


def row_norm(w, norm, order):
    return norm * w / np.linalg.norm(w, order, axis=1, keepdims=True)


CONSTRAINTS = {
    "both bounds": (Bounds(-0.5, 0.7), lambda w: np.clip(w, -0.5, 0.7)),
    "below": (Bounds(w_min=0.1), lambda w: np.maximum(w, 0.1)),
    "above": (Bounds(w_max=0.1), lambda w: np.minimum(w, 0.1)),
    "open": (Bounds(), lambda w: w),
    "excitatory": (Dale(), lambda w: np.maximum(w, 0)),
    "inhibitory": (Dale(-1), lambda w: np.minimum(w, 0)),
    "mixed": (Dale(SIGNS), lambda w: SIGNS * np.maximum(SIGNS * w, 0)),
    "euclid": (RowNorm(2.0), lambda w: row_norm(w, 2.0, 2)),
    "sum": (RowNorm(0.5, 1), lambda w: row_norm(w, 0.5, 1)),
    "largest of all": (DividedByMax(), lambda w: w / np.abs(w).max()),
    "largest of a row": (DividedByMax("row"), lambda w: w / np.abs(w).max(1, keepdims=True)),
}


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_after_every_update(name, layout, replicas):
    """w <- C(w + 1), twice; the bias is left alone."""
    constraint, reference = CONSTRAINTS[name]
    rule = ThreeFactorRule((Component((Term(One("post"), One("pre")),)),), constraints=(constraint,))
    net = pair(Q, P, rule=rule, port="feedback", bias=-9.0, **LAYOUTS[layout])
    _, state, _ = simulate(net, Phase("p", 2), replicas=replicas)
    expected = reference(reference(START + 1) + 1)
    ours = weight(state).reshape(replicas or 1, -1)
    for row in ours:
        np.testing.assert_allclose(
            row, expected[POSTS, PRES] if layout == "sparse" else expected.ravel(), rtol=0, atol=1e-14
        )
    np.testing.assert_array_equal(weight(state, part="bias"), -7.0)


def test_one_to_one_has_rows_of_one():
    w = normal(4)
    for constraint, expected in (
        (RowNorm(2.0), 2 * np.sign(w + 1)),
        (DividedByMax("row"), np.sign(w + 1)),
        (DividedByMax(), (w + 1) / np.abs(w + 1).max()),
        (Dale(SIGNS), SIGNS * np.maximum(SIGNS * (w + 1), 0)),
    ):
        rule = ThreeFactorRule((Component((Term(One("post"), One("pre")),)),), constraints=(constraint,))
        _, state, _ = simulate(pair(4, 4, weight=w, connectivity=OneToOne(), rule=rule), Phase("p", 1))
        np.testing.assert_allclose(weight(state)[0], expected, rtol=1e-14)


def test_a_row_of_zeros_stays_zero_and_the_order_counts():
    rule = ThreeFactorRule((Component((Term(One("post"), One("pre")),)),), constraints=(Bounds(0.0), RowNorm()))
    start = np.array([[-9.0, -9.0], [2.0, 3.0]])
    _, state, _ = simulate(pair(2, 2, weight=start, rule=rule), Phase("p", 1))
    np.testing.assert_allclose(weight(state)[0], [[0, 0], [0.6, 0.8]], rtol=1e-14)
    for over, expected in (("row", [[0, 0], [0.75, 1]]), ("all", [[0, 0], [0.75, 1]])):
        rule = replace(rule, constraints=(Bounds(0.0), DividedByMax(over)))
        _, state, _ = simulate(pair(2, 2, weight=start, rule=rule), Phase("p", 1))
        np.testing.assert_array_equal(weight(state)[0], expected)


def test_the_largest_is_that_of_a_replica():
    rule = ThreeFactorRule((Component((Term(One("post"), One("pre")),)),), constraints=(DividedByMax(),))
    start = normal(2, P, Q)
    _, state, _ = simulate(pair(Q, P, weight=start, rule=rule), Phase("p", 1), replicas=2)
    for row, w in zip(weight(state), start + 1, strict=True):
        np.testing.assert_allclose(row, w / np.abs(w).max(), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Bounds(1.0, 0.0), "w_min is 1.0 and w_max is 0.0; w_min must not exceed w_max"),
        (lambda: Dale(0), "sign of Dale is 0; it must be"),
        (lambda: Dale([1, 2]), "sign of Dale is \\[1, 2\\]"),
        (lambda: RowNorm(0.0), "norm of RowNorm is 0.0"),
        (lambda: DividedByMax("column"), "over of DividedByMax is 'column'; allowed: all, row"),
        (lambda: RowNorm(1.0, 3), "order of RowNorm is 3; allowed: 1, 2"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
