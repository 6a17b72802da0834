"""A convolution whose image is mirrored at its border, against torch's own: what arrives, and what is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import normal, simulate, weight

from neurosim.connectivity import Conv2d
from neurosim.factor import post, pre
from neurosim.inspect.certificate import certify
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.rules.hebb import Hebb
from neurosim.types import ConfigurationError

T, B, R = 3, 4, 2
PRE, OUT = (2, 5, 6), 3
SETTINGS = [(3, 1, 1), (5, 1, 2), (5, 2, 4), (2, 3, 1)]  # kernel, stride, padding


def theirs(kernel, stride, padding, values):
    """torch's layer with the weights `values`."""
    layer = torch.nn.Conv2d(
        PRE[0], OUT, kernel, stride, padding, padding_mode="reflect", bias=False, dtype=torch.float64
    )
    layer.weight.data = torch.from_numpy(values.copy())
    return layer


def network(setting, values, rule=None):
    connectivity = Conv2d(*setting, "reflect")
    populations = (
        Population("input", PRE, Relay()),
        Population("output", connectivity.output_shape(PRE, OUT), Relay()),
    )
    return Network(populations, (Projection("input", "output", values, connectivity, delay=0, name="wire", rule=rule),))


@pytest.mark.parametrize("setting", SETTINGS)
def test_delivers_as_torch_does(setting):
    values = normal(R, OUT, PRE[0], setting[0], setting[0])
    x = normal(T, R, B, int(np.prod(PRE)))
    net = network(setting, values)
    _, _, recording = simulate(net, Phase("p", T, {"input": x}), (Probe("output", "rate"),), batch=B, replicas=R)
    zeros = Conv2d(*setting).output_shape(PRE, OUT)
    assert net["output"].shape == zeros
    for replica in range(R):
        layer, image = theirs(*setting, values[replica]), torch.from_numpy(x[:, replica]).reshape(T * B, *PRE)
        expected = layer(image).detach().numpy().reshape(T, B, -1)
        np.testing.assert_allclose(recording["output.rate"][:, replica], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", ["sum", "mean"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_learns_from_the_patches_that_torch_sees(setting, share):
    """g x over positions and batch is the gradient of sum(g y), by autograd; by one product, and by each synapse."""
    values = normal(OUT, PRE[0], setting[0], setting[0])
    rule = ThreeFactorRule((Component((Term(post("feedback"), pre("rate")),)),), share=share, reduce="sum")
    net = network(setting, values, rule)
    x, g = normal(1, R, B, int(np.prod(PRE))), normal(1, R, B, net["output"].units)
    phase = Phase("p", 1, {"input": x, "output.feedback": g})
    _, state, _ = simulate(net, phase, batch=B, replicas=R)
    for replica in range(R):
        layer = theirs(*setting, values)
        y = layer(torch.from_numpy(x[0, replica]).reshape(B, *PRE))
        (y * torch.from_numpy(g[0, replica]).reshape(y.shape)).sum().backward()
        expected = layer.weight.grad.numpy() / (1 if share == "sum" else y[0, 0].numel())
        np.testing.assert_allclose(weight(state)[replica] - values, expected, rtol=0, atol=1e-12)


def test_the_certificate_knows_its_wiring():
    """A pixel near the border reaches neurons by its mirror images; that is wiring, no leak."""
    conv = Conv2d(3, 1, 2, "reflect")
    shape = conv.output_shape((1, 3, 3), 1)
    net = Network(
        (
            Population("input", (1, 3, 3), Relay()),
            Population("hidden", shape, StaticRate("tanh")),
            Population("output", 2, StaticRate("linear")),
        ),
        (
            Projection("input", "hidden", normal(1, 1, 3, 3), conv, delay=0),
            Projection("hidden", "output", normal(2, 25), delay=0),
        ),
    )
    assert certify(Hebb(output="none")(net), 1.0, batch=2).leaks == ()


def test_errors():
    with pytest.raises(ConfigurationError, match="padding_mode of Conv2d is 'mirror'; allowed: zeros, reflect"):
        Conv2d(3, padding_mode="mirror")
    with pytest.raises(ConfigurationError, match=r"Conv2d reflects 3 positions, but an image of \(3, 9\) has fewer"):
        Conv2d(7, 1, 3, "reflect").output_shape((1, 3, 9), 1)
    assert Conv2d(7, 1, 3, "reflect").output_shape((1, 4, 9), 1) == (1, 4, 9)
