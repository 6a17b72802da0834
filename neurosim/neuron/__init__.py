"""Neurons: frozen dataclasses of parameters, each with one scalar step function. See `Neuron` for what that means."""

from neurosim.neuron.adaptive import AdaptiveLIF, DelayedResetLIF
from neurosim.neuron.base import ARRIVALS, INTEGRATIONS, RESETS, Model, Neuron
from neurosim.neuron.controller import LeakyController
from neurosim.neuron.lif import LIF
from neurosim.neuron.nonlinear import AdEx, Izhikevich
from neurosim.neuron.rate import ACTIVATIONS, LeakyRate, StaticRate, TwoCompartment
from neurosim.neuron.relay import GatedRelay, Relay, SpikeRelay
from neurosim.neuron.source import NoiseSource, PoissonSource, RampSource, StepSource
from neurosim.neuron.synaptic import CobaLIF, CubaLIF

__all__ = [
    "ACTIVATIONS",
    "ARRIVALS",
    "INTEGRATIONS",
    "LIF",
    "RESETS",
    "AdEx",
    "AdaptiveLIF",
    "CobaLIF",
    "CubaLIF",
    "DelayedResetLIF",
    "GatedRelay",
    "Izhikevich",
    "LeakyController",
    "LeakyRate",
    "Model",
    "Neuron",
    "NoiseSource",
    "PoissonSource",
    "RampSource",
    "Relay",
    "SpikeRelay",
    "StaticRate",
    "StepSource",
    "TwoCompartment",
]
