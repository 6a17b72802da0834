"""The specification: every network, in torch, on any device, differentiable. Other backends are checked against it.

One time step, always with the weights of its start (`Reference.step`):

    1 deliver and integrate the driving ports, population by population, zero-delay inputs first
    2 deliver the teaching ports
    3 filter traces
    4 modulate and 5 learn
    6 record

Values of a step are held by label: "population.field", and "population.field~..." for traces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from neurosim.backends.given import Given
from neurosim.backends.learning import Learning
from neurosim.backends.moment import Moment, constant, label, over_channels
from neurosim.backends.needs import released_by
from neurosim.backends.plan import Plan
from neurosim.backends.resolve import Synapses
from neurosim.backends.simulator import State
from neurosim.backends.specialise import for_torch
from neurosim.backends.synapse import operation
from neurosim.backends.tape import Tape
from neurosim.lateral import Pullback
from neurosim.network import Population
from neurosim.phase import Held, Phase, batches
from neurosim.random import Stream, grid
from neurosim.recorder import Probe, Recording
from neurosim.types import DTYPES, ConfigurationError, Tensor

NOISE_CHUNK = 64  # steps of noise drawn at once: one Philox call costs as much as 100 small operations


class Reference:
    """A compiled network on the torch backend. `init`, `run` and `fresh` are pure: states go in and come out."""

    def __init__(self, plan: Plan, dtype: str, device: str, hide_replicas: bool):
        self.plan, self.hide_replicas = plan, hide_replicas
        self.dtype_name, self.dtype, self.device = dtype, DTYPES[dtype], torch.device(device)
        self.operations = {name: operation(s, plan.replicas, self.device) for name, s in plan.synapses.items()}
        self.cells = {name: Cell(plan, plan.network[name], self.dtype, self.device) for name in plan.order}
        self.releases = {
            s.name: Release(s, plan.dt, self.dtype, self.device)
            for s in plan.synapses.values()
            if s.projection.release is not None
        }
        self.learning = Learning(plan, self.operations, self.dtype, self.device)
        self.zero = torch.zeros(1, 1, 1, dtype=self.dtype, device=self.device)
        self.filters = [
            (label(name, t.of), label(name, t), t.mode, math.exp(-plan.dt / t.tau)) for name, t in plan.traces
        ]
        self.memories = {label(name, leaf): depth for (name, leaf), depth in plan.history.items()}
        self.units = self._drive_sizes()
        self.noisy = {name: plan.neurons[name].draws for name in plan.order if plan.neurons[name].draws}
        self._probed: tuple[Probe, ...] = ()  # of the last run: they fit
        # What is sent on from a port may be [1, 1, 1], where nothing arrived.
        self.forwarding = {
            s.name for s in plan.synapses.values() if s.sent not in (*s.pre.neuron.outputs, *s.pre.neuron.states)
        }

    # ---- state ------------------------------------------------------------------------------------------------------

    def init(self, batch: int, learned: dict[str, Any] | None = None) -> State:
        """A state at clock 0 for `batch` rows: initial activity; weights from (seed, replica), or those of
        `learned`.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ConfigurationError(f"batch is {batch!r}; it must be a whole number of at least 1")
        return State(self._activity(batch), self._learned() if learned is None else learned, 0)

    def fresh(self, state: State, batch: int | None = None) -> State:
        """`state` with its activity at rest again (for `batch` rows, if given); what was learned and the clock stay."""
        rows = self.batch(state) if batch is None else batch
        return State(self._activity(rows), state.learned, state.clock)

    def repeat(self, state: State, batch: int) -> State:
        """`state` with `batch` rows: its own rows, repeated in order as often as needed. Eligibilities start at
        rest.
        """
        rows = torch.arange(batch, device=self.device) % self.batch(state)
        kept = {
            name: _rows(part, rows) for name, part in state.activity.items() if name not in ("batch", "eligibility")
        }
        return State({**kept, "batch": batch, "eligibility": self.learning.activity(batch)}, state.learned, state.clock)

    @staticmethod
    def batch(state: State) -> int:
        """Number of rows of a state."""
        return int(state.activity["batch"])

    def _activity(self, batch: int) -> dict[str, Any]:
        size = (self.plan.replicas, batch)
        zeros = {name: self._zeros(*size, cell.units) for name, cell in self.cells.items()}
        units = {**{name: value.shape[-1] for name, value in zeros.items()}, "": 1}
        units |= {released_by(name): self.plan.synapses[name].pre.units for name in self.releases}
        return {
            "batch": batch,
            "state": {
                name: {state: value[:, None, :].expand(*size, -1) for state, value in cell.start.items()}
                for name, cell in self.cells.items()
            },
            "release": {name: release.start(*size) for name, release in self.releases.items()},
            "trace": {own: self._zeros(*size, units[own.split(".")[0]]) for _, own, _, _ in self.filters},
            "history": {
                own: (self._zeros(*size, units[own.split(".")[0]]),) * depth for own, depth in self.memories.items()
            },
            "eligibility": self.learning.activity(batch),
        }

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _learned(self) -> dict[str, Any]:
        plan = self.plan
        weight = {
            name: plan.initial_weight(name).to(self.device, self.dtype)
            for name, s in plan.synapses.items()
            if not s.projection.tied
        }
        bias = {
            name: plan.initial_bias(name).to(self.device, self.dtype) for name, s in plan.synapses.items() if s.has_bias
        }
        return {"weight": weight, "bias": bias, **self.learning.learned(weight, bias)}

    # ---- run --------------------------------------------------------------------------------------------------------

    def run(
        self, state: State, phase: Phase | Sequence[Phase], probes: Sequence[Probe] = ()
    ) -> tuple[State, Recording]:
        """Run a phase, or the phases of a trial one after the other; return the new state and what the probes asked
        for.

        Rules with `when="sample"` act at the end of the call. Raises ConfigurationError where phase or probe do not
        fit.
        """
        phases = (phase,) if isinstance(phase, Phase) else tuple(phase)
        for part in phases:
            self._check(part, self.batch(state))
        probes = tuple(probes)
        tape = Tape(self.plan, probes, self.learning, checked=probes == self._probed)
        self._probed = probes
        begin = state.activity
        for position, part in enumerate(phases):
            if part.start == "trial":
                state = State(begin, state.learned, state.clock)
            state = self._phase(state, part, tape, trial_end=position == len(phases) - 1)
        return state, tape.recording(self.hide_replicas)

    def run_batches(self, state: State, trial: Sequence[Phase], rest: bool = False) -> State:
        """A trial whose rows are several batches: the first `batch(state)` rows, then the next ones, and so on.

        The same as a `run` for each, without recording; with `rest` each begins at rest.
        """
        for one in batches(trial, self.batch(state)):
            state, _ = self.run(self.fresh(state) if rest else state, one)
        return state

    def compilation(self) -> str:
        """Nothing is compiled here."""
        return ""

    def uncompiled(self) -> list[str]:
        """All of it."""
        return ["the reference runs every step in torch"]

    def shortcuts(self) -> list[str]:
        """None."""
        return []

    def _check(self, phase: Phase, batch: int) -> None:
        """ConfigurationError unless the phase fits."""
        phase.check(self.units, batch, self.plan.replicas)
        self._check_names(phase)

    def given(self, phase: Phase, batch: int) -> Given:
        """Drives and signals of a phase for `batch` rows."""
        return Given(self, phase, batch)

    def _check_names(self, phase: Phase) -> None:
        learn = () if isinstance(phase.learn, bool) else phase.learn
        if not learn and not phase.silent:
            return
        plastic = [synapses.name for synapses in self.plan.plastic()]
        for what, names, allowed in (("learn", learn, plastic), ("silent", phase.silent, list(self.plan.synapses))):
            for name in names:
                if name not in allowed:
                    those = "projections with a rule" if what == "learn" else "projections"
                    raise ConfigurationError(
                        f"{what} of phase {phase.name!r} names {name!r}; {those}: {', '.join(allowed) or 'none'}"
                    )

    def _phase(self, state: State, phase: Phase, tape: Tape, trial_end: bool) -> State:
        gradient = self.learning.gradient_rules(phase)
        learned = self.learning.begin(state.learned, gradient)
        with torch.set_grad_enabled(bool(gradient)):
            context = Context(self, phase, self.batch(state), state.clock, trial_end, learned)
            activity, outputs = state.activity, []
            for step in range(phase.steps):
                activity, moment = self.step(activity, learned, context, step)
                tape.write(moment, activity, learned)
                outputs.append(moment)
                if not gradient:
                    outputs.clear()
                elif not gradient[0][1].through_time:
                    activity = _detached(activity)
            if gradient:
                output = self.learning.read_out(gradient)
                recorded = torch.stack([moment.now[output] for moment in outputs])
                learned = self.learning.descend(learned, gradient, recorded, context)
                activity = _detached(activity)
        return State(activity, learned, state.clock + phase.steps)

    def step(
        self, activity: dict[str, Any], learned: dict[str, Any], context: Context, step: int
    ) -> tuple[dict[str, Any], Moment]:
        """One time step; `learned` belongs to the running phase and is updated in place, `activity` is not."""
        moment = Moment(activity, learned, context.clock + step, self.zero, self.learning.one)
        context.learned = learned
        states = {name: self._integrate(name, activity, moment, context, step) for name in self.plan.order}  # 1
        for synapses in self.plan.teaching:  # 2
            if synapses.name not in context.phase.silent:
                port = f"{synapses.post.name}.{synapses.port}"
                moment.add(port, self.deliver(synapses, moment, context), synapses.combine)
        self._filter(activity["trace"], moment)  # 3
        with torch.no_grad():  # 4, 5: a local rule leaves no graph, also beside a gradient rule
            eligibility = self.learning.step(moment, activity["eligibility"], learned, context, step)
        return {
            "batch": activity["batch"],
            "state": states,
            "release": moment.released,
            "trace": {own: moment.now[own] for _, own, _, _ in self.filters},
            "history": {own: (moment.read(own, 0), *past[:-1]) for own, past in activity["history"].items()},
            "eligibility": eligibility,
        }, moment

    def _integrate(
        self, name: str, activity: dict[str, Any], moment: Moment, context: Context, step: int
    ) -> dict[str, Tensor]:
        cell = self.cells[name]
        for synapses in self.plan.driving[name]:
            if synapses.name not in context.phase.silent:
                moment.add(f"{name}.{synapses.port}", self.deliver(synapses, moment, context), synapses.combine)
        for port, drive in context.drive.get(name, ()):
            moment.add(f"{name}.{port}", drive.x if isinstance(drive, Held) else drive[step])
        nothing = self.zero if cell.states else self.zero.expand(self.plan.replicas, context.batch, cell.units)
        ports = [moment.now.get(port, nothing) for port in cell.ports]
        states = cell(activity["state"][name], ports, context.noise(name, step), moment)
        for own, release in self.releases.items():
            if self.plan.synapses[own].pre.name == name:
                moment.released[own] = release(activity["release"][own], moment, self.plan.synapses[own])
        return states

    def deliver(self, synapses: Synapses, moment: Moment, context: Context) -> Tensor:
        name = synapses.name
        source = (
            f"{synapses.pre.name}.{synapses.sent}" if name not in self.releases else f"{released_by(name)}.released"
        )
        weight = self.learning.effective_weight(synapses, moment.learned, context)
        size = (self.plan.replicas, context.batch, synapses.pre.units) if name in self.forwarding else None

        def read(delay: int) -> Tensor:
            value = moment.read(source, delay)
            return value if size is None else value.expand(size)

        arriving = self.operations[name].deliver(weight, read)
        if not synapses.has_bias:
            return arriving
        bias = self.learning.effective_bias(synapses, moment.learned, context)
        if synapses.kind == "convolution":
            bias = bias.repeat_interleave(synapses.post.units // synapses.bias_units, -1)
        return arriving + bias[:, None, :]

    def _filter(self, old: Mapping[str, Tensor], moment: Moment) -> None:
        for source, own, mode, decay in self.filters:
            value = moment.read(source, 0)
            if mode == "sum":
                moment.now[own] = decay * old[own] + value
            elif mode == "mean":
                moment.now[own] = decay * old[own] + (1.0 - decay) * value
            else:
                moment.now[own] = torch.where(value > 0, value, decay * old[own])

    def _drive_sizes(self) -> dict[str, int]:
        sizes = {}
        for population in self.plan.network.populations:
            if population.neuron.ports:
                sizes[population.name] = population.units
            for port in (*population.neuron.ports, *population.neuron.teaching):
                sizes[f"{population.name}.{port}"] = population.units
        return sizes


class Cell:
    """A population's neuron, specialised: its step, constants and start values as tensors, and its lateral."""

    def __init__(self, plan: Plan, population: Population, dtype: torch.dtype, device: torch.device):
        neuron = plan.neurons[population.name]
        self.name, self.units, self.shape = population.name, population.units, population.shape
        self.step = for_torch(neuron.step, neuron.surrogate)
        self.constants = tuple(per_neuron(value, dtype, device) for value in neuron.constants(plan.dt))
        self.start = {state: value.to(device, dtype) for state, value in plan.initial_state(population.name).items()}
        self.states, self.outputs = neuron.states, tuple(f"{population.name}.{output}" for output in neuron.outputs)
        self.state_labels = tuple(f"{population.name}.{state}" for state in neuron.states)
        self.ports = tuple(f"{population.name}.{port}" for port in neuron.ports)
        self.lateral = population.lateral
        if isinstance(self.lateral, Pullback):
            source = plan.network[self.lateral.of]
            self.source, self.through = source, source.lateral

    def __call__(
        self, states: Mapping[str, Tensor], ports: list[Tensor], noise: tuple[Tensor, ...], moment: Moment
    ) -> dict[str, Tensor]:
        """Advance one step; write states and outputs into `moment`; return the new states."""
        result = self.step(*(states[name] for name in self.states), *ports, *noise, *self.constants)
        count = len(self.states)
        for own, value in zip(self.state_labels, result[:count], strict=True):
            moment.now[own] = value
        for own, value in zip(self.outputs, result[count:], strict=True):
            moment.now[own] = value
        if self.lateral is not None:
            axon = self.outputs[0]
            raw = moment.now[axon]
            moment.now[f"{axon}|raw"] = raw
            moment.now[axon] = self._lateral(raw, moment)
        return dict(zip(self.states, result[:count], strict=True))

    def _lateral(self, raw: Tensor, moment: Moment) -> Tensor:
        if not isinstance(self.lateral, Pullback):
            return over_channels(self.lateral.step, self.shape, raw)
        if self.through is None:
            return raw
        axon = f"{self.source.name}.{self.source.axon}"
        return over_channels(self.through.pullback, self.source.shape, moment.now[f"{axon}|raw"], moment.now[axon], raw)


class Release:
    """Short-term plasticity of one projection: a scalar step per pre-synaptic neuron, at the time of emission."""

    def __init__(self, synapses: Synapses, dt: float, dtype: torch.dtype, device: torch.device):
        model = synapses.release
        self.states, self.initial, self.units = model.states, model.initial(), synapses.pre.units
        self.step = for_torch(model.step, None)
        self.constants = tuple(per_neuron(value, dtype, device) for value in model.constants(dt))
        self.dtype, self.device = dtype, device

    def start(self, replicas: int, batch: int) -> dict[str, Tensor]:
        size = (replicas, batch, self.units)
        return {
            name: torch.full(size, float(self.initial[name]), dtype=self.dtype, device=self.device)
            for name in self.states
        }

    def __call__(self, states: Mapping[str, Tensor], moment: Moment, synapses: Synapses) -> dict[str, Tensor]:
        spike = moment.read(f"{synapses.pre.name}.{synapses.sent}", 0)
        *new, released = self.step(*(states[name] for name in self.states), spike, *self.constants)
        moment.now[f"{released_by(synapses.name)}.released"] = released
        return dict(zip(self.states, new, strict=True))


class Context:
    """What holds for the length of a phase: drives, signals and noise as tensors, who learns, where it starts."""

    def __init__(
        self,
        simulator: Reference,
        phase: Phase,
        batch: int,
        clock: int,
        trial_end: bool,
        learned: dict[str, Any],
        given: Given | None = None,
    ):
        self.phase, self.clock, self.trial_end, self.batch = phase, clock, trial_end, batch
        self.dtype, self.device = simulator.dtype, simulator.device
        self._given = given or simulator.given(phase, batch)
        self._noisy = simulator.noisy
        self._chunks: dict[str, tuple[int, tuple[Tensor, ...]]] = {}
        self._plan = simulator.plan
        self.learned = learned
        self._perturbations: dict[str, dict[str, Tensor]] = {}

    @cached_property
    def drive(self) -> dict[str, list[tuple[str, Any]]]:
        """Every drive by population."""
        return self._given.drive

    @cached_property
    def signals(self) -> dict[str, Tensor]:
        """Every broadcast signal."""
        return self._given.signals

    @cached_property
    def samples(self) -> Tensor:
        """Ids of the samples."""
        return self._given.samples

    def learns(self, name: str) -> bool:
        """Does the rule of projection `name` run in this phase?"""
        learn = self.phase.learn
        return learn if isinstance(learn, bool) else name in learn

    def perturbation(self, learning: Learning, synapses: Synapses) -> dict[str, Tensor]:
        """This phase's noise on the weight and bias of a projection (empty for most rules)."""
        if synapses.name not in self._perturbations:
            self._perturbations[synapses.name] = learning.perturbation(synapses, self)
        return self._perturbations[synapses.name]

    def noise(self, name: str, step: int) -> tuple[Tensor, ...]:
        """This step's random numbers `[R, B, N]` of a population, one tensor per name in its `draws`."""
        if name not in self._noisy:
            return ()
        start = step - step % NOISE_CHUNK
        if name not in self._chunks or self._chunks[name][0] != start:
            self._chunks[name] = start, tuple(self._draw(name, kind, start) for kind in self._noisy[name])
        return tuple(chunk[step - start] for chunk in self._chunks[name][1])

    def _draw(self, name: str, kind: str, start: int) -> Tensor:
        stop = min(start + NOISE_CHUNK, self.phase.steps)
        units = self._plan.network[name].units
        if not self.phase.noise:
            fill = 1.0 if kind == "uniform" else 0.0  # a uniform of 1 lets no Poisson source spike
            return torch.full(
                (stop - start, self._plan.replicas, self.batch, units), fill, dtype=self.dtype, device=self.device
            )
        stream = Stream(self._plan.seed, f"noise/{name}/{kind}")
        held = kind == "held_normal"  # one number for the phase, addressed by its first step
        steps = range(self.clock, self.clock + 1) if held else range(self.clock + start, self.clock + stop)
        address = grid(self._plan.replica_ids.to(self.device), self.samples, steps, units)
        drawn = (stream.uniform if kind == "uniform" else stream.normal)(*address, dtype=self.dtype)
        return drawn.expand(stop - start, -1, -1, -1) if held else drawn


def per_neuron(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A neuron's constant: a Python number, or `[N]` / `[R, N]` brought to `[R, 1, N]`."""
    number = constant(value, dtype, device)
    if isinstance(number, float):
        return number
    return number[None, None, :] if number.dim() == 1 else number[:, None, :]


def _rows(tree: Any, rows: Tensor) -> Any:
    """Every `[R, B, N]` tensor of a nested structure with the batch rows `rows`."""
    if isinstance(tree, Tensor):
        return tree[:, rows] if tree.shape[1] > 1 else tree.expand(-1, len(rows), -1)
    if isinstance(tree, dict):
        return {name: _rows(value, rows) for name, value in tree.items()}
    return tuple(_rows(value, rows) for value in tree)


def _detached(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach()
    if isinstance(tree, dict):
        return {name: _detached(value) for name, value in tree.items()}
    return tuple(_detached(value) for value in tree) if isinstance(tree, tuple) else tree
