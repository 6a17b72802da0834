"""dw_ij = lr mean_b(error_i slope_i pre_j) on the output layer, and nothing elsewhere (Widrow, Hoff 1960)."""

from __future__ import annotations

import pytest
from plain import REPLICAS, Optimizer, agree, described, error, learn, outer, plain, shown, train

from neurosim.rules.delta import Delta
from neurosim.types import ConfigurationError

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)]]


def delta(loss):
    def change(net, step, y):
        return [None, None, outer(error(step.output, y, loss) * step.slopes[-1], step, 2)]

    return change


def check(scheme, kind="leaky", norm=False, trials=TRIALS):
    start, state = train(scheme(described(kind, norm)), trials)
    for replica in range(REPLICAS):
        net = plain(kind, start, replica, norm=norm, tau_trace=scheme.tau_trace)
        optimizer = Optimizer(scheme.optimizer, scheme.lr, scheme.beta1, scheme.beta2, scheme.weight_decay)
        learn(net, trials, delta(scheme.loss), [optimizer] * 3, scheme.when, scheme.accumulate)
        agree(state, replica, net, start, taught=("hidden1_output",))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize(("kind", "norm"), [("static", False), ("static", True), ("leaky", True), ("spiking", False)])
def test_equation(kind, norm, loss):
    check(Delta(lr=0.1, optimizer="none", loss=loss), kind, norm)


@pytest.mark.parametrize("accumulate", ["sum", "mean", "last"])
@pytest.mark.parametrize("when", ["step", "phase", "sample"])
def test_when_and_accumulate(when, accumulate):
    check(Delta(lr=0.1, optimizer="none", when=when, accumulate=accumulate))


@pytest.mark.parametrize("name", ["none", "momentum", "adam", "adamw"])
def test_optimizers(name):
    check(Delta(lr=0.01, optimizer=name, beta1=0.7, beta2=0.8, weight_decay=0.3))


@pytest.mark.parametrize("tau_trace", [None, 2.0, 50.0])
def test_trace_of_spikes(tau_trace):
    check(Delta(lr=0.1, optimizer="none", tau_trace=tau_trace), "spiking")


def test_layers_without_the_output_leave_everything():
    start, state = train(Delta(lr=0.1, layers=("input_hidden0",))(described("leaky")), TRIALS)
    agree(state, 0, plain("leaky", start, 0), start, taught=())


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(
        ConfigurationError, match="layers names 'nowhere'; the forward projections are: input_hidden0, "
    ):
        Delta(layers=("nowhere",))(described("leaky"))
