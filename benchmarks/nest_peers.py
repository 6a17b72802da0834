"""The spiking networks in NEST. Each repeat builds the network again; only the time loop (`Run`) is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import nest
import numpy as np

from neurosim.benchmark import Contender, Sample
from neurosim.benchmark.balanced import Balanced, Brunel, Coba, Cuba
from neurosim.benchmark.plasticity import PairStdp


class Built(NamedTuple):
    recorder: Any
    plastic: bool = False


def recorded(cells: Any, start: float) -> Built:
    recorder = nest.Create("spike_recorder", params={"start": start})
    nest.Connect(cells, recorder)
    return Built(recorder)


def joined(work: Balanced, cells: Any, weights: tuple[float, float], wires: tuple[Any, Any], delay: float) -> Built:
    groups = cells[: work.excitatory], cells[work.excitatory :]
    for group, weight, rule in zip(groups, weights, wires, strict=True):
        nest.Connect(group, cells, rule, {"synapse_model": "static_synapse", "weight": weight, "delay": delay})
    return recorded(cells, work.skip)


def in_degree(degree: int) -> dict[str, Any]:
    return {"rule": "fixed_indegree", "indegree": degree}


def cuba(work: Cuba) -> Built:
    # 200 pF with 20 ms are 100 MOhm: a current of 10 pA is worth 1 mV
    cells = nest.Create("iaf_psc_exp", work.neurons, params={
        "C_m": 200.0, "tau_m": 20.0, "tau_syn_ex": 5.0, "tau_syn_in": 10.0, "E_L": -49.0, "V_th": -50.0,
        "V_reset": -60.0, "t_ref": 5.0, "V_m": nest.random.uniform(-60.0, -50.0),
    })  # fmt: skip
    return joined(work, cells, (10.0 * work.exc, 10.0 * work.inh), (in_degree(80), in_degree(20)), work.dt)


def coba(work: Coba) -> Built:
    cells = nest.Create("iaf_cond_exp", work.neurons, params={
        "C_m": 200.0, "g_L": 10.0, "tau_syn_ex": 5.0, "tau_syn_in": 10.0, "E_L": -60.0, "E_ex": 0.0, "E_in": -80.0,
        "V_th": -50.0, "V_reset": -60.0, "t_ref": 5.0, "V_m": nest.random.normal(-65.0, 5.0),
        "g_ex": nest.random.normal(40.0, 15.0), "g_in": nest.random.normal(200.0, 120.0),
    })  # fmt: skip
    rule = {"rule": "pairwise_bernoulli", "p": work.probability, "allow_autapses": False}
    return joined(work, cells, (work.exc, -work.inh), (rule, rule), work.dt)


def brunel(work: Brunel) -> Built:
    cells = nest.Create("iaf_psc_delta", work.neurons, params={
        "tau_m": work.tau_mem, "E_L": 0.0, "V_th": work.theta, "V_reset": work.v_reset, "t_ref": work.t_ref, "V_m": 0.0,
    })  # fmt: skip
    outside = nest.Create("poisson_generator", params={"rate": work.outside})
    nest.Connect(outside, cells, "all_to_all", {"weight": work.J, "delay": work.delay})
    many, few = work.inputs
    return joined(work, cells, (work.J, -work.g * work.J), (in_degree(many), in_degree(few)), work.delay)


def stdp(work: PairStdp) -> Built:
    """In these cells a spike arrives after the leak, in the work before it: hence the threshold."""
    leak = float(np.exp(-work.dt / work.tau_mem))
    cells = nest.Create("iaf_psc_delta", work.units, params={
        "tau_m": work.tau_mem, "C_m": 1.0, "E_L": 0.0, "V_th": 1.0 / leak, "V_reset": 0.0, "V_m": 0.0, "t_ref": 0.0,
        "tau_minus": work.tau,
    })  # fmt: skip
    source = nest.Create("poisson_generator", params={"rate": work.rate})
    parrots = nest.Create("parrot_neuron", work.inputs)
    nest.Connect(source, parrots, "all_to_all", {"delay": work.dt})
    nest.Connect(parrots, cells, "all_to_all", {
        "synapse_model": "stdp_synapse", "weight": work.start, "delay": work.dt, "tau_plus": work.tau,
        "lambda": work.A_plus / work.w_max, "alpha": work.A_minus / work.A_plus, "mu_plus": 0.0, "mu_minus": 0.0,
        "Wmax": work.w_max,
    })  # fmt: skip
    return recorded(cells, 0.0)._replace(plastic=True)


BUILD: dict[type, Callable[[Any], Built]] = {Cuba: cuba, Coba: coba, Brunel: brunel, PairStdp: stdp}


def network(work: Any, threads: int) -> Contender:
    def sample() -> Sample:
        nest.verbosity = nest.VerbosityLevel.ERROR
        nest.ResetKernel()
        nest.SetKernelStatus({"resolution": work.dt, "local_num_threads": threads, "rng_seed": 4})
        built = BUILD[type(work)](work)
        with nest.RunManager():
            wall, cpu = time.perf_counter(), time.process_time()
            nest.Run(work.steps * work.dt)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        values = {"rate": work.mean_rate(built.recorder.n_events)}
        if built.plastic:
            weights = nest.GetConnections(synapse_model="stdp_synapse").weight
            values["weight"] = sum(weights) / len(weights)
        return Sample(wall, cpu, values)

    return Contender("NEST", sample)
