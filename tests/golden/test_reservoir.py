"""A leaky tanh reservoir with feedback, and two rules of its readout, against the authors' code (see data/README.md).

A step there is r = tanh(u), z = Wo r, u <- u + dt/tau (lam Wr r + Wi s + Wf z - u): what we call a step ends with r and
z. So u of their step k is v of our step k + 1, their s, r, z of a step are those of our step with the same number (they
arrive a step later), and v starts where the leak of a step takes it to their u0.
"""

from __future__ import annotations

import numpy as np
import pytest
from load import golden
from numpy.testing import assert_allclose

from neurosim.backends import compile
from neurosim.connectivity import OneToOne
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyRate, Relay, StaticRate
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.least_mean_squares import LeastMeanSquares
from neurosim.rules.reward_modulated_hebb import RewardModulatedHebb
from neurosim.types import Array
from neurosim.wiring import TARGET

DATA, META = golden("reservoir")
DT = 1000.0 * META["dt"]  # ms
TAU = 1000.0 * META["tau"]
PROBES = (Probe("reservoir", "v"), Probe("noisy", "rate"), Probe("output", "rate"), Probe("noisy_output", "weight"))


def described(readout: Array, start: Array) -> Network:
    """The golden network; `noisy` is the reservoir's rate with noise on it."""
    units, inputs = DATA["Wi"].shape
    outputs = len(readout)
    return Network(
        (
            Population("input", inputs, Relay()),
            Population(
                "reservoir",
                units,
                LeakyRate(TAU, "tanh", "euler"),
                initial={"v": start / (1.0 - META["dt"] / META["tau"])},
            ),
            Population("noisy", units, Relay()),
            Population("output", outputs, StaticRate("linear")),
        ),
        (
            Projection("input", "reservoir", DATA["Wi"]),
            Projection("reservoir", "noisy", 1.0, OneToOne(), delay=0),
            Projection("noisy", "reservoir", META["lam"] * DATA["Wr"], name="recurrent"),
            Projection("output", "reservoir", DATA["Wf"]),
            Projection("noisy", "output", readout, delay=0),
        ),
    )


def simulate(net: Network, drive: dict[str, Array], silent: int = 0):
    """(v, r, z, readout weights) of every step; `silent`: so many first steps without learning."""
    simulator = compile(net, DT, replicas=None, dtype="float64")
    state, parts = simulator.init(1), []
    steps = len(drive["input"])
    for start, stop in ((0, silent), (silent, steps)):
        if stop > start:
            shown = {name: value[start:stop, None] for name, value in drive.items() if net.has(name)}
            state, recording = simulator.run(state, Phase("p", stop - start, shown, learn=start == silent), PROBES)
            parts.append(recording)
    v, r, z, w = (np.concatenate([part[probe.key] for part in parts]) for probe in PROBES)
    return v[:, 0], r[:, 0], z[:, 0], w


def test_trajectory() -> None:
    v, r, z, _ = simulate(described(DATA["Wo"], DATA["traj.u0"]), {"input": DATA["traj.s"]})
    assert_allclose(v[0], DATA["traj.u0"], rtol=0, atol=1e-14)
    assert_allclose(v[1:], DATA["traj.u"][:-1], rtol=0, atol=1e-11)
    assert_allclose(r, DATA["traj.r"], rtol=0, atol=1e-11)
    assert_allclose(z, DATA["traj.z"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("mode", ["xi", "given"])
def test_least_mean_squares(mode: str) -> None:
    """Three windows of 20 steps; the target is the third factor of BioHSIC, or given."""
    windows, steps, newest = META["windows"], META["nt"], META["N"] - 1
    samples = [np.concatenate([DATA[f"lms.{name}"][newest + k] for name in "xyz"]) for k in range(windows)]
    drive = {"input": np.repeat(samples, steps, 0), TARGET: np.repeat(DATA[f"lms.{mode}.target"], steps, 0)}
    network = described(np.zeros((META["nz"], META["nh"])), DATA["traj.u0"])
    v, _, z, w = simulate(LeastMeanSquares(lr=META["lr"])(network), drive)
    largest = np.abs(DATA[f"lms.{mode}.Wo_after"]).max()
    assert_allclose(w[:5], DATA[f"lms.{mode}.Wo_steps_win1"], rtol=0, atol=1e-11 * largest)
    assert_allclose(w[steps - 1 :: steps], DATA[f"lms.{mode}.Wo_after"], rtol=0, atol=1e-11 * largest)
    assert_allclose(v[1:], DATA[f"lms.{mode}.u"].reshape(-1, META["nh"])[:-1], rtol=0, atol=1e-11)
    mse = ((z - drive[TARGET]) ** 2).reshape(windows, -1).mean(1)
    assert_allclose(mse, DATA[f"lms.{mode}.mse"], rtol=1e-10)


def test_reward_modulated_hebb() -> None:
    """Their noise comes in as drives, their low-pass f <- (1 - a) f + a v is a trace with exp(-dt / tau) = 1 - a.

    Their rate eta0 / (1 + t / rate) begins when t = k dt is past an offset: with the rate of the first update as `lr`
    it is `Annealed`.
    """
    settings, eta = META["rm"], DATA["rmhebb.eta"]
    first = int(np.flatnonzero(eta)[0])
    half = (settings["rate"] * settings["eta0"] / eta[first]) / META["dt"]
    assert_allclose(eta[first:], eta[first] / (1.0 + np.arange(len(eta) - first) / half), rtol=1e-12)
    rule = RewardModulatedHebb(
        lr=float(eta[first]),
        half=half,
        success="binary",
        exploration=0.0,
        tau_mean=-DT / np.log(1.0 - META["dt"] / settings["tau_avg"]),
    )
    names = {"input": "s", "noisy": "noise_hidden", "output": "noise_out", TARGET: "f"}
    drive = {name: DATA[f"rmhebb.{key}"] for name, key in names.items()}
    network = rule(described(np.zeros((META["nz"], META["nh"])), DATA["traj.u0"]))
    v, r, z, w = simulate(network, drive, first)
    assert_allclose(r, DATA["rmhebb.r"], rtol=0, atol=1e-11)
    assert_allclose(z, DATA["rmhebb.z"], rtol=0, atol=1e-11)
    assert_allclose(v[1:], DATA["rmhebb.u"][:-1], rtol=0, atol=1e-11)
    largest = np.abs(DATA["rmhebb.Wo_final"]).max()
    assert 0 < DATA["rmhebb.M"][first:].mean() < 1
    assert_allclose(w[settings["steps"] // 2], DATA["rmhebb.Wo_mid"], rtol=0, atol=1e-11 * largest)
    assert_allclose(w[-1], DATA["rmhebb.Wo_final"], rtol=0, atol=1e-11 * largest)
