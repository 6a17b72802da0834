"""Factors are values: equal ones are one, each belongs to an end, and what they read is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neurosim.backends import compile
from neurosim.connectivity import OneToOne
from neurosim.factor import Apply, Field, One, Trace, fields, post, pre, traces
from neurosim.network import Network, Population, Projection
from neurosim.neuron import Relay
from neurosim.phase import Phase
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.types import ConfigurationError


def double(x):
    return 2.0 * x


def product(x, y):
    return x * y


def test_values():
    assert post("v") == Field("post", "v") != pre("v")
    assert hash(Trace(post("spike"), 5)) == hash(Trace(post("spike"), 5.0))
    assert Trace(Trace(pre("spike"), 5.0), 3.0).end == Apply(double, (pre("rate"),)).end == One("pre").end == "pre"


def test_what_is_read():
    inner = Trace(post("spike"), 5.0)
    outer = Trace(inner, 3.0, "mean", "before")
    factor = Apply(product, (outer, Apply(double, (post("v"),))))
    assert list(traces(factor)) == [inner, outer]
    assert list(fields(factor)) == [post("spike"), post("v")]
    assert list(traces(One("post"))) == list(fields(One("post"))) == []


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Field("axon", "v"), "the end of a Field is 'axon'; allowed: post, pre"),
        (lambda: One("both"), "the end of a One is 'both'"),
        (lambda: Trace(post("v"), 0.0), "tau of a Trace \\(ms\\) is 0.0"),
        (lambda: Trace(post("v"), math.inf, "mean"), "tau of a Trace \\(ms\\) is inf"),
        (lambda: Trace(post("v"), 5.0, "max"), "mode of a Trace is 'max'; allowed: sum, nearest, mean"),
        (lambda: Trace(post("v"), 5.0, read="now"), "read of a Trace is 'now'; allowed: after, before"),
        (lambda: Trace(Trace(post("v"), 5.0, read="before"), 3.0), "a Trace of a Trace reads the inner one 'after'"),
        (lambda: Apply(product, (post("v"), pre("v"))), "Apply takes factors of one end"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()


@pytest.mark.parametrize("read", ["after", "before"])
def test_a_trace_and_a_component_that_never_forget(read):
    """tau inf: sums since the start. With c_t = x_1 + ... + x_t, the component is sum_t c_t (or c_{t-1}) x_t."""
    x = np.random.default_rng(0).random((6, 1, 1, 2))
    component = Component((Term(Trace(post("rate"), math.inf, read=read), pre("rate")),), tau=math.inf)
    rule = ThreeFactorRule((component,), when="phase", accumulate="last")
    populations = (Population("input", 2, Relay()), Population("output", 2, Relay()))
    net = Network(populations, (Projection("input", "output", 1.0, OneToOne(), delay=0, rule=rule),))
    simulator = compile(net, 1.0, dtype="float64")
    start = simulator.init(1)
    state, _ = simulator.run(start, Phase("train", 6, {"input": x[:, 0]}))
    total = x.cumsum(0) - (x if read == "before" else 0.0)
    change = state.learned["weight"]["input_output"] - start.learned["weight"]["input_output"]
    np.testing.assert_allclose(change[0], (total * x).sum((0, 1, 2)), rtol=1e-12)
