"""dw = lr (z (z - theta) x - decay w), theta = m (m / z_0)^power, in plain NumPy (Bienenstock, Cooper, Munro 1982)."""

from __future__ import annotations

import numpy as np
import pytest
from nets import pair, simulate, weight
from plain import BATCH, DT, described
from unsupervised import WeightOnly, check

from neurosim.phase import Held, Phase
from neurosim.rules.bcm import BCM
from neurosim.types import ConfigurationError


@pytest.mark.parametrize("kind", ["static", "leaky", "spiking"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tau": 50.0},
        {"z_0": 0.2},
        {"power": 2.0},
        {"decay": 0.5},
        {"reduce": "sum", "decay": 0.5},
        {"when": "step", "output": "none"},
        {"output": "same"},
    ],
    ids=str,
)
def test_equation(kind, options):
    scheme = BCM(**{"lr": 0.1, "tau": 4.0, "tau_trace": 5.0, **options})
    keep, total = np.exp(-DT / scheme.tau), BATCH if scheme.reduce == "sum" else 1

    def local():
        means = {}

        def change(net, step, layer):
            z, sent = step.post[layer], step.post[layer]
            if kind == "spiking" and layer < 2:  # the mean is that of the spikes themselves
                sent = (step.free[layer] >= 0.3).astype(float)
            old = keep * means.get(layer, 0.0 * z)
            means[layer] = old + (1 - keep) * sent
            above = np.maximum(old, 0)
            grow = z * (z - above * (above / scheme.z_0) ** scheme.power)
            dw = total * (grow.T @ step.pre[layer] / BATCH - scheme.decay * net.weights[layer])
            return dw, net.biases[layer]

        return change

    check(scheme, local, lambda: WeightOnly(lambda g, w, count: scheme.lr * g), kind)


def test_selectivity():
    """Two inputs in turn: a unit ends silent to one, and its response to the other settles where it equals its
    threshold."""
    network = BCM(lr=0.02, tau=20.0, output="same", when="step", accumulate="sum")(
        pair(2, 1, weight=np.array([[0.5, 0.45]]))
    )
    phases = [Phase("show", 1, {"input": Held(np.eye(2)[[turn % 2]])}) for turn in range(6000)]
    _, state, _ = simulate(network, phases)
    w = weight(state)[0, 0]
    assert abs(w[1]) < 0.05
    assert 3.5 < w[0] < 4.5  # m = w / 2 and theta = m^2: w = w^2 / 4


def test_bad_parameters():
    for options, message in (
        ({"z_0": 0.0}, "z_0 is 0.0"),
        ({"power": -1.0}, "power is -1.0"),
        ({"decay": -1.0}, "decay is -1.0"),
        ({"tau": 0.0}, "tau is 0.0"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            BCM(**options)(described("static"))
