"""From a plan and a phase to operations, in the order of `reference.py`, and from them to groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from neurosim.backends.gradient.scans import Filter
from neurosim.backends.moment import over_channels
from neurosim.backends.needs import CONSTANT, released_by
from neurosim.backends.reference import Context
from neurosim.backends.resolve import Synapses
from neurosim.backends.symbolic import straight_line
from neurosim.backends.tape import Tape
from neurosim.backends.triton.delivery import Delivery, Feed
from neurosim.backends.triton.edges import EdgeDelivery, SpikeList
from neurosim.backends.triton.graphs import Graphs
from neurosim.backends.triton.labels import Labels
from neurosim.backends.triton.learning import Learn
from neurosim.backends.triton.products import Products, is_product
from neurosim.backends.triton.scan import Noise, Scan, ScanKernel, Step
from neurosim.backends.triton.schedule import Operation, groups
from neurosim.backends.triton.tiled import Tiled, why_not_tiled
from neurosim.backends.triton.values import SliceMoment, Values
from neurosim.lateral import Pullback
from neurosim.network import lateral_source
from neurosim.phase import Held, Phase
from neurosim.random import Stream
from neurosim.recorder import Probe
from neurosim.rule import ThreeFactorRule
from neurosim.types import Tensor

if TYPE_CHECKING:
    from neurosim.backends.triton.simulator import Triton


class Builder:
    """The operations of one kind of phase, their groups, and what they need while they run."""

    def __init__(self, simulator: Triton, phase: Phase, batch: int, steps: int, tape: Tape):
        self.simulator, self.plan, self.phase, self.tape = simulator, simulator.plan, phase, tape
        self.values = Values((self.plan.replicas, batch), steps, simulator.dtype, simulator.device)
        self.context: Context
        self.learned: dict[str, Any]
        self.eligibility: dict[str, Any]
        self.begins = 0  # the phase's step with which the chunk begins
        self.clock = 0  # the clock of that step
        self.modulators: dict[str, Tensor] = {}
        self.scans: list[ScanKernel] = []
        self.lists: dict[str, SpikeList] = {}
        self.runs = 0
        self.learners: list[Learn] = []
        self.reasons: list[str] = []
        self.arriving: dict[str, list[tuple[Delivery | Feed, str]]] = {}
        self.labels = Labels(simulator, phase, tape)
        self.drives, self.made = self.labels.drives, self.labels.made
        self._buffers()
        self.operations = list(self._operations())
        self.groups = groups(self.operations)
        self.graphs = [Graphs(simulator.device) for _ in self.groups]
        self._mark_first()

    # ---- what there is ----------------------------------------------------------------------------------------------

    def _buffers(self) -> None:
        for name in sorted(self.labels.shown | self.labels.filled | {own for _, own, _, _ in self.simulator.filters}):
            depth = self.simulator.memories.get(name, 0)
            constant = name.startswith(f"{CONSTANT}.") and "~" not in name
            if not constant and (name in self.made or depth):
                self.values.make(name, self.labels.units(name), depth)

    # ---- operations, in the order of a step -------------------------------------------------------------------------

    def _operations(self) -> Iterator[Operation]:
        for name in self.values.buffers:
            if name not in self.made:
                yield self._fill(name)
        for name in self.plan.order:
            yield from self._population(name)
        for synapses in self.plan.teaching:
            if synapses.name not in self.phase.silent:
                yield self._deliver(synapses)
        yield from self._later_traces()
        for synapses, rule in self.simulator.learning.local:
            yield from self._learn(synapses, rule)
        for synapses in self.plan.synapses.values():  # weights of what does not learn here are recorded all the same
            probes = self._probes(synapses.name)
            if probes and not any(synapses is one for one, _ in self.simulator.learning.local):
                yield self._record(synapses, probes, self._learn_label(synapses))

    def _fill(self, name: str) -> Operation:
        """Nothing arrives at what is remembered."""

        def run(first: int, count: int) -> None:
            self.values.buffers[name].steps(first, count).zero_()

        return Operation(f"fill {name}", run, set(), {name}, pointers=lambda: ())

    def _population(self, name: str) -> Iterator[Operation]:
        for synapses in self.plan.driving[name]:
            if synapses.name not in self.phase.silent:
                yield self._deliver(synapses)
        for port in sorted(self.labels.fed):
            if port.startswith(f"{name}."):
                yield self._arriving(Feed(self, port), "sum")
        yield self._scan(name)
        population = self.plan.network[name]
        if population.lateral is not None:
            yield self._lateral(name)
            axon = f"{name}.{population.axon}"
            rest = [own for own, release in self._releases(name) if f"{name}.{release.sent}" == axon]
            if rest:
                yield self._separate(f"releases of {name}", population.units, [self._release(own) for own in rest])

    def _deliver(self, synapses: Synapses) -> Operation:
        kind = EdgeDelivery if EdgeDelivery.serves(self, synapses) else Delivery
        delivery = kind(self, synapses)
        made = self._arriving(delivery, synapses.combine)
        made.reads |= {delivery.source, *delivery.weights}
        made.writes |= {f"{weight}|used" for weight in delivery.weights}
        return made

    def _arriving(self, delivery: Delivery | Feed, combine: str) -> Operation:
        """Something that arrives at a port. Sums may be taken in any order; with a maximum among them the order of the
        network is kept.
        """
        port, earlier = delivery.port, self.arriving.setdefault(delivery.port, [])
        made = Operation(f"arrive at {port}", delivery.run, set(), {port, f"{port}|{len(earlier)}"})
        made.pointers = delivery.pointers
        if "max" in (combine, *(one for _, one in earlier)):
            made.reads |= {f"{port}|{len(earlier) - 1}"} if earlier else set()
        earlier.append((delivery, combine))
        made.arrives = delivery
        return made

    def spikes(self, source: str) -> SpikeList:
        """The list of the spikes of a label, one for all projections that send it."""
        if source not in self.lists:
            self.lists[source] = SpikeList(self, source)
        return self.lists[source]

    def _mark_first(self) -> None:
        """Who comes first at a port begins its sum."""
        begun: set[str] = set()
        for operation in (one for group in self.groups for one in group.operations if one.arrives is not None):
            operation.arrives.first = operation.arrives.port not in begun
            begun.add(operation.arrives.port)

    def _scan(self, name: str) -> Operation:
        """A population's step, with the traces and releases of what it makes."""
        population, neuron = self.plan.network[name], self.plan.neurons[name]
        constants = neuron.constants(self.plan.dt)
        symbols = [*neuron.states, *neuron.ports, *neuron.draws, *(f"c{k}" for k in range(len(constants)))]
        inputs = [f"x{k}_{symbol}" for k, symbol in enumerate(symbols)]
        noise = [Noise(kind, Stream(self.plan.seed, f"noise/{name}/{kind}").key) for kind in neuron.draws]
        raw = "|raw" if population.lateral is not None else ""
        outputs = [(f"{name}.{output}{raw if k == 0 else ''}",) for k, output in enumerate(neuron.outputs)]
        step = Step(
            straight_line(neuron.step, inputs, neuron.surrogate),
            tuple(("state", name, state) for state in neuron.states),
            (*(f"{name}.{port}" for port in neuron.ports), *noise, *constants),
            (*((f"{name}.{state}",) for state in neuron.states), *outputs),
        )
        followers = [
            self._release(own) for own, release in self._releases(name) if self.labels.within(f"{name}.{release.sent}")
        ]
        followers += [
            self._trace(*one)
            for one in self.simulator.filters
            if one[0].startswith(f"{name}.") and self.labels.within(one[0])
        ]
        return self._separate(f"integrate {name}", population.units, [step, *followers])

    def _releases(self, name: str) -> list[tuple[str, Synapses]]:
        return [
            (own, self.plan.synapses[own])
            for own in self.simulator.releases
            if self.plan.synapses[own].pre.name == name
        ]

    def _release(self, own: str) -> Step:
        synapses = self.plan.synapses[own]
        model = synapses.release
        constants = model.constants(self.plan.dt)
        symbols = [*model.states, "spike", *(f"c{k}" for k in range(len(constants)))]
        inputs = [f"x{k}_{symbol}" for k, symbol in enumerate(symbols)]
        return Step(
            straight_line(model.step, inputs),
            tuple(("release", own, state) for state in model.states),
            (f"{synapses.pre.name}.{synapses.sent}", *constants),
            (*(() for _ in model.states), (f"{released_by(own)}.released",)),
        )

    def _trace(self, source: str, own: str, mode: str, decay: float) -> Step:
        code = straight_line(Filter(mode).step, ("x", "value", "decay", "gain"))
        value: Any = 1.0 if source.startswith(f"{CONSTANT}.") and "~" not in source else source
        return Step(code, (("trace", own, ""),), (value, decay, 1.0 - decay), ((own,),))

    def _later_traces(self) -> Iterator[Operation]:
        """Traces of what laterals, teaching projections and the constant end of a bias bring."""
        for one in self.simulator.filters:
            if not self.labels.within(one[0]):
                yield self._separate(f"trace {one[1]}", self.labels.units(one[1]), [self._trace(*one)])

    def _separate(self, name: str, units: int, steps: list[Step]) -> Operation:
        """Steps over the same units as one operation."""
        read = {source for step in steps for source in step.inputs if isinstance(source, str)}
        written = {one for step in steps for labels in step.labels for one in labels}
        buffers = self.values.buffers
        kernel = ScanKernel(
            Scan(units, steps, {port: self.drives[port] for port in read & set(self.drives) - self.labels.fed}),
            self.values,
            written=lambda one: one in buffers,
            delivered=lambda one: one in buffers and one in self.made,
            noise=self.phase.noise,
        )
        self.scans.append(kernel)
        return Operation(
            name, kernel.run, (read - written) & set(buffers), written & set(buffers), pointers=kernel.pointers
        )

    def _lateral(self, name: str) -> Operation:
        population = self.plan.network[name]
        lateral, axon = population.lateral, f"{name}.{population.axon}"
        source = lateral_source(population)
        reads = {f"{axon}|raw"}
        through = self.plan.network[source] if source is not None else None
        if through is not None and through.lateral is not None:
            before = f"{through.name}.{through.axon}"
            reads |= {before, f"{before}|raw"}

        def run(first: int, count: int) -> None:
            raw = self.values.folded(f"{axon}|raw", first, count)
            out = self.values.buffers[axon].folded(first, count)
            if not isinstance(lateral, Pullback):
                out.copy_(over_channels(lateral.step, population.shape, raw))
            elif through is None or through.lateral is None:
                out.copy_(raw)
            else:
                earlier = [self.values.folded(one, first, count) for one in (f"{before}|raw", before)]
                out.copy_(over_channels(through.lateral.pullback, through.shape, *earlier, raw))

        return Operation(f"lateral of {name}", run, reads, {axon}, pointers=lambda: ())

    # ---- learning and recording -------------------------------------------------------------------------------------

    @staticmethod
    def _learn_label(synapses: Synapses) -> str:
        return f"w:{synapses.name}"

    def _learn(self, synapses: Synapses, rule: ThreeFactorRule) -> Iterator[Operation]:
        probes = self._probes(synapses.name)
        learner = self._learner(synapses, rule)
        self.learners.append(learner)
        reads = set(self.labels.read_by(synapses, rule))
        post = synapses.post
        if rule.modulator.of_output and post.lateral is not None and not isinstance(post.lateral, Pullback):
            reads |= {f"{post.name}.{post.axon}", f"{post.name}.{post.axon}|raw"}
        reads &= set(self.values.buffers)
        operation = Operation(f"learn {synapses.name}", learner.run, reads, set(), pointers=learner.pointers)
        own = self._learn_label(synapses)
        operation.reads.add(f"{own}|used")  # what delivers with the weight comes before it is changed
        if rule.when == "step" and self.learns(synapses.name):
            operation.writes.add(own)
        if probes:
            operation.writes.add(f"{own}|learned")
        yield operation
        if probes:
            record = self._record(synapses, probes, own)
            record.reads.add(f"{own}|learned")
            operation.reads.add(f"{own}|recorded")
            record.writes.add(f"{own}|recorded")
            yield record

    def _learner(self, synapses: Synapses, rule: ThreeFactorRule) -> Learn:
        """What carries out the rule of a projection in this phase."""
        if not self.learns(synapses.name):
            return Learn(self, synapses, rule)  # at a trial's end it makes what earlier phases gathered
        shown = any(probe.field == "eligibility" for probe in self._probes(synapses.name))
        reason = why_not_tiled(self, synapses, rule)
        product = is_product(synapses, rule) and not (shown and rule.components[0].has_memory)
        if product and (reason or rule.when != "step"):  # a matrix product is best where it does more than one step
            return Products(self, synapses, rule)
        if not reason:
            return Tiled(self, synapses, rule, shown)
        self.reasons.append(f"the rule of {synapses.name!r} learns in torch: {reason}")
        return Learn(self, synapses, rule)

    def watched(self, name: str) -> bool:
        """Is the third factor of a projection recorded?"""
        return any(probe.field == "modulator" for probe in self._probes(name))

    def learns(self, name: str) -> bool:
        learn = self.phase.learn
        return learn if isinstance(learn, bool) else name in learn

    def _probes(self, name: str) -> list[Probe]:
        return [probe for probe in self.tape.probes if probe.target == name]

    def _record(self, synapses: Synapses, probes: list[Probe], own: str) -> Operation:
        """Weights, eligibilities and modulators are written down step by step."""

        def run(first: int, count: int) -> None:
            for step in range(first, first + count):
                moment = SliceMoment(self.values, self.learned, self.clock + step, step)
                moment.modulators = self.modulators
                activity = {"batch": self.values.size[1], "eligibility": self.eligibility}
                self.tape.write(moment, activity, self.learned, probes)

        return Operation(f"record {synapses.name}", run, {own}, set())

    # ---- a run ------------------------------------------------------------------------------------------------------

    def begin(self, context: Context, activity: dict[str, Any], learned: dict[str, Any], tape: Tape) -> None:
        """A phase begins from a state."""
        self.context, self.learned, self.tape = context, learned, tape
        self.runs += 1
        context.learned = learned
        self.eligibility, self.modulators = dict(activity["eligibility"]), {}
        for kind, name, field in self.values.states:
            own = activity[kind][name][field] if field else activity[kind][name]
            self.values.states[kind, name, field].copy_(own)
        for name, past in activity["history"].items():
            buffer = self.values.buffers[name]
            for delay, value in enumerate(past, start=1):
                buffer.steps(0, 1, delay).copy_(value[:, None])
        for learner in self.learners:
            learner.begin()

    def chunk(self, begins: int, count: int) -> None:
        """Run `count` steps from the phase's step `begins`."""
        clock = self.context.clock
        self.begins, self.clock = begins, clock + begins
        self.given = {}
        for name, drives in self.context.drive.items():
            for place, (_, value) in enumerate(drives):
                held = isinstance(value, Held)
                self.given[f"{name}#{place}"] = (
                    value.x[None].expand(count, -1, -1, -1) if held else value.narrow(0, begins, count)
                )
        samples = self.context.samples.to(self.values.device)
        for scan in self.scans:
            scan.begin(self.given, samples, (self.clock, clock))
        for group, recorded in zip(self.groups, self.graphs, strict=True):
            recorded.run(group, count)
        self._keep(count)
        for buffer in self.values.buffers.values():
            buffer.turn(count)

    def _keep(self, count: int) -> None:
        """Hand what probes of populations ask for to the tape."""
        for probe in (one for one in self.tape.probes if self.plan.network.has(one.target)):
            size = (self.values.size[0], count, self.values.size[1], self.labels.units(probe.key))
            if probe.key in self.values.buffers:
                rows = self.values.buffers[probe.key].steps(0, count)
            else:
                rows = self.values.zero[None].expand(size)
            rows = rows.transpose(0, 1)
            if probe.events:
                found = torch.nonzero(rows).cpu().numpy()
                found[:, 0] += self.clock
                self.tape.keep_events(probe, found)
                continue
            first = self.tape.first(probe, self.clock) - self.clock
            kept = rows[first :: probe.every]
            kept = kept.clone() if probe.units is None else kept[..., list(probe.units)]
            self.tape.keep(probe, kept, range(self.clock + first, self.clock + count, probe.every))

    def end(self) -> dict[str, Any]:
        """The phase is over; the activity of now."""
        for learner in self.learners:
            learner.end()
        activity: dict[str, Any] = {"batch": self.values.size[1], "state": {}, "release": {}, "trace": {}}
        for name, cell in self.simulator.cells.items():
            activity["state"][name] = {one: self.values.states["state", name, one].clone() for one in cell.states}
        for name, release in self.simulator.releases.items():
            activity["release"][name] = {
                one: self.values.states["release", name, one].clone() for one in release.states
            }
        for _, own, _, _ in self.simulator.filters:
            activity["trace"][own] = self.values.states["trace", own, ""].clone()
        activity["history"] = {
            own: tuple(self.values.buffers[own].steps(0, 1, delay)[:, 0].clone() for delay in range(1, depth + 1))
            for own, depth in self.simulator.memories.items()
        }
        return {**activity, "eligibility": self.eligibility}
