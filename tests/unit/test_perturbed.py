"""A neuron with noise held for a phase, before or behind its non-linearity, and what it did to a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import normal, simulate
from test_modulator import view

from neurosim.factor import post
from neurosim.modulator import Decrease
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, GatedRelay, LeakyRate, Perturbed, Relay, StaticRate
from neurosim.phase import Held, Phase
from neurosim.random import Uniform
from neurosim.recorder import Probe
from neurosim.types import ConfigurationError

SD, STEPS, B, R = 0.3, 70, 3, 2  # more steps than noise is drawn for at once
X = normal(B, 4)


def run(neuron, *, probes=("rate", "noise", "deviation"), phases=None, batch=B, **options):
    net = Network(
        (Population("input", 4, Relay()), Population("output", 4, neuron)),
        (Projection("input", "output", np.eye(4), delay=0),),
    )
    phases = phases or Phase("p", STEPS, {"input": Held(X)})
    probed = tuple(Probe("output", name) for name in probes)
    _, state, recording = simulate(net, phases, probed, batch=batch, replicas=R, **options)
    return state, [recording[probe.key] for probe in probed]


def test_the_noise_is_held_for_a_phase_and_is_of_the_sample():
    phases = [Phase(name, STEPS, {"input": Held(X)}) for name in ("a", "b")]
    _, (noise,) = run(Perturbed(StaticRate("tanh"), SD), probes=("noise",), phases=phases)
    first, second = noise[:STEPS], noise[STEPS:]
    assert (first == first[0]).all()
    assert (second == second[0]).all()
    values = np.stack([first[0], second[0]])
    assert len(np.unique(values)) == values.size  # another number in every phase, replica, row and neuron
    single = [Phase("a", 1, {"input": Held(X[[2]])}, samples=torch.tensor([2]))]
    _, (alone,) = run(Perturbed(StaticRate("tanh"), SD), probes=("noise",), phases=single, batch=1)
    np.testing.assert_array_equal(alone[0, :, 0], first[0, :, 2])


def test_the_noise_is_normal():
    """400 x 4 x 2 numbers: the mean and variance of their squares, each within 5 standard errors (1 in 10^6)."""
    phase = Phase("p", 1, {"input": np.zeros((1, 400, 4))})
    _, (noise,) = run(Perturbed(StaticRate(), SD), probes=("noise",), phases=phase, batch=400)
    z = noise.ravel() / SD
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("kind", ["static", "leaky"])
def test_where_the_noise_goes(kind, where):
    neuron = Perturbed(StaticRate("tanh") if kind == "static" else LeakyRate(5.0, "tanh"), SD, where)
    _, (rate, noise, _) = run(neuron)
    leak = np.exp(-np.arange(1, STEPS + 1) / 5.0)[:, None, None, None] if kind == "leaky" else 0.0
    drive = X + noise if where == "before" else X + 0 * noise
    expected = np.tanh((1 - leak) * drive) + (noise if where == "after" else 0.0)
    np.testing.assert_allclose(rate, expected, rtol=0, atol=1e-14)


def test_a_perturbed_spiking_neuron_is_the_neuron_with_that_drive():
    _, (spike, noise) = run(Perturbed(LIF(5.0, 0.5, arrival="filtered"), 2.0), probes=("spike", "noise"))
    driven = X + noise[0]
    for replica in range(R):
        phase = Phase("p", STEPS, {"input": Held(driven[replica])})
        _, (plain,) = run(LIF(5.0, 0.5, arrival="filtered"), probes=("spike",), phases=phase)
        np.testing.assert_array_equal(spike[:, replica], plain[:, replica])
    assert 0 < spike.mean() < 1


def test_deviation_is_from_the_last_step_without_noise():
    phases = [Phase("a", 2, {"input": Held(X)}, noise=False), Phase("b", 3, {"input": Held(X + 1)})]
    _, (rate, noise, deviation) = run(Perturbed(StaticRate("tanh"), SD), phases=phases)
    assert (noise[:2] == 0).all()
    np.testing.assert_array_equal(deviation[:2], 0.0)
    np.testing.assert_array_equal(deviation[2:], rate[2:] - rate[1])


def test_distributions_of_the_inner_neuron_are_drawn_as_without_noise():
    neuron = LeakyRate(Uniform(2.0, 20.0), "tanh")
    quiet = Phase("p", 5, {"input": Held(X)}, noise=False)
    one, other = (run(n, probes=("rate",), phases=quiet)[1][0] for n in (neuron, Perturbed(neuron, SD)))
    np.testing.assert_array_equal(one, other)


def test_decrease():
    modulator, value = Decrease(post("feedback")), torch.tensor(normal(1, 2, 3))
    clean = view(value)
    object.__setattr__(clean, "phase", "clean")
    m, memory = modulator.update(clean, modulator.init())
    assert (m == 0).all()
    m, kept = modulator.update(view(value - 2.0, last=False), memory)
    torch.testing.assert_close(m, torch.full_like(value, 2.0))
    m, left = modulator.update(view(value + 1.0), kept)
    torch.testing.assert_close(m, torch.full_like(value, -1.0))
    assert left == {}
    for past, now in ((left, value), (memory, value[:, :1])):
        with pytest.raises(ConfigurationError, match="compares phase 'p' with phase 'clean', but no such phase came"):
            modulator.update(view(now), past)
    assert (modulator.scope, modulator.factors(), modulator.signals()) == ("neuron", (post("feedback"),), ())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Perturbed(StaticRate(), 0.0), "sd of Perturbed is 0.0"),
        (lambda: Perturbed(StaticRate(), 1.0, "beside"), "where of Perturbed is 'beside'"),
        (lambda: Perturbed(GatedRelay(), 1.0), "a GatedRelay cannot be perturbed; allowed: StaticRate, LeakyRate, LIF"),
        (lambda: Perturbed(LIF(), 1.0, "after"), "a spike is 0 or 1"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
