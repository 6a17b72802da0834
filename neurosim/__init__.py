"""neurosim: spiking and rate networks in which every learning rule is one local three-factor update.

A network is a description (`Population`, `Projection`, `Network`); `compile` turns it into a simulator; `Phase` says
what happens for a stretch of time; `open_run` reads what `python -m neurosim run` wrote. Names load when they are
first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "neurosim.backends": ("State", "compile"),
    "neurosim.connectivity": (
        "AveragePool",
        "Conv2d",
        "Dense",
        "EdgeList",
        "FixedInDegree",
        "FixedProbability",
        "MaxPool",
        "OneToOne",
    ),
    "neurosim.constraint": ("Bounds", "Dale", "DividedByMax", "RowNorm"),
    "neurosim.factor": ("Apply", "Coefficient", "Field", "One", "Trace", "post", "pre"),
    "neurosim.lateral": (
        "Centred",
        "KWinners",
        "LayerNorm",
        "LogSoftmax",
        "Ranked",
        "SignedSoftmax",
        "Softmax",
        "Triangle",
    ),
    "neurosim.modulator": ("HSIC", "Broadcast", "Decrease", "Feedback", "Unmodulated"),
    "neurosim.network": ("Layered", "Network", "Population", "Projection"),
    "neurosim.neuron": (
        "LIF",
        "AdEx",
        "AdaptiveLIF",
        "CobaLIF",
        "CubaLIF",
        "DelayedResetLIF",
        "GatedRelay",
        "Izhikevich",
        "LeakyController",
        "LeakyRate",
        "NoiseSource",
        "Perturbed",
        "PoissonSource",
        "RampSource",
        "Relay",
        "SampleAndHold",
        "SilencedRelay",
        "SpikeRelay",
        "StaticRate",
        "StepSource",
        "TwoCompartment",
    ),
    "neurosim.phase": ("Held", "Phase", "Spikes"),
    "neurosim.random": ("Constant", "LecunNormal", "Normal", "Uniform"),
    "neurosim.recorder": ("Probe", "Recording"),
    "neurosim.release": ("TsodyksMarkram",),
    "neurosim.rule": ("Component", "GradientRule", "OfComponent", "OfWeight", "PerSynapse", "Term", "ThreeFactorRule"),
    "neurosim.run_folder": ("open_run",),
    "neurosim.stage": ("Stage",),
    "neurosim.transform": (
        "Adam",
        "Chain",
        "Clip",
        "Heterosynaptic",
        "LessPast",
        "Momentum",
        "NormRate",
        "Normalised",
        "Rate",
        "Scale",
        "Schedule",
        "Sparsify",
        "WeightDecay",
    ),
    "neurosim.types": ("ConfigurationError",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'neurosim' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
