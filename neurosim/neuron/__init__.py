"""Neurons: frozen dataclasses of parameters, each with one scalar step function. See `Neuron` for what that means."""

from neurosim.neuron.adaptive import AdaptiveLIF, DelayedResetLIF
from neurosim.neuron.base import ARRIVALS, INTEGRATIONS, RESETS, Model, Neuron
from neurosim.neuron.controller import LeakyController
from neurosim.neuron.lif import LIF, OffsetLIF
from neurosim.neuron.nonlinear import AdEx, Izhikevich
from neurosim.neuron.perturbed import Perturbed
from neurosim.neuron.rate import ACTIVATIONS, LeakyRate, StaticRate, TwoCompartment
from neurosim.neuron.relay import GatedRelay, Relay, SampleAndHold, SilencedRelay, SpikeRelay
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
    "OffsetLIF",
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
]
