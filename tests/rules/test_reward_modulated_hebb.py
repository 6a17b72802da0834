"""dw = lr M (z - mean z) r, M from P = -sum (target - z)^2, in plain NumPy, on what the network did (Hoerzer et al.
2014).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain import DT, LAYERS, REPLICAS, as_trial, described, error, plain, shown, train

from neurosim.adapter import Hold, Mean
from neurosim.backends import compile
from neurosim.inspect.certificate import certify
from neurosim.learner import Settings, SimulatorLearner
from neurosim.recorder import Probe
from neurosim.rules.reward_modulated_hebb import RewardModulatedHebb
from neurosim.types import ConfigurationError

TRIALS = [[shown(0, steps=9), shown(1, steps=7)], [shown(2, steps=8)]]
PROBES = (Probe("output", "rate"), Probe("hidden1", "rate"), Probe(LAYERS[2], "weight"), Probe(LAYERS[2], "bias"))
BASE = RewardModulatedHebb(lr=0.05, half=10.0, success="graded", exploration=0.4, tau_mean=3.0)


def recorded(scheme, kind="leaky"):
    """Start weights, then per step (target, z [R, B, P], r [R, B, Q], w and b after it)."""
    simulator = compile(scheme(described(kind)), DT, replicas=REPLICAS, seed=3, dtype="float64")
    state = simulator.init(3)
    start = [state.learned[part][LAYERS[2]].numpy().copy() for part in ("weight", "bias")]
    rows = []
    for trial in TRIALS:
        for one in trial:
            state, recording = simulator.run(state, as_trial(one, scheme(described(kind))), PROBES)
            rows.extend((one.y, *values) for values in zip(*(recording[probe.key] for probe in PROBES), strict=True))
    return start, rows


@pytest.mark.parametrize(
    "scheme",
    [
        BASE,
        replace(BASE, success="binary"),
        replace(BASE, half=None),
        replace(BASE, loss="cross_entropy"),
        replace(BASE, tau_mean=20.0),
        replace(BASE, exploration=0.0),
    ],
    ids=lambda scheme: f"{scheme.success}-{scheme.half}-{scheme.loss}-{scheme.tau_mean}-{scheme.exploration}",
)
def test_equation(scheme):
    (w, b), rows = recorded(scheme)
    keep, mean_z, mean_p, moved = np.exp(-DT / scheme.tau_mean), 0.0, 0.0, []
    for count, (y, z, r, w_after, b_after) in enumerate(rows):
        wrong = error(z, y, scheme.loss)
        p = -(wrong**2).sum(-1, keepdims=True)
        mean_z, mean_p = keep * mean_z + (1 - keep) * z, keep * mean_p + (1 - keep) * p
        m = p - mean_p if scheme.success == "graded" else (p > mean_p).astype(float)
        lr = scheme.lr / (1 + count / scheme.half) if scheme.half else scheme.lr
        deviation = m * (z - mean_z)
        w = w + lr * np.einsum("rbi,rbj->rij", deviation, r) / 3
        b = b + lr * deviation.mean(1)
        np.testing.assert_allclose(w_after, w, rtol=0, atol=1e-12)
        np.testing.assert_allclose(b_after, b, rtol=0, atol=1e-12)
        moved.append(m)
    assert np.std(moved) > 0.05


def test_explores_in_training_only():
    """The readout has noise of the given size while it learns, and none when it is tested."""
    network = replace(BASE, lr=0.0)(described("static"))
    options = {
        "batch": 40,
        "dt": DT,
        "replicas": 2,
        "seed": 3,
        "dtype": "float64",
        "device": "cpu",
        "backend": "reference",
    }
    learner = SimulatorLearner(network, Hold(), Mean(), Settings(50), **options)
    state, one = learner.init(), shown(0, batch=40)
    y = one.y.argmax(1)
    for use, stages, sd in (("train", network.trial, 0.4), ("test", (network.test,), 0.0)):
        phases = learner._phases(use, stages, one.x[None], y[None], torch.arange(40))
        _, recording = learner.simulator.run(state, phases, (Probe("output", "rate"),))
        exact = np.stack([plain("static", state, replica).step(one.x).output for replica in range(2)])
        noise = recording["output.rate"] - exact
        np.testing.assert_allclose(noise.std(), sd, rtol=0.02, atol=1e-13)


def test_learns_what_the_error_would_teach():
    """One held input: the squared error falls to a tenth, without any neuron being told its own error."""
    one = replace(shown(0, batch=1), steps=1500)
    scheme = RewardModulatedHebb(lr=0.02, half=None, success="graded", exploration=0.3, tau_mean=3.0)
    start, state = train(scheme(described("static")), [[one]])
    wrong = [
        [((plain("static", s, k).step(one.x).output - one.y) ** 2).sum() for k in range(2)] for s in (start, state)
    ]
    assert (np.array(wrong[1]) < 0.1 * np.array(wrong[0])).all()


def test_is_local_and_no_error_arrives():
    network = BASE(described("static", hidden=(3,)))
    found = certify(network, 1.0, batch=3)
    assert (found.local, found.scope) == (True, "broadcast")
    arriving = [p.pre for p in network.projections if p.post == "output" and network.port(p) == "feedback"]
    assert arriving == ["performance"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("success", "loud", "success is 'loud'"),
        ("exploration", -1.0, "exploration"),
        ("tau_mean", 0.0, "tau_mean"),
        ("half", 0.0, "half of Annealed"),
    ],
)
def test_bad_parameters(field, value, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        replace(BASE, **{field: value})(described("static"))
