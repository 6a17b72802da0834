"""The spiking networks in Brian2, compiled to a C++ program (its fastest way; needs a C++ compiler).

Brian2 times its own time loop (`std::clock`: CPU seconds); building, compiling and drawing connections are not counted.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.benchmark import Contender
from neurosim.benchmark.measure import Sample
from neurosim.benchmark.spiking import Cuba, PairStdp

try:
    import brian2
except ImportError:
    brian2 = None

Saved = dict[str, tuple[str, Any]]  # name -> (file in the program's folder, dtype)

CUBA = """
dv/dt = (g_exc + g_inh - (v - v_rest)) / tau_mem : 1 (unless refractory)
dg_exc/dt = -g_exc / tau_exc : 1
dg_inh/dt = -g_inh / tau_inh : 1
"""
STDP = """
w : 1
dx/dt = -x / tau : 1 (event-driven)
dy/dt = -y / tau : 1 (event-driven)
"""


def missing() -> str:
    """Why Brian2 is skipped, or ""."""
    if brian2 is None:
        return "Brian2"
    return "" if shutil.which("g++") else "Brian2 (no C++ compiler)"


def program(name: str, build: Callable[[], list[Any]], read: Callable[[list[Any]], dict[str, float]]) -> Contender:
    """A contender that runs a C++ program again and again. `build()` makes the network and names the variables whose
    final values `read` gets.
    """
    made: dict[str, Any] = {}

    def make() -> None:
        brian2.set_device("cpp_standalone", build_on_run=False)
        device = brian2.get_device()
        device.reinit()
        device.activate(build_on_run=False)
        variables = build()
        made["home"] = tempfile.TemporaryDirectory(prefix="brian_")  # goes with the contender
        made["folder"] = Path(made["home"].name)
        device.build(directory=str(made["folder"]), compile=True, run=False)
        made["saved"] = [
            (made["folder"] / device.results_dir / device.get_array_filename(one), one.dtype) for one in variables
        ]
        made["time"] = made["folder"] / device.results_dir / "last_run_info.txt"

    def sample() -> Sample:
        if not made:
            make()
        subprocess.run(["./main"], cwd=made["folder"], check=True, stdout=subprocess.DEVNULL)
        seconds = float(made["time"].read_text().split()[0])
        return Sample(seconds, seconds, read([np.fromfile(path, dtype) for path, dtype in made["saved"]]))

    return Contender(name, sample)


def cuba(work: Cuba) -> Iterator[Contender | str]:
    if missing():
        yield missing()
        return

    def build() -> list[Any]:
        ms = brian2.ms
        brian2.defaultclock.dt = work.dt * ms
        brian2.seed(4)
        times = {"tau_mem": 20 * ms, "tau_exc": 5 * ms, "tau_inh": 10 * ms, "v_rest": -49.0}
        cells = brian2.NeuronGroup(
            work.neurons, CUBA, threshold="v > -50.0", reset="v = -60.0", refractory=5 * ms, method="exact",
            namespace=times,
        )  # fmt: skip
        cells.v = "-60.0 + 10.0 * rand()"
        excitatory = work.neurons * 4 // 5
        generator, parts = np.random.default_rng(6), []
        for first, count, degree, port, weight in (
            (0, excitatory, 80, "g_exc", work.exc),
            (excitatory, work.neurons - excitatory, 20, "g_inh", work.inh),
        ):
            synapses = brian2.Synapses(
                cells[first : first + count], cells, "w : 1", on_pre=f"{port}_post += w", name=f"syn_{port}"
            )
            synapses.connect(
                i=generator.integers(0, count, work.neurons * degree), j=np.repeat(np.arange(work.neurons), degree)
            )
            synapses.w = weight
            parts.append(synapses)
        monitor = brian2.SpikeMonitor(cells)
        brian2.Network(cells, parts, monitor).run(work.steps * work.dt * ms)
        return [monitor.variables["N"]]

    def read(found: list[Any]) -> dict[str, float]:
        return {"rate": work.mean_rate(int(found[0][0]))}

    yield program("Brian2 C++", build, read)


def stdp(work: PairStdp) -> Iterator[Contender | str]:
    if missing():
        yield missing()
        return

    def build() -> list[Any]:
        ms = brian2.ms
        brian2.defaultclock.dt = work.dt * ms
        brian2.seed(4)
        values = {"tau": work.tau * ms, "up": work.A_plus, "down": work.A_minus, "w_max": work.w_max}
        source = brian2.PoissonGroup(work.inputs, work.rate * brian2.Hz)
        cells = brian2.NeuronGroup(
            work.units, "dv/dt = -v / tau_mem : 1", threshold="v >= 1", reset="v = 0", method="exact",
            namespace={"tau_mem": work.tau_mem * ms},
        )  # fmt: skip
        synapses = brian2.Synapses(
            source, cells, STDP, namespace=values,
            on_pre="v_post += w\nx += 1\nw = clip(w - down * y, 0, w_max)",
            on_post="y += 1\nw = clip(w + up * x, 0, w_max)",
        )  # fmt: skip
        synapses.connect(i=np.tile(np.arange(work.inputs), work.units), j=np.repeat(np.arange(work.units), work.inputs))
        synapses.w = work.start.reshape(-1)
        monitor = brian2.SpikeMonitor(cells)
        brian2.Network(source, cells, synapses, monitor).run(work.steps * work.dt * ms)
        return [monitor.variables["N"], synapses.variables["w"]]

    def read(found: list[Any]) -> dict[str, float]:
        return {"rate": work.mean_rate(int(found[0][0])), "weight": float(found[1].mean())}

    yield program("Brian2 C++", build, read)
