"""Who is connected to whom: the drawn wirings and their statistics, lists, convolutions, pools."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.connectivity import (
    AveragePool,
    Conv2d,
    Dense,
    EdgeList,
    FixedInDegree,
    FixedProbability,
    MaxPool,
    OneToOne,
)
from neurosim.random import Stream
from neurosim.types import ConfigurationError

STREAM = Stream(3, "wiring/test")


def matrix(connectivity, posts, pres, same=False, replica=0, stream=STREAM):
    post, pre = connectivity.edges(posts, pres, same, stream, replica)
    result = np.zeros((posts, pres), int)
    np.add.at(result, (post, pre), 1)
    order = post * pres + pre
    assert (np.diff(order) > 0).all()  # sorted by post, then pre, and no pair twice
    return result


def test_kinds():
    kinds = [
        c.kind
        for c in (Dense(), OneToOne(), FixedProbability(0.1), FixedInDegree(1), EdgeList([], []), Conv2d(1), MaxPool(1))
    ]
    assert kinds == ["dense", "one_to_one", "sparse", "sparse", "sparse", "convolution", "sparse"]


def test_fixed_probability():
    drawn = matrix(FixedProbability(0.3), 200, 150)
    assert abs(drawn.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / drawn.size)
    assert abs(drawn.sum(1).var() / (150 * 0.3 * 0.7) - 1) < 0.5  # binomial, not a fixed number
    assert matrix(FixedProbability(1.0), 5, 4).all()
    assert not matrix(FixedProbability(0.0), 5, 4).any()


def test_autapses():
    for connectivity in (FixedProbability, FixedInDegree):
        amount = 0.5 if connectivity is FixedProbability else 10
        without = matrix(connectivity(amount), 20, 20, same=True)
        assert not np.diag(without).any()
        assert np.diag(matrix(connectivity(amount, autapses=True), 20, 20, same=True)).any()
        assert np.diag(matrix(connectivity(amount), 20, 20)).any()  # two populations: no self


def test_replicas_and_seeds_differ():
    first = matrix(FixedProbability(0.5), 20, 20)
    assert (first != matrix(FixedProbability(0.5), 20, 20, replica=1)).any()
    assert (first != matrix(FixedProbability(0.5), 20, 20, stream=Stream(4, "wiring/test"))).any()
    assert (first == matrix(FixedProbability(0.5), 20, 20)).all()


def test_chunks_do_not_change_the_draw(monkeypatch):
    """A pair's number depends on its two neurons, not on how many pairs are drawn at once."""
    whole = matrix(FixedProbability(0.2), 3000, 2000)  # more than one chunk
    part = matrix(FixedProbability(0.2), 10, 2000)
    assert (whole[:10] == part).all()


def test_fixed_in_degree():
    drawn = matrix(FixedInDegree(7), 2000, 20)
    assert (drawn.sum(1) == 7).all()
    expected = 2000 * 7 / 20
    assert (np.abs(drawn.sum(0) - expected) < 5 * np.sqrt(expected)).all()  # every pre neuron as often as another
    pairs = (drawn[:, :, None] * drawn[:, None]).sum(0)[~np.eye(20, dtype=bool)]
    expected = 2000 * 7 * 6 / (20 * 19)
    assert (np.abs(pairs - expected) < 5 * np.sqrt(expected)).all()  # and every pair of them
    without = matrix(FixedInDegree(19), 20, 20, same=True)
    assert (without == 1 - np.eye(20)).all()


def test_edge_list_keeps_its_order_and_copies():
    post, pre = np.array([2, 0, 2]), np.array([1, 1, 1])
    edges = EdgeList(post, pre).edges(3, 2, False, STREAM, 0)
    post[:] = 0
    assert edges[0].tolist() == [2, 0, 2]
    assert edges[1].tolist() == [1, 1, 1]


def test_pool_edges():
    post, pre = MaxPool(2).pool_edges((2, 4, 5), (2, 2, 2))
    x = np.arange(40).reshape(2, 4, 5)
    for i, (c, row, column) in enumerate(np.ndindex(2, 2, 2)):
        window = x[c, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert sorted(pre[post == i]) == sorted(window.ravel())
    assert AveragePool(2).pool_edges((2, 4, 5), (2, 2, 2))[1].tolist() == pre.tolist()


def test_convolution_shapes():
    assert Conv2d(3).output_shape((2, 8, 9), 4) == (4, 6, 7)
    assert Conv2d(3, 2, 1).output_shape((2, 8, 9), 4) == (4, 4, 5)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: FixedProbability(1.1), "probability of FixedProbability is 1.1; it must be in \\[0, 1\\]"),
        (lambda: FixedProbability(-0.1), "probability of FixedProbability is -0.1"),
        (lambda: FixedProbability(float("nan")), "probability of FixedProbability is nan"),
        (lambda: FixedInDegree(0), "degree of FixedInDegree is 0; it must be a whole number of at least 1"),
        (lambda: FixedInDegree(2.5), "degree of FixedInDegree is 2.5"),
        (lambda: FixedInDegree(3).edges(3, 3, True, STREAM, 0), "degree of FixedInDegree is 3, but only 2 pre neurons"),
        (lambda: EdgeList([0, 1], [0]), "EdgeList needs post and pre of one length; got shapes \\(2,\\) and \\(1,\\)"),
        (lambda: EdgeList([[0]], [[0]]), "got shapes \\(1, 1\\) and"),
        (lambda: EdgeList([0], [3]).edges(3, 3, False, STREAM, 0), "EdgeList has a pre index outside 0..2"),
        (lambda: Conv2d(0), "kernel of Conv2d is 0; it must be a whole number of at least 1"),
        (lambda: Conv2d(3, 1.5), "stride of Conv2d is 1.5"),
        (lambda: Conv2d(3, 1, -1), "padding of Conv2d is -1; it must be a whole number of at least 0"),
        (lambda: Conv2d(3).output_shape((2, 2, 9), 1), "a kernel of 3 does not fit into \\(2, 9\\) with padding 0"),
        (lambda: MaxPool(0), "size of MaxPool is 0"),
        (lambda: AveragePool(True), "size of AveragePool is True"),
        (lambda: MaxPool(2).pool_edges((4,), (2,)), "pooling by 2 takes"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
