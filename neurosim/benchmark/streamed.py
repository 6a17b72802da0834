"""Does memory grow with the time that is simulated? CUBA, its spikes streamed to HDF5, for one time and for four."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neurosim.benchmark.balanced import POPULATIONS, Cuba
from neurosim.benchmark.isolated import Recipe
from neurosim.benchmark.measure import Check, Contender, in_process
from neurosim.benchmark.work import Limit
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.storage import TraceWriter, TrialInfo, read_trace

ATTRIBUTES = {
    "package_version": "", "commit": "", "config": "", "seed": 0, "backend": "", "device": "cpu", "dtype": "float64"
}  # fmt: skip


@dataclass(frozen=True)
class Streamed:
    """`parts` stretches of `stretch` steps, each stretch's spikes written before the next begins. The rate that must be
    found is that of `cuba` run in one piece.
    """

    cuba: Cuba
    stretch: int = 1_000
    parts: int = 5
    unit: str = "s per simulated s"
    scale: float = 1.0

    @property
    def about(self) -> str:
        return f"{self.cuba.about}, streamed to HDF5 in stretches of {self.stretch * self.cuba.dt:g} ms"

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        return {"rate": Check(self.cuba.rate, 0.2)}

    def own(self, backend: str, times: int = 1) -> Contender:
        """`times` as long as one run; the time is that of a simulated second."""
        simulator = self.cuba.simulator(backend)
        start = simulator.init(1)
        probes = [Probe(name, "spike") for name in POPULATIONS]
        seconds = times * self.parts * self.stretch * self.cuba.dt / 1000.0

        def run() -> int:
            state = start
            with (
                tempfile.TemporaryDirectory() as folder,
                TraceWriter(Path(folder), {**ATTRIBUTES, "dt": self.cuba.dt}, replicas=None) as writer,
            ):
                for part in range(times * self.parts):
                    state, found = simulator.run(state, Phase("run", self.stretch), probes)
                    writer.append(found, TrialInfo(part, 0, "run"))
                    writer.close_segment()
                trace = read_trace(writer.finish())
                return sum(len(trace.spikes(name)[0]) for name in POPULATIONS)  # what is in the files, 16 bytes each

        def read(spikes: int) -> dict[str, float]:
            return {"rate": spikes / self.cuba.neurons / seconds}

        one = in_process(f"neurosim {backend}, {seconds:g} s", run, read, own=True)

        def sample() -> Any:
            done = one.sample()
            return done._replace(wall=done.wall / seconds, cpu=done.cpu / seconds)

        return Contender(one.name, sample, own=True)

    def recipes(self, backend: str, threads: int) -> list[Recipe]:
        """One time, and four."""
        seconds = self.parts * self.stretch * self.cuba.dt / 1000.0
        return [
            Recipe(f"neurosim {backend}, {n * seconds:g} s", __name__, "contender", (self, backend, n), True, threads)
            for n in (1, 4)
        ]

    def limit(self) -> Limit:
        return float("nan"), "none: the peak of memory is what counts"


def contender(work: Streamed, backend: str, times: int) -> Contender:
    return work.own(backend, times)
