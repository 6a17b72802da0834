"""MSTDP and MSTDPET against BindsNET: weights and eligibilities of every step.

BindsNET multiplies the reward of step k with the eligibility of step k - 1, and divides the trace by its time constant.
Here the reward of step k meets the eligibility of step k: it is given one reward later, and lr takes dt / tau_e.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from load import golden

from neurosim.backends import compile
from neurosim.modulator import Unmodulated
from neurosim.network import Network, Population, Projection
from neurosim.neuron import SpikeRelay
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.reward_stdp import RewardSTDP


def scheme(one):
    traced = one["rule"] == "mstdpet"
    bounds = {name: None if np.isinf(float(one[name])) else float(one[name]) for name in ("w_min", "w_max")}
    return RewardSTDP(
        A_plus=one["a_plus"], A_minus=-one["a_minus"], tau_plus=one["tc_plus"], tau_minus=one["tc_minus"],
        tau_e=one["tc_e_trace"] if traced else None, lr=one["nu"] * (one["dt"] / one["tc_e_trace"] if traced else 1.0),
        read_pre="after", read_post="after", **bounds,
    )  # fmt: skip


@pytest.mark.parametrize("case", range(4))
def test_bindsnet(case):
    arrays, meta = golden("stdp_bindsnet")
    one = meta["cases"][case]
    z_pre, z_post, reward = (arrays[f"c{case}.{name}"].astype(float) for name in ("z_pre", "z_post", "reward"))
    assert (z_pre.sum(1) * z_post.sum(1)).any()  # coincident spikes
    rule, wire = (
        scheme(one),
        Projection("input", "output", arrays[f"c{case}.w0"], port="feedback", delay=0, name="wire"),
    )
    network = Network(
        (Population("input", one["n_pre"], SpikeRelay()), Population("output", one["n_post"], SpikeRelay())), (wire,)
    )
    network = network.with_projections(lambda p: replace(p, rule=rule.rule(network, p)))
    simulator = compile(network, one["dt"], dtype="float64")
    state, weight, eligibility = simulator.init(1), [arrays[f"c{case}.w0"]], []
    probes = (Probe("wire", "weight"), Probe("wire", "eligibility")) if rule.tau_e else (Probe("wire", "weight"),)
    for step in range(len(z_pre) - 1):
        drive = {"input": z_pre[step][None, None], "output": z_post[step][None, None]}
        state, recording = simulator.run(
            state, Phase("step", 1, drive, {"reward": reward[step + 1].reshape(1, 1)}), probes
        )
        weight.append(recording["wire.weight"][0])
        eligibility.extend(recording["wire.eligibility"][:, 0] if rule.tau_e else ())
    np.testing.assert_allclose(weight, arrays[f"c{case}.w"], rtol=0, atol=1e-11)
    if rule.tau_e:  # BindsNET adds this step's pairs at the start of the next one
        expected = arrays[f"c{case}.eligibility_trace"][1:] * one["tc_e_trace"]
        np.testing.assert_allclose(eligibility, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("case", range(4))
def test_pairs_of_a_step(case):
    """The file's eligibility before any trace: what a step's spikes would add, were there no third factor."""
    arrays, meta = golden("stdp_bindsnet")
    one = meta["cases"][case]
    z_pre, z_post = (arrays[f"c{case}.{name}"].astype(float) for name in ("z_pre", "z_post"))
    wire = Projection("input", "output", arrays[f"c{case}.w0"], port="feedback", delay=0, name="wire")
    network = Network(
        (Population("input", one["n_pre"], SpikeRelay()), Population("output", one["n_post"], SpikeRelay())), (wire,)
    )

    def bare(p):
        rule = scheme(one).rule(network, p)
        memoryless = tuple(replace(component, tau=None) for component in rule.components)
        return replace(rule, components=memoryless, modulator=Unmodulated(), transforms=(), constraints=())

    network = network.with_projections(lambda p: replace(p, rule=bare(p)))
    simulator = compile(network, one["dt"], dtype="float64")
    drive = {"input": z_pre[:, None], "output": z_post[:, None]}
    _, recording = simulator.run(simulator.init(1), Phase("p", len(z_pre), drive), (Probe("wire", "weight"),))
    ours = np.diff(recording["wire.weight"], axis=0, prepend=arrays[f"c{case}.w0"][None])
    np.testing.assert_allclose(ours, arrays[f"c{case}.eligibility"], rtol=0, atol=1e-11)
    assert np.abs(ours).max() > 1e-3
