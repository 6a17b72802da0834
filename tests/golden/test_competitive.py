"""SoftHebb and Krotov-Hopfield against the authors' code: drives, competition, weights after every batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from load import golden

from neurosim.backends import compile
from neurosim.connectivity import Conv2d, Dense
from neurosim.lateral import Triangle
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.softhebb import SoftHebb
from neurosim.transform import Normalised

PROBES = (Probe("output", "basal"), Probe("output", "feedback"), Probe("wire", "weight"))


def learner(scheme, pre, post, weight, connectivity):
    """A simulator of one layer that `scheme` teaches."""
    wire = Projection("input", "output", weight, connectivity, delay=0, name="wire")
    return compile(
        scheme(Network((Population("input", pre, Relay()), Population("output", post, StaticRate("relu"))), (wire,))),
        1.0,
        dtype="float64",
    )


def batches(simulator, xs):
    """Drive, competition and weight, each [batches, ...], over batches of one step."""
    state, rows = simulator.init(xs[0].shape[0]), []
    for x in xs:
        state, recording = simulator.run(state, Phase("batch", 1, {"input": Held(x.reshape(len(x), -1))}), PROBES)
        rows.append([recording[probe.key][0] for probe in PROBES])
    return [np.array(column) for column in zip(*rows, strict=True)]


def agree(ours, theirs, relative=1e-11):
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=0, atol=relative * np.abs(theirs).max())


def softhebb(one, competition):
    return SoftHebb(
        lr=one["lr"], temperature=1 / one["t"], competition=competition, rate_power=one["power_lr"], output="same"
    )


CASES = golden("softhebb")[1]["cases"]
CONVOLUTIONS = [one for one in CASES if one["kind"] == "conv"]
LINEAR = [one for one in CASES if one["kind"] == "linear"]


@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_softhebb_convolution(case):
    """The authors' layer reflects the image at its border."""
    arrays, one = golden("softhebb")[0], CONVOLUTIONS[case]
    xs = list(arrays[f"conv{case}.x"])
    connectivity = Conv2d(one["k"], one["stride"], one["pad"], one["padding_mode"])
    post = arrays[f"conv{case}.u"].shape[2:]
    simulator = learner(softhebb(one, "signed"), xs[0].shape[1:], post, arrays[f"conv{case}.w0"], connectivity)
    u, y, w = batches(simulator, xs)
    agree(u, arrays[f"conv{case}.u"])
    agree(y, arrays[f"conv{case}.y_check"])
    agree(w, arrays[f"conv{case}.w"])


@pytest.mark.parametrize("kind", ["soft", "softwta", "hard"])
@pytest.mark.parametrize("case", range(len(LINEAR)))
def test_softhebb_dense(case, kind):
    arrays, one = golden("softhebb")[0], LINEAR[case]
    competition = {"soft": "soft", "softwta": "signed", "hard": "hard"}[kind]
    simulator = learner(softhebb(one, competition), one["i"], one["o"], arrays[f"linear{case}.w0"], Dense())
    u, y, w = batches(simulator, list(arrays[f"linear{case}.x"]))
    for ours, name in ((u, "u"), (y, "y"), (w, "w")):
        agree(ours, arrays[f"linear{case}.{kind}.{name}"])


@pytest.mark.parametrize("case", range(3))
def test_triangle(case):
    arrays, _ = golden("softhebb")
    x = torch.from_numpy(arrays[f"triangle{case}.x"]).movedim(1, -1)
    ours = Triangle(float(arrays[f"triangle{case}.power"])).step(x).movedim(-1, 1).numpy()
    agree(ours, arrays[f"triangle{case}.y"], 1e-14)


@pytest.mark.parametrize("case", range(3))
def test_krotov_hopfield(case):
    arrays, meta = golden("krotov_hopfield")
    one, data, xs = meta["cases"][case], arrays[f"c{case}.data"], []
    for order in arrays[f"c{case}.perm"]:
        data = data[order]
        xs += [data[start : start + one["Num"]] for start in range(0, len(data) - one["Num"] + 1, one["Num"])]
    every = one["Ns"] // one["Num"]
    assert len(xs) == every * one["Nep"] == len(arrays[f"c{case}.W"])
    scheme = KrotovHopfield(
        lr=one["eps0"], p=one["p"], k=one["k"], delta=one["delta"], updates=len(xs), every=every, output="same"
    )
    simulator = learner(scheme, one["N"], one["hid"], arrays[f"c{case}.W0"], Dense())
    current, g, w = batches(simulator, xs)
    agree(current.swapaxes(1, 2), arrays[f"c{case}.I"], 1e-12)
    agree(g.swapaxes(1, 2), arrays[f"c{case}.g"], 1e-15)
    agree(w, arrays[f"c{case}.W"], 1e-12)


# ---- between the products and the weight -----------------------------------------------------------------------------


def added(scheme, pre, post, weight, x, connectivity, *, transforms):
    """What one batch adds to `weight` when the rule's transforms are `transforms` (None: its own)."""

    def bare(network):
        taught = scheme(network)
        if transforms is None:
            return taught
        return taught.with_projections(
            lambda p: p if p.rule is None else replace(p, rule=replace(p.rule, transforms=transforms))
        )

    return batches(learner(bare, pre, post, weight, connectivity), [x])[2][0].reshape(np.shape(weight)) - weight


def steps_agree(scheme, sizes, connectivity, weights, xs, steps):
    """The change, the change over its largest entry, and the update of every batch; `steps` hold the file's three."""
    for weight, x, *theirs in zip(weights, xs, *steps, strict=True):
        for transforms, expected in zip(((), (Normalised("all"),), None), theirs, strict=True):
            ours = added(scheme, *sizes, weight, x, connectivity, transforms=transforms)
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def per_unit(rate, change):
    """rate_i change_i, for units that come first."""
    return rate.reshape(*rate.shape, *[1] * (change.ndim - rate.ndim)) * change


@pytest.mark.parametrize("case", range(len(CONVOLUTIONS)))
def test_softhebb_convolution_step_by_step(case):
    arrays, one = golden("softhebb")[0], CONVOLUTIONS[case]
    own = {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"conv{case}.")}
    connectivity = Conv2d(one["k"], one["stride"], one["pad"], one["padding_mode"])
    before = [own["w0"], *own["w"][:-1]]
    update = per_unit(own["lr_neuron"], own["delta_norm"])
    steps = (own["delta_raw"], own["delta_norm"], update)
    sizes = own["x"].shape[2:], own["u"].shape[2:]
    steps_agree(softhebb(one, "signed"), sizes, connectivity, before, own["x"], steps)


@pytest.mark.parametrize("kind", ["soft", "softwta", "hard"])
@pytest.mark.parametrize("case", range(len(LINEAR)))
def test_softhebb_dense_step_by_step(case, kind):
    arrays, one = golden("softhebb")[0], LINEAR[case]
    own = {name: arrays[f"linear{case}.{kind}.{name}"] for name in ("w", "delta_raw", "delta_norm", "lr_neuron")}
    before = [arrays[f"linear{case}.w0"], *own["w"][:-1]]
    steps = (own["delta_raw"], own["delta_norm"], per_unit(own["lr_neuron"], own["delta_norm"]))
    scheme = softhebb(one, {"soft": "soft", "softwta": "signed", "hard": "hard"}[kind])
    steps_agree(scheme, (one["i"], one["o"]), Dense(), before, arrays[f"linear{case}.x"], steps)


@pytest.mark.parametrize("case", range(3))
def test_krotov_hopfield_step_by_step(case):
    """`ds` is the change, `nc` its largest entry; the first batch has the whole rate `eps`."""
    arrays, meta = golden("krotov_hopfield")
    one, own = (
        meta["cases"][case],
        {name: arrays[f"c{case}.{name}"] for name in ("W0", "data", "perm", "ds", "nc", "eps")},
    )
    x, weight = own["data"][own["perm"][0]][: one["Num"]], own["W0"]
    np.testing.assert_allclose(np.abs(own["ds"]).max((1, 2)), own["nc"].ravel(), rtol=1e-12)
    scheme = KrotovHopfield(lr=one["eps0"], p=one["p"], k=one["k"], delta=one["delta"], output="same")
    ds, rate = own["ds"][0], own["eps"].ravel()[0]
    steps = [[ds], [ds / own["nc"].ravel()[0]], [rate * ds / own["nc"].ravel()[0]]]
    steps_agree(scheme, (one["N"], one["hid"]), Dense(), [weight], [x], steps)
