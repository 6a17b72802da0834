"""dw = lr / sd^2 (L - L') e in plain NumPy, on both passes; its mean is minus the gradient, or what the paper says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal
from plain import BATCH, DT, LAYERS, REPLICAS, as_phase, as_trial, described, error, plain, shown

from neurosim.backends import compile
from neurosim.network import Layered
from neurosim.neuron import Perturbed, StaticRate
from neurosim.recorder import Probe
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.node_perturbation import NodePerturbation
from neurosim.rules.weight_perturbation import WeightPerturbation
from neurosim.scheme import Composed, PerLayer
from neurosim.types import ConfigurationError

STEPS = 4
ONE = shown(0, STEPS)
AXONS = {"static": "rate", "leaky": "rate", "spiking": "spike"}


def loss_of(output, y, loss):
    """[..., B]"""
    if loss == "mse":
        return 0.5 * ((output - y) ** 2).sum(-1)
    return np.log(np.exp(output).sum(-1)) - (y * output).sum(-1)


def trace(values, tau):
    """The low-pass trace of values [T, ...] from rest, at every step."""
    decay, past, rows = np.exp(-DT / tau), 0.0, []
    for value in values:
        past = decay * past + (1 - decay) * value
        rows.append(past)
    return np.array(rows)


def passes(scheme, kind):
    """The states before and after a trial, and what was recorded of its two passes, `{key: [2, T, R, B, N]}`."""
    network = scheme(described(kind))
    simulator = compile(network, DT, replicas=REPLICAS, seed=3, dtype="float64")
    start = simulator.init(BATCH)
    names = ("hidden0", "hidden1")
    noisy = [p.name for p in network.populations if isinstance(p.neuron, Perturbed)]
    probes = [Probe("output", "rate"), *(Probe(name, AXONS[kind]) for name in names)]
    probes += [Probe(name, field) for name in noisy for field in ("noise", "deviation")]
    state, recording = simulator.run(start, as_trial(ONE, network), probes)
    return start, state, {probe.key: recording[probe.key].reshape(2, STEPS, REPLICAS, BATCH, -1) for probe in probes}


def decrease(scheme, seen):
    """L - L' at the end of the passes [R, B]; a trace of it starts from rest in both, or goes on."""
    losses = loss_of(seen["output.rate"], ONE.y, scheme.loss)
    if scheme.tau_loss is None:
        return losses[0, -1] - losses[1, -1]
    if getattr(scheme, "share", "noise") == "deviation":
        whole = trace(losses.reshape(2 * STEPS, *losses.shape[2:]), scheme.tau_loss)
        return whole[STEPS - 1] - whole[-1]
    return trace(losses[0], scheme.tau_loss)[-1] - trace(losses[1], scheme.tau_loss)[-1]


NODE = [
    {},
    {"where": "after"},
    {"loss": "mse"},
    {"tau_loss": 3.0},
    {"share": "deviation"},
    {"share": "deviation", "where": "after", "tau_loss": 3.0},
    {"layers": LAYERS[1:]},
]


@pytest.mark.parametrize("options", NODE, ids=str)
@pytest.mark.parametrize("kind", ["static", "leaky", "spiking"])
def test_node_perturbation(kind, options):
    """With the noise, rates and outputs that were recorded."""
    scheme = NodePerturbation(**{"lr": 0.1, "sd": 0.4, "optimizer": "none", "tau_trace": 5.0, **options})
    if kind == "spiking" and scheme.where == "after":
        with pytest.raises(ConfigurationError, match="a spike is 0 or 1"):
            scheme(described(kind))
        return
    start, state, seen = passes(scheme, kind)
    m, taught = decrease(scheme, seen), scheme.layers or LAYERS
    assert np.abs(m).min() > 1e-4
    for layer, (name, post) in enumerate(zip(LAYERS, ("hidden0", "hidden1", "output"), strict=True)):
        moved = [(state.learned[p][name] - start.learned[p][name]).numpy() for p in ("weight", "bias")]
        if name not in taught:
            assert all((part == 0).all() for part in moved)
            continue
        pre, one = np.broadcast_to(ONE.x, (REPLICAS, BATCH, 4)), 1.0
        if layer:
            sent = seen[f"hidden{layer - 1}.{AXONS[kind]}"]
            pre = sent[1, -1]
            if kind == "spiking":  # traces start from rest in the second pass, or go on from the first
                carried = scheme.share == "deviation"
                whole = sent.reshape(2 * STEPS, *sent.shape[2:]) if carried else sent[1]
                pre, one = trace(whole, 5.0)[-1], trace(np.ones(len(whole)), 5.0)[-1]
        share = seen[f"{post}.{scheme.share}"][1, -1]
        factor = scheme.lr / scheme.sd**2 * m[..., None] * share
        expected = np.einsum("rbi,rbj->rij", factor, pre) / BATCH, factor.mean(1) * one
        for ours, theirs in zip(moved, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)
            assert np.abs(theirs).max() > 1e-4


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"tau_loss": 3.0}], ids=str)
@pytest.mark.parametrize("kind", ["static", "leaky"])
def test_weight_perturbation(kind, options):
    """The change is m times the noise; with that noise on its weights and biases, the network gives the second pass."""
    scheme = WeightPerturbation(**{"lr": 0.1, "sd": 0.2, "optimizer": "none", **options})
    start, state, seen = passes(scheme, kind)
    m = decrease(scheme, seen).mean(-1)
    for replica in range(REPLICAS):
        clean, noisy = plain(kind, start, replica), plain(kind, start, replica)
        for layer, name in enumerate(LAYERS):
            scale = scheme.lr / scheme.sd**2 * m[replica]
            noise = [
                (state.learned[p][name] - start.learned[p][name])[replica].numpy() / scale for p in ("weight", "bias")
            ]
            assert 0.1 < np.abs(noise[0]).mean() < 0.25
            noisy.weights[layer] = noisy.weights[layer] + noise[0]
            noisy.biases[layer] = noisy.biases[layer] + noise[1]
        for index, net in enumerate((clean, noisy)):
            outputs = [net.step(ONE.x).output for _ in range(STEPS)]  # both from rest
            np.testing.assert_allclose(seen["output.rate"][index, :, replica], outputs, rtol=0, atol=1e-11)


# ---- on average ------------------------------------------------------------------------------------------------------

DRAWS, TINY = 3000, 1e-4
LIMIT = 6.1  # of |z| for each of 64 numbers: a right mean fails once in 10^7 tests (the seed is fixed)


def average(scheme, one, start):
    """Mean and standard error of the change per lr of every weight and bias, over draws of the noise (a replica
    each)."""
    layered = Layered(StaticRate("tanh"), StaticRate("linear"), (5, 4))(4, 3)
    network = scheme(layered.with_projections(lambda p: replace(p, weight=start[p.name][0], bias=start[p.name][1])))
    simulator = compile(network, DT, replicas=DRAWS, seed=5, dtype="float64")
    begin = simulator.init(len(one.x))
    state, _ = simulator.run(begin, as_trial(one, network))
    result = {}
    for name in LAYERS:
        for part in ("weight", "bias"):
            change = (state.learned[part][name] - begin.learned[part][name]).numpy() / scheme.lr
            result[name, part] = change.mean(0), change.std(0, ddof=1) / np.sqrt(DRAWS)
    return result


START = {
    name: (0.6 * normal(post, pre, seed=layer), 0.3 * normal(post, seed=layer))
    for layer, (name, (post, pre)) in enumerate(zip(LAYERS, ((5, 4), (4, 5), (3, 4)), strict=True))
}
TWO = replace(shown(7, 1), x=shown(7, 1).x[:2], y=shown(7, 1).y[:2])


def gradients(slope):
    """Minus the gradient of the mean cross-entropy; without `slope`: with respect to the rates, times what arrives."""
    rates = [TWO.x]
    for name in LAYERS:
        z = rates[-1] @ START[name][0].T + START[name][1]
        rates.append(z if name == LAYERS[-1] else np.tanh(z))
    delta, result = error(rates[-1], TWO.y, "cross_entropy"), {}
    for layer in (2, 1, 0):
        name = LAYERS[layer]
        true = delta * (1 - rates[layer + 1] ** 2 if layer < 2 else 1.0)
        used = true if slope else delta
        result[name, "weight"], result[name, "bias"] = used.T @ rates[layer] / len(TWO.x), used.mean(0)
        delta = true @ START[name][0]
    return result


def scores(found, expected):
    """The z values of all numbers."""
    return np.concatenate([((found[key][0] - expected[key]) / found[key][1]).ravel() for key in expected])


SCHEMES = {
    "weights": WeightPerturbation(lr=1e-6, sd=TINY, optimizer="none"),
    "nodes, before": NodePerturbation(lr=1e-6, sd=TINY, optimizer="none"),
    "nodes, after": NodePerturbation(lr=1e-6, sd=TINY, optimizer="none", where="after"),
}


@pytest.mark.parametrize("which", SCHEMES)
def test_the_mean_change(which):
    """Minus the gradient; behind the non-linearity that of the rates, which is another direction."""
    found = average(SCHEMES[which], TWO, START)
    right, wrong = gradients(which != "nodes, after"), gradients(which == "nodes, after")
    assert np.abs(scores(found, right)).max() < LIMIT
    assert np.abs(scores(found, wrong)).max() > LIMIT  # the other position is told apart


def test_deviation_is_biased_above_the_first_layer():
    """A neuron that takes the noise of others for its own: right in the first layer, wrong above it."""
    found = average(replace(SCHEMES["nodes, before"], where="after", share="deviation"), TWO, START)
    expected = gradients(slope=False)
    first = {key: value for key, value in expected.items() if key[0] == LAYERS[0]}
    assert np.abs(scores(found, first)).max() < LIMIT
    assert np.abs(scores(found, expected)).max() > 2 * LIMIT


def test_weight_perturbation_varies_more_than_node_perturbation():
    """Variance grows with the number of weights, or of neurons (Werfel, Xie, Seung 2005)."""
    spread = [
        np.mean([np.mean(error**2) for _, error in average(SCHEMES[which], TWO, START).values()])
        for which in ("weights", "nodes, before")
    ]
    assert spread[0] > 1.5 * spread[1]


# ---- learning and wiring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [WeightPerturbation, NodePerturbation])
def test_it_learns_four_points(scheme):
    """XOR on four points from several starts: the loss falls by half within 400 presentations of the batch."""
    one = replace(
        shown(0, 1),
        x=np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]),
        y=np.eye(2)[[0, 1, 1, 0]],
    )
    layered = Layered(StaticRate("tanh"), StaticRate("linear"), (8,))(2, 2)
    network = scheme(lr=0.03, sd=0.1)(layered)
    simulator = compile(network, DT, replicas=5, seed=1, dtype="float64")
    state = simulator.init(4)

    def losses(state):
        quiet = replace(as_phase(one, network), learn=False, noise=False)
        _, recording = simulator.run(simulator.fresh(state), quiet, (Probe("output", "rate"),))
        return loss_of(recording["output.rate"][-1], one.y, "cross_entropy").mean(-1)

    before = losses(state)
    for _ in range(400):
        state, _ = simulator.run(state, as_trial(one, network))
    assert (losses(state) < 0.5 * before).all()


def test_other_rules_learn_in_the_clean_pass_only():
    scheme = PerLayer((Hebb(lr=0.1), NodePerturbation(lr=0.0, optimizer="none")))
    network = scheme(described("static"))
    clean, perturbed = network.trial
    assert (clean.learn, clean.noise) == (True, False)
    assert perturbed.learn == (LAYERS[-1],)
    simulator = compile(network, DT, replicas=REPLICAS, seed=3, dtype="float64")
    start = simulator.init(BATCH)
    state, _ = simulator.run(start, as_trial(ONE, network))
    alone = Hebb(lr=0.1, output="none")(described("static"))
    simulator = compile(alone, DT, replicas=REPLICAS, seed=3, dtype="float64")
    once, _ = simulator.run(simulator.init(BATCH), as_trial(ONE, alone))
    for name in LAYERS[:2]:
        np.testing.assert_array_equal(state.learned["weight"][name], once.learned["weight"][name])


def test_both_perturbations_share_the_passes():
    network = PerLayer((WeightPerturbation(), NodePerturbation()))(described("static"))
    assert network.trial[1].learn == LAYERS
    assert [isinstance(p.neuron, Perturbed) for p in network.populations if p.name in ("hidden0", "output")] == [
        False, True]  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "sentence"),
    [
        (NodePerturbation(share="both"), "share is 'both'; allowed: noise, deviation"),
        (WeightPerturbation(sd=0.0), "sd of SynapseNoise is 0.0"),
        (WeightPerturbation(tau_loss=-1.0), "tau_loss is -1.0"),
        (
            PerLayer((NodePerturbation(), NodePerturbation(share="deviation"))),
            r"shows a sample as clean \(carried\), then perturbed \(trial\), another as",
        ),
        (
            Composed((NodePerturbation(layers=LAYERS[:1]), NodePerturbation(sd=0.2, layers=LAYERS[:1]))),
            "'hidden0' is already perturbed, with other noise: sd 0.1, before the non-linearity",
        ),
        (
            PerLayer((FeedbackAlignment(), NodePerturbation())),
            "port 'feedback' of 'output' already takes what 'error' sends",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_settings(scheme, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        scheme(described("static"))


def test_a_trial_without_its_clean_pass_is_told():
    network = NodePerturbation()(described("static"))
    simulator = compile(network, DT, dtype="float64")
    with pytest.raises(ConfigurationError, match="compares phase 'train' with phase 'clean', but no such phase came"):
        simulator.run(simulator.init(BATCH), as_phase(ONE, network))
