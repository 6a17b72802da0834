"""What arrives in every step alike is multiplied once in a phase: which projections these are, and the same values."""

from __future__ import annotations

import pytest
import torch
from backends import agree, leaves

from neurosim.backends import compile
from neurosim.backends.cpu import delivery
from neurosim.factor import post, pre
from neurosim.lateral import LayerNorm
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyRate, Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.random import Normal
from neurosim.recorder import Probe
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.transform import Rate

BATCH, STEPS, UNITS = 3, 5, 4


def hebb(when):
    return ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), when=when, transforms=(Rate(0.1),))


def network(rule=None, lateral=None, delay=0, back="transpose"):
    """input -> static units -> leaky units, beside a second way from the input, and back along tied weights.

    `other` sends along the weights from the static to the leaky units, turned.
    """
    wire = {"weight": Normal(0.0, 0.6), "delay": 0}
    return Network(
        [
            Population("input", UNITS, Relay()),
            Population("middle", 6, StaticRate("tanh"), lateral=lateral),
            Population("end", 5, LeakyRate(4.0, "tanh")),
            Population("error", UNITS, StaticRate("linear")),
            Population("other", 5, Relay()),
            Population("sink", 6, StaticRate("linear")),
        ],
        [
            Projection("input", "middle", name="in", bias=0.1, rule=rule, **wire),
            Projection("middle", "end", name="out", rule=rule, **wire),
            Projection("end", "error", name="read", **wire),
            Projection("other", "sink", 0.4, delay=0, tied=("out", back), name="turned"),
            Projection("input", "end", name="skip", bias=0.2, **{**wire, "delay": delay}),
            Projection("end", "middle", name="late", **{**wire, "delay": 1}),
            Projection("middle", "error", 0.4, delay=0, tied=("in", back), name="back"),
        ],
    )


def values(turn, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(turn))


def inputs(turn, rows=BATCH):
    return {"input": Held(values(turn, rows, UNITS)), "other": Held(values(turn + 9, rows, 5))}


def held(turn, **more):
    return Phase("p", STEPS, inputs(turn), silent=("late",), **more)


def both(turn):
    return Phase("p", STEPS, {**inputs(turn), "middle": values(turn, STEPS, BATCH, 6)}, silent=("late",))


READ = ("end", "error", "sink")
ALL = {"in", "out", "skip", "back", "turned"}
CASES = {
    "held": (network(), held, ALL),
    "in every step": (network(), lambda t: Phase("p", STEPS, {"input": values(t, STEPS, BATCH, UNITS)}), {"turned"}),
    "one of two in every step": (network(), both, {"in", "skip", "turned"}),
    "a delay": (network(delay=1), held, ALL - {"skip"}),
    "what comes back later": (network(), lambda t: Phase("p", STEPS, held(t).drive), {"in", "skip", "turned"}),
    "learning at the end": (network(hebb("phase")), held, ALL),
    "learning in every step": (network(hebb("step")), held, {"skip"}),
    "no learning": (network(hebb("step")), lambda t: held(t, learn=False), ALL),
    "signs of what learns": (network(hebb("step"), back="sign"), held, {"skip"}),
    "signs": (network(hebb("phase"), back="sign"), held, ALL),
    "a lateral": (network(lateral=LayerNorm()), held, ALL),
}


@pytest.mark.parametrize("by_torch", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_once(name, by_torch, monkeypatch):
    if by_torch:
        monkeypatch.setattr(delivery, "MATRIX_PRODUCT", 0)
    net, phase, expected = CASES[name]
    results = []
    for backend in ("reference", "cpu"):
        simulator = compile(net, 1.0, seed=3, replicas=2, backend=backend, dtype="float64")
        state = simulator.init(BATCH)
        for turn in range(3):
            state, recording = simulator.run(state, phase(turn), [Probe(name, "rate") for name in READ])
        results.append((simulator, state, recording))
    agree(results, 1e-11)
    for builder, _ in results[1][0]._programs.values():
        assert {name for name, one in builder.deliveries.items() if one.held is not None} == expected


def test_batches_in_one_call():
    """Each has its own; the bits of a run for each."""
    simulator = compile(network(hebb("phase")), 1.0, seed=3, replicas=2, backend="cpu", dtype="float64")
    drive = inputs(0, 4 * BATCH)
    phase = Phase("p", STEPS, drive, silent=("late",))
    found = simulator.run_batches(simulator.init(BATCH), (phase,))
    state = simulator.init(BATCH)
    for first in range(0, 4 * BATCH, BATCH):
        part = {name: Held(one.x[first : first + BATCH]) for name, one in drive.items()}
        state, _ = simulator.run(state, Phase("p", STEPS, part, silent=("late",)))
    pairs = zip(leaves((found.activity, found.learned)), leaves((state.activity, state.learned)), strict=True)
    for (path, value), (_, other) in pairs:
        assert torch.equal(value, other), path
