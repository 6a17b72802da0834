"""Every rule on the CPU backend: states and recordings are those of the reference."""

from __future__ import annotations

import pytest
import torch
from backends import agree
from plain import as_trial, described, shown
from test_table import BATCH, NETWORKS, REFUSED, TABLE, built

from neurosim.backends import compile
from neurosim.backends.cpu import delivery, factored
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.types import ConfigurationError

# Rules that torch carries out, on every network or on one; what `show` says about it.
BY_TORCH = {"force": "its modulator differs by synapse"}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", TABLE)
def test_every_rule(rule, network):
    if (rule, network) in REFUSED:
        pytest.skip(f"{rule} is for {REFUSED[rule, network]} only")
    check(rule, network)


@pytest.mark.parametrize("rule", TABLE)
def test_products_at_the_end(rule, monkeypatch):
    """The same where a change that is gathered is formed by one product, which pays for larger networks only."""
    monkeypatch.setattr(factored, "LEAST_WORK", 0)
    check(rule, next(network for network in NETWORKS if (rule, network) not in REFUSED))


@pytest.mark.parametrize("rule", TABLE)
def test_large_products(rule, monkeypatch):
    """The same where torch forms the matrix products, as in large layers: rules still learn in kernels."""
    monkeypatch.setattr(delivery, "MATRIX_PRODUCT", 0)
    check(rule, next(network for network in NETWORKS if (rule, network) not in REFUSED))


def check(rule, network):
    net, _ = built(rule, network)
    names = [p.name for p in net.projections if p.rule is not None]
    probes = [Probe(names[0], "weight", every=4)]
    signals = {"reward": torch.ones(BATCH, 1)}
    results = []
    for backend in ("reference", "cpu"):
        simulator = compile(net, 1.0, replicas=2, dtype="float64", backend=backend)
        state = simulator.init(BATCH)
        for k in range(3):
            asked = probes if k == 1 else ()
            state, recording = simulator.run(state, as_trial(shown(k, 10), net, signals), asked)
            results.append((simulator, state, recording))
    for expected, found in zip(results[:3], results[3:], strict=True):
        agree([expected, found], 1e-8)
    # In the graph of a gradient rule torch carries out laterals, once for all steps (`cpu/gradient.py`).
    elsewhere = "all steps of a phase at once", "(a large matrix product of rates) runs in torch"
    told = results[-1][0].uncompiled()
    reasons = "; ".join(one for one in told if not any(words in one for words in elsewhere))
    assert (rule in BY_TORCH) == bool(reasons), reasons
    assert BY_TORCH.get(rule, "") in reasons


@pytest.mark.parametrize("tau", [None, 3.0])
def test_a_broadcast_reward(tau):
    """One number per row, less its running mean over presentations."""
    node = {"reward": "reward", "tau_reward": tau, "lr": 0.1}
    results = []
    for backend in ("reference", "cpu"):
        simulator = compile(RewardSTDP(**node)(described("spiking")), 1.0, replicas=2, dtype="float64", backend=backend)
        state = simulator.init(BATCH)
        for k in range(4):
            signals = {"reward": torch.tensor([[1.0 + k], [-2.0], [0.5 * k]], dtype=torch.float64)}
            phases = as_trial(shown(k, 10), simulator.plan.network, signals)
            state, recording = simulator.run(state, phases, [Probe("input_hidden0", "modulator", every=10)])
        results.append((simulator, state, recording))
    agree(results, 1e-11)
    assert not results[1][0].uncompiled()
    assert recording["input_hidden0.modulator"].any()
    assert not torch.equal(
        state.learned["weight"]["input_hidden0"], simulator.init(1).learned["weight"]["input_hidden0"]
    )


def test_a_loss_without_a_clean_phase_is_one_sentence():
    simulator = compile(built("node_perturbation", "layered")[0], 1.0, backend="cpu")
    with pytest.raises(ConfigurationError, match="no such phase came before it on a batch of 3"):
        simulator.run(simulator.init(BATCH), Phase("perturbed", 5))
