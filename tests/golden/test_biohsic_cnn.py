"""BioHSIC on a convolutional network against the authors' own JAX code: layer norm over channels, average pooling.

x and z of the file are NHWC and the dense layer's columns are in (h, w, c) order; ours are (channels, height, width).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.connectivity import AveragePool, Conv2d
from neurosim.lateral import LayerNorm
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.biohsic import BioHSIC

FORMS = {"published": "published", "head": "repository", "exact": "exact"}
ARRAYS, META = golden("biohsic_train_cnn")
LEARNING = ("input_hidden0", "pool0_hidden1", "pool1_output")


def columns_to_channels_first(w):
    return w.reshape(3, 2, 2, 6).transpose(0, 3, 1, 2).reshape(3, 24)


def ours(name: str, layer: int):
    value = ARRAYS[name]
    return columns_to_channels_first(value) if layer == 2 and value.ndim == 2 else value


def network() -> Network:
    rate, norm = StaticRate("relu"), LayerNorm(1e-6)
    start = [{"weight": ours(f"W{k}_init", k), "bias": ours(f"b{k}_init", k), "delay": 0} for k in range(3)]
    convolution, pool = Conv2d(3, padding=1), {"connectivity": AveragePool(2), "delay": 0}
    return Network(
        (
            Population("input", (2, 8, 8), Relay()),
            Population("hidden0", (4, 8, 8), rate, norm),
            Population("pool0", (4, 4, 4), Relay()),
            Population("hidden1", (6, 4, 4), rate, norm),
            Population("pool1", (6, 2, 2), Relay()),
            Population("output", 3, StaticRate("linear")),
        ),
        (
            Projection("input", "hidden0", connectivity=convolution, **start[0]),
            Projection("hidden0", "pool0", **pool),
            Projection("pool0", "hidden1", connectivity=convolution, **start[1]),
            Projection("hidden1", "pool1", **pool),
            Projection("pool1", "output", **start[2]),
        ),
    )


@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("form", FORMS)
def test_one_window(form: str, optimizer: str, replicas: int | None) -> None:
    sigma_x, sigma_y, sigma_z = META["sig"]
    scheme = BioHSIC(
        window=META["N"],
        form=FORMS[form],
        gamma=META["gamma"],
        sigma_x=sigma_x,
        sigma_y=sigma_y,
        sigma_z=sigma_z,
        lr=META[f"lr_{optimizer}"],
        optimizer={"sgd": "none", "adamw": "adamw"}[optimizer],
    )
    x = ARRAYS["x"].transpose(0, 3, 1, 2).reshape(4, -1)
    taught = scheme(network())
    assert tuple(p.name for p in taught.projections if p.rule is not None) == LEARNING
    simulator = compile(taught, dt=1.0, dtype="float64", replicas=replicas)
    phase = Phase("window", 1, {"input": Held(x), "target": Held(ARRAYS["y"])}, {"input": x, "label": ARRAYS["y"]})
    state, _ = simulator.run(simulator.init(META["N"]), phase)
    for layer, name in enumerate(LEARNING):
        for part, letter in (("weight", "W"), ("bias", "b")):
            expected = ours(f"{form}.{optimizer}.{letter}{layer}_win1", layer)
            start = ours(f"{letter}{layer}_init", layer)
            assert np.abs(expected - start).max() > 1e-4
            for value in state.learned[part][name].numpy():
                np.testing.assert_allclose(value, expected, rtol=0, atol=1e-11)


def test_the_loss_is_the_cross_entropy_before_the_update() -> None:
    """The stored loss, from our output: nothing of the forward pass is off."""

    simulator = compile(replace(network()), dt=1.0, dtype="float64")
    x = ARRAYS["x"].transpose(0, 3, 1, 2).reshape(4, -1)
    _, recording = simulator.run(simulator.init(4), Phase("p", 1, {"input": Held(x)}), (Probe("output", "rate"),))
    a = recording["output.rate"][0]
    loss = -(ARRAYS["y"] * (a - np.log(np.exp(a).sum(-1, keepdims=True)))).sum(-1).mean()
    np.testing.assert_allclose(loss, ARRAYS["exact.sgd.loss"], rtol=1e-12)
