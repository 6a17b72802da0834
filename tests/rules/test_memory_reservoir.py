"""BioHSIC with memory=reservoir, in plain NumPy on what the network did (Daruwalla, Lipasti 2024): xi arrives from a
reservoir whose readout learns to give the third factor of the window.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from plain import DT, REPLICAS, as_trial, described, shown
from test_biohsic import SETTINGS, third_factor

from neurosim.backends import compile
from neurosim.factor import post
from neurosim.inspect.certificate import certify
from neurosim.modulator import Feedback, Success, Towards
from neurosim.recorder import Probe
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.memory_reservoir import MemoryReservoir
from neurosim.types import ConfigurationError

MEMORY = MemoryReservoir(size=12, tau_mem=6.0, lr=0.05, scale=3.0, exploration=0.2, tau_mean=4.0)
HEBB = replace(MEMORY, learning="reward_modulated_hebb")
TRIALS = [[shown(k, steps=3)] for k in range(5)]
FIRST, READOUT, WINDOW = "input_hidden0", "memory_hidden0_xi_hidden0", 3
FIELDS = (
    *(("hidden0", name) for name in ("rate", "slope", "feedback")),
    *(("memory_hidden0", name) for name in ("v", "rate")),
    ("xi_hidden0", "rate"),
    (FIRST, "weight"),
    (READOUT, "weight"),
)


def scheme(memory):
    return BioHSIC(window=WINDOW, memory="reservoir", when="step", reservoir=memory, **SETTINGS)


def recorded(memory):
    """The start weights, and per step (x, y, what FIELDS name)."""
    network = scheme(memory)(described("leaky"))
    simulator = compile(network, DT, replicas=REPLICAS, seed=3, dtype="float64")
    state = simulator.init(3)
    start, rows, probes = state.learned["weight"], [], [Probe(*one) for one in FIELDS]
    for trial in TRIALS:
        state, recording = simulator.run(state, as_trial(trial[0], network), probes)
        columns = [recording[probe.key] for probe in probes]
        rows.extend((trial[0].x, trial[0].y, *values) for values in zip(*columns, strict=True))
    return {name: value.numpy() for name, value in start.items()}, rows


def wanted(rows, count, replica):
    """scale times minus the third factor `[B, H]` of step `count`: a window of earlier last steps, and now."""
    z, now = rows[count][2][replica], count // 3
    if now < WINDOW - 1:
        return np.zeros_like(z)
    window = [rows[3 * k + 2] for k in range(now - WINDOW + 1, now)] + [rows[count]]
    result = []
    for row in range(len(z)):
        past = [one[2][replica][row] for one in window]
        x, y = (np.stack([one[part][row] for one in window]) for part in (0, 1))
        result.append(-third_factor(x, y, np.stack(past), scheme(MEMORY)))
    return MEMORY.scale * np.stack(result)


@pytest.mark.parametrize("memory", [MEMORY, HEBB, replace(MEMORY, lr=0.0)], ids=["lms", "hebb", "still"])
def test_equation(memory):
    start, rows = recorded(memory)
    leak = np.exp(-DT / memory.tau_mem)
    means = np.exp(-DT / memory.tau_mean)
    for replica in range(REPLICAS):
        w, readout = start[FIRST][replica], start[READOUT][replica]
        v, r, mean_xi, mean_p = 0.0, np.zeros((3, 12)), 0.0, None
        for count, (x, y, *values) in enumerate(rows):
            z, slope, feedback, v_now, r_now, xi, w_now, readout_now = (value[replica] for value in values)
            arriving = r @ start["memory_hidden0_memory_hidden0"][replica].T
            for name, sent in (("input", x), ("target", y), ("hidden0", z)):
                arriving = arriving + sent @ start[f"{name}_memory_hidden0"][replica].T
            v = leak * v + (1 - leak) * arriving
            r = np.tanh(v)
            np.testing.assert_allclose(v_now, v, rtol=0, atol=1e-13)
            np.testing.assert_allclose(r_now, r, rtol=0, atol=1e-13)
            noise = xi - r @ readout.T
            if memory is not HEBB:
                np.testing.assert_allclose(noise, 0, atol=1e-13)
            np.testing.assert_allclose(feedback, xi / memory.scale, rtol=0, atol=1e-14)

            w = w + SETTINGS["lr"] * (xi / memory.scale * slope).T @ x / 3
            np.testing.assert_allclose(w_now, w, rtol=0, atol=1e-13)

            wrong = wanted(rows, count, replica) - xi
            m, p = wrong, -(wrong**2).sum(-1, keepdims=True)
            if memory is HEBB:
                mean_p = p if mean_p is None else mean_p
                mean_p = mean_p + (p - mean_p) / memory.tau_mean
                mean_xi = means * mean_xi + (1 - means) * xi
                m = (p > mean_p) * (xi - mean_xi)
            readout = readout + memory.lr * m.T @ r / 3
            np.testing.assert_allclose(readout_now, readout, rtol=0, atol=1e-13)
        assert (np.abs(readout - start[READOUT][replica]).max() > 1e-3) == bool(memory.lr)
        assert (np.abs(w - start[FIRST][replica]).max() > 1e-3) == bool(memory.lr)


def test_explores_with_the_given_noise():
    noise = []
    _, rows = recorded(HEBB)
    for count in range(1, len(rows)):
        noise.append(rows[count][7] - np.einsum("rbj,rij->rbi", rows[count][6], rows[count - 1][9]))
    np.testing.assert_allclose(np.std(noise), HEBB.exploration, rtol=0.1)


def test_everything_is_wired():
    """The layer reads its port alone; what the teacher reads is declared, and broadcast at the readout."""
    network = scheme(MEMORY)(described("leaky", hidden=(3,)))
    assert network.projection(FIRST).rule.modulator == Feedback(post("feedback"))
    arriving = [p.pre for p in network.projections if p.post == "hidden0" and network.port(p) == "feedback"]
    assert arriving == ["xi_hidden0"]
    found = certify(network, DT, batch=3)
    assert found.local
    scopes = {finding.projection: finding.scope for finding in found.findings}
    assert scopes == {FIRST: "neuron", "hidden0_output": "layer", READOUT: "broadcast"}


def test_without_learning_no_teacher_is_needed():
    network = scheme(replace(MEMORY, lr=0.0))(described("leaky"))
    assert network.projection(READOUT).rule is None
    assert all("input" not in p.rule.modulator.signals() for p in network.projections if p.rule is not None)


def test_spikes_are_remembered_as_a_trace():
    """The readout's copy of a spiking layer is the trace that the analytic rule has."""
    network = scheme(MEMORY)(described("spiking"))
    teacher = network.projection(READOUT).rule.modulator.teacher
    assert teacher.of.of == post("feedback")
    assert (teacher.of.tau, teacher.of.mode, teacher.memory) == (20.0, "mean", "buffer")


OTHER = {
    "size": 11,
    "tau_mem": 3.0,
    "radius": 0.5,
    "probability": 0.5,
    "input_scale": 0.5,
    "learning": "reward_modulated_hebb",
    "lr": 0.1,
    "scale": 2.0,
    "exploration": 0.5,
    "tau_mean": 2.0,
}


@pytest.mark.parametrize("name", OTHER)
def test_every_setting_changes_what_is_learned(name):
    assert set(OTHER) == {field.name for field in fields(MemoryReservoir)}
    base = HEBB if name in ("scale", "exploration", "tau_mean") else MEMORY
    (_, one), (_, other) = recorded(base), recorded(replace(base, **{name: OTHER[name]}))
    assert np.abs(one[-1][8] - other[-1][8]).max() > 1e-8


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning", "backprop"),
        ("scale", 0.0),
        ("input_scale", -1.0),
        ("lr", -1.0),
        ("tau_mean", 0.0),
        ("exploration", -1.0),
    ],
)
def test_bad_settings(field, value):
    with pytest.raises(ConfigurationError, match=field):
        replace(MEMORY, **{field: value})


def test_bad_memory():
    with pytest.raises(ConfigurationError, match="memory is 'tape'"):
        BioHSIC(window=3, memory="tape")(described("leaky"))


def test_another_feedback_is_refused():
    with pytest.raises(ConfigurationError, match="already takes what"):
        scheme(MEMORY)(FeedbackAlignment()(described("leaky")))


@pytest.mark.parametrize(("kind", "value"), [(Towards, {"scale": 0.0}), (Success, {"tau": 0.0})])
def test_bad_modulators(kind, value):
    inner = {"teacher": Feedback(post("x")), "of": post("rate")} if kind is Towards else {"error": Feedback(post("x"))}
    with pytest.raises(ConfigurationError, match=next(iter(value))):
        kind(**inner, **value)
