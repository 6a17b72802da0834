"""BioHSIC's training steps against the authors' own JAX code: plain descent and AdamW, all three forms."""

from dataclasses import replace

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.lateral import LayerNorm
from neurosim.network import Layered, Network
from neurosim.neuron import LeakyRate, StaticRate
from neurosim.phase import Held, Phase
from neurosim.rules.biohsic import BioHSIC

FORMS = {"published": "published", "head": "repository", "exact": "exact"}
CASES = [(form, optimizer) for form in FORMS for optimizer in ("sgd", "adamw")]
TOLERANCE = 1e-11


def scheme(meta: dict, form: str, optimizer: str) -> BioHSIC:
    sigma_x, sigma_y, sigma_z = meta["sig"]
    adamw = meta["adamw"]
    return BioHSIC(
        window=meta["N"],
        form=FORMS[form],
        gamma=meta["gamma"],
        sigma_x=sigma_x,
        sigma_y=sigma_y,
        sigma_z=sigma_z,
        lr=meta[f"lr_{optimizer}"],
        optimizer={"sgd": "none", "adamw": "adamw"}[optimizer],
        beta1=adamw["b1"],
        beta2=adamw["b2"],
        weight_decay=adamw["weight_decay"],
    )


def start_from(network: Network, arrays, count: int) -> Network:
    """The network with the golden file's initial weights."""
    start = {p.name: (arrays[f"W{k}_init"], arrays[f"b{k}_init"]) for k, p in enumerate(network.forward())}
    assert len(start) == count
    return network.with_projections(lambda p: replace(p, weight=start[p.name][0], bias=start[p.name][1]))


def compare(learned: dict, names: list[str], arrays, prefix: str, when: str) -> None:
    for layer, name in enumerate(names):
        np.testing.assert_allclose(
            learned["weight"][name][0].numpy(), arrays[f"{prefix}.W{layer}_{when}"], rtol=0, atol=TOLERANCE
        )
        np.testing.assert_allclose(
            learned["bias"][name][0].numpy(), arrays[f"{prefix}.b{layer}_{when}"], rtol=0, atol=TOLERANCE
        )


def window_phase(x: np.ndarray, y: np.ndarray, steps: int) -> Phase:
    return Phase("window", steps, {"input": Held(x), "target": Held(y)}, {"input": x, "label": y})


@pytest.mark.parametrize(("form", "optimizer"), CASES)
def test_leaky_network(form, optimizer):
    """Twenty leaky steps a window, an update each, the activity carried over; after one step and after each window."""
    arrays, meta = golden("biohsic_train_lif")
    neuron = LeakyRate(tau_mem=1000 * meta["tau"], activation="relu", integration="euler")
    output = LeakyRate(tau_mem=1000 * meta["tau"], activation="linear", integration="euler")
    layered = Layered(neuron, output, hidden=tuple(meta["sizes"][1:-1]), lateral=LayerNorm())
    network = start_from(layered(meta["sizes"][0], meta["sizes"][-1]), arrays, 3)
    simulator = compile(scheme(meta, form, optimizer)(network), dt=1000 * meta["dt"], dtype="float64")
    names = [p.name for p in network.forward()]
    state = simulator.init(batch=meta["N"])
    first, _ = simulator.run(state, window_phase(arrays["x_windows"][0], arrays["y_windows"][0], 1))
    compare(first.learned, names, arrays, f"{form}.{optimizer}", "step1")
    for window in range(meta["windows"]):
        state, _ = simulator.run(
            state, window_phase(arrays["x_windows"][window], arrays["y_windows"][window], meta["steps"])
        )
        compare(state.learned, names, arrays, f"{form}.{optimizer}", f"win{window + 1}")
        for layer, population in enumerate(("hidden0", "hidden1", "output")):
            potential = state.activity["state"][population]["v"][0].numpy()
            np.testing.assert_allclose(
                potential, arrays[f"{form}.{optimizer}.u{layer}_win{window + 1}"], rtol=0, atol=TOLERANCE
            )


@pytest.mark.parametrize(("form", "optimizer"), CASES)
def test_static_network(form, optimizer):
    """A multi-layer perceptron: one step and one update a window."""
    arrays, meta = golden("biohsic_train_mlp")
    layered = Layered(StaticRate("relu"), StaticRate("linear"), hidden=tuple(meta["sizes"][1:-1]), lateral=LayerNorm())
    network = start_from(layered(meta["sizes"][0], meta["sizes"][-1]), arrays, 3)
    simulator = compile(scheme(meta, form, optimizer)(network), dt=1.0, dtype="float64")
    state = simulator.init(batch=meta["N"])
    for window in range(len(arrays["x_windows"])):
        state, _ = simulator.run(state, window_phase(arrays["x_windows"][window], arrays["y_windows"][window], 1))
        compare(state.learned, [p.name for p in network.forward()], arrays, f"{form}.{optimizer}", f"win{window + 1}")
