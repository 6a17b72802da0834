"""d = lr a - mean of earlier a, dw = d where it is among the largest, in plain NumPy (Gupta et al. 2021)."""

from __future__ import annotations

import numpy as np
import pytest
from plain import BATCH, described
from unsupervised import WeightOnly, check

from neurosim.rules.hebbnet import HebbNet
from neurosim.types import ConfigurationError


@pytest.mark.parametrize("kind", ["static", "spiking"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"percent": 30.0},
        {"percent": 0.0},
        {"percent": 100.0},
        {"by": "size"},
        {"reduce": "mean"},
        {"output": "same"},
        {"when": "step", "output": "none"},
    ],
    ids=str,
)
def test_equation(kind, options):
    scheme = HebbNet(**{"lr": 0.1, "tau_trace": 5.0, **options})

    def local(net, step, layer):
        scale = BATCH if scheme.reduce == "mean" else 1
        return step.post[layer].T @ step.pre[layer] / scale, net.biases[layer]

    def optimizer():
        past = []

        def rate(a, w, count):
            d = scheme.lr * a - (np.mean(past, 0) if past else 0.0)
            past.append(a)
            compared = np.abs(d) if scheme.by == "size" else d
            smallest = np.sort(compared.ravel())[round(scheme.percent / 100 * (d.size - 1))]
            return np.where(compared >= smallest, d, 0.0)

        return WeightOnly(rate)

    check(scheme, lambda: local, optimizer, kind)


def test_bad_parameters():
    for options, message in (
        ({"percent": 101.0}, r"percent of Sparsify is 101.0; it must be in \[0, 100\]"),
        ({"by": "row"}, "by of Sparsify"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            HebbNet(**options)(described("static"))
