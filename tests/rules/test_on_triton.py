"""Every rule on the Triton backend (interpreted): states and recordings are those of the reference."""

import pytest
import torch
from backends import agree, device_of
from plain import as_trial, shown
from test_table import BATCH, NETWORKS, REFUSED, TABLE, built

from neurosim.backends import compile
from neurosim.recorder import Probe

# Rules that torch carries out step by step, and what `show` says about them.
BY_TORCH = {
    "bptt": "runs in torch, all steps of a phase at once",
    "force": "its modulator differs by synapse",
    "weight_perturbation": "",  # its noise is a gain like any other to a matrix product
}


@pytest.mark.parametrize("rule", TABLE)
def test_every_rule(rule):
    network = next(one for one in NETWORKS if (rule, one) not in REFUSED)
    net, _ = built(rule, network)
    names = [p.name for p in net.projections if p.rule is not None]
    signals = {"reward": torch.ones(BATCH, 1)}
    results = []
    for backend in ("reference", "triton"):
        place = {"backend": backend, "device": device_of(backend), "dtype": "float64"}
        simulator = compile(net, 1.0, replicas=2, **place)
        state = simulator.init(BATCH)
        for k, asked in enumerate(((), [Probe(names[0], "weight", every=2)])):
            state, recording = simulator.run(state, as_trial(shown(k, 5), net, signals), asked)
            results.append((simulator, state, recording))
    for expected, found in zip(results[:2], results[2:], strict=True):
        agree([expected, found], 1e-8)
    reasons = "; ".join(results[-1][0].uncompiled())
    assert BY_TORCH.get(rule, "") in reasons
    assert rule in BY_TORCH or not reasons
