"""Factors are values: equal ones are one, each belongs to an end, and what they read is known."""

from __future__ import annotations

import pytest

from neurosim.factor import Apply, Field, One, Trace, fields, post, pre, traces
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
        (lambda: Trace(post("v"), 5.0, "max"), "mode of a Trace is 'max'; allowed: sum, nearest, mean"),
        (lambda: Trace(post("v"), 5.0, read="now"), "read of a Trace is 'now'; allowed: after, before"),
        (lambda: Trace(Trace(post("v"), 5.0, read="before"), 3.0), "a Trace of a Trace reads the inner one 'after'"),
        (lambda: Apply(product, (post("v"), pre("v"))), "Apply takes factors of one end"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()
