"""Hebbian plasticity with coefficients against the authors' code: per synapse (Najarro, Risi), per neuron, shared."""

from __future__ import annotations

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.connectivity import Conv2d, Dense, EdgeList
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.abcd import ABCD

ARRAYS, META = golden("abcd")
CASES = META["cases"]
UNSHARED = [n for n, case in enumerate(CASES) if case["kind"] == "unshared"]
SHARED = [case for case in CASES if case["kind"] == "shared"]


def layers(sizes, weights, activations, connectivity=Dense()):
    """input -> ... -> output through tanh or linear units without memory; projections "w0", "w1", ..."""
    names = ["input", *(f"hidden{k}" for k in range(len(sizes) - 2)), "output"]
    populations = [Population("input", sizes[0], Relay())]
    populations += [
        Population(n, size, StaticRate(a)) for n, size, a in zip(names[1:], sizes[1:], activations, strict=True)
    ]
    wires = [
        Projection(pre, post, w, connectivity, delay=0, name=f"w{k}")
        for k, (pre, post, w) in enumerate(zip(names[:-1], names[1:], weights, strict=True))
    ]
    return Network(tuple(populations), tuple(wires))


def after(scheme, network, batches):
    """Weights after each batch of one step, by projection."""
    network = scheme(network)
    simulator = compile(network, 1.0, dtype="float64")
    names = [p.name for p in network.projections if p.rule is not None]
    probes = tuple(Probe(name, "weight") for name in names)
    state, rows = simulator.init(len(batches[0])), []
    for x in batches:
        state, recording = simulator.run(state, Phase("one", 1, {"input": Held(x.reshape(len(x), -1))}), probes)
        rows.append([recording[probe.key][0] for probe in probes])
    return {name: np.stack([row[k] for row in rows]) for k, name in enumerate(names)}


def agree(ours, theirs):
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def of_neurons(prefix, **options):
    """The coefficients of one layer of a golden case; C there is the correlation, A the pre and B the post letter."""
    one = {name: ARRAYS[f"{prefix}.{name}"] for name in ("A_pre", "B_post", "C_pre", "C_post", "D_pre", "D_post")}
    ends = {letter: {"input": one[f"{letter}_pre"], "output": one[f"{letter}_post"]} for letter in ("C", "D")}
    eta = {"input": ARRAYS[f"{prefix}.eta_pre"], "output": ARRAYS[f"{prefix}.eta_post"]}
    return ABCD(
        A=ends["C"],
        B={"input": one["A_pre"]},
        C={"output": one["B_post"]},
        D=ends["D"],
        eta=eta,
        **{"per": "neuron", "output": "same", **options},
    )


@pytest.mark.parametrize("case", UNSHARED)
def test_per_neuron(case):
    prefix, batches = f"unshared{case}", list(ARRAYS[f"unshared{case}.pre"])
    w0 = ARRAYS[f"{prefix}.W0"]
    network = layers(w0.shape[::-1], [w0], ["tanh"])
    agree(after(of_neurons(prefix), network, batches)["w0"], ARRAYS[f"{prefix}.W"])
    free = after(of_neurons(prefix, normalise="none"), network, batches[:1])["w0"][0]
    agree(free - w0, ARRAYS[f"{prefix}.dW_first"])


def test_a_hidden_neuron_has_one_set():
    """Read as post neuron by the first layer and as pre neuron by the second one."""

    def of(letter, theirs, ends):
        return {name: ARRAYS[f"chain.{theirs[name]}"] for name in ends}

    hidden = {letter: f"hidden_{letter}" for letter in ("A", "B", "C", "D", "eta")}
    sets = {
        "A": {"input": "l0.C_pre", "hidden0": hidden["C"], "output": "out_C"},
        "B": {"input": "l0.A_pre", "hidden0": hidden["A"]},
        "C": {"hidden0": hidden["B"], "output": "out_B"},
        "D": {"input": "l0.D_pre", "hidden0": hidden["D"], "output": "out_D"},
        "eta": {"input": "l0.eta_pre", "hidden0": hidden["eta"], "output": "out_eta"},
    }
    scheme = ABCD(**{letter: of(letter, one, one) for letter, one in sets.items()}, per="neuron", output="same")
    start = [ARRAYS["chain.W0_init"], ARRAYS["chain.W1_init"]]
    ours = after(scheme, layers((5, 6, 4), start, ["tanh", "tanh"]), list(ARRAYS["chain.x"]))
    agree(ours["w0"], ARRAYS["chain.W0"])
    agree(ours["w1"], ARRAYS["chain.W1"])


@pytest.mark.parametrize("how", ["max", "min", "median"])
@pytest.mark.parametrize("case", range(len(SHARED)))
def test_shared_term_by_term(case, how):
    one, prefix = SHARED[case], f"shared{case}"
    x, post, kernel = (ARRAYS[f"{prefix}.{name}"] for name in ("x", "post", "kernel0"))
    connectivity = Conv2d(one["k"], one["stride"])
    network = layers((x.shape[1:], post.shape[1:]), [kernel], ["tanh"], connectivity)
    changed = after(of_neurons(prefix, share=how, share_of="term", normalise="none"), network, [x])["w0"][0]
    agree(changed - kernel, ARRAYS[f"{prefix}.{how}.dk"])
    normalised = after(of_neurons(prefix, share=how, share_of="term"), network, [x])["w0"][0]
    agree(normalised, ARRAYS[f"{prefix}.{how}.kernel1"])
    whole = after(of_neurons(prefix, share=how, normalise="none"), network, [x])["w0"][0]
    assert np.abs(whole - changed).max() > 0.1 * np.abs(changed - kernel).max()  # of the whole change it is another


@pytest.mark.parametrize("case", range(len(SHARED)))
def test_unshared_synapses_of_a_convolution(case):
    """The same layer with a weight of its own for every pair: edges where the mask is."""
    prefix, one = f"shared{case}", SHARED[case]
    x, post, kernel, mask = (ARRAYS[f"{prefix}.{name}"] for name in ("x", "post", "kernel0", "mask"))
    posts, pres = np.nonzero(mask)
    _, row, column = np.unravel_index(pres, x.shape[1:])
    channel, y, z = np.unravel_index(posts, post.shape[1:])
    start = kernel[channel, np.unravel_index(pres, x.shape[1:])[0], row - y * one["stride"], column - z * one["stride"]]
    network = layers((x.shape[1:], post.shape[1:]), [start], ["tanh"], EdgeList(posts, pres))
    ours = np.zeros(mask.shape)
    ours[posts, pres] = after(of_neurons(prefix), network, [x])["w0"][0]
    agree(ours, ARRAYS[f"{prefix}.unshared_masked.W1"])


RULES = sorted({key.split(".")[1] for key in ARRAYS if key.startswith("najarro.") and ".coef" in key})
COLUMNS = {  # what the columns of the coefficients are
    "A": ("A",),
    "AD": ("A", "D"),
    "AD_lr": ("A", "D", "eta"),
    "ABC": ("A", "B", "C"),
    "ABC_lr": ("A", "B", "C", "eta"),
    "ABCD": ("A", "B", "C", "D"),
    "ABCD_lr_D_in": ("A", "B", "C", "eta", "D"),
    "ABCD_lr_D_out": ("A", "B", "C", "eta", "D_out"),
    "ABCD_lr_D_in_and_out": ("A", "B", "C", "eta", "D", "D_out"),
}


@pytest.mark.parametrize("rule", RULES)
def test_per_synapse(rule):
    assert set(RULES) == set(COLUMNS)
    named = {
        letter: {f"w{k}": ARRAYS[f"najarro.{rule}.coef{k}"][..., column] for k in range(3)}
        for column, letter in enumerate(COLUMNS[rule])
    }
    scheme = ABCD(**{"A": 0.0, "eta": 1.0, **named}, output="same")
    start = [ARRAYS[f"najarro.W_init{k}"] for k in range(3)]
    network = layers((5, 4, 3, 2), start, ["tanh", "tanh", "linear"])
    batches = list(ARRAYS["najarro.obs"][:, None])
    ours = after(scheme, network, batches)
    free = after(ABCD(**{"A": 0.0, "eta": 1.0, **named}, output="same", normalise="none"), network, batches[:1])
    for k in range(3):
        agree(ours[f"w{k}"], ARRAYS[f"najarro.{rule}.W{k}_norm"])
        agree(free[f"w{k}"][0], ARRAYS[f"najarro.{rule}.W{k}_raw_step1"])
