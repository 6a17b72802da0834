"""The spiking networks in Brian2: as a C++ program (its fastest way), and run from Python with Cython.

Both are timed by Brian2's own time loop; building, compiling and drawing connections are not counted. The C++ program
writes its time: CPU seconds (`std::clock`) on one thread, seconds by the clock with OpenMP.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import brian2
import numpy as np

from neurosim.benchmark import Contender, Sample
from neurosim.benchmark.balanced import Balanced, Brunel, Coba, Cuba
from neurosim.benchmark.plasticity import PairStdp

CUBA = """
dv/dt = (g_exc + g_inh - (v - v_rest)) / tau_mem : 1 (unless refractory)
dg_exc/dt = -g_exc / tau_exc : 1
dg_inh/dt = -g_inh / tau_inh : 1
"""
COBA = """
dv/dt = (g_leak * (v_rest - v) + g_exc * (e_exc - v) + g_inh * (e_inh - v)) / c_mem : 1 (unless refractory)
dg_exc/dt = -g_exc / tau_exc : 1
dg_inh/dt = -g_inh / tau_inh : 1
"""
STDP = """
w : 1
dx/dt = -x / tau : 1 (event-driven)
dy/dt = -y / tau : 1 (event-driven)
"""


class Built(NamedTuple):
    """A network, what it has to keep for `read`, and for how long it runs."""

    network: Any
    spikes: Any  # monitor of all spikes
    weight: Any  # the plastic synapses, or None
    seconds: float


# ---- networks -------------------------------------------------------------------------------------------------------


def fixed_in_degree(work: Balanced, synapses: Any, first: int, count: int, degree: int) -> None:
    """`degree` synapses to each neuron from `count` neurons, counted from 0 in their own group."""
    pre = np.random.default_rng(6 + first).integers(0, count, work.neurons * degree)
    synapses.connect(i=pre, j=np.repeat(np.arange(work.neurons), degree))


def balanced(work: Balanced, cells: Any, arriving: tuple[str, str], wires: Callable[..., None], **more: Any) -> Built:
    """`cells` joined with themselves; `arriving` is what a spike of an excitatory or inhibitory neuron does."""
    parts, excitatory = [], work.excitatory
    for name, first, count, code in (
        ("exc", 0, excitatory, arriving[0]),
        ("inh", excitatory, work.neurons - excitatory, arriving[1]),
    ):
        synapses = brian2.Synapses(cells[first : first + count], cells, on_pre=code, name=f"syn_{name}", **more)
        wires(synapses, first, count)
        parts.append(synapses)
    monitor = brian2.SpikeMonitor(cells)
    return Built(brian2.Network(cells, parts, monitor), monitor, None, work.steps * work.dt / 1000.0)


def cuba(work: Cuba) -> Built:
    ms = brian2.ms
    times = {"tau_mem": 20 * ms, "tau_exc": 5 * ms, "tau_inh": 10 * ms, "v_rest": -49.0}
    cells = brian2.NeuronGroup(
        work.neurons, CUBA, threshold="v > -50.0", reset="v = -60.0", refractory=5 * ms, method="exact", namespace=times
    )
    cells.v = "-60.0 + 10.0 * rand()"

    def wires(synapses: Any, first: int, count: int) -> None:
        fixed_in_degree(work, synapses, first, count, 20 if first else 80)

    return balanced(work, cells, (f"g_exc_post += {work.exc}", f"g_inh_post += {work.inh}"), wires)


def coba(work: Coba) -> Built:
    ms = brian2.ms
    constants = {
        "c_mem": 20 * ms * 10.0, "tau_exc": 5 * ms, "tau_inh": 10 * ms, "g_leak": 10.0, "v_rest": -60.0, "e_exc": 0.0,
        "e_inh": -80.0,
    }  # fmt: skip
    cells = brian2.NeuronGroup(
        work.neurons, COBA, threshold="v > -50.0", reset="v = -60.0", refractory=5 * ms, method="exponential_euler",
        namespace=constants,
    )  # fmt: skip
    cells.v = "-65.0 + 5.0 * randn()"
    cells.g_exc = "40.0 + 15.0 * randn()"
    cells.g_inh = "200.0 + 120.0 * randn()"

    def wires(synapses: Any, first: int, count: int) -> None:
        synapses.connect(p=work.probability)

    return balanced(work, cells, (f"g_exc_post += {work.exc}", f"g_inh_post += {work.inh}"), wires)


def brunel(work: Brunel) -> Built:
    ms = brian2.ms
    cells = brian2.NeuronGroup(
        work.neurons, "dv/dt = -v / tau_mem : 1 (unless refractory)", threshold="v > theta", reset="v = v_reset",
        refractory=work.t_ref * ms, method="exact",
        namespace={"tau_mem": work.tau_mem * ms, "theta": work.theta, "v_reset": work.v_reset},
    )  # fmt: skip
    many, few = work.inputs

    def wires(synapses: Any, first: int, count: int) -> None:
        fixed_in_degree(work, synapses, first, count, few if first else many)

    arriving = f"v_post += {work.J}", f"v_post += {-work.g * work.J}"
    built = balanced(work, cells, arriving, wires, delay=work.delay * ms)
    outside = brian2.PoissonInput(cells, "v", many, work.outside / many * brian2.Hz, work.J)
    built.network.add(outside)
    return built


def stdp(work: PairStdp) -> Built:
    ms = brian2.ms
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
    network = brian2.Network(source, cells, synapses, monitor)
    return Built(network, monitor, synapses, work.steps * work.dt / 1000.0)


BUILD: dict[type, Callable[[Any], Built]] = {Cuba: cuba, Coba: coba, Brunel: brunel, PairStdp: stdp}


def found(work: Any, times: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    """What the work asks for, from the times of all spikes (s) and the weights at the end."""
    after = getattr(work, "skip", 0.0) / 1000.0
    rate = work.mean_rate(int((times >= after - 1e-9).sum()))
    return {"rate": rate} if weight is None else {"rate": rate, "weight": float(weight.mean())}


# ---- as a C++ program -----------------------------------------------------------------------------------------------


def standalone(work: Any, threads: int) -> Contender:
    """A contender that runs a C++ program again and again."""
    made: dict[str, Any] = {}

    def make() -> None:
        brian2.prefs.devices.cpp_standalone.openmp_threads = 0 if threads == 1 else threads
        brian2.set_device("cpp_standalone", build_on_run=False)
        device = brian2.get_device()
        brian2.defaultclock.dt = work.dt * brian2.ms
        brian2.seed(4)
        built = BUILD[type(work)](work)
        built.network.run(built.seconds * brian2.second)
        made["home"] = tempfile.TemporaryDirectory(prefix="brian_")  # goes with the contender
        made["folder"] = Path(made["home"].name)
        device.build(directory=str(made["folder"]), compile=True, run=False)
        results = made["folder"] / device.results_dir
        variables = [built.spikes.variables["t"], *([] if built.weight is None else [built.weight.variables["w"]])]
        made["saved"] = [(results / device.get_array_filename(one), one.dtype) for one in variables]
        made["time"] = results / "last_run_info.txt"

    def sample() -> Sample:
        first = not made
        if first:
            make()
        program = subprocess.Popen(["./main"], cwd=made["folder"], stdout=subprocess.DEVNULL)
        if first:  # the watching would take time from a repeat that counts
            made["peak"] = watched(program)
        if program.wait():
            raise RuntimeError(f"the program ended with code {program.returncode}")
        seconds = float(made["time"].read_text().split()[0])
        read = [np.fromfile(path, dtype) for path, dtype in made["saved"]]
        return Sample(seconds, seconds, found(work, read[0], read[1] if len(read) > 1 else None), made["peak"])

    return Contender("Brian2 C++", sample)


def watched(program: subprocess.Popen) -> float:
    """The most memory of a running program in bytes, as Linux counts it; its last value before the program ends."""
    status, most = Path(f"/proc/{program.pid}/status"), float("nan")
    while program.poll() is None:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            break
        most = next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), most)
        time.sleep(0.002)
    return most


# ---- from Python ----------------------------------------------------------------------------------------------------


def cython(work: Any) -> Contender:
    """Brian2's runtime mode with Cython; each repeat goes on from the same stored state."""
    brian2.prefs.codegen.target = "cython"
    brian2.defaultclock.dt = work.dt * brian2.ms
    brian2.seed(4)
    built = BUILD[type(work)](work)
    built.network.store()

    def sample() -> Sample:
        built.network.restore()
        clocks: list[tuple[float, float]] = []

        def report(*_: Any) -> None:  # Brian2 calls it when the time loop begins, now and then, and when it has ended
            clocks.append((time.perf_counter(), time.process_time()))

        built.network.run(built.seconds * brian2.second, report=report, report_period=1e6 * brian2.second)
        (wall, cpu), (wall_end, cpu_end) = clocks[0], clocks[-1]
        weight = None if built.weight is None else np.asarray(built.weight.w)
        return Sample(wall_end - wall, cpu_end - cpu, found(work, np.asarray(built.spikes.t / brian2.second), weight))

    return Contender("Brian2 Cython", sample)
