"""dw_ij = lr mean_b(error_i slope_i r_j) on the output layer in every step (Widrow, Hoff 1960)."""

from __future__ import annotations

import numpy as np
import pytest
from plain import LAYERS, REPLICAS, Optimizer, agree, described, error, learn, outer, plain, shown, train

from neurosim.inspect.certificate import certify
from neurosim.rules.least_mean_squares import LeastMeanSquares
from neurosim.wiring import with_error

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)]]


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("kind", ["static", "leaky", "spiking"])
def test_equation(kind, loss):
    scheme = LeastMeanSquares(lr=0.1, loss=loss, tau_trace=4.0)
    start, state = train(scheme(described(kind)), TRIALS)

    def change(net, step, y):
        return [None, None, outer(error(step.output, y, loss) * step.slopes[-1], step, 2)]

    for replica in range(REPLICAS):
        net = plain(kind, start, replica, tau_trace=4.0)
        learn(net, TRIALS, change, [Optimizer(lr=0.1)] * 3)
        agree(state, replica, net, start, taught=LAYERS[2:])


def test_closed_form():
    """Held r and target: what is left of the error after K steps is (1 - lr (|r|^2 + 1))^K of it (1: the bias)."""
    one = shown(0, steps=7, batch=1)
    start, state = train(LeastMeanSquares(lr=0.1)(described("static")), [[one]])
    for replica in range(REPLICAS):
        step = plain("static", start, replica).step(one.x)
        r, first = step.pre[2], one.y - step.output
        left = one.y - plain("static", state, replica).step(one.x).output
        np.testing.assert_allclose(left, first * (1.0 - 0.1 * ((r**2).sum() + 1.0)) ** 7, rtol=1e-11)


def test_is_local():
    found = certify(LeastMeanSquares()(described("static", hidden=(3,))), 1.0, batch=3)
    assert (found.local, found.scope) == (True, "neuron")


def test_the_error_may_be_there_already():
    network = with_error(described("static"), "mse")
    assert len(LeastMeanSquares()(network).populations) == len(network.populations)
