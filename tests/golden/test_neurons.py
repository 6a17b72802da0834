"""Our neurons against Brian2, NEST, snnTorch and Norse (recorded; see data/README.md).

Alignment, once for all: our projections arrive at the start of a step. Brian2 and NEST (exponential synapses) add an
input spike at the end of step k, so it is our input of step k + 1 (`late`). Strict thresholds (Brian2, snnTorch, Norse:
v > v_th) are our v >= nextafter(v_th).
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from alone import simulate
from load import golden

from neurosim.neuron import LIF, AdaptiveLIF, AdEx, CobaLIF, CubaLIF, DelayedResetLIF, Izhikevich
from neurosim.neuron.synaptic import joint_gain
from neurosim.types import Array

BRIAN, BRIAN_META = golden("neurons_brian2")
NEST, NEST_META = golden("neurons_nest")
SNNTORCH, SNNTORCH_META = golden("neurons_snntorch")
NORSE, NORSE_META = golden("neurons_norse")
STEPS = [0.1, 1.0]


def prefix(dt: float) -> str:
    return f"dt{dt:g}."


def strictly(v_th: float) -> float:
    """v > v_th is v >= this."""
    return float(np.nextafter(v_th, np.inf))


def late(values: Array) -> Array:
    """What was added at the end of step k arrives at the start of step k + 1."""
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


def run(neuron, dt, inputs, **initial):
    steps, size = next(iter(inputs.values())).shape
    return simulate(neuron, dt, inputs, steps=steps, size=size, initial=initial)


def near(ours: Array, theirs: Array, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def same_spikes(ours: Array, theirs: Array) -> None:
    assert theirs.sum() > 0
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize("family", ["lif", "lif_noref"])
def test_brian2_lif(dt: float, family: str) -> None:
    p, key = BRIAN_META["lif"], prefix(dt)
    t_ref = p["tref"] - dt if family == "lif" else 0.0  # Brian2 counts the spike step
    neuron = LIF(tau_mem=p["tau"], v_th=strictly(p["Vth"]), v_reset=p["Vr"], v_rest=p["EL"], t_ref=t_ref, r_mem=p["R"])
    ours = run(neuron, dt, {"current": BRIAN[key + "lif.I"]})
    near(ours["v"], BRIAN[f"{key}{family}.v"], 1e-8)
    same_spikes(ours["spike"], BRIAN[f"{key}{family}.spikes"])


def brian_synapses(key: str, family: str) -> dict[str, Array]:
    spikes, excitatory = BRIAN[key + "in_spikes"].astype(float), BRIAN[key + "in_is_exc"] == 1
    weights = BRIAN[f"{key}{family}.W"]
    split = {"basal": excitatory, "inhibitory": ~excitatory}
    return {port: late(spikes[:, chosen] @ weights[:, chosen].T) for port, chosen in split.items()}


def end_of_step(recorded: Array, arrived: Array) -> Array:
    """Our state after a step, plus what Brian2 adds at the end of it."""
    return recorded[:-1] + arrived[1:]


@pytest.mark.parametrize("dt", STEPS)
def test_brian2_cuba(dt: float) -> None:
    p, key = BRIAN_META["cuba"], prefix(dt)
    neuron = CubaLIF(tau_mem=p["taum"], tau_syn_exc=p["taue"], tau_syn_inh=p["taui"], v_th=strictly(p["Vt"]),
                     v_reset=p["Vr"], v_rest=p["EL"], t_ref=p["tref"] - dt)  # fmt: skip
    arrived = brian_synapses(key, "cuba")
    ours = run(neuron, dt, arrived, v=BRIAN[key + "cuba.v0"])
    near(ours["v"], BRIAN[key + "cuba.v"], 1e-8)
    near(end_of_step(ours["i_exc"], arrived["basal"]), BRIAN[key + "cuba.ge"][:-1], 1e-8)
    near(end_of_step(ours["i_inh"], arrived["inhibitory"]), BRIAN[key + "cuba.gi"][:-1], 1e-8)
    same_spikes(ours["spike"], BRIAN[key + "cuba.spikes"])


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize(("family", "integration"), [("coba", "exact"), ("coba_euler", "euler")])
def test_brian2_coba(dt: float, family: str, integration: str) -> None:
    p, key = BRIAN_META["coba"], prefix(dt)
    neuron = CobaLIF(c_mem=p["C"], g_leak=p["gl"], tau_syn_exc=p["taue"], tau_syn_inh=p["taui"], e_exc=p["Ee"],
                     e_inh=p["Ei"], v_th=strictly(p["Vt"]), v_reset=p["Vr"], v_rest=p["EL"], t_ref=p["tref"] - dt,
                     integration=integration)  # fmt: skip
    arrived = brian_synapses(key, "coba")
    ours = run(neuron, dt, arrived, v=BRIAN[key + "coba.v0"])
    near(ours["v"], BRIAN[f"{key}{family}.v"], 1e-8)
    near(end_of_step(ours["g_exc"], arrived["basal"]), BRIAN[f"{key}{family}.ge"][:-1], 1e-8)
    near(end_of_step(ours["g_inh"], arrived["inhibitory"]), BRIAN[f"{key}{family}.gi"][:-1], 1e-8)
    same_spikes(ours["spike"], BRIAN[f"{key}{family}.spikes"])


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize(("family", "reset"), [("alif_zero", "zero"), ("alif_sub", "subtract")])
def test_brian2_adaptive(dt: float, family: str, reset: str) -> None:
    p, key = BRIAN_META["alif"], prefix(dt)
    neuron = AdaptiveLIF(tau_mem=p["tau"], tau_theta=p["tau_th"], beta=p["beta"], v_th=strictly(p["thr"]), reset=reset)
    ours = run(neuron, dt, {"current": BRIAN[key + "alif.I"]})
    near(ours["v"], BRIAN[f"{key}{family}.v"], 1e-8)
    near(ours["theta"], BRIAN[f"{key}{family}.theta"], 1e-8)
    same_spikes(ours["spike"], BRIAN[f"{key}{family}.spikes"])


@pytest.mark.parametrize("dt", STEPS)
def test_brian2_adex(dt: float) -> None:
    p, key = BRIAN_META["adex"], prefix(dt)
    neuron = AdEx(c_mem=p["C"], g_leak=p["gL"], v_rest=p["EL"], v_t=p["VT"], delta_t=p["DT"], tau_w=p["tauw"], a=p["a"],
                  b=p["b"], v_th=strictly(p["Vcut"]), v_reset=p["Vr"])  # fmt: skip
    ours = run(neuron, dt, {"current": 1000.0 * BRIAN[key + "adex.I"]})  # nA -> pA
    near(ours["v"], BRIAN[key + "adex.v"], 1e-8)
    near(ours["w"], BRIAN[key + "adex.w"], 1e-8)
    same_spikes(ours["spike"], BRIAN[key + "adex.spikes"])


@pytest.mark.parametrize("dt", STEPS)
def test_brian2_izhikevich(dt: float) -> None:
    p, key = BRIAN_META["izh"], prefix(dt)
    ours = run(Izhikevich(a=p["a"], b=p["b"], c=p["c"], d=p["d"]), dt, {"current": BRIAN[key + "izh.I"]})
    near(ours["v"], BRIAN[key + "izh.v"], 1e-8)
    near(ours["u"], BRIAN[key + "izh.u"], 1e-8)
    same_spikes(ours["spike"], BRIAN[key + "izh.spikes"])


def nest_raster(key: str, dt: float, shape: tuple[int, ...]) -> Array:
    raster = np.zeros(shape)
    row = np.round(NEST[key + "spike_times"] / dt).astype(int) - 1
    raster[row, NEST[key + "spike_neuron"]] = 1
    assert raster.sum() == len(row)
    return raster


@pytest.mark.parametrize("dt", STEPS)
def test_nest_delta(dt: float) -> None:
    p, key = NEST_META["delta"], prefix(dt) + "delta."
    neuron = LIF(tau_mem=p["tau_m"], v_th=p["V_th"], v_reset=p["V_reset"], v_rest=p["E_L"], t_ref=p["t_ref"],
                 r_mem=p["tau_m"] / p["C_m"])  # fmt: skip
    inputs = {"basal": NEST[key + "in_spikes"] @ NEST[key + "W"].T, "current": late(NEST[key + "I"])}
    ours = run(neuron, dt, inputs, v=NEST[key + "v0"])
    near(ours["v"], NEST[key + "V_m"][:500], 1e-9)
    same_spikes(ours["spike"], nest_raster(key, dt, NEST[key + "V_m"].shape)[:500])


@pytest.mark.parametrize("dt", STEPS)
def test_nest_exponential_currents(dt: float) -> None:
    p, key = NEST_META["exp"], prefix(dt) + "exp."
    neuron = CubaLIF(tau_mem=p["tau_m"], tau_syn_exc=p["tau_syn_ex"], tau_syn_inh=p["tau_syn_in"], v_th=p["V_th"],
                     v_reset=p["V_reset"], v_rest=p["E_L"], t_ref=p["t_ref"], r_mem=p["tau_m"] / p["C_m"])  # fmt: skip
    spikes, weights = NEST[key + "in_spikes"], NEST[key + "W"]
    arrived = {"basal": late(spikes @ weights.clip(min=0).T), "inhibitory": late(spikes @ weights.clip(max=0).T)}
    ours = run(neuron, dt, {**arrived, "current": late(NEST[key + "I"])}, v=NEST[key + "v0"])
    near(ours["v"], NEST[key + "V_m"][:500], 1e-9)
    near(end_of_step(ours["i_exc"], arrived["basal"]), NEST[key + "I_syn_ex"][:499], 1e-9)
    near(end_of_step(ours["i_inh"], arrived["inhibitory"]), NEST[key + "I_syn_in"][:499], 1e-9)
    same_spikes(ours["spike"], nest_raster(key, dt, NEST[key + "V_m"].shape)[:500])


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("delay", ["delay", "nodelay"])
def test_snntorch_leaky(dt: float, reset: str, delay: str) -> None:
    key, v_th = prefix(dt), strictly(SNNTORCH_META["thr"])
    tau = -dt / np.log(SNNTORCH_META["betas"][key[:-1]])
    model = DelayedResetLIF if delay == "delay" else LIF
    ours = run(model(tau_mem=tau, v_th=v_th, reset=reset), dt, {"basal": SNNTORCH[key + "leaky.input"]})
    near(ours["v"], SNNTORCH[f"{key}leaky.{reset}.{delay}.mem"], 1e-12)
    same_spikes(ours["spike"], SNNTORCH[f"{key}leaky.{reset}.{delay}.spk"])


def snntorch_synaptic(dt: float, reset: str, delay: str) -> tuple[dict[str, Array], dict[str, float]]:
    """Golden arrays of a Synaptic, and ours for its alpha and beta (mem = beta mem + syn).

    snnTorch has no units: r_mem is such that one unit of synaptic current moves the membrane by one unit.
    """
    key = prefix(dt)
    tau_mem = -dt / np.log(SNNTORCH_META["betas"][key[:-1]])
    tau_syn = -dt / np.log(SNNTORCH_META["alphas"][key[:-1]])
    arrays = {name: SNNTORCH[f"{key}synaptic.{reset}.{delay}.{name}"] for name in ("mem", "syn", "spk")}
    shared = {"tau_mem": tau_mem, "tau_syn_exc": tau_syn, "v_th": strictly(SNNTORCH_META["thr"])}
    return arrays, {**shared, "r_mem": 1.0 / joint_gain(tau_mem, tau_syn, dt)}


def run_synaptic(dt: float, parameters: dict[str, float], **more) -> tuple[dict[str, Array], Array]:
    """Our recording, and syn as snnTorch has it (before the decay of the step; ours is after it)."""
    ours = run(CubaLIF(**parameters, **more), dt, {"basal": SNNTORCH[prefix(dt) + "synaptic.input"]})
    return ours, ours["i_exc"] / SNNTORCH_META["alphas"][prefix(dt)[:-1]]


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_snntorch_synaptic_with_immediate_reset(dt: float, reset: str) -> None:
    theirs, parameters = snntorch_synaptic(dt, reset, "nodelay")
    ours, syn = run_synaptic(dt, parameters, reset=reset)
    near(syn, theirs["syn"], 1e-12)
    near(ours["v"], theirs["mem"], 1e-12)
    same_spikes(ours["spike"], theirs["spk"])


@pytest.mark.parametrize("dt", STEPS)
def test_snntorch_synaptic_with_delayed_subtraction(dt: float) -> None:
    theirs, parameters = snntorch_synaptic(dt, "subtract", "delay")
    _, syn = run_synaptic(dt, parameters)
    near(syn, theirs["syn"], 1e-12)
    ours = run(DelayedResetLIF(tau_mem=parameters["tau_mem"], v_th=parameters["v_th"]), dt, {"basal": syn})
    near(ours["v"], theirs["mem"], 1e-12)
    same_spikes(ours["spike"], theirs["spk"])


@pytest.mark.parametrize("dt", STEPS)
def test_snntorch_synaptic_with_delayed_zero(dt: float) -> None:
    """Here snnTorch zeroes mem in the step after the spike, with the input of that step (its Leaky keeps it):
    that is one step of refractoriness. In the row of the spike itself it shows mem before the reset, we after it."""
    theirs, parameters = snntorch_synaptic(dt, "zero", "delay")
    ours, syn = run_synaptic(dt, parameters, reset="zero", t_ref=dt)
    near(syn, theirs["syn"], 1e-12)
    same_spikes(ours["spike"], theirs["spk"])
    quiet = theirs["spk"] == 0
    near(ours["v"][quiet], theirs["mem"][quiet], 1e-12)
    assert (ours["v"][~quiet] == 0).all()


def test_snntorch_does_not_spike_at_the_threshold() -> None:
    at_threshold = {"basal": np.ones((1, 1))}
    assert SNNTORCH["tie.leaky_spk_at_threshold"].item() == 0
    assert run(LIF(v_th=strictly(1.0)), 1.0, at_threshold)["spike"].item() == 0
    assert run(LIF(v_th=1.0), 1.0, at_threshold)["spike"].item() == 1


def norse_cuba() -> CubaLIF:
    p = NORSE_META
    return CubaLIF(tau_mem=1000 * p["tau_mem"], tau_syn_exc=1000 * p["tau_syn"], v_th=strictly(p["v_th"]),
                   v_reset=p["v_reset"], v_rest=p["v_leak"], integration="euler")  # fmt: skip


@pytest.mark.parametrize("dt", STEPS)
def test_norse_lif_cell(dt: float) -> None:
    key = prefix(dt)
    ours = run(norse_cuba(), dt, {"basal": NORSE[key + "input"]})
    near(ours["v"], NORSE[key + "LIFCell.v"], 1e-12)
    near(ours["i_exc"], NORSE[key + "LIFCell.i"], 1e-12)
    same_spikes(ours["spike"], NORSE[key + "LIFCell.z"])


@pytest.mark.parametrize("dt", STEPS)
def test_norse_recurrent_cell(dt: float) -> None:
    """Teacher-forced: the recurrent input of step t is made of the recorded spikes of t - 1."""
    key = prefix(dt)
    recurrent = late(NORSE[key + "rec.z"].astype(float)) @ NORSE[key + "rec.W_rec"].T
    ours = run(norse_cuba(), dt, {"basal": NORSE[key + "rec.in_spikes"] @ NORSE[key + "rec.W_in"].T + recurrent})
    near(ours["v"], NORSE[key + "rec.v"], 1e-12)
    near(ours["i_exc"], NORSE[key + "rec.i"], 1e-12)
    same_spikes(ours["spike"], NORSE[key + "rec.z"])


@pytest.mark.parametrize("dt", STEPS)
def test_norse_box(dt: float) -> None:
    p, key = NORSE_META, prefix(dt)
    neuron = LIF(tau_mem=1000 * p["tau_mem"], v_th=strictly(p["v_th"]), integration="euler")
    ours = run(neuron, dt, {"current": NORSE[key + "LIFBox.input"]})
    near(ours["v"], NORSE[key + "LIFBox.v"], 1e-12)
    same_spikes(ours["spike"], NORSE[key + "LIFBox.z"])


USED = {
    "neurons_brian2": {"in_spikes", "in_is_exc", "lif", "lif_noref", "cuba", "coba", "coba_euler", "alif", "alif_zero",
                       "alif_sub", "adex", "izh"},
    "neurons_nest": {"exp", "delta"},
    "neurons_snntorch": {"leaky.input", "leaky.subtract", "leaky.zero", "leaky.none", "synaptic.input",
                         "synaptic.subtract", "synaptic.zero", "leaky_spk_at_threshold"},
    "neurons_norse": {"input", "LIFCell", "rec", "LIFBox"},
}  # fmt: skip


@pytest.mark.parametrize("name", USED)
def test_every_array_family_is_used(name: str) -> None:
    """Nothing in the files goes unread: a family that is added has to be added here and to a test."""
    arrays, _ = golden(name)
    depth = 2 if name == "neurons_snntorch" else 1
    families = {".".join(re.sub(r"^(dt0\.1|dt1|tie)\.", "", key).split(".")[:depth]) for key in arrays}
    assert families == USED[name]
