"""dw = -lr dLoss / dw through all steps, against the backward recursion written out in NumPy.

With v_t = l v_t-1 + (1 - l) (W h_t + b), h_t = f(v_t) and a reset through which nothing passes, the cotangents are
g^v_t = f'(v_t) g^h_t + l g^v_t+1 and g^h_t = (1 - l) W^T g^v_t of the layer above; f' is the surrogate for spikes.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plain import LAYERS, REPLICAS, V_TH, Optimizer, agree, described, error, plain, shown, train

from neurosim.adapter import Mean
from neurosim.rules.bptt import BPTT
from neurosim.types import ConfigurationError

FIRST, SECOND = shown(0, steps=4), shown(1, steps=3)


def gradient(net, one, scheme, derivative):
    """Minus the gradient of the mean loss of the mean output over the final steps: per layer (dw, db)."""
    steps = [net.step(one.x) for _ in range(one.steps)]
    count = one.steps if scheme.decoder.last is None else scheme.decoder.last
    top = error(sum(step.output for step in steps[-count:]) / count, one.y, scheme.loss) / count / len(one.x)
    changes = [[np.zeros_like(w), np.zeros_like(b)] for w, b in zip(net.weights, net.biases, strict=True)]
    later = [0.0] * len(net.weights)
    gain = 1 - net.leak
    for t in reversed(range(one.steps)):
        g = top if t >= one.steps - count else np.zeros_like(top)
        for layer in reversed(range(len(net.weights))):
            slope = steps[t].slopes[layer] / gain if derivative is None else derivative(steps[t].free[layer], layer)
            later[layer] = net.leak * later[layer] + g * slope
            changes[layer][0] += gain * later[layer].T @ steps[t].pre[layer]
            changes[layer][1] += gain * later[layer].sum(0)
            g = gain * later[layer] @ net.weights[layer]
    return changes


def check(scheme, kind, derivative=None, taught=LAYERS):
    """Two presentations; the activity is carried over, the gradient is not."""
    start, state = train(scheme(described(kind)), [[FIRST], [SECOND]])
    for replica in range(REPLICAS):
        net = plain(kind, start, replica)
        optimizer = Optimizer(scheme.optimizer, scheme.lr, scheme.beta1, scheme.beta2, scheme.weight_decay)
        for one in (FIRST, SECOND):
            changes = gradient(net, one, scheme, derivative)
            for layer, name in enumerate(LAYERS):
                if name in taught:
                    dw, db = changes[layer]
                    net.weights[layer] = net.weights[layer] + optimizer((name, "w"), dw, net.weights[layer])
                    net.biases[layer] = net.biases[layer] + optimizer((name, "b"), db, net.biases[layer])
        agree(state, replica, net, start, taught)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("last", [None, 2])
@pytest.mark.parametrize("kind", ["static", "leaky", "spiking"])
def test_equation(kind, last, loss):
    check(BPTT(lr=0.1, surrogate=None, optimizer="none", loss=loss, decoder=Mean(last)), kind)


@pytest.mark.parametrize("name", ["none", "momentum", "adam", "adamw"])
def test_optimizers(name):
    check(BPTT(lr=0.01, surrogate=None, optimizer=name, beta1=0.7, beta2=0.8, weight_decay=0.3), "leaky")


# Derivatives of the step function as snnTorch has them, with its default parameters.
SURROGATES = {
    "fast_sigmoid": lambda x: 1 / (25 * np.abs(x) + 1) ** 2,
    "atan": lambda x: 1.0 / (1 + (math.pi * x) ** 2),
    "sigmoid": lambda x: 25 * np.exp(-25 * x) / (np.exp(-25 * x) + 1) ** 2,
    "straight_through_estimator": np.ones_like,
}


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_by_name(name):
    def derivative(v, layer):
        return SURROGATES[name](v - V_TH) if layer < 2 else np.ones_like(v)

    check(BPTT(lr=0.1, surrogate=name, optimizer="none"), "spiking", derivative)


def test_unknown_names_are_refused():
    with pytest.raises(ConfigurationError, match="nothing"):
        BPTT(surrogate="nothing")(described("spiking"))
    with pytest.raises(ConfigurationError, match="loss is 'hinge'"):
        BPTT(loss="hinge")(described("static"))


def test_a_part_of_the_layers():
    check(BPTT(lr=0.1, surrogate=None, optimizer="none", layers=LAYERS[:1]), "leaky", taught=LAYERS[:1])


def test_leaves_no_graph_behind():
    _, state = train(BPTT()(described("leaky")), [[FIRST]])
    tensors = [*state.learned["weight"].values(), *state.activity["state"]["output"].values()]
    assert not any(tensor.requires_grad for tensor in tensors)
    assert torch.is_grad_enabled()


def test_an_unknown_surrogate_is_told_even_for_networks_that_do_not_spike():
    with pytest.raises(ConfigurationError, match="foo"):
        BPTT(surrogate="foo")
