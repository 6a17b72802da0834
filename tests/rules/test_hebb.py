"""dw = +- lr z x in plain NumPy; clamped, centred, with a norm, with a rate per layer."""

from __future__ import annotations

import numpy as np
import pytest
from plain import BATCH, LAYERS, REPLICAS, described, plain, shown, train
from unsupervised import TRIALS

from neurosim.rules.anti_hebb import AntiHebb
from neurosim.rules.hebb import Hebb
from neurosim.types import ConfigurationError


def by_hand(net, scheme, trials):
    """Train a NumPy network in place: an update at the end of each presentation, of its last step."""
    lr = [scheme.lr] * 3 if isinstance(scheme.lr, float) else scheme.lr
    count = 3 if scheme.output == "same" else 2
    for one in (one for trial in trials for one in trial):
        for _ in range(one.steps):
            step = net.step(one.x)
        for layer in range(count):
            z = one.y if scheme.clamp and layer == 2 else step.post[layer]
            z = z - z.mean(-1, keepdims=True) if scheme.centred else z
            scale = scheme.sign * lr[layer] / (BATCH if scheme.reduce == "mean" else 1)
            net.weights[layer] = net.weights[layer] + scale * z.T @ step.pre[layer]
            net.biases[layer] = net.biases[layer] + scale * z.sum(0) * step.one[layer]
            if scheme.row_norm is not None:
                norm = np.sqrt((net.weights[layer] ** 2).sum(1, keepdims=True))
                net.weights[layer] = net.weights[layer] * scheme.row_norm / norm


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": AntiHebb},
        {"kind": AntiHebb, "row_norm": 0.7},
        {"centred": True},
        {"clamp": True},
        {"clamp": True, "centred": True},
        {"row_norm": 0.7},
        {"reduce": "sum"},
        {"lr": (0.1, 0.2, 0.3)},
        {"output": "none", "lr": (0.1, 0.2)},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["static", "spiking"])
def test_equation(kind, options):
    make = options.get("kind", Hebb)
    settings = {name: value for name, value in options.items() if name != "kind"}
    scheme = make(**{"lr": 0.1, "output": "same", "tau_trace": 5.0, **settings})
    start, state = train(scheme(described(kind)), TRIALS)
    for replica in range(REPLICAS):
        net = plain(kind, start, replica, tau_trace=scheme.tau_trace)
        by_hand(net, scheme, TRIALS)
        for part, values in (("weight", net.weights), ("bias", net.biases)):
            for layer, name in enumerate(LAYERS):
                ours, before = (s.learned[part][name][replica].numpy() for s in (state, start))
                np.testing.assert_allclose(ours, values[layer], rtol=0, atol=1e-13, err_msg=f"{part} of {name}")
                assert (np.abs(ours - before).max() > 1e-4) == (layer < 2 or scheme.output == "same"), name


def test_which_layers_learn():
    network = Hebb()(described("static"))
    assert [network.projection(name).rule.name for name in LAYERS] == ["hebb", "hebb", "delta"]
    network = Hebb(layers=(LAYERS[1],))(described("static"))
    assert [network.projection(name).rule is not None for name in LAYERS] == [False, True, False]


def test_anti_hebb_is_the_opposite_of_hebb():
    """One update of each from the same weights: w + dw and w - dw."""
    moved = []
    for make in (Hebb, AntiHebb):
        start, state = train(make(lr=0.1, output="same")(described("static")), [[shown(0)]])
        moved.append([(state.learned["weight"][name] - start.learned["weight"][name]).numpy() for name in LAYERS])
    for hebb, anti in zip(*moved, strict=True):
        np.testing.assert_allclose(anti, -hebb, rtol=0, atol=1e-15)
        assert np.abs(hebb).max() > 1e-3


@pytest.mark.parametrize("clamp", [False, True])
def test_centred_changes_of_the_output_layer_cancel_over_its_neurons(clamp):
    scheme = Hebb(lr=0.1, output="same", centred=True, clamp=clamp)
    start, state = train(scheme(described("static")), [[shown(0)]])
    moved = (state.learned["weight"][LAYERS[-1]] - start.learned["weight"][LAYERS[-1]]).numpy()
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_allclose(moved.sum(1), 0.0, rtol=0, atol=1e-15)


def test_a_list_of_rates_must_fit():
    with pytest.raises(
        ConfigurationError, match=r"lr has 3 values for 2 projections \(input_hidden0, hidden0_hidden1\)"
    ):
        Hebb(lr=(0.1, 0.2, 0.3))(described("static"))


def test_a_spike_of_the_same_step_counts():
    """Rate traces hold the spike of this step: with tau_trace far below dt the rule is the product of coincident
    spikes."""
    scheme = Hebb(lr=1.0, output="none", tau_trace=1e-3, reduce="sum")
    start, state = train(scheme(described("spiking")), [[shown(4, steps=1)]])
    net = plain("spiking", start, 0, tau_trace=None)
    step = net.step(shown(4).x)
    assert step.post[0].sum() > 0
    change = state.learned["weight"][LAYERS[1]][0].numpy() - net.weights[1]
    np.testing.assert_allclose(change, step.post[1].T @ step.post[0], rtol=0, atol=1e-13)
