"""Rules over several phases: weight perturbation, when and what is accumulated, silence, learning by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from nets import normal, raster, simulate, weight

from neurosim.backends import compile
from neurosim.connectivity import FixedProbability
from neurosim.factor import One, post, pre
from neurosim.modulator import Broadcast
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.recorder import Probe
from neurosim.rule import Component, SynapseNoise, Term, ThreeFactorRule
from neurosim.transform import Adam, Rate
from neurosim.types import ConfigurationError

SD, LR, B, R = 0.01, 0.5, 4, 2


@dataclass(frozen=True)
class LossChange:
    """m = -(loss - loss of the phase "clean"), the loss 0.5 |rate - target|^2 summed over the layer, mean over the
    batch.
    """

    scope: ClassVar[str] = "layer"
    every_step: ClassVar[bool] = True
    of_output: ClassVar[bool] = False

    def factors(self):
        return (post("rate"),)

    def signals(self):
        return ("target",)

    def init(self):
        return {}

    def update(self, view, memory):
        loss = 0.5 * ((view.post(post("rate")) - view.signal("target")) ** 2).sum(-1, keepdim=True).mean(
            1, keepdim=True
        )
        if view.phase == "clean":
            return torch.zeros_like(loss), {"loss": loss}
        return memory["loss"] - loss, memory


NOISY = ThreeFactorRule(
    (Component((Term(One("post"), One("pre"), SynapseNoise(SD)),)),),
    LossChange(),
    when="phase",
    accumulate="last",
    transforms=(Rate(LR / SD**2),),
)


def trial(x, target, **clean):
    held = {"drive": {"input": Held(x)}, "signals": {"target": target}}
    return Phase("clean", 1, **held, noise=False, **clean), Phase("perturbed", 2, **held)


@pytest.mark.parametrize("sparse", [False, True])
def test_weight_perturbation(sparse):
    """The perturbed phase delivers w + noise and b + noise; the change is m times that noise."""
    connectivity = {"connectivity": FixedProbability(0.6)} if sparse else {}
    x, target, start = normal(B, 3), normal(B, 5), normal(5, 3)
    net = Network(
        (Population("input", 3, Relay()), Population("output", 5, StaticRate("tanh"))),
        (Projection("input", "output", start, delay=0, bias=0.3, name="wire", rule=NOISY, **connectivity),),
    )
    simulator = compile(net, 1.0, replicas=R, dtype="float64")
    state = simulator.init(B)
    for _ in range(2):  # the second trial draws anew and forgets nothing
        before = weight(state), weight(state, part="bias")
        state, recording = simulator.run(state, trial(x, target), (Probe("output", "rate"), Probe("wire", "weight")))
        changes = weight(state) - before[0], weight(state, part="bias") - before[1]
        edges, first = simulator.plan.synapses["wire"].edges, 0
        for r in range(R):
            w, b = np.zeros((5, 3)), before[1][r]
            dw, db = np.zeros((5, 3)), changes[1][r]
            if sparse:
                own = slice(first, first + edges.counts[r])
                index = edges.post[own] % 5, edges.pre[own] % 3
                w[index], dw[index], first = before[0][own], changes[0][own], own.stop
            else:
                w, dw = before[0][r], changes[0][r]
            clean, noisy = recording["output.rate"][0, r], recording["output.rate"][-1, r]
            np.testing.assert_allclose(clean, np.tanh(x @ w.T + b), rtol=0, atol=1e-12)
            losses = [0.5 * ((rate - target) ** 2).sum(-1).mean() for rate in (clean, noisy)]
            scale = LR / SD**2 * (losses[0] - losses[1])
            noise, noise_bias = dw / scale, db / scale
            assert 0.2 * SD < np.abs(noise[w != 0]).mean() < 3 * SD
            np.testing.assert_allclose(noisy, np.tanh(x @ (w + noise).T + b + noise_bias), rtol=0, atol=1e-10)


def test_the_noise_is_another_in_every_phase_and_replica():
    net = Network(
        (Population("input", 3, Relay()), Population("output", 5, Relay())),
        (Projection("input", "output", 0.0, delay=0, name="wire", rule=NOISY),),
    )
    phase = Phase("perturbed", 1, {"input": np.eye(3)[None]}, learn=False)
    probes = (Probe("output", "rate"),)
    _, _, recording = simulate(net, (phase, phase), probes, batch=3, replicas=R)
    rows = recording["output.rate"].reshape(4, -1)
    assert (rows != 0).all()
    assert len(np.unique(rows)) == rows.size
    _, _, alone = simulate(net, (phase, phase), probes, batch=3)
    np.testing.assert_array_equal(alone["output.rate"], recording["output.rate"][:, 0])


# ---- when and accumulate -------------------------------------------------------------------------------------------

T = 3


def counted(when, accumulate, **rule):
    """dw = x each step; x of step t is driven."""
    net = Network(
        (Population("input", 1, Relay()), Population("output", 1, Relay())),
        (Projection("input", "output", 0.0, port="feedback", delay=0, name="wire", rule=ThreeFactorRule(
            (Component((Term(One("post"), pre("rate")),)),), when=when, accumulate=accumulate, **rule)),),
    )  # fmt: skip
    return net


def shown(values, name="p", **options):
    return Phase(name, len(values), {"input": np.reshape(values, (-1, 1, 1)).astype(float)}, **options)


FIRST, SECOND = (1, 2, 4), (8, 16)
EXPECTED = {  # after each of the five steps, for two phases in one trial
    ("step", "sum"): [1, 3, 7, 15, 31],
    ("step", "mean"): [1, 3, 7, 15, 31],
    ("step", "last"): [1, 3, 7, 15, 31],
    ("phase", "sum"): [0, 0, 7, 7, 31],
    ("phase", "mean"): [0, 0, 7 / 3, 7 / 3, 7 / 3 + 12],
    ("phase", "last"): [0, 0, 4, 4, 20],
    ("sample", "sum"): [0, 0, 0, 0, 31],
    ("sample", "mean"): [0, 0, 0, 0, 31 / 5],
    ("sample", "last"): [0, 0, 0, 0, 20],
}


@pytest.mark.parametrize(("when", "accumulate"), EXPECTED)
def test_when_and_accumulate(when, accumulate):
    probes = (Probe("wire", "weight"),)
    simulator, state, recording = simulate(counted(when, accumulate), (shown(FIRST), shown(SECOND)), probes)
    np.testing.assert_allclose(recording["wire.weight"].ravel(), EXPECTED[when, accumulate], rtol=1e-15)
    again, _ = simulator.run(state, (shown(FIRST), shown(SECOND)))
    np.testing.assert_allclose(weight(again), 2 * weight(state), rtol=1e-15)


@pytest.mark.parametrize(("accumulate", "total"), [("sum", 7), ("mean", 7 / 3), ("last", 4)])
def test_a_sample_that_ends_without_learning_is_due_all_the_same(accumulate, total):
    net = counted("sample", accumulate)
    for quiet in ({"learn": False}, {"learn": ()}):
        _, state, _ = simulate(net, (shown(FIRST), shown(SECOND, **quiet)))
        assert weight(state).item() == pytest.approx(total, rel=1e-15)


def test_sample_counts_runs_not_phases():
    """Two phases in two calls are two samples."""
    simulator, state, _ = simulate(counted("sample", "mean"), shown(FIRST))
    state, _ = simulator.run(state, shown(SECOND))
    assert weight(state).item() == pytest.approx(7 / 3 + 12)


def test_learn_by_name_and_silence():
    hebb = ThreeFactorRule((Component((Term(One("post"), pre("rate")),)),))
    net = Network(
        (Population("input", 1, Relay()), Population("output", 1, Relay())),
        tuple(Projection("input", "output", 1.0, delay=0, name=name, rule=hebb) for name in ("a", "b")),
    )
    phase = shown((1, 1), learn=("b",), silent=("a",))
    _, state, recording = simulate(net, phase, (Probe("output", "rate"),))
    assert (weight(state, "a").item(), weight(state, "b").item()) == (1.0, 3.0)
    np.testing.assert_array_equal(
        recording["output.rate"].ravel(), [1.0, 2.0]
    )  # b alone, with its weight before the step
    with pytest.raises(ConfigurationError, match="learn of phase 'p' names 'c'; projections with a rule: a, b"):
        simulate(net, shown((1,), learn=("c",)))
    with pytest.raises(ConfigurationError, match="silent of phase 'p' names 'input'; projections: a, b"):
        simulate(net, shown((1,), silent=("input",)))


# ---- reduce --------------------------------------------------------------------------------------------------------


def decaying(w):
    return -1.0 * w


@pytest.mark.parametrize("reduce", ["sum", "mean", "sequential"])
def test_reduce_of_the_batch(reduce):
    """Adam per row for "sequential": its count of updates goes on from row to row; the gain reads the old weight."""
    x, y, start = normal(2, B, 3), normal(2, B, 5), normal(5, 3)
    rule = ThreeFactorRule(
        (Component((Term(post("rate"), pre("rate")),)),), reduce=reduce, transforms=(Adam(0.8, 0.9), Rate(0.1))
    )
    net = Network(
        (Population("input", 3, Relay()), Population("output", 5, Relay())),
        (Projection("input", "output", start, port="feedback", delay=0, bias=True, name="wire", rule=rule),),
    )
    _, state, _ = simulate(net, Phase("p", 2, {"input": x, "output": y}), batch=B)
    results = []
    for pre_side, w in ((x, start), (np.ones((2, B, 1)), np.zeros((5, 1)))):
        products = y[..., None] * pre_side[:, :, None]
        changes = {"sum": products.sum(1), "mean": products.mean(1), "sequential": products.reshape(-1, *w.shape)}[
            reduce
        ]
        m, v = 0.0, 0.0
        for k, g in enumerate(changes):
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
            w = w + 0.1 * (m / (1 - 0.8 ** (k + 1))) / (np.sqrt(v / (1 - 0.9 ** (k + 1))) + 1e-8)
        results.append(w)
    np.testing.assert_allclose(weight(state)[0], results[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(weight(state, part="bias")[0], results[1][:, 0], rtol=0, atol=1e-12)
    assert state.learned["count"]["wire"] == (2 * B if reduce == "sequential" else 2)


def test_sequential_with_memory_over_a_phase():
    """Rows gather over the phase, then act one after the other."""
    x = raster(4, B, 3)
    rule = ThreeFactorRule((Component((Term(One("post"), pre("rate")),), tau=2.0),), reduce="sequential", when="phase")
    net = Network(
        (Population("input", 3, Relay()), Population("output", 1, Relay())),
        (Projection("input", "output", 0.0, port="feedback", delay=0, name="wire", rule=rule),),
    )
    _, state, _ = simulate(net, Phase("p", 4, {"input": x}), batch=B)
    e, total = 0.0, 0.0
    for row in x:
        e = np.exp(-0.5) * e + row
        total = total + e
    np.testing.assert_allclose(weight(state)[0, 0], total.sum(0), rtol=1e-14)


# ---- broadcast signals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [None, 4.0])
def test_reward_minus_its_running_mean(tau):
    """Once per phase, for each batch row its own mean; several steps of one phase see the same baseline."""
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), Broadcast("reward", tau), reduce="sum")
    net = Network(
        (Population("input", 1, Relay()), Population("output", 2, Relay())),
        (Projection("input", "output", 0.0, port="feedback", delay=0, name="wire", rule=rule),),
    )
    simulator = compile(net, 1.0, dtype="float64")
    state, mean, total = simulator.init(B), np.zeros((B, 1)), np.zeros((2, 1))
    x, y, rewards = normal(5, B, 1), normal(5, B, 2), normal(5, B, 1)
    for k in range(5):
        phase = Phase("p", 3, {"input": Held(x[k]), "output": Held(y[k])}, {"reward": rewards[k]})
        state, recording = simulator.run(state, phase, (Probe("wire", "modulator"),))
        m = rewards[k] - (mean if tau else 0.0)
        mean = mean + (rewards[k] - mean) / 4.0
        np.testing.assert_allclose(recording["wire.modulator"], np.broadcast_to(m, (3, B, 2)), rtol=0, atol=1e-15)
        total = total + 3 * (m * y[k]).T @ x[k]
    np.testing.assert_allclose(weight(state)[0], total, rtol=0, atol=1e-13)
    if tau:
        with pytest.raises(ConfigurationError, match="every batch row keeps its own mean"):
            simulator.run(simulator.fresh(state, 1), Phase("p", 1, signals={"reward": np.ones((1, 1))}))


def test_a_signal_of_the_wrong_width():
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), Broadcast("reward"))
    net = replace(counted("step", "sum"))
    net = net.with_projections(lambda p: replace(p, rule=rule))
    with pytest.raises(
        ConfigurationError, match=r"modulator of projection 'wire' has shape \(1, 1, 3\); it must broadcast"
    ):
        simulate(net, shown((1,), signals={"reward": np.ones((1, 3))}))
