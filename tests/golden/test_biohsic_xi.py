"""The third factor of BioHSIC and its objective against the authors' own JAX code: all forms, windows from 2 to 32
samples.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from load import golden

from neurosim.backends import compile
from neurosim.factor import One, post
from neurosim.modulator import HSIC
from neurosim.modulator.hsic import kernel_matrix, objective
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule

ARRAYS, META = golden("biohsic_xi")
FORMS = {"published": "xi_published", "repository": "xi_head", "exact": "xi_exact"}
CASES = range(META["ncases"])


def case(n: int) -> dict:
    """Arrays of case n, x and z with one row per sample."""
    own = {key.partition(".")[2]: value for key, value in ARRAYS.items() if key.startswith(f"c{n}.")}
    return {**own, **{name: own[name].reshape(len(own[name]), -1) for name in ("x", "y", "z")}}


def near(ours, theirs, tolerance=1e-12) -> None:
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(np.abs(theirs).max(), 1e-300))


def modulator(c: dict, form: str, memory: str) -> tuple[Network, Phase]:
    """A relay whose activity is z, with a rule that reads the modulator."""
    sigmas = {f"sigma_{name}": float(c[f"sigma_{name}"]) for name in "xyz"}
    hsic = HSIC(post("rate"), len(c["z"]), float(c["gamma"]), **sigmas, form=form, memory=memory)
    rule = ThreeFactorRule((Component((Term(One("post"), One("pre")),)),), hsic)
    size = c["z"].shape[1]
    wire = Projection("layer", "layer", 0.0, name="wire", port="feedback", rule=rule)
    return Network((Population("layer", size, Relay()),), (wire,))


@pytest.mark.parametrize("n", CASES)
def test_kernels_and_objective(n: int) -> None:
    c = case(n)
    rows = {name: torch.from_numpy(c[name]) for name in "xyz"}
    for name, value in rows.items():
        near(kernel_matrix(value, float(c[f"sigma_{name}"])), c[f"K{name}"])
    sigma = tuple(float(c[f"sigma_{name}"]) for name in "xyz")
    gamma, hsic_x, hsic_y = (float(c[name]) for name in ("gamma", "hsic_x", "hsic_y"))
    scale = max(abs(hsic_x), abs(gamma * hsic_y))
    near(
        objective(*rows.values(), gamma, sigma),
        c["hsic_objective"],
        1e-12 * scale / max(abs(c["hsic_objective"]), 1e-300),
    )
    near(hsic_x - gamma * hsic_y, c["hsic_objective"], 1e-11)
    z = rows["z"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(rows["x"], rows["y"], z, gamma, sigma), z)
    near(slope, c["dz_exact_all"].reshape(slope.shape), 1e-11)


@pytest.mark.parametrize("memory", ["batch", "buffer"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", CASES)
def test_third_factor(n: int, form: str, memory: str) -> None:
    """m = -xi of the newest row: the window as a batch, and remembered row by row."""
    c = case(n)
    simulator = compile(modulator(c, form, memory), 1.0, dtype="float64")
    rows = [slice(None)] if memory == "batch" else [slice(k, k + 1) for k in range(len(c["z"]))]
    state = simulator.init(len(c["z"]) if memory == "batch" else 1)
    for row in rows:
        phase = Phase("p", 1, {"layer": Held(c["z"][row])}, {"input": c["x"][row], "label": c["y"][row]})
        state, recording = simulator.run(state, phase, (Probe("wire", "modulator"),))
    m, xi = recording["wire.modulator"][0], c[FORMS[form]].ravel()
    scale = np.abs(xi).max() or 1.0
    np.testing.assert_allclose(-m[-1], xi, rtol=0, atol=1e-12 * scale)
    assert not m[:-1].any()


def test_the_forms_differ() -> None:
    c = case(4)
    assert all(np.abs(c[a] - c[b]).max() > 1e-6 for a, b in (("xi_published", "xi_head"), ("xi_head", "xi_exact")))
