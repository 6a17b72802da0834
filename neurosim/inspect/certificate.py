"""The locality certificate: what moves a synapse's change, found by moving everything else.

After learning for a while, one step of the reference backend is taken again and again in float64, each time with one
variable moved in replica 0, and what it leaves behind is compared bit for bit: weights, eligibilities, gathered
changes, memories of transforms. Dynamics and learning are looked at apart:

- wiring: a port sum moves only with the weights and outputs that are wired to it (`neurosim.inspect.wiring`), and a
  weight only by the rule of its own projection;
- learning: with port sums and states held, dw_ij moves only with what is at neuron i and j, with its own weight and
  memories, and with declared signals. Every declared variable must move it.

Classes, each with all before it: "synapse" (the two ends and the synapse itself), "neuron" (what arrives at the neuron,
and its other synapses), "layer" (sums over the population, which are counted, and played back to show that nothing else
is needed), "broadcast" (declared signals, and the rate of a single neuron that reaches a whole population: a loss, a
reward). Anything else is a leak, and the rule is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from neurosim.backends import compile
from neurosim.backends.reference import Context, Reference
from neurosim.inspect.scene import Scene
from neurosim.inspect.study import Study, local_rules
from neurosim.inspect.verdict import Certificate
from neurosim.network import Network
from neurosim.phase import Held, Phase, staged
from neurosim.types import ConfigurationError
from neurosim.wiring import TARGET

LEARN_STEPS, PHASE_STEPS, LOOK_STEPS = 50, 5, 2


def certify(
    network: Network,
    dt: float,
    *,
    batch: int = 7,
    replicas: int = 2,
    seed: int = 0,
    signals: Mapping[str, int] | None = None,
) -> Certificate:
    """Certify the rules of a network (time step `dt` in ms) after 50 steps of learning on random data.

    `signals` names broadcast signals that are carried besides "input", "label" and the declared ones, with their
    widths. Raises ConfigurationError where nothing learns, or batch or replicas is below 2.
    """
    if batch < 2 or replicas < 2:
        raise ConfigurationError(f"batch is {batch} and replicas is {replicas}; a certificate needs at least 2 of each")
    if not any(projection.rule is not None for projection in network.projections):
        raise ConfigurationError("no projection has a rule: there is nothing to certify")
    simulator = compile(network, dt, replicas=replicas, seed=seed, dtype="float64")
    assert isinstance(simulator, Reference)
    study = Study(network)
    if simulator.learning.local:
        for scene in _scenes(simulator, batch, signals or {}):
            study.look(scene)
    return study.certificate()


def _scenes(simulator: Reference, batch: int, extra: Mapping[str, int]) -> Iterator[Scene]:
    """The first and the last step of each stage of a trial after learning; one after the other, with what went
    before."""
    state = simulator.init(batch)
    for index in range(LEARN_STEPS // PHASE_STEPS):
        state, _ = simulator.run(state, _trial(simulator.plan.network, PHASE_STEPS, batch, index, extra))
    phases = _trial(simulator.plan.network, LOOK_STEPS, batch, LEARN_STEPS, extra)
    learned, activity, clock = simulator.learning.begin(state.learned, []), state.activity, state.clock
    for phase in phases:
        activity = state.activity if phase.start == "trial" else activity
        context = Context(simulator, phase, batch, clock, phase is phases[-1], learned)
        for step in range(LOOK_STEPS):
            yield Scene(simulator, activity, context, step, learned)
            with torch.no_grad():
                activity, _ = simulator.step(activity, learned, context, step)
        clock += LOOK_STEPS


def _trial(network: Network, steps: int, batch: int, seed: int, extra: Mapping[str, int]) -> tuple[Phase, ...]:
    shown = _phase(network, steps, batch, seed, extra)
    return tuple(staged(stage, shown) for stage in network.trial)


def _phase(network: Network, steps: int, batch: int, seed: int, extra: Mapping[str, int]) -> Phase:
    random = np.random.default_rng(seed)
    classes = network[network.output].units
    x = torch.from_numpy(random.normal(0.5, 1.0, (batch, network[network.input].units)))
    label = torch.eye(classes, dtype=torch.float64)[torch.from_numpy(random.integers(classes, size=batch))]
    signals = {"input": x, "label": label}
    for name in dict.fromkeys(
        [*extra, *(name for _, rule in local_rules(network) for name in rule.modulator.signals())]
    ):
        if name not in signals:
            signals[name] = torch.from_numpy(random.normal(size=(batch, extra.get(name, 1))))
    drive = {network.input: Held(x), **({TARGET: Held(label)} if network.has(TARGET) else {})}
    return Phase("certificate", steps, drive, signals)
