"""e-prop against its equations in plain NumPy, and against the surrogate gradient where the two are equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import normal, raster
from plain import described

from neurosim.adapter import Last
from neurosim.backends import compile
from neurosim.lateral import LayerNorm
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, AdaptiveLIF, CubaLIF, DelayedResetLIF, LeakyRate, SpikeRelay, StaticRate
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.bptt import BPTT
from neurosim.rules.eprop import EProp
from neurosim.surrogate import FastSigmoid
from neurosim.types import ConfigurationError
from neurosim.wiring import TARGET

INPUTS, CELLS, OUTPUTS, BATCH, REPLICAS, STEPS, DT = 4, 6, 3, 3, 2, 30, 0.5
TAU_MEM, TAU_THETA, TAU_OUT, V_TH, DELAY = 10.0, 20.0, 6.0, 0.5, 2
BETA = np.linspace(0.1, 0.6, CELLS)  # one per neuron
COMMON = {"tau_mem": TAU_MEM, "v_th": V_TH, "reset": "subtract", "surrogate": FastSigmoid(2.0)}
NEURONS = {
    "lif": LIF(**COMMON, arrival="filtered"),
    "adaptive": AdaptiveLIF(**COMMON, tau_theta=TAU_THETA, beta=BETA, arrival="filtered"),
    "delayed": DelayedResetLIF(**COMMON, tau_theta=TAU_THETA, beta=BETA, t_ref=2 * DT),
}


def network(kind, recurrent=True, output=None):
    """Input -> cells (with a bias, and recurrent synapses with a delay) -> leaky readout."""
    scale = 1.0 if kind == "delayed" else 8.0  # filtered: a jump is multiplied by 1 - leak
    start = {"weight": scale * np.abs(normal(CELLS, INPUTS)) / 4, "bias": 0.1 * scale}
    loop = Projection("cells", "cells", scale * normal(CELLS, CELLS) / 6, name="recurrent", delay=DELAY * DT)
    populations = (
        Population("input", INPUTS, SpikeRelay()),
        Population("cells", CELLS, NEURONS[kind]),
        Population("output", OUTPUTS, LeakyRate(TAU_OUT, "linear") if output is None else output),
    )
    readout = Projection("cells", "output", normal(OUTPUTS, CELLS), delay=0, name="readout", bias=0.2)
    wires = (Projection("input", "cells", name="drive", delay=0, **start), *((loop,) if recurrent else ()), readout)
    return Network(populations, wires)


def presented(index, replicas=REPLICAS):
    """Spikes [T, R, B, N] and one-hot labels [R, B, K] of the `index`-th presentation."""
    spikes = raster(STEPS, replicas, BATCH, INPUTS, seed=index)
    return spikes, np.eye(OUTPUTS)[np.random.default_rng(index).integers(OUTPUTS, size=(replicas, BATCH))]


def learned(net, trials=2, probes=()):
    """(start, end, last recording) of a network with rules over a few presentations; activity is carried over."""
    simulator = compile(net, DT, replicas=REPLICAS, dtype="float64")
    start = state = simulator.init(BATCH)
    for index in range(trials):
        spikes, labels = presented(index)
        target = {TARGET: np.repeat(labels[None], STEPS, 0)} if net.has(TARGET) else {}
        phase = Phase("train", STEPS, {"input": spikes, **target}, {"label": labels})
        state, recording = simulator.run(state, phase, probes)
    return start, state, recording


class Cells:
    """The three neurons in NumPy: spikes z, d z / d drive, beta of the threshold and what of it the step uses."""

    def __init__(self, kind):
        self.kind, self.v, self.theta, self.z, self.quiet = kind, 0.0, 0.0, np.zeros((BATCH, CELLS)), 0.0
        self.leak, self.rho = np.exp(-DT / TAU_MEM), np.exp(-DT / TAU_THETA)
        self.gain = 1.0 if kind == "delayed" else 1 - self.leak
        self.beta = {"lif": 0.0, "adaptive": self.rho * BETA, "delayed": BETA}[kind]

    def step(self, drive):
        """(z, psi)"""
        if self.kind == "delayed":
            self.theta = self.rho * self.theta + self.z
            self.v = self.leak * self.v + drive - V_TH * self.z
            over = self.v - V_TH - BETA * self.theta
            self.z = ((over >= 0) & (self.quiet == 0)).astype(float)
            psi = np.where(self.quiet > 0, 0.0, 1 / (2 * np.abs(over) + 1) ** 2)
            self.quiet = np.where(self.z == 1, 2, np.maximum(self.quiet - 1, 0))
            return self.z, psi
        self.theta = self.rho * self.theta
        free = self.leak * self.v + self.gain * drive
        over = free - V_TH - (BETA * self.theta if self.kind == "adaptive" else 0.0)
        self.z = (over >= 0).astype(float)
        self.v, self.theta = free - V_TH * self.z, self.theta + self.z
        return self.z, 1 / (2 * np.abs(over) + 1) ** 2


def by_hand(scheme, kind, weights, replica, trials=2, tau_out=TAU_OUT):
    """Weights after training. w_h [cells, inputs + 1 + cells] of x, a constant 1 and recurrent spikes; w_o [out, cells
    + 1]; B [cells, out]."""
    w_h, w_o, b = (value.copy() for value in weights)
    cells, kappa = Cells(kind), np.exp(-DT / tau_out) if tau_out else 0.0
    past = [np.zeros((BATCH, CELLS)) for _ in range(DELAY)]
    y, trace, seen = 0.0, np.zeros((BATCH, w_h.shape[1])), np.zeros((BATCH, CELLS + 1))
    a = filtered = total_e = pull = np.zeros((BATCH, *w_h.shape))
    count = 0.0
    one = np.ones((BATCH, 1))
    for index in range(trials):
        spikes, labels = (value[..., replica, :, :] for value in presented(index))
        changes = []
        for t in range(STEPS):
            pre = np.concatenate((spikes[t], one, past[-DELAY]), 1)
            z, psi = cells.step(pre @ w_h.T)
            past.append(z)
            sent = np.concatenate((z, one), 1)
            y = kappa * y + (1 - kappa) * sent @ w_o.T
            prediction = y if scheme.loss == "mse" else np.exp(y) / np.exp(y).sum(1, keepdims=True)
            delta = (1 - kappa) * (labels - prediction)
            trace = np.exp(-DT / TAU_MEM) * trace + pre
            beta = np.broadcast_to(cells.beta, (CELLS,))[:, None]
            e = psi[..., None] * (cells.gain * trace[:, None] - beta * a)
            a = (cells.rho * a if kind != "lif" else 0.0) + e
            filtered = (kappa if scheme.filtered else 0.0) * filtered + e
            seen = kappa * seen + sent
            total_e, count = total_e + e, count + z
            rate = count / scheme.t_reg - scheme.f_target / 1000
            growth, pull = -pull, -scheme.c_reg / scheme.t_reg * rate[..., None] * total_e
            growth = growth + pull
            signal = delta @ (w_o[:, :CELLS] if scheme.feedback == "symmetric" else b.T)
            changes.append((
                (signal[..., None] * filtered + growth).mean(0),
                np.einsum("bk,bj->kj", delta, seen) / BATCH,
                np.einsum("bj,bk->jk", seen[:, :CELLS], delta) / BATCH,
            ))  # fmt: skip
        adaptive = scheme.feedback == "adaptive"
        gathered = [scheme.lr * total(scheme.accumulate, values) for values in zip(*changes, strict=True)]
        w_h = w_h + gathered[0]
        w_o = w_o + gathered[1] - (scheme.decay * w_o if adaptive else 0.0)
        b = b + gathered[2] - scheme.decay * b if adaptive else b
    return w_h, w_o, b


def total(accumulate, values):
    return values[-1] if accumulate == "last" else getattr(np, accumulate)(values, axis=0)


def stacked(state, replica, feedback):
    """The weights of a state as `by_hand` has them."""
    weight, bias = ({n: v[replica].numpy() for n, v in state.learned[part].items()} for part in ("weight", "bias"))
    hidden = np.concatenate((weight["drive"], bias["drive"][:, None], weight["recurrent"]), 1)
    output = np.concatenate((weight["readout"], bias["readout"][:, None]), 1)
    return hidden, output, weight.get("eprop_cells", np.zeros((CELLS, OUTPUTS)))


OPTIONS = [
    {},
    {"filtered": False},
    {"accumulate": "mean", "loss": "mse"},
    {"accumulate": "last"},
    {"feedback": "symmetric"},
    {"feedback": "adaptive", "decay": 0.1},
    {"c_reg": 20.0, "f_target": 300.0, "t_reg": STEPS * DT},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", NEURONS)
def test_equation(kind, options):
    scheme = EProp(**{"lr": 0.01, "optimizer": "none", **options})
    start, state, recording = learned(scheme(network(kind)), probes=(Probe("cells", "spike"),))
    assert 0.05 < recording["cells.spike"].mean() < 0.95
    for replica in range(REPLICAS):
        before = stacked(start, replica, scheme.feedback)
        expected = by_hand(scheme, kind, before, replica)
        for ours, value in zip(stacked(state, replica, scheme.feedback), expected, strict=True):
            np.testing.assert_allclose(ours, value, rtol=0, atol=1e-12)
        moved = [np.abs(value - old).max() > 1e-4 for value, old in zip(expected, before, strict=True)]
        assert moved == [True, True, scheme.feedback == "adaptive"]


def test_a_readout_without_memory_filters_nothing():
    scheme = EProp(lr=0.01, optimizer="none")
    start, state, _ = learned(scheme(network("adaptive", output=StaticRate("linear"))))
    expected = by_hand(scheme, "adaptive", stacked(start, 0, "random"), 0, tau_out=None)
    for ours, value in zip(stacked(state, 0, "random")[:2], expected, strict=False):
        np.testing.assert_allclose(ours, value, rtol=0, atol=1e-12)


def test_every_option_changes_the_result():
    weights = [stacked(learned(EProp(lr=0.01, optimizer="none")(network("adaptive")))[0], 0, "random")] * 2
    schemes = [EProp(**{"lr": 0.01, "optimizer": "none", **options}) for options in OPTIONS]
    results = [by_hand(scheme, "adaptive", weights[0], 0)[0] for scheme in schemes]
    for index, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-5 for other in results[:index]), OPTIONS[index]


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("kind", NEURONS)
def test_symmetric_feedback_is_the_surrogate_gradient(kind, loss):
    """One hidden layer, no recurrence, the loss of the last step: nothing is left out but the reset, in both."""
    plain = {"lr": 1.0, "optimizer": "none", "loss": loss}
    net = network(kind, recurrent=False)
    eprop = learned(EProp(**plain, feedback="symmetric", accumulate="last")(net), trials=1)
    bptt = learned(BPTT(**plain, surrogate=None, decoder=Last())(net), trials=1)
    for part in ("weight", "bias"):
        for name in ("drive", "readout"):
            ours, gradient = (end.learned[part][name] - start.learned[part][name] for start, end, _ in (eprop, bptt))
            assert gradient.abs().max() > 1e-3
            torch.testing.assert_close(ours, gradient, rtol=0, atol=1e-10 * float(gradient.abs().max()))


def test_adaptive_feedback_becomes_the_transpose():
    """The difference shrinks by 1 - decay with every update, whatever the optimizer."""
    scheme = EProp(lr=0.01, optimizer="adam", feedback="adaptive", decay=0.1)
    start, state, _ = learned(scheme(network("adaptive")), trials=4)
    first, last = (s.learned["weight"]["eprop_cells"] - s.learned["weight"]["readout"].mT for s in (start, state))
    torch.testing.assert_close(last, 0.9**4 * first, rtol=0, atol=1e-12)
    assert first.abs().max() > 0.1


def test_random_feedback_reaches_every_layer():
    """Two hidden layers: each gets its learning signal from the output."""
    net = EProp(scale=2.0)(described("spiking"))
    arriving = {p.post: p for p in net.projections if p.port == "feedback" and p.post.startswith("hidden")}
    assert {p.pre for p in arriving.values()} == {"gated_error"}
    assert [p.weight.scale for p in arriving.values()] == [2.0, 2.0]


def test_class():
    assert EProp().local
    assert EProp(feedback="adaptive").local
    assert not EProp(feedback="symmetric").local


def changed(**parameters):
    """The adaptive network with other parameters of its neurons."""
    return with_cells(neuron=replace(NEURONS["adaptive"], **parameters))


def with_cells(**parts):
    """The network whose population `cells` has other parts."""
    net = network("lif")
    return replace(net, populations=tuple(replace(p, **parts) if p.name == "cells" else p for p in net.populations))


def to_port(port):
    return network("lif").with_projections(lambda p: replace(p, port=port) if p.name == "recurrent" else p)


@pytest.mark.parametrize(
    ("options", "net", "message"),
    [
        ({"c_reg": 1.0, "accumulate": "last"}, network("lif"), "c_reg looks at a whole presentation"),
        ({"c_reg": -1.0}, network("lif"), "c_reg of eprop is -1"),
        ({"t_reg": 0.0}, network("lif"), "t_reg of eprop"),
        ({"feedback": "other"}, network("lif"), "feedback of eprop is 'other'; allowed: symmetric, random, adaptive"),
        ({}, described("static"), "eprop teaches spikes of LIF.* 'hidden0' has StaticRate"),
        ({}, with_cells(neuron=CubaLIF()), "'cells' has CubaLIF"),
        ({}, changed(reset="to_v_reset"), "'cells' differs"),
        ({}, changed(integration="euler"), "'cells' differs"),
        ({}, changed(t_ref=2.0), "'cells' differs"),
        ({}, with_cells(lateral=LayerNorm()), "'cells' differs"),
        ({}, changed(tau_mem=np.full(CELLS, 10.0)), "tau_mem of 'cells' differs from neuron to neuron"),
        ({}, network("lif", output=LIF()), "eprop reads out by .* 'output' has LIF"),
        ({}, network("lif", output=LeakyRate(integration="euler")), "eprop reads out by"),
        ({}, to_port("current"), "eprop teaches port 'basal', not that of 'recurrent'"),
        ({"feedback": "symmetric"}, described("spiking"), "0 projections lead from 'hidden0' to 'output'"),
        ({"feedback": "adaptive"}, described("spiking"), "0 projections lead from 'hidden0' to 'output'"),
        ({"feedback": "adaptive", "layers": ("drive",)}, network("lif"), "it must be dense and taught"),
    ],
)
def test_what_cannot_be(options, net, message):
    with pytest.raises(ConfigurationError, match=message):
        EProp(**options)(net)
