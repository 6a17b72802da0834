"""dw_ij = -lr xi_i slope_i pre_j for the newest sample (Daruwalla, Lipasti 2024), xi from the kernels of the window."""

from __future__ import annotations

import numpy as np
import pytest
from plain import LAYERS, REPLICAS, Optimizer, agree, described, error, learn, outer, plain, shown, train

from neurosim.factor import Field, Trace
from neurosim.rules.biohsic import BioHSIC
from neurosim.types import ConfigurationError

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)]]
SETTINGS = {"gamma": 3.0, "sigma_x": 0.4, "sigma_y": 0.5, "sigma_z": 0.7, "lr": 0.5, "optimizer": "none"}


def kernel(u, sigma):
    """exp(-|u_p - u_q|^2 / (2 sigma^2 D))."""
    return np.exp(-((u[:, None] - u[None]) ** 2).sum(-1) / (2 * sigma**2 * u.shape[1]))


def objective(x, y, z, s):
    """HSIC(z, x) - gamma HSIC(z, y), HSIC = tr(K H Kz H) / (N - 1)^2."""
    n = len(z)
    centring = np.eye(n) - 1 / n
    combined = kernel(x, s.sigma_x) - s.gamma * kernel(y, s.sigma_y)
    return np.trace(combined @ centring @ kernel(z, s.sigma_z) @ centring) / (n - 1) ** 2


def third_factor(x, y, z, s):
    """xi_i = sum_p c_p k(z_N, z_p) (z_N,i - z_p,i), the newest sample last."""
    n, width = len(z), s.sigma_z**2 * z.shape[1]
    centring = np.eye(n) - 1 / n
    combined = kernel(x, s.sigma_x) - s.gamma * kernel(y, s.sigma_y)
    if s.form == "exact":
        c = -2 / width * (centring @ combined @ centring)[-1] / (n - 1) ** 2
    else:
        d = np.diag(centring @ combined)
        c = 2 / width * ((d + d[-1]) if s.form == "repository" else np.full(n, d[-1])) / (n * (n - 1) ** 2)
    return ((c * kernel(z, s.sigma_z)[-1])[:, None] * (z[-1] - z)).sum(0)


def newest_of_the_batch(scheme):
    """The third factor of the batch: a window, newest row last; its row alone moves the weights."""

    def factors(x, y, z):
        xi = np.zeros_like(z)
        xi[-1] = third_factor(x, y, z, scheme) * len(z)  # `outer` takes the mean over rows, this rule the sum
        return xi

    return factors


def check(scheme, kind, norm=False, taught=LAYERS):
    start, state = train(scheme(described(kind, norm)), TRIALS)
    hidden = Optimizer(scheme.optimizer, scheme.lr, scheme.beta1, scheme.beta2, scheme.weight_decay)
    lr_output = scheme.lr if scheme.lr_output is None else scheme.lr_output
    output = Optimizer(scheme.optimizer, lr_output, scheme.beta1, scheme.beta2, scheme.weight_decay)
    for replica in range(REPLICAS):
        net = plain(kind, start, replica, norm=norm, tau_trace=scheme.tau_trace)
        hidden.memory, output.memory = {}, {}

        def change(net, step, y):
            xi = newest_of_the_batch(scheme)
            changes = [outer(-net.pull_back(step, k, xi(step.pre[0], y, step.post[k])), step, k) for k in (0, 1)]
            changes.append(outer(error(step.output, y, scheme.loss) * step.slopes[-1], step, 2))
            return [one if name in taught else None for one, name in zip(changes, LAYERS, strict=True)]

        learn(net, TRIALS, change, [hidden, hidden, output], scheme.when, scheme.accumulate)
        agree(state, replica, net, start, taught)


@pytest.mark.parametrize("form", ["exact", "repository", "published"])
@pytest.mark.parametrize(
    ("kind", "norm"), [("static", False), ("static", True), ("leaky", False), ("leaky", True), ("spiking", False)]
)
def test_equation(kind, norm, form):
    check(BioHSIC(window=3, form=form, **SETTINGS), kind, norm)


@pytest.mark.parametrize("when", ["step", "phase", "sample"])
@pytest.mark.parametrize("accumulate", ["sum", "mean", "last"])
def test_when_and_accumulate(when, accumulate):
    check(BioHSIC(window=3, when=when, accumulate=accumulate, **SETTINGS), "leaky", norm=True)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_optimizers_and_rates(name):
    settings = {**SETTINGS, "lr": 0.01, "optimizer": name, "lr_output": 0.05}
    check(BioHSIC(window=3, beta1=0.7, beta2=0.8, weight_decay=0.3, loss="mse", **settings), "leaky")


def test_trace_of_spikes():
    check(BioHSIC(window=3, tau_trace=4.0, **SETTINGS), "spiking")


@pytest.mark.parametrize("taught", [LAYERS[:1], LAYERS[1:], LAYERS[2:]])
def test_a_part_of_the_layers(taught):
    check(BioHSIC(window=3, layers=taught, **SETTINGS), "leaky", taught=taught)


def test_exact_form_is_the_gradient_of_the_objective():
    """Central differences: the truncation error is 1e-10 at a step of 1e-5."""
    scheme, step = BioHSIC(window=3, **SETTINGS), 1e-5
    x, y, z = TRIALS[0][0].x, TRIALS[0][0].y, TRIALS[0][1].x
    slopes = []
    for unit in range(z.shape[1]):
        moved = [z.copy(), z.copy()]
        moved[0][-1, unit] += step
        moved[1][-1, unit] -= step
        slopes.append((objective(x, y, moved[0], scheme) - objective(x, y, moved[1], scheme)) / (2 * step))
    np.testing.assert_allclose(third_factor(x, y, z, scheme), slopes, rtol=1e-7, atol=1e-9)
    for form in ("repository", "published"):
        other = third_factor(x, y, z, BioHSIC(window=3, form=form, **SETTINGS))
        assert np.abs(other - slopes).max() > 1e-2 * np.abs(slopes).max()


def test_buffer_remembers_each_stream():
    """Each batch row has a window of its own: its last samples and this one; nothing before the memory is full."""
    scheme = BioHSIC(window=3, memory="buffer", **SETTINGS)
    trials = [[shown(k, steps=2, batch=2)] for k in range(5)]
    start, state = train(scheme(described("leaky")), trials)
    for replica in range(REPLICAS):
        net = plain("leaky", start, replica)
        past = []

        def change(net, step, y, past=past):
            changes = []
            for k in (0, 1):
                m = np.zeros_like(step.post[k])
                for row in range(len(m)) if len(past) >= 2 else ():
                    window = [*past[-2:], (step.pre[0], y, step.post)]
                    x, label = (np.stack([one[part][row] for one in window]) for part in (0, 1))
                    m[row] = -third_factor(x, label, np.stack([one[2][k][row] for one in window]), scheme)
                changes.append(outer(net.pull_back(step, k, m), step, k))
            changes.append(outer(error(step.output, y, "cross_entropy") * step.slopes[-1], step, 2))
            return changes

        for (one,) in trials:  # what is remembered is the activity at the end of a presentation
            last = []

            def watched(net, step, y, last=last, change=change):
                last[:] = [(step.pre[0], y, step.post)]
                return change(net, step, y)

            learn(net, [[one]], watched, [Optimizer(lr=scheme.lr)] * 3)
            past.extend(last)
        agree(state, replica, net, start)


def test_activity_is_a_rate_or_a_trace_of_spikes():
    for kind, expected in (
        ("leaky", Field("post", "rate")),
        ("spiking", Trace(Field("post", "spike"), 7.0, "mean")),
    ):
        network = described(kind)
        assert BioHSIC(tau_trace=7.0).activity(network, "hidden0") == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"window": 1}, "window is 1; the HSIC window must be a whole number of at least 2 samples"),
        ({"form": "new"}, "form of the HSIC modulator is 'new'"),
        ({"memory": "ring"}, "memory is 'ring'; allowed: batch, buffer, reservoir"),
        ({"sigma_z": 0.0}, "sigma_z is 0.0"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
    ],
)
def test_wrong_settings_are_one_sentence(settings, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        BioHSIC(**settings)(described("leaky"))
