"""Every neuron with a base setting in which every parameter matters, one other value per parameter, and a drive
that uses every port. One table for the tests of parameters, of backends and of slopes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neurosim import neuron as neurons
from neurosim.neuron import Neuron
from neurosim.surrogate import ATan
from neurosim.types import Array

_LIF = {"tau_mem": 8.0, "v_th": 0.8, "v_reset": 0.1, "v_rest": 0.2, "t_ref": 1.0, "r_mem": 2.0, "reset": "subtract",
        "integration": "euler", "surrogate": ATan()}  # fmt: skip
_RATE = {"tau_mem": 4.0, "activation": "relu", "integration": "euler"}
_COBA = {"c_mem": 150.0, "g_leak": 12.0, "tau_syn_exc": 4.0, "tau_syn_inh": 8.0, "e_exc": 10.0, "e_inh": -75.0,
         "v_th": -52.0, "v_reset": -62.0, "v_rest": -58.0, "t_ref": 2.0, "reset": "subtract", "integration": "euler",
         "surrogate": ATan()}  # fmt: skip
_ADEX = {"c_mem": 200.0, "g_leak": 20.0, "v_rest": -68.0, "v_t": -52.0, "delta_t": 3.0, "tau_w": 100.0, "a": 2.0,
         "b": 60.0, "v_th": -42.0, "v_reset": -65.0, "surrogate": ATan()}  # fmt: skip

# class name -> (base, {parameter: another value}); the sizes of the drive of each port or draw follow below
TABLE: dict[str, tuple[Neuron, dict[str, Any]]] = {
    "LIF": (neurons.LIF(t_ref=2.0), {**_LIF, "arrival": "before_leak"}),
    "OffsetLIF": (neurons.OffsetLIF(t_ref=2.0), {**_LIF, "arrival": "before_leak"}),
    "AdaptiveLIF": (neurons.AdaptiveLIF(t_ref=2.0), {**_LIF, "arrival": "filtered", "tau_theta": 30.0, "beta": 0.1}),
    "DelayedResetLIF": (
        neurons.DelayedResetLIF(t_ref=2.0, beta=0.5, reset="to_v_reset"),
        {**_LIF, "arrival": "filtered", "tau_theta": 30.0, "beta": 0.1},
    ),
    "CubaLIF": (neurons.CubaLIF(t_ref=2.0), {**_LIF, "tau_syn_exc": 3.0, "tau_syn_inh": 6.0}),
    "CobaLIF": (neurons.CobaLIF(), _COBA),
    "AdEx": (neurons.AdEx(), _ADEX),
    "Izhikevich": (
        neurons.Izhikevich(),
        {"a": 0.1, "b": 0.25, "c": -55.0, "d": 2.0, "v_th": 20.0, "surrogate": ATan()},
    ),
    "LeakyRate": (neurons.LeakyRate(), _RATE),
    "StaticRate": (neurons.StaticRate(), {"activation": "relu"}),
    "TwoCompartment": (neurons.TwoCompartment(), {**_RATE, "tau_basal": 2.0, "tau_apical": 2.0}),
    "Relay": (neurons.Relay(), {}),
    "SpikeRelay": (neurons.SpikeRelay(), {}),
    "GatedRelay": (neurons.GatedRelay(), {}),
    "SilencedRelay": (neurons.SilencedRelay(), {}),
    "SampleAndHold": (neurons.SampleAndHold(), {}),
    "Perturbed": (
        neurons.Perturbed(neurons.StaticRate("sigmoid"), 0.5),
        {"neuron": neurons.StaticRate("tanh"), "sd": 0.3, "where": "after"},
    ),
    "PoissonSource": (neurons.PoissonSource(rate=100.0), {"rate": 200.0}),
    "StepSource": (neurons.StepSource(), {"amplitude": 2.0, "start": 5.0, "stop": 10.0}),
    "RampSource": (neurons.RampSource(), {"first": 2.0, "last": 3.0, "start": 5.0, "stop": 40.0}),
    "NoiseSource": (neurons.NoiseSource(), {"mean": 1.0, "std": 2.0, "tau": 5.0}),
    "LeakyController": (
        neurons.LeakyController(),
        {"gain": 0.2, "tau_leak": 10.0, "proportional": 0.1, "leak_of": "control"},
    ),
}

_MILLIVOLT = {"basal": (2.0, 3.0), "current": (600.0, 300.0)}
DRIVE: dict[str, dict[str, tuple[float, float]]] = {  # port -> (mean, standard deviation)
    "CobaLIF": {"basal": (6.0, 2.0), "inhibitory": (2.0, 0.5), "current": (50.0, 20.0)},
    "AdEx": _MILLIVOLT,
    "Izhikevich": {"basal": (0.5, 1.0), "current": (10.0, 3.0)},
    "PoissonSource": {"basal": (300.0, 50.0)},
}
UNIT = {
    "basal": (0.05, 0.2),
    "inhibitory": (-0.02, 0.05),
    "current": (1.0, 0.4),
    "apical": (0.1, 0.3),
    "gate": (0.5, 0.2),
    "shunt": (0.5, 0.2),
    "threshold": (0.1, 0.2),
}

VARIANTS: dict[str, Neuron] = {  # every way a step can be written, not only every class
    **{name: base for name, (base, _) in TABLE.items()},
    "CobaLIF euler": neurons.CobaLIF(integration="euler"),
    "LIF subtract, no surrogate": neurons.LIF(reset="subtract", surrogate=None),
    **{f"LeakyRate {kind}": neurons.LeakyRate(activation=kind) for kind in ("relu", "sigmoid", "linear")},
    **{f"StaticRate {kind}": neurons.StaticRate(activation=kind) for kind in ("relu", "sigmoid", "linear")},
    "TwoCompartment relu": neurons.TwoCompartment(activation="relu", tau_basal=0.0),
    "PoissonSource silent": neurons.PoissonSource(),
    "Perturbed LeakyRate after": neurons.Perturbed(neurons.LeakyRate(), 0.3, "after"),
    "Perturbed LIF": neurons.Perturbed(neurons.LIF(t_ref=2.0), 0.3),
}


def drive(neuron: Neuron, steps: int, size: int, seed: int = 0) -> dict[str, Array]:
    """Random input for every port and draw, `[T, N]`."""
    generator = np.random.default_rng(seed)
    sizes = {**UNIT, **DRIVE.get(type(neuron).__name__, {})}
    inputs = {port: generator.normal(*sizes[port], (steps, size)) for port in neuron.ports}
    draws = {"uniform": generator.random, "normal": generator.standard_normal, "held_normal": generator.standard_normal}
    return inputs | {name: draws[name]((steps, size)) for name in neuron.draws}


def changed(neuron: Neuron, parameter: str, value: Any) -> Neuron:
    return replace(neuron, **{parameter: value})  # type: ignore[type-var]
