"""A simulator as a learner: what is driven, what is broadcast, how an evaluation starts and is cut into batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurosim.adapter import Hold, Mean, Poisson
from neurosim.learner import Settings, SimulatorLearner
from neurosim.network import Layered
from neurosim.neuron import LIF, LeakyRate, SpikeRelay, StaticRate
from neurosim.recorder import Probe
from neurosim.rules.delta import Delta
from neurosim.types import ConfigurationError

X = np.random.default_rng(0).uniform(size=(11, 3))
Y = np.random.default_rng(1).integers(0, 2, 11)


def learner(settings: Settings | None = None, network: Layered | None = None, **changes) -> SimulatorLearner:
    network = network or Layered(StaticRate("relu"), StaticRate("linear"), hidden=(5,))
    options = {
        "batch": 4,
        "dt": 1.0,
        "replicas": 2,
        "seed": 3,
        "dtype": "float64",
        "device": "cpu",
        "backend": "reference",
    }
    encoder = changes.pop("encoder", Hold())
    scheme = Delta(lr=0.1, optimizer="none", weight_decay=0.0)
    return SimulatorLearner(scheme(network(3, 2)), encoder, Mean(), settings or Settings(2), **{**options, **changes})


def test_scores_are_those_of_the_network_written_out():
    one = learner()
    state = one.init()
    weight, bias = state.learned["weight"], state.learned["bias"]
    score = one.evaluate(state, X, Y)
    for replica in range(2):
        hidden = np.maximum(X @ weight["input_hidden0"][replica].numpy().T + bias["input_hidden0"][replica].numpy(), 0)
        logits = hidden @ weight["hidden0_output"][replica].numpy().T + bias["hidden0_output"][replica].numpy()
        loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(11), Y]
        np.testing.assert_allclose(score.loss[replica], loss.mean(), rtol=1e-12)
        assert score.accuracy[replica] == (logits.argmax(1) == Y).mean()


@pytest.mark.parametrize("rows", [1, 4, 11, 100])
def test_the_evaluation_batch_does_not_change_the_scores(rows):
    whole, parts = learner(), learner(Settings(2, evaluate_batch=rows))
    np.testing.assert_allclose(
        whole.evaluate(whole.init(), X, Y).loss, parts.evaluate(parts.init(), X, Y).loss, rtol=1e-13
    )


def test_poisson_noise_of_an_evaluation_belongs_to_the_sample():
    spiking = Layered(LIF(5.0, v_th=0.1), LeakyRate(5.0, "linear"), hidden=(4,), input_neuron=SpikeRelay())
    make = lambda rows: learner(Settings(20, evaluate_batch=rows), spiking, encoder=Poisson(max_rate=500.0))  # noqa: E731
    whole, parts = make(100), make(3)
    np.testing.assert_allclose(
        whole.evaluate(whole.init(), X, Y).loss, parts.evaluate(parts.init(), X, Y).loss, rtol=1e-13
    )


def test_a_training_step_moves_the_output_weights_and_evaluation_nothing():
    one = learner()
    state = one.init()
    trained = one.train_step(state, X[None, :4], Y[None, :4], 0)
    assert not torch.equal(trained.learned["weight"]["hidden0_output"], state.learned["weight"]["hidden0_output"])
    before = trained.learned["weight"]["hidden0_output"].clone()
    one.evaluate(trained, X, Y)
    assert torch.equal(trained.learned["weight"]["hidden0_output"], before)


def test_an_order_per_replica_equals_replicas_with_that_order():
    one = learner()
    both = np.stack([np.arange(4), np.arange(4, 8)])
    state = one.train_step(one.init(), X[both], Y[both], 0)
    for replica in range(2):
        alone = one.train_step(one.init(), X[both[[replica]]], Y[both[[replica]]], 0)
        weight = "hidden0_output"
        np.testing.assert_allclose(
            state.learned["weight"][weight][replica], alone.learned["weight"][weight][replica], rtol=1e-13
        )


def test_carry_keeps_the_activity_between_presentations():
    leaky = Layered(LeakyRate(20.0, "relu"), LeakyRate(20.0, "linear"), hidden=(5,))
    after = {}
    for carry in (False, True):
        one = learner(Settings(2, carry=carry), leaky)
        state = one.train_step(one.init(), X[None, :4], Y[None, :4], 0)
        after[carry] = one.train_step(state, X[None, 4:8], Y[None, 4:8], 4).activity["state"]["hidden0"]["v"]
    assert not torch.allclose(after[True], after[False])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("carry", [False, True])
def test_batches_in_one_call_are_encoded_as_one_by_one(backend, carry):
    """Each sample has its own spikes, wherever it stands."""
    spiking = Layered(LIF(5.0, v_th=0.1), LeakyRate(5.0, "linear"), hidden=(4,), input_neuron=SpikeRelay())
    one = learner(Settings(6, carry=carry), spiking, encoder=Poisson(max_rate=500.0), backend=backend)
    rows = np.arange(10)[None]
    state = expected = one.train_step(one.init(), X[rows[:, :4]], Y[rows[:, :4]], 3)
    for k in range(4, 10, 2):
        part = np.concatenate([rows[:, k : k + 2]] * 2, axis=1)
        expected = one.train_step(expected, X[part], Y[part], 7 + 2 * (k - 4))
    whole = np.concatenate([np.concatenate([rows[:, k : k + 2]] * 2, axis=1) for k in range(4, 10, 2)], axis=1)
    state = one.train_batches(state, X[whole], Y[whole], 7)
    assert state.clock == expected.clock
    for name, weight in expected.learned["weight"].items():
        assert torch.equal(weight, state.learned["weight"][name])
    for name in ("hidden0", "output"):
        assert torch.equal(expected.activity["state"][name]["v"], state.activity["state"][name]["v"])


def test_probes_record_beside_the_readout():
    one = learner()
    value, recording = one.respond(one.init(), X[:3], Y[:3], 0, [Probe("hidden0", "rate")])
    assert value.shape == (2, 3, 2)
    assert list(recording) == ["hidden0.rate"]
    assert recording["hidden0.rate"].shape == (2, 2, 3, 5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number"),
        ({"evaluate_batch": True}, "evaluate_batch is True"),
        ({"start": "anywhere"}, "start is 'anywhere'; allowed: rest, training"),
    ],
)
def test_bad_settings(change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        replace(Settings(2), **change)
