"""The wiring of deep feedback control: two-compartment units, a controller, its error, and the stages of a trial.

    held_output = output,  held_error = error        while the gate is open (stage "free"), then they stay
    control_error = held_output + stepsize held_error - output     (weak), or error itself (strong feedback)
    control_error -> controller -> control -> port `apical` of every unit

`error` is target - prediction of `neurosim.wiring`. Where feedback weights learn, each taught hidden population has a
noise source of its own at its port `apical`, and `sleep_controller` takes the place of `controller` during sleep. What
does not belong to a stage is silent in it. One projection on the loop has a delay of one step: `control_error` arrives
at the controller in the step after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from neurosim.connectivity import OneToOne
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LeakyController, LeakyRate, NoiseSource, Relay, SampleAndHold, StaticRate, TwoCompartment
from neurosim.random import LecunNormal
from neurosim.stage import Stage
from neurosim.types import ConfigurationError
from neurosim.wiring import ERROR, compared

CONTROLLER, SLEEP_CONTROLLER, CONTROL = "controller", "sleep_controller", "control"
CONTROL_ERROR, HELD_OUTPUT, HELD_ERROR = "control_error", "held_output", "held_error"


@dataclass(frozen=True)
class Loop:
    """What the loop is made of; names as in `DeepFeedbackControl`. `sleep_controller` None: there is no sleep."""

    controller: LeakyController
    sleep_controller: LeakyController | None
    noise: NoiseSource
    stepsize: float | None
    delay: float | None
    scale: float
    loss: str


def apical(population: str) -> str:
    """Name of the projection from the controller to a population."""
    return f"{CONTROL}_{population}_apical"


def noise_of(population: str) -> str:
    """Name of the noise source of a population."""
    return f"noise_{population}"


def two_compartments(population: Population, tau_apical: Any) -> Population:
    """The same units with an apical compartment; ConfigurationError where they do not send rates."""
    neuron = population.neuron
    if not isinstance(neuron, LeakyRate | StaticRate | TwoCompartment):
        sends = "spikes" if population.axon == "spike" else f"what {type(neuron).__name__} sends"
        raise ConfigurationError(
            f"deep_feedback_control compares rates, but population {population.name!r} sends {sends}; "
            "allowed: LeakyRate, StaticRate, TwoCompartment"
        )
    if isinstance(neuron, StaticRate):
        return replace(population, neuron=TwoCompartment(0.0, 0.0, tau_apical, neuron.activation))
    times = (neuron.tau_mem, 0.0, tau_apical)
    return replace(population, neuron=TwoCompartment(*times, neuron.activation, neuron.integration))


def with_loop(network: Network, controlled: tuple[str, ...], loop: Loop) -> Network:
    """`network`, whose `controlled` populations have an apical compartment, with the loop around it."""
    network = compared(network, loop.loss)
    size = network[network.output].units
    relays = [Population(name, size, Relay()) for name in (CONTROL, CONTROL_ERROR)]
    holds = [Population(name, size, SampleAndHold()) for name in (HELD_OUTPUT, HELD_ERROR)[: _held(loop.stepsize)]]
    sleepers = [Population(SLEEP_CONTROLLER, size, loop.sleep_controller)] if loop.sleep_controller is not None else []
    network = network.with_parts(
        [*relays, *holds, Population(CONTROLLER, size, loop.controller), *sleepers],
        [*_errors(network.output, loop.stepsize), _wire(CONTROLLER, CONTROL)],
    )
    network = network.with_parts(projections=[_wire(CONTROL_ERROR, CONTROLLER, delay=None)])
    for name in controlled:
        network = network.with_parts(projections=[_feedback(network, name, loop)])
    if loop.sleep_controller is None:
        return network
    hidden = [name for name in controlled if name != network.output]
    return network.with_parts(
        [Population(noise_of(name), network[name].size, loop.noise) for name in hidden],
        [
            _wire(CONTROL_ERROR, SLEEP_CONTROLLER, delay=None),
            _wire(SLEEP_CONTROLLER, CONTROL),
            *(_wire(noise_of(name), name, port="apical") for name in hidden),
        ],
    )


def _wire(pre: str, post: str, weight: float = 1.0, **more: Any) -> Projection:
    return Projection(pre, post, weight, OneToOne(), **{"delay": 0, **more})


def _held(stepsize: float | None) -> int:
    """How many are held: the output alone, or the error, too."""
    return 1 if stepsize is None else 2


def _hold(source: str, held: str) -> tuple[Projection, ...]:
    """What is held, and a gate that is open wherever it is not silent: nothing but a bias of 1."""
    return _wire(source, held), _wire(source, held, 0.0, port="gate", bias=1.0)


def _errors(output: str, stepsize: float | None) -> tuple[Projection, ...]:
    own = (*_hold(output, HELD_OUTPUT), _wire(HELD_OUTPUT, CONTROL_ERROR), _wire(output, CONTROL_ERROR, -1.0))
    if stepsize is None:
        return *own, _wire(ERROR, CONTROL_ERROR)
    return *own, *_hold(ERROR, HELD_ERROR), _wire(HELD_ERROR, CONTROL_ERROR, stepsize)


def _feedback(network: Network, name: str, loop: Loop) -> Projection:
    """The control of a population: random weights, or the identity at the output, where error and unit are one."""
    if name == network.output:
        return _wire(CONTROL, name, port="apical", delay=loop.delay, name=apical(name))
    return Projection(CONTROL, name, LecunNormal(loop.scale), port="apical", delay=loop.delay, name=apical(name))


def stages(
    network: Network,
    taught: tuple[str, ...],
    controlled: tuple[str, ...],
    stepsize: float | None,
    control_steps: int,
    sleep_steps: int,
) -> tuple[tuple[Stage, ...], Stage]:
    """(trial, test): free, sleep (if it has steps) and control; an evaluation is free. Other rules learn while free."""
    output, hidden = network.output, [name for name in controlled if name != network.output]
    loops = {CONTROLLER: (f"{CONTROL_ERROR}_{CONTROLLER}", f"{CONTROLLER}_{CONTROL}")}
    if sleep_steps:
        loops[SLEEP_CONTROLLER] = (f"{CONTROL_ERROR}_{SLEEP_CONTROLLER}", f"{SLEEP_CONTROLLER}_{CONTROL}")
    noise = tuple(f"{noise_of(name)}_{name}_apical" for name in hidden) if sleep_steps else ()
    everything = (*(wire for pair in loops.values() for wire in pair), *noise, *(apical(name) for name in controlled))
    gates = (f"{output}_{HELD_OUTPUT}_gate", f"{ERROR}_{HELD_ERROR}_gate")[: _held(stepsize)]
    teacher = f"{ERROR if stepsize is None else HELD_ERROR}_{CONTROL_ERROR}"
    own = (f"{HELD_OUTPUT}_{CONTROL_ERROR}", f"{output}_{CONTROL_ERROR}") if stepsize is None else ()
    feedback = tuple(apical(name) for name in hidden) if sleep_steps else ()
    # what the teacher says in the last free step arrives in the next one: at the controller, not in sleep
    unsaid = (teacher,) if feedback else ()
    free = Stage("free", silent=(*everything, *unsaid), resting=(*taught, *feedback))
    asleep = Stage("sleep", feedback, silent=(*gates, *loops[CONTROLLER], teacher), steps=sleep_steps or None)
    awake = (*gates, *noise, *loops.get(SLEEP_CONTROLLER, ()), *own)
    control = Stage("control", taught, silent=awake, steps=control_steps)
    test = Stage("test", learn=False, teach=False, silent=everything)
    return (free, asleep, control) if feedback else (free, control), test
