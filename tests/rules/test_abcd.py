"""dw = eta (A z x + B x + C z + D) in plain NumPy: per synapse, neuron and channel; shared; rewarded; from spikes."""

from __future__ import annotations

import numpy as np
import pytest
from hydra.utils import instantiate
from nets import normal, pair, simulate, weight
from omegaconf import OmegaConf
from plain import BATCH, DT, LAYERS, REPLICAS, described, plain, shown, train
from unsupervised import WeightOnly, check

from neurosim.connectivity import Conv2d
from neurosim.inspect.certificate import certify
from neurosim.phase import Phase
from neurosim.recorder import Probe
from neurosim.rules.abcd import ABCD
from neurosim.types import ConfigurationError

NAMES = ("input", "hidden0", "hidden1", "output")
SIZES = dict(zip(NAMES, (4, 6, 5, 3), strict=True))
LETTERS = ("A", "B", "C", "D", "eta")


def sets(kind, letters=LETTERS):
    """Random coefficients of every letter: by projection, or by population."""
    if kind == "synapse":
        shapes = {name: (SIZES[post], SIZES[pre]) for name, pre, post in zip(LAYERS, NAMES, NAMES[1:], strict=False)}
    else:
        shapes = {name: (size,) for name, size in SIZES.items()}
    return {
        letter: {name: normal(*shape, seed=10 * k + len(name)) for name, shape in shapes.items()}
        for k, letter in enumerate(letters)
    }


def change(one, x, z):
    """Mean over the batch; `one` has the coefficients in the shape of the weight, `A` and `D` of both ends joined."""
    total = one["A"] * (z.T @ x) + one["B"] * x.sum(0) + one["C"] * z.sum(0)[:, None] + len(x) * one["D"]
    return one["eta"] * total / len(x)


def of_layer(kind, values, layer):
    """The coefficients of a layer's synapses `[P, Q]`."""
    if kind == "synapse":
        return {letter: values[letter][LAYERS[layer]] for letter in values}
    pre, post = NAMES[layer], NAMES[layer + 1]
    joined = {letter: np.outer(values[letter][post], values[letter][pre]) for letter in ("A", "D")}
    eta = (values["eta"][post][:, None] + values["eta"][pre]) / 2
    return joined | {"B": values["B"][pre][None], "C": values["C"][post][:, None], "eta": eta}


def divided(g, w, count):
    return (w + g) / np.abs(w + g).max() - w


def run(kind, net="static", norm=False, **options):
    values = sets(kind)
    scheme = ABCD(**values, per=kind, tau_trace=5.0, **options)
    factor = BATCH if scheme.reduce == "sum" else 1

    def local(net, step, layer):
        g = change(of_layer(kind, values, layer), step.pre[layer], step.post[layer])
        return factor * g, net.biases[layer]

    rate = divided if scheme.normalise == "max" else lambda g, w, count: g
    check(scheme, lambda: local, lambda: WeightOnly(rate), net, norm)


@pytest.mark.parametrize("kind", ["synapse", "neuron", "channel"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalise": "none"},
        {"reduce": "sum"},
        {"output": "same"},
        {"when": "step", "output": "none"},
        {"share": "max", "share_of": "term"},
    ],
    ids=str,
)
def test_equation(kind, options):
    """Dense layers share nothing, so that `share` makes no difference to them."""
    run(kind, **options)


@pytest.mark.parametrize("kind", ["synapse", "neuron"])
@pytest.mark.parametrize(("net", "norm"), [("spiking", False), ("leaky", True)])
def test_traces_and_other_networks(kind, net, norm):
    run(kind, net, norm)


def test_a_spike_of_the_same_step_counts():
    """With tau_trace far below dt the correlation is the product of coincident spikes."""
    scheme = ABCD(A=1.0, eta=1.0, normalise="none", output="none", reduce="sum", tau_trace=1e-3)
    start, state = train(scheme(described("spiking")), [[shown(4, steps=1)]])
    net = plain("spiking", start, 0, tau_trace=None)
    step = net.step(shown(4).x)
    assert step.post[0].sum() > 0
    moved = state.learned["weight"][LAYERS[1]][0].numpy() - net.weights[1]
    np.testing.assert_allclose(moved, step.post[1].T @ step.post[0], rtol=0, atol=1e-13)


def test_numbers_and_a_constant_outside_the_rate():
    """eta (A z x + B x + C z + D) + D_out with one number for all; only what is not 0 has a term."""
    scheme = ABCD(A=0.3, B=-0.2, C=0.5, D=0.1, eta=-0.4, D_out=0.05, normalise="none", output="none")
    start, state = train(scheme(described("static")), [[shown(0, steps=1)]])
    for replica in range(REPLICAS):
        net = plain("static", start, replica)
        step = net.step(shown(0).x)
        for layer in range(2):
            one = {"A": 0.3, "B": -0.2, "C": 0.5, "D": 0.1, "eta": -0.4}
            expected = net.weights[layer] + change(one, step.pre[layer], step.post[layer]) + 0.05
            ours = state.learned["weight"][LAYERS[layer]][replica].numpy()
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)
    terms = [len(ABCD(**values)(described("static")).projection(LAYERS[0]).rule.components[0].terms)
             for values in ({}, {"B": 1.0}, {"D_out": 1.0}, {"A": 0.0})]  # fmt: skip
    assert terms == [1, 2, 2, 1]


@pytest.mark.parametrize("kind", ["synapse", "neuron"])
def test_each_replica_may_have_its_own(kind):
    """A population of rules: coefficients with a first axis of replicas."""
    both = [sets(kind), {k: {n: v + 1.0 for n, v in value.items()} for k, value in sets(kind).items()}]
    values = {letter: {n: np.stack([one[letter][n] for one in both]) for n in both[0][letter]} for letter in LETTERS}
    scheme = ABCD(**values, per=kind, output="none", normalise="none")
    start, state = train(scheme(described("static")), [[shown(0, steps=1)]])
    for replica, own in enumerate(both):
        net = plain("static", start, replica)
        step = net.step(shown(0).x)
        expected = net.weights[0] + change(of_layer(kind, own, 0), step.pre[0], step.post[0])
        np.testing.assert_allclose(state.learned["weight"][LAYERS[0]][replica], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("reward", "tau"), [("reward", None), ("reward", 2.0)])
def test_a_signal_multiplies_the_change(reward, tau):
    scheme = ABCD(**sets("synapse"), reward=reward, tau_reward=tau, output="none", normalise="none")
    r = np.array([[0.5], [-2.0], [1.5]])
    start, state = train(scheme(described("static")), [[shown(0, steps=1)], [shown(1, steps=1)]], {"reward": r})
    net, mean = plain("static", start, 0), np.zeros_like(r)
    for k in range(2):
        step = net.step(shown(k).x)
        grown = []
        for layer in range(2):
            one = of_layer("synapse", sets("synapse"), layer)
            rows = [change(one, step.pre[layer][[b]], step.post[layer][[b]]) for b in range(BATCH)]
            grown.append(sum((r - mean)[b] * row for b, row in enumerate(rows)) / BATCH)
        mean = mean + (r - mean) / tau if tau else mean
        net.weights[:2] = [w + g for w, g in zip(net.weights[:2], grown, strict=True)]
    for layer in range(2):
        ours = state.learned["weight"][LAYERS[layer]][0].numpy()
        np.testing.assert_allclose(ours, net.weights[layer], rtol=0, atol=1e-12)


def test_the_tasks_reward():
    """ "task": target times softmax of the output, one number for all synapses."""
    scheme = ABCD(eta=0.1, reward="task", output="none", normalise="none")
    start, state = train(scheme(described("static")), [[shown(0, steps=1)]])
    net = plain("static", start, 1)
    step = net.step(shown(0).x)
    raised = np.exp(step.output)
    r = (shown(0).y * raised).sum(-1) / raised.sum(-1)
    for layer in range(2):
        expected = net.weights[layer] + 0.1 * (r[:, None] * step.post[layer]).T @ step.pre[layer] / BATCH
        np.testing.assert_allclose(state.learned["weight"][LAYERS[layer]][1], expected, rtol=0, atol=1e-14)


# ---- convolutions ----------------------------------------------------------------------------------------------------

PRE, OUT, K = (2, 5, 4), 3, 3
JOIN = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "median": None}


def joined(values, how, axis):
    """The median is the lower one."""
    if how == "median":
        return np.sort(values, axis).take((values.shape[axis] - 1) // 2, axis)
    return JOIN[how](values, axis)


def windows(image, connectivity):
    """`[..., C, H, W]` -> `[..., C, positions, k, k]`, one position after the other."""
    wide, stride = connectivity.padding, connectivity.stride
    mode = {"zeros": "constant", "reflect": "reflect"}[connectivity.padding_mode]
    image = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(wide, wide)] * 2, mode=mode)
    rows, columns = ((n - K) // stride + 1 for n in image.shape[-2:])
    cut = [image[..., y * stride : y * stride + K, x * stride : x * stride + K]
           for y in range(rows) for x in range(columns)]  # fmt: skip
    return np.stack(cut, -3)


def convolved(connectivity, **options):
    """(change of the kernels, x [B, C, H, W], z [B, O, positions]) of one step, with random activity."""
    shape = connectivity.output_shape(PRE, OUT)
    kernel = normal(OUT, PRE[0], K, K)
    net = pair(PRE, shape, weight=kernel, connectivity=connectivity)
    net = ABCD(output="same", normalise="none", **options)(net)
    x = normal(1, BATCH, int(np.prod(PRE)), seed=5)
    _, state, recording = simulate(net, Phase("p", 1, {"input": x}), (Probe("output", "rate"),), batch=BATCH)
    z = recording["output.rate"][0].reshape(BATCH, OUT, -1)
    return weight(state)[0] - kernel, x[0].reshape(BATCH, *PRE), z


@pytest.mark.parametrize("share_of", ["change", "term"])
@pytest.mark.parametrize("how", JOIN)
@pytest.mark.parametrize("kind", ["synapse", "neuron", "channel"])
@pytest.mark.parametrize("connectivity", [Conv2d(K), Conv2d(K, 2, 1), Conv2d(K, 1, 2, "reflect")])
def test_shared_weights(connectivity, kind, how, share_of):
    """The synapses of a kernel entry, position by position; eta joins by itself where terms do and neurons have it."""
    shape = connectivity.output_shape(PRE, OUT)
    per_post, per_pre = (
        {letter: normal(*(size if kind == "neuron" else size[:1]), seed=seed + k) for k, letter in enumerate(LETTERS)}
        for seed, size in ((1, shape), (9, PRE))
    )
    kernels = {letter: normal(OUT, PRE[0], K, K, seed=k) for k, letter in enumerate((*LETTERS, "D_out"))}
    values = kernels if kind == "synapse" else {
        letter: {"input": per_pre[letter].ravel(), "output": per_post[letter].ravel()} for letter in LETTERS
    }  # fmt: skip
    ours, x, z = convolved(connectivity, per=kind, share=how, share_of=share_of, **values)
    if kind == "synapse":
        at = {letter: kernels[letter][:, :, None] for letter in kernels}  # [O, C, positions, K, K]
        A, B, C, D, eta = (at[letter] for letter in LETTERS)
        D = D + at["D_out"] / eta
    else:
        near = {letter: (value if kind == "neuron" else np.broadcast_to(value[:, None, None], shape)).reshape(
            OUT, 1, -1, 1, 1) for letter, value in per_post.items()}  # fmt: skip
        far = {letter: windows(value if kind == "neuron" else np.broadcast_to(value[:, None, None], PRE), connectivity)
               for letter, value in per_pre.items()}  # fmt: skip
        A, D, eta = near["A"] * far["A"], near["D"] * far["D"], (near["eta"] + far["eta"]) / 2
        B, C = far["B"], near["C"]
    xs, zs = windows(x, connectivity)[:, None], z[:, :, None, :, None, None]  # [B, O, C, positions, K, K]
    whole = np.zeros((BATCH, OUT, *xs.shape[2:]))
    terms = [part + whole for part in (A * zs * xs, B * xs, C * zs, D)]
    if share_of == "change":
        expected = joined(eta * sum(terms), how, 3).mean(0)
    elif kind == "synapse":
        expected = sum(joined(eta * term, how, 3) for term in terms).mean(0)
    else:
        expected = sum(joined(term, how, 3) for term in terms).mean(0) * joined(eta, how, 2)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_lists_of_a_config():
    """What Hydra hands over: lists, by population."""
    values = {name: normal(size).tolist() for name, size in SIZES.items()}
    node = OmegaConf.create({"_target_": "neurosim.rules.abcd.ABCD", "per": "neuron", "A": values})
    ours, theirs = (
        train(scheme(described("static")), [[shown(0)]])[1]
        for scheme in (
            instantiate(node),
            ABCD(per="neuron", A={name: np.array(value) for name, value in values.items()}),
        )
    )
    for name in LAYERS:
        np.testing.assert_array_equal(ours.learned["weight"][name], theirs.learned["weight"][name])


@pytest.mark.parametrize(("kind", "normalise", "scope"), [("neuron", "max", "layer"), ("synapse", "none", "synapse")])
def test_it_is_local(kind, normalise, scope):
    """The largest weight is one number for the layer; without it a synapse needs its two ends only."""
    found = certify(ABCD(**sets(kind), per=kind, normalise=normalise, output="none")(described("static")), DT, batch=2)
    assert found.leaks == ()
    assert found.scope == scope


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"per": "layer"}, "per of ABCD is 'layer'; allowed: synapse, neuron, channel"),
        ({"share": "mode"}, "share of ABCD is 'mode'"),
        ({"share_of": "all"}, "share_of is 'all'; allowed: change, term"),
        ({"normalise": "sum"}, "normalise of ABCD is 'sum'; allowed: max, none"),
        ({"per": "neuron", "D_out": 0.1}, "D_out of ABCD is a constant per synapse; with per=neuron it must be 0"),
        ({"A": {"input_hidden0": 1.0}}, "A of ABCD has nothing for 'hidden0_hidden1'; it has: input_hidden0"),
        ({"eta": "much"}, "eta of ABCD is 'much'; it must be a number, an array"),
        ({"per": "neuron", "C": np.ones(4)}, "C of ABCD has 4 numbers for 'hidden0'; one per neuron makes 6"),
        ({"A": np.ones((2, 2))}, "has shape"),
    ],
)
def test_wrong_settings_are_one_sentence(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        train(ABCD(**options)(described("static")), [[shown(0)]])
