"""dw = lr | |w| - 1 |^rate_power D / max|D|, D = sum_b y (x - u w), in plain NumPy (Moraitis 2022, Journé 2023)."""

from __future__ import annotations

import numpy as np
import pytest
from plain import described, shown, train
from unsupervised import WeightOnly, check

from neurosim.rules.softhebb import SoftHebb
from neurosim.types import ConfigurationError


def competition(u, scheme):
    raised = np.exp((u - u.max(-1, keepdims=True)) / scheme.temperature)
    y = raised / raised.sum(-1, keepdims=True)
    winner = u.argmax(-1)[:, None] == np.arange(u.shape[-1])
    return {"soft": y, "signed": np.where(winner, y, -y), "hard": winner.astype(float)}[scheme.competition]


def run(kind="static", norm=False, **options):
    scheme = SoftHebb(**{"lr": 0.1, **options})

    def local(net, step, layer):
        u = step.pre[layer] @ net.weights[layer].T + net.biases[layer]
        y = competition(u, scheme)
        return y.T @ step.pre[layer] - (y * u).sum(0)[:, None] * net.weights[layer], net.biases[layer]

    def rate(g, w, count):
        distance = np.abs(np.sqrt((w * w).sum(1, keepdims=True)) - 1)
        falling = 1.0 if scheme.updates is None else max(0.0, 1 - count / scheme.updates)
        return scheme.lr * falling * (distance + 1e-10) ** scheme.rate_power * g / np.abs(g).max()

    check(scheme, lambda: local, lambda: WeightOnly(rate), kind, norm)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"competition": "soft", "temperature": 0.3},
        {"competition": "hard"},
        {"rate_power": 0.0},
        {"rate_power": 1.5, "temperature": 2.0},
        {"updates": 2},
        {"output": "same"},
        {"output": "none", "when": "step"},
        {"output": "none", "when": "sample", "accumulate": "mean"},
        {"lr_output": 0.1},
    ],
    ids=str,
)
def test_equation(options):
    run(**options)


@pytest.mark.parametrize(("kind", "norm"), [("static", True), ("leaky", False)])
def test_what_the_layer_sends_is_its_own(kind, norm):
    """The competition is used for learning only: behind a layer norm, and of the drive of leaky units."""
    run(kind, norm)


@pytest.mark.parametrize("competition", ["soft", "signed"])
def test_hard_winner_take_all_is_the_limit(competition):
    """Towards temperature 0 the softmax is 1 for the winner and 0 for the others, whatever their sign."""
    one = [[shown(0), shown(1)]]
    results = {}
    for name, options in (
        ("hard", {"competition": "hard"}),
        ("cold", {"competition": competition, "temperature": 1e-4}),
        ("warm", {"competition": competition, "temperature": 1.0}),
    ):
        _, state = train(SoftHebb(lr=0.1, **options)(described("static")), one)
        results[name] = state.learned["weight"]["input_hidden0"].numpy()
    np.testing.assert_allclose(results["cold"], results["hard"], rtol=0, atol=1e-9)
    assert np.abs(results["warm"] - results["hard"]).max() > 1e-3


def test_bad_parameters():
    for options, message in (
        ({"competition": "none"}, "competition is 'none'; allowed: signed, soft, hard"),
        ({"temperature": 0.0}, "temperature of "),
    ):
        with pytest.raises(ConfigurationError, match=message):
            SoftHebb(**options)(described("static"))
