"""Networks of excitatory and inhibitory neurons that make their own irregular activity: CUBA, COBA, Brunel.

What must be found is a rate that other simulators agree on, since the networks are chaotic: no two simulators have the
same spikes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from neurosim.backends import Simulator, State, compile
from neurosim.benchmark import limits
from neurosim.benchmark.measure import Check, Contender, in_process
from neurosim.benchmark.work import SEED, Limit
from neurosim.connectivity import FixedInDegree, FixedProbability, OneToOne
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, CobaLIF, CubaLIF
from neurosim.neuron.base import Model, above_zero
from neurosim.phase import Phase
from neurosim.random import Normal, Uniform
from neurosim.recorder import Probe, Recording
from neurosim.types import ConfigurationError
from neurosim.vocabulary import heaviside

POPULATIONS = ("e", "i")


@dataclass(frozen=True)
class Balanced:
    """Four fifths of the neurons excite, one fifth inhibits. All spikes are recorded; the rate is that from `skip` ms
    on. `rate` is what it must be, in Hz, within `tolerance` of it; None: what the reference backend finds, with
    `like` neurons where that is given (a rate at fixed in-degrees does not depend on the number of neurons).
    """

    neurons: int
    steps: int = 10_000
    dt: float = 0.1
    skip: float = 0.0
    rate: float | None = None
    tolerance: float = 0.08
    like: int | None = None
    dtype: str = "float64"

    title: ClassVar[str]
    in_degree: ClassVar[float]  # synapses of a neuron, for the limit
    moved: ClassVar[int]  # bytes of a neuron that have to be read and written in a step
    typical: ClassVar[float]  # Hz, for the limit

    def network(self) -> Network:
        raise NotImplementedError

    @property
    def excitatory(self) -> int:
        return self.neurons * 4 // 5

    @property
    def about(self) -> str:
        seconds = self.steps * self.dt / 1000.0
        said = f"{self.title}, {self.neurons:,} neurons, dt {self.dt} ms, {self.dtype}, {seconds:g} s, spikes recorded"
        return f"{said}, rate from {self.skip / 1000.0:g} s on" if self.skip else said

    @property
    def unit(self) -> str:
        return "s per simulated s"

    @property
    def scale(self) -> float:
        return 1000.0 / (self.steps * self.dt)

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        rate = self.rate
        if rate is None:
            smaller = replace(self, neurons=self.like or self.neurons)
            rate = float(smaller.own("reference").sample().values["rate"])
        return {"rate": Check(rate, self.tolerance)}

    def simulator(self, backend: str) -> Simulator:
        return compile(self.network(), self.dt, seed=SEED, backend=backend, dtype=self.dtype)

    def run(self, simulator: Simulator, state: State) -> tuple[State, Recording]:
        probes = [Probe(name, "spike", events=True) for name in POPULATIONS]
        return simulator.run(state, Phase("run", self.steps), probes)

    def own(self, backend: str) -> Contender:
        simulator = self.simulator(backend)
        state = simulator.init(1)

        def run() -> Recording:
            return self.run(simulator, state)[1]

        def read(found: Recording) -> dict[str, float]:
            first = state.clock + round(self.skip / self.dt)
            return {"rate": self.mean_rate(sum(int((found.step[f"{name}.spike"] >= first).sum()) for name in "ei"))}

        return in_process(f"neurosim {backend}", run, read, own=True)

    def mean_rate(self, spikes: int) -> float:
        """Hz, from the number of spikes of all neurons from `skip` on."""
        return spikes / self.neurons / ((self.steps * self.dt - self.skip) / 1000.0)

    def limit(self) -> Limit:
        # a spike's synapse is an index and a weight read, and a port read and written
        size = np.dtype(self.dtype).itemsize
        moved = self.steps * self.neurons * self.moved * size / 8
        spikes = self.typical * self.neurons * self.steps * self.dt / 1000.0
        moved_by_spikes = spikes * self.in_degree * (4 + 3 * size)
        bandwidth = limits.copy_bandwidth(self.neurons * self.moved / 3 * size / 8)
        return (moved + moved_by_spikes) / bandwidth, f"states and synapses moved at {bandwidth / 1e9:.0f} GB/s"


@dataclass(frozen=True)
class Cuba(Balanced):
    """The current-based benchmark of Brette et al. (2007), after Vogels & Abbott (2005), with in-degrees instead of
    probabilities: 80 excitatory and 20 inhibitory inputs to each neuron.
    """

    rate: float | None = 4.6  # Hz in the first second: Brian2 2.9 and NEST 3.10 gave 4.46 to 4.75 at 4k to 100k neurons
    exc: float = 60 * 0.27 / 10  # mV
    inh: float = -20 * 4.5 / 10

    title: ClassVar[str] = "CUBA network, in-degree 100"
    in_degree: ClassVar[float] = 100
    moved: ClassVar[int] = 3 * 16 + 2  # 3 states and a byte that counts; ports move with the spikes
    typical: ClassVar[float] = 4.6

    def network(self) -> Network:
        neuron = CubaLIF(
            tau_mem=20.0, tau_syn_exc=5.0, tau_syn_inh=10.0, v_rest=-49.0, v_th=-50.0, v_reset=-60.0, t_ref=5.0
        )
        start = {"v": Uniform(-60.0, -50.0)}
        many, few = FixedInDegree(80), FixedInDegree(20)
        return _network(self, neuron, start, (self.exc, self.inh), ("basal", "inhibitory"), (many, few))


@dataclass(frozen=True)
class Coba(Balanced):
    """The conductance-based benchmark (1) of Brette et al. (2007): each pair connected with 2 %.

    Brian2 gave 19.46 Hz from 0.2 to 1.2 s, with a deviation of 1.25 Hz between five seeds: the tolerance is the 95 %
    interval for a sixth, 2.776 sqrt(1 + 1/5) 1.25 = 3.8 Hz.
    """

    neurons: int = 4_000
    steps: int = 12_000
    skip: float = 200.0
    rate: float | None = 19.46
    tolerance: float = 0.195
    probability: float = 0.02
    exc: float = 6.0  # nS
    inh: float = 67.0

    title: ClassVar[str] = "COBA network, 2 % connected"
    in_degree: ClassVar[float] = 80
    moved: ClassVar[int] = 3 * 16 + 2  # 3 states and a byte that counts; ports move with the spikes
    typical: ClassVar[float] = 19.46

    def network(self) -> Network:
        start = {"v": Normal(-65.0, 5.0), "g_exc": Normal(40.0, 15.0), "g_inh": Normal(200.0, 120.0)}
        wires = FixedProbability(self.probability)
        return _network(self, CobaLIF(), start, (self.exc, self.inh), ("basal", "inhibitory"), (wires, wires))


def superposed(basal: Any, uniform: Any, mean: Any, none: Any) -> tuple[Any, ...]:
    """The Poisson number of which `uniform` is the distribution's value: how many of P(0), P(<= 1), ... it reaches."""
    p1 = none * mean
    p2 = p1 * mean / 2.0
    p3 = p2 * mean / 3.0
    p4 = p3 * mean / 4.0
    p5 = p4 * mean / 5.0
    p6 = p5 * mean / 6.0
    p7 = p6 * mean / 7.0
    p8 = p7 * mean / 8.0
    p9 = p8 * mean / 9.0
    p10 = p9 * mean / 10.0
    p11 = p10 * mean / 11.0
    few = none + p1 + p2 + p3
    some = few + p4 + p5 + p6 + p7
    many = some + p8 + p9 + p10
    count = heaviside(uniform - none) + heaviside(uniform - (none + p1)) + heaviside(uniform - (none + p1 + p2))
    count = count + heaviside(uniform - few) + heaviside(uniform - (few + p4)) + heaviside(uniform - (few + p4 + p5))
    count = count + heaviside(uniform - (few + p4 + p5 + p6)) + heaviside(uniform - some)
    count = count + heaviside(uniform - (some + p8)) + heaviside(uniform - (some + p8 + p9)) + heaviside(uniform - many)
    return (count + heaviside(uniform - (many + p11)) + basal,)


# Not the package's PoissonSource: that has one spike in a step at most, and here 2 arrive on average (20 kHz, 0.1 ms).
@dataclass(frozen=True)
class PoissonTrains(Model):
    """Many Poisson trains of `rate` Hz together: their spikes in a step, a number (up to 12) with mean rate dt / 1000.

    More than 12 spikes are cut off: with a mean of 2 in a step that happens to one number in five million. Port `basal`
    adds. Draws: "uniform".
    """

    rate: float = 20_000.0

    surrogate: ClassVar[None] = None
    teaching: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[tuple[str, ...]] = ("uniform",)
    states: ClassVar[tuple[str, ...]] = ()
    ports: ClassVar[tuple[str, ...]] = ("basal",)
    outputs: ClassVar[tuple[str, ...]] = ("spike",)
    step = staticmethod(superposed)

    def constants(self, dt: float) -> tuple[Any, ...]:
        mean = float(above_zero(self.rate, "rate", zero=True) * above_zero(dt, "dt") / 1000.0)
        if mean > 2.5:
            raise ConfigurationError(f"rate is {self.rate} Hz; with dt = {dt} ms it must be at most {2500.0 / dt:g} Hz")
        return mean, float(np.exp(-mean))

    def initial(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Brunel(Balanced):
    """Sparse excitation and inhibition with delta synapses and a delay, driven by Poisson trains (Brunel 2000, figure
    8C: g = 5, external rate twice what a neuron needs to reach threshold).

    Brian2 gave 37.74 and 37.19 Hz from 0.2 to 0.7 s, the paper is quoted with 37.7 Hz, theory (Siegert) has 37.95:
    all within 1.5 %, asked for are 3 %. Outside inputs are as many as excitatory ones, of 1000 theta / (J C tau) Hz
    times `eta` each.
    """

    neurons: int = 12_500
    steps: int = 7_000
    skip: float = 200.0
    rate: float | None = 37.7
    tolerance: float = 0.03
    epsilon: float = 0.1
    J: float = 0.1  # mV
    g: float = 5.0
    eta: float = 2.0
    delay: float = 1.5  # ms
    theta: float = 20.0  # mV
    v_reset: float = 10.0
    tau_mem: float = 20.0  # ms
    t_ref: float = 2.0

    title: ClassVar[str] = "Brunel network, panel C"
    in_degree: ClassVar[float] = 1250
    moved: ClassVar[int] = 4 * 16 + 8  # 2 states, 2 ports, a random number
    typical: ClassVar[float] = 37.7

    @property
    def inputs(self) -> tuple[int, int]:
        """Excitatory and inhibitory synapses of a neuron."""
        return round(self.epsilon * self.excitatory), round(self.epsilon * (self.neurons - self.excitatory))

    @property
    def outside(self) -> float:
        """Hz of all trains from outside to a neuron together."""
        return self.eta * 1000.0 * self.theta / (self.J * self.tau_mem)

    def network(self) -> Network:
        neuron = LIF(tau_mem=self.tau_mem, v_th=self.theta, v_reset=self.v_reset, t_ref=self.t_ref)
        many, few = self.inputs
        wires = FixedInDegree(many), FixedInDegree(few)
        weights = self.J, -self.g * self.J
        core = _network(self, neuron, {}, weights, ("basal", "basal"), wires, self.delay)
        trains = [Population(f"outside_{p.name}", p.units, PoissonTrains(self.outside)) for p in core.populations]
        given = [
            Projection(source.name, name, self.J, OneToOne(), delay=0, name=source.name)
            for source, name in zip(trains, POPULATIONS, strict=True)
        ]
        return replace(core, populations=(*trains, *core.populations), projections=(*given, *core.projections))


def _network(
    work: Balanced, neuron: Any, start: Mapping[str, Any], weights: tuple[float, float], ports: tuple[str, str],
    wires: tuple[Any, Any], delay: float | None = None,
) -> Network:  # fmt: skip
    """Both populations joined with each other and themselves: weight, port and wiring by the pre population."""
    sizes = work.excitatory, work.neurons - work.excitatory
    populations = [Population(name, n, neuron, initial=start) for name, n in zip(POPULATIONS, sizes, strict=True)]
    projections = [
        Projection(pre, post, weight, wiring, port=port, delay=delay, name=pre + post)
        for pre, weight, port, wiring in zip(POPULATIONS, weights, ports, wires, strict=True)
        for post in POPULATIONS
    ]
    return Network(tuple(populations), tuple(projections), input="e", output="e")
