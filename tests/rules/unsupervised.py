"""What the tests of rules without a teacher share: hidden layers by the rule, the output by the delta rule or not at
all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from plain import LAYERS, REPLICAS, Optimizer, Plain, Step, described, error, learn, outer, plain, shown, train

from neurosim.types import Array

TRIALS = [[shown(0), shown(1, steps=2)], [shown(2)]]
Local = Callable[[Plain, Step, int], tuple[Array, Array]]  # (net, step, layer) -> (dw, db) before transforms


def readout(net: Plain, step: Step, y: Array) -> tuple[Array, Array]:
    """The delta rule on the output layer."""
    return outer(error(step.output, y, "cross_entropy") * step.slopes[-1], step, 2)


class Frozen:
    """No change."""

    def __call__(self, key: Any, g: Array, w: Array) -> Array:
        return 0.0 * w


class WeightOnly:
    """`rate(g, w, count)` on a weight, nothing on a bias."""

    def __init__(self, rate: Callable[[Array, Array, int], Array]):
        self.rate, self.counts = rate, dict[Any, int]()

    def __call__(self, key: Any, g: Array, w: Array) -> Array:
        if key[1] == 1:
            return 0.0 * w
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.rate(g, w, self.counts[key] - 1)


def check(
    scheme: Any,
    local: Callable[[], Local],
    optimizer: Callable[[], Any],
    kind: str = "static",
    norm: bool = False,
    trials: Sequence[Any] = TRIALS,
    atol: float = 1e-13,
) -> None:
    """Hidden layers (with `output` "same" all) learn `local` through `optimizer`, in both replicas."""
    start, state = train(scheme(described(kind, norm)), trials)
    count = 3 if scheme.output == "same" else 2
    for replica in range(REPLICAS):
        net = plain(kind, start, replica, norm=norm, tau_trace=getattr(scheme, "tau_trace", None))
        rule = local()

        def change(net: Plain, step: Step, y: Array, rule: Local = rule) -> list[Any]:
            rest = [readout(net, step, y)] if scheme.output == "delta" else [None]
            return ([rule(net, step, layer) for layer in range(count)] + rest)[:3]

        last = Optimizer("adamw", scheme.lr_output, weight_decay=1e-4)
        optimizers = [optimizer() for _ in range(count)] + [last] * (3 - count)
        learn(net, trials, change, optimizers, scheme.when, scheme.accumulate)
        for layer, name in enumerate(LAYERS):
            for part, values in (("weight", net.weights), ("bias", net.biases)):
                ours = state.learned[part][name][replica].numpy()
                np.testing.assert_allclose(ours, values[layer], rtol=0, atol=atol, err_msg=f"{part} of {name}")
            moved = np.abs(net.weights[layer] - start.learned["weight"][name][replica].numpy()).max()
            assert (moved > 1e-5) == (layer < 2 or scheme.output != "none"), name
