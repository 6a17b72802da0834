"""A reservoir: spectral radius, wiring, start, and that it remembers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurosim.adapter import Hold, Mean, Poisson
from neurosim.backends import compile
from neurosim.experiment import Experiment
from neurosim.learner import Settings
from neurosim.neuron import LIF, LeakyRate, StaticRate
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.reservoir import Reservoir, recurrent
from neurosim.rules.least_mean_squares import LeastMeanSquares
from neurosim.tasks.delayed_recall import DelayedRecall
from neurosim.types import ConfigurationError


def network(**settings):
    return Reservoir(LeakyRate(5.0), StaticRate("linear"), **{"size": 300, **settings})(3, 2)


def matrix(net, replica=0, replicas=2):
    """The recurrent weights of one replica, dense."""
    simulator = compile(net, 1.0, replicas=replicas, dtype="float64")
    synapses = simulator.plan.synapses["reservoir_reservoir"]
    if synapses.edges is None:
        return simulator.init(1).learned["weight"]["reservoir_reservoir"][replica].numpy()
    own = synapses.edges.post // synapses.post.units == replica
    weight = np.zeros((synapses.post.units, synapses.pre.units))
    post, pre = (index[own] % synapses.post.units for index in (synapses.edges.post, synapses.edges.pre))
    weight[post, pre] = simulator.init(1).learned["weight"]["reservoir_reservoir"][own]
    return weight


@pytest.mark.parametrize("radius", [0.5, 1.2])
@pytest.mark.parametrize("probability", [0.1, 1.0])
def test_spectral_radius(radius, probability):
    radii = [
        np.abs(np.linalg.eigvals(matrix(network(radius=radius, probability=probability), k))).max() for k in (0, 1)
    ]
    np.testing.assert_allclose(radii, radius, rtol=0.12)
    assert radii[0] != radii[1]
    assert (matrix(network(probability=probability)) != 0).mean() == pytest.approx(probability, abs=0.01)


def test_parts_and_their_scales():
    net = network(input_scale=0.3, feedback_scale=2.0, bias=True)
    weight = compile(net, 1.0, dtype="float64").init(1).learned["weight"]
    assert [p.name for p in net.populations] == ["input", "reservoir", "output"]
    for name, scale in (("input_reservoir", 0.3), ("output_reservoir", 2.0)):
        assert 0.9 * scale < weight[name].abs().max() < scale
    assert not weight["reservoir_output"].any()
    assert net.projection("reservoir_output").bias is True
    assert "output_reservoir" not in [p.name for p in network().projections]


def test_starts_at_rest_or_at_random():
    probe = (Probe("reservoir", "v"),)
    for initial in (0.0, 0.5):
        simulator = compile(network(initial=initial), 1.0, replicas=2, dtype="float64")
        v = simulator.run(simulator.init(1), Phase("p", 1), probe)[1]["reservoir.v"][0, :, 0]
        assert v.std() == pytest.approx(initial * np.exp(-1 / 5), rel=0.1)
    assert not np.array_equal(v[0], v[1])


def test_remembers_the_past_and_forgets_it():
    """Two inputs that differ in the first step only: the states differ for a while, and less and less (radius < 1)."""
    simulator = compile(network(radius=0.8), 1.0, dtype="float64", replicas=None)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 1, 3))).repeat(1, 2, 1)
    x[0, 1] += 1.0
    _, recording = simulator.run(simulator.init(2), Phase("p", 120, {"input": x}), (Probe("reservoir", "rate"),))
    rate = recording["reservoir.rate"]
    distance = np.linalg.norm(rate[:, 0] - rate[:, 1], axis=-1)
    assert distance[0] > distance[10] > distance[40] > distance[100]
    assert 0.05 < distance[10] / distance[0] < 0.9
    assert distance[100] / distance[0] < 0.01


def test_a_spiking_reservoir_spikes():
    net = Reservoir(LIF(20.0, v_th=0.3, arrival="filtered"), LeakyRate(20.0, "linear"), 100)(3, 2)
    simulator = compile(net, 1.0, dtype="float64", replicas=None)
    drive = {"input": torch.ones(50, 1, 3, dtype=torch.float64)}
    _, recording = simulator.run(simulator.init(1), Phase("p", 50, drive), (Probe("reservoir", "spike"),))
    assert 0.02 < recording["reservoir.spike"].mean() < 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"radius": -1.0},
        {"probability": 2.0},
        {"input_scale": 0.0},
        {"feedback_scale": -1.0},
        {"initial": -1},
    ],
)
def test_bad_settings(change):
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        network(**change)


def test_no_recurrence_at_radius_0():
    _, wiring = recurrent("r", 10, LeakyRate(5.0), 0.0, 0.5)
    assert wiring.weight == 0.0


def test_input_relays_spikes_where_the_encoder_makes_them():
    made = [
        Experiment(
            DelayedRecall(train=8),
            Reservoir(LIF(20.0), LeakyRate(20.0, "linear"), 10),
            LeastMeanSquares(),
            encoder,
            Mean(),
            Settings(20),
            epochs=1,
            batch=4,
        ).build()[1]
        for encoder in (Hold(), Poisson())
    ]
    assert [net["input"].axon for net in made] == ["rate", "spike"]
