"""Hebb, Oja (subspace form) and HebbNet against a public implementation: outputs and weights after every batch."""

from __future__ import annotations

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.hebb import Hebb
from neurosim.rules.hebbnet import HebbNet
from neurosim.rules.oja import Oja

ARRAYS, META = golden("hebbnet")
CASES = META["cases"]


def scheme(one):
    if one["rule"] == "gupta":
        return HebbNet(lr=one["lr"], percent=one["p"], output="same")
    if one["rule"] == "oja":
        return Oja(lr=one["lr"], form="subspace", reduce="sum", output="same")
    return Hebb(lr=one["lr"], reduce="sum", output="same")


@pytest.mark.parametrize("case", range(len(CASES)))
def test_training(case):
    one, start = CASES[case], ARRAYS[f"c{case}.w0"]
    neuron = StaticRate("relu" if one["relu"] else "linear")
    wire = Projection("input", "output", start, delay=0, name="wire")
    network = Network((Population("input", one["n_in"], Relay()), Population("output", one["n_out"], neuron)), (wire,))
    simulator = compile(scheme(one)(network), 1.0, dtype="float64")
    state = simulator.init(one["batch"])
    for index, x in enumerate(ARRAYS[f"c{case}.x"]):
        state, recording = simulator.run(state, Phase("batch", 1, {"input": Held(x)}), (Probe("output", "rate"),))
        close(recording["output.rate"][0], ARRAYS[f"c{case}.z"][index])
        close(state.learned["weight"]["wire"][0].numpy(), ARRAYS[f"c{case}.w"][index])
        if one["rule"] == "gupta":
            close(
                state.learned["transform"]["wire"]["weight"][0]["past"][0].numpy(), ARRAYS[f"c{case}.past_sum"][index]
            )


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
