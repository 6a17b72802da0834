"""Pair STDP against Brian2 (additive, event-driven) and Norse (additive, traces first), as rules put together here."""

from __future__ import annotations

import numpy as np
import pytest
from load import golden
from nets import silent_pair, simulate

from neurosim.constraint import Bounds
from neurosim.factor import Apply, Trace, post, pre
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, OfWeight, PerSynapse, Term, ThreeFactorRule
from neurosim.vocabulary import heaviside, max, power

BRIAN, BRIAN_META = golden("stdp_brian2")
NORSE, NORSE_META = golden("stdp_norse")


@pytest.mark.parametrize("n", range(len(BRIAN_META["cases"])))
def test_brian2(n: int) -> None:
    """A tie counts both ways, with both traces updated first (pre pathway, then post with the new Apre).

    Brian2: at a tie w += Apost (before its jump), then w += Apre (after its jump): post trace before, pre trace after.
    """
    case, dt = BRIAN_META["cases"][n], 0.1
    grow = Term(post("spike"), Trace(pre("spike"), case["tau_pre"]), PerSynapse(case["dApre"]))
    shrink = Term(Trace(post("spike"), case["tau_post"], read="before"), pre("spike"), PerSynapse(case["dApost"]))
    rule = ThreeFactorRule((Component((grow, shrink)),), constraints=(Bounds(0.0, case["wmax"]),))
    steps = len(BRIAN[f"c{n}.t"])
    trains = {}
    for name, end in (("input", "pre"), ("output", "post")):
        trains[name] = np.zeros((steps, 1, 1))
        np.add.at(trains[name], np.round(BRIAN[f"c{n}.{end}"] / dt).astype(int), 1.0)
    net = silent_pair(1, 1, rule, weight=case["w0"])
    _, _, recording = simulate(net, Phase("p", steps, trains), (Probe("wire", "weight"),), dt=dt)
    ours, theirs = recording["wire.weight"].ravel(), BRIAN[f"c{n}.w"]
    same = steps if case["name"] != "rand" else 1798
    np.testing.assert_allclose(ours[:same], theirs[:same], rtol=0, atol=1e-10)
    if same < steps:
        # A tie at the lower bound: Brian2 loses, clips at 0, then gains; a step of ours is one change and one clip.
        gain = theirs[same] - 0.0
        assert 0 < ours[same] < gain
        assert ours[same] == ours[-1]


def scaled(factor):
    """x -> factor x, as a step function."""

    def multiply(x):
        return factor * x

    return multiply


def room_above(w):
    return max(1.0 - w, 0.0)


def room_below(w):
    return max(w, 0.0)


def root_above(w):
    return power(max(1.0 - w, 0.0), 0.5)


def root_below(w):
    return power(max(w, 0.0), 0.5)


def step_above(w):
    return heaviside(1.0 - w) - 0.0 * w


def step_below(w):
    return heaviside(w)


GAINS = {
    "additive": (None, None),
    "additive_step": (OfWeight(step_above), OfWeight(step_below)),
    "multiplicative_pow": (OfWeight(root_above), OfWeight(root_below)),
    "multiplicative_relu": (OfWeight(room_above), OfWeight(room_below)),
}


@pytest.mark.parametrize("n", range(len(NORSE_META["cases"])))
def test_norse(n: int) -> None:
    """Norse: t += dt / tau (a z - t) first: forward Euler, our trace with tau' = -dt / ln(1 - dt / tau), times a dt /
    tau.
    """
    case, dt = NORSE_META["cases"][n], 1.0
    assert (case["w_min"], case["w_max"], case["mu"]) in ((0.0, 1.0, 0.0), (0.0, 1.0, 0.5))
    share = {end: 0.001 / case[f"tau_{end}"] for end in ("pre", "post")}
    bars = {end: Trace(field("spike"), -dt / np.log(1 - share[end])) for end, field in (("pre", pre), ("post", post))}
    grow = case["eta_plus"] * case["a_pre"] * share["pre"]
    shrink = case["eta_minus"] * case["a_post"] * share["post"]
    plus, minus = GAINS[case["algorithm"]]
    terms = (
        Term(Apply(scaled(grow), (post("spike"),)), bars["pre"], plus),
        Term(Apply(scaled(-shrink), (bars["post"],)), pre("spike"), minus),
    )
    rule = ThreeFactorRule((Component(terms),), reduce="sum", constraints=(Bounds(case["w_min"], case["w_max"]),))
    net = silent_pair(case["n_pre"], case["n_post"], rule, weight=NORSE[f"c{n}.w0"], delay=0)
    spikes = {name: NORSE[f"c{n}.z_{end}"].astype(float) for name, end in (("input", "pre"), ("output", "post"))}
    phase = Phase("p", len(spikes["input"]), spikes)
    _, _, recording = simulate(net, phase, (Probe("wire", "weight"),), batch=case["batch"], dt=dt)
    np.testing.assert_allclose(recording["wire.weight"], NORSE[f"c{n}.w"], rtol=0, atol=1e-11)
