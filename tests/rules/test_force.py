"""dw = error (P r)^T, P = (alpha I + sum r r^T)^-1, in plain NumPy (Sussillo, Abbott 2009); a sine is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain import LAYERS, REPLICAS, Optimizer, as_phase, described, error, learn, plain, shown, train

from neurosim.backends import compile
from neurosim.connectivity import FixedProbability
from neurosim.inspect.certificate import certify
from neurosim.neuron import LeakyRate, StaticRate
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.reservoir import Reservoir
from neurosim.rules.force import Force
from neurosim.tasks.sine import Sine
from neurosim.types import ConfigurationError
from neurosim.wiring import TARGET

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)]]


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("kind", ["static", "leaky", "spiking"])
def test_recursion(kind, loss, every):
    """P by inverting its inverse, which grows by the outer products of all rows of the batch."""
    scheme = Force(alpha=0.5, every=every, loss=loss, tau_trace=4.0)
    start, state = train(scheme(described(kind)), TRIALS)
    for replica in range(REPLICAS):
        inverse, clock = 0.5 * np.eye(5), iter(range(100))

        def change(net, step, y, clock=clock, inverse=inverse):
            if next(clock) % every:
                return [None, None, None]
            r = step.pre[2]
            inverse += r.T @ r
            return [None, None, (error(step.output, y, loss).T @ r @ np.linalg.inv(inverse), np.zeros(3))]

        net = plain(kind, start, replica, tau_trace=4.0)
        learn(net, TRIALS, change, [Optimizer(lr=1.0)] * 3)
        for layer, name in enumerate(LAYERS):
            ours, before = (one.learned["weight"][name][replica].numpy() for one in (state, start))
            np.testing.assert_allclose(ours, net.weights[layer], rtol=0, atol=1e-11)
            assert (np.abs(ours - before).max() > 1e-3) == (name == LAYERS[2])
            same = [one.learned["bias"][name][replica].numpy() for one in (state, start)]
            np.testing.assert_array_equal(*same)


def test_is_the_least_squares_solution():
    """A readout without memory: w minimises sum (target - w r - b)^2 + alpha |w - w_0|^2 over all that was shown."""
    start, state = train(Force(alpha=0.3)(described("static")), TRIALS)
    for replica in range(REPLICAS):
        net = plain("static", start, replica)
        rows = [(net.step(one.x), one.y) for trial in TRIALS for one in trial for _ in range(one.steps)]
        r = np.concatenate([step.pre[2] for step, _ in rows])
        wrong = np.concatenate([y - step.output for step, y in rows])
        best = net.weights[2] + np.linalg.solve(0.3 * np.eye(5) + r.T @ r, r.T @ wrong).T
        np.testing.assert_allclose(state.learned["weight"][LAYERS[2]][replica].numpy(), best, rtol=0, atol=1e-11)


def test_one_step_almost_removes_the_error():
    """With a small alpha: what is left of it is alpha / (alpha + |r|^2)."""
    one = shown(0, steps=1, batch=1)
    start, state = train(Force(alpha=1e-6)(described("static")), [[one]])
    before, after = (plain("static", s, 0).step(one.x) for s in (start, state))
    part = 1e-6 / (1e-6 + (before.pre[2] ** 2).sum())
    np.testing.assert_allclose(one.y - after.output, part * (one.y - before.output), rtol=1e-6)


def test_what_is_recorded_is_the_norm_of_a_row():
    """m is a number per synapse, and dw = m for one example: the recorded value of a neuron is |dw_i|."""
    network = Force(alpha=0.5)(described("static"))
    simulator = compile(network, 1.0, replicas=2, dtype="float64")
    start, probes = simulator.init(1), (Probe(LAYERS[2], "modulator"), Probe(LAYERS[2], "weight"))
    _, recording = simulator.run(start, as_phase(shown(0, steps=1, batch=1), network), probes)
    change = recording[f"{LAYERS[2]}.weight"][0] - start.learned["weight"][LAYERS[2]].numpy()
    np.testing.assert_allclose(
        recording[f"{LAYERS[2]}.modulator"][0, :, 0], np.linalg.norm(change, axis=-1), rtol=1e-12
    )


def test_generates_a_sine():
    """A chaotic reservoir that its readout drives goes on by itself for two periods after ten of learning."""
    signal = Sine(period=120, harmonics=(1.0,)).load(0).train.y[0]
    network = Reservoir(LeakyRate(10.0), StaticRate("linear"), 200, radius=1.5, feedback_scale=1.0, initial=0.5)(1, 1)
    drive = {TARGET: torch.from_numpy(np.tile(signal, (10, 1)))[:, None]}
    wanted = np.tile(signal, (2, 1))[:, None, None]
    probe = (Probe("output", "rate"),)
    simulator = compile(Force()(network), 1.0, replicas=2, seed=1, dtype="float64")
    state, learned = simulator.run(simulator.init(1), Phase("train", 1200, drive), probe)
    _, alone = simulator.run(state, Phase("test", 240, learn=False), probe)
    assert np.abs(learned["output.rate"][-240:] - wanted).max() < 0.05
    assert (((alone["output.rate"] - wanted) ** 2).mean((0, 2, 3)) < 0.01 * signal.var()).all()


def test_is_rejected_for_its_matrix():
    found = certify(Force()(described("static", hidden=(3,))), 1.0, batch=3)
    assert found.leaks == (
        "the rule of hidden0_output reads hidden0.rate of other neurons, kept in the modulator's memory 'P'",
    )
    assert found.scope == "nonlocal"
    assert not Force.local


def test_a_sparse_readout_is_refused():
    network = described("static").with_projections(
        lambda p: type(p)(p.pre, p.post, 1.0, FixedProbability(0.5), delay=0, name=p.name)
    )
    with pytest.raises(ConfigurationError, match=r"force needs a dense readout.*'hidden1_output' is sparse"):
        Force()(network)


@pytest.mark.parametrize(("field", "value"), [("alpha", 0.0), ("alpha", -1.0), ("every", 0), ("every", 1.5)])
def test_bad_parameters(field, value):
    with pytest.raises(ConfigurationError, match=f"{field} of RecursiveLeastSquares"):
        Force(**{field: value})(described("static"))
