"""dw = lr z (x - z w), or lr z (x - sum_k z_k w_k), in plain NumPy (Oja 1982, 1989)."""

from __future__ import annotations

import numpy as np
import pytest
from nets import normal, pair, simulate, weight
from plain import BATCH, described, outer
from unsupervised import WeightOnly, check

from neurosim.phase import Held, Phase
from neurosim.rules.oja import Oja
from neurosim.types import ConfigurationError


class Plainly:
    """lr g on weight and bias."""

    def __init__(self, lr):
        self.lr = lr

    def __call__(self, key, g, w):
        return self.lr * g


@pytest.mark.parametrize("kind", ["static", "leaky", "spiking"])
@pytest.mark.parametrize(
    "options", [{}, {"reduce": "sum"}, {"when": "step", "output": "none"}, {"output": "same"}], ids=str
)
def test_each_neuron(kind, options):
    scheme = Oja(**{"lr": 0.1, "tau_trace": 5.0, **options})
    scale = 1 if scheme.reduce == "mean" else BATCH

    def local(net, step, layer):
        z = step.post[layer]
        square = (z * z).mean(0)
        dw, db = outer(z, step, layer)
        # a bias is a weight whose pre is 1 (on spikes the trace of 1, which its decay does not see)
        return scale * (dw - square[:, None] * net.weights[layer]), scale * (db - square * net.biases[layer])

    check(scheme, lambda: local, lambda: Plainly(scheme.lr), kind)


@pytest.mark.parametrize("options", [{}, {"reduce": "sum"}, {"output": "same"}], ids=str)
def test_subspace(options):
    scheme = Oja(**{"lr": 0.1, "form": "subspace", **options})
    scale = 1 if scheme.reduce == "mean" else BATCH

    def local(net, step, layer):
        z = step.post[layer]
        return scale * (z.T @ (step.pre[layer] - z @ net.weights[layer])) / BATCH, net.biases[layer]

    check(scheme, lambda: local, lambda: WeightOnly(lambda g, w, count: scheme.lr * g))


@pytest.mark.parametrize("form", ["neuron", "subspace"])
def test_principal_components(form):
    """Linear units on correlated data end on the first component (each), or on the plane of the first two (the
    layer)."""
    x = normal(200, 5) * np.array([3.0, 2.0, 0.5, 0.4, 0.3]) @ np.linalg.qr(normal(5, 5))[0]
    x = x - x.mean(0)
    network = Oja(lr=0.02, form=form, output="same")(pair(5, 2, weight=0.1 * normal(2, 5)))
    _, state, _ = simulate(network, [Phase("show", 1, {"input": Held(x)})] * 1500, batch=200)
    w = weight(state)[0]
    axes = np.linalg.svd(x, full_matrices=False)[2]
    np.testing.assert_allclose(
        np.linalg.norm(w @ (axes[:1] if form == "neuron" else axes[:2]).T, axis=1), 1.0, atol=1e-6
    )
    if form == "subspace":
        np.testing.assert_allclose(w @ w.T, np.eye(2), atol=1e-6)


def test_bad_parameters():
    with pytest.raises(ConfigurationError, match="form is 'both'; allowed: neuron, subspace"):
        Oja(form="both")(described("static"))
    with pytest.raises(ConfigurationError, match="Oja's subspace rule is for rate neurons; 'hidden0' sends 'spike'"):
        Oja(form="subspace")(described("spiking"))
    with pytest.raises(ConfigurationError, match="projection 'wire' has a delay"):
        Oja(form="subspace", output="same")(pair(2, 2, delay=1.0))
