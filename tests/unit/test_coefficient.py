"""Numbers of its own for each neuron, as a factor; gains of biases; and sharing term by term."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import normal, pair, simulate, weight

from neurosim.connectivity import Conv2d
from neurosim.factor import Apply, Coefficient, One, Trace, post, pre
from neurosim.phase import Phase
from neurosim.rule import Component, PerSynapse, Term, ThreeFactorRule
from neurosim.types import ConfigurationError

P, Q, B, R = 3, 4, 5, 2
X, Y = normal(1, B, Q, seed=1), normal(1, B, P, seed=2)


def product(a, b):
    return a * b


def change(*terms, part="weight", shape=(P, Q), **wire):
    """What one step with the terms adds to a weight [R, P, Q] or bias."""
    rule = ThreeFactorRule((Component(terms),), reduce="sum")
    wire = {"weight": 0.0, "port": "feedback", "bias": True, **wire}
    net = pair(Q, P, rule=rule, **wire)
    phase = Phase("p", 1, {"input": X, "output": Y})
    return weight(simulate(net, phase, batch=B, replicas=R)[1], part=part)


def test_a_number_for_each_neuron():
    a, b = normal(P, seed=3), normal(Q, seed=4)
    both = Term(
        Apply(product, (Coefficient("post", a), post("rate"))), Apply(product, (Coefficient("pre", b), pre("rate")))
    )
    expected = np.outer(a, b) * (Y[0].T @ X[0])
    for row in change(both):
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-13)
    for row in change(Term(Coefficient("post", a), Coefficient("pre", b))):
        np.testing.assert_allclose(row, B * np.outer(a, b), rtol=0, atol=1e-13)
    for row in change(both, part="bias"):  # there is no pre neuron: 1
        np.testing.assert_allclose(row, a * Y[0].sum(0), rtol=0, atol=1e-13)


def test_a_number_for_each_neuron_of_each_replica():
    a = normal(R, P, seed=3)
    ours = change(Term(Coefficient("post", a), pre("rate")))
    np.testing.assert_allclose(ours, a[:, :, None] * X[0].sum(0), rtol=0, atol=1e-13)


def test_one_number_for_all():
    np.testing.assert_allclose(
        change(Term(post("rate"), Apply(product, (Coefficient("pre", -0.5), pre("rate")))))[0],
        -0.5 * Y[0].T @ X[0],
        rtol=0,
        atol=1e-13,
    )


def test_with_edges_and_a_delay_per_synapse():
    b = normal(Q, seed=4)
    late = change(Term(Coefficient("post", 2.0), Coefficient("pre", b)), delay=np.arange(P * Q).reshape(P, Q) % 3 + 1.0)
    np.testing.assert_allclose(late.reshape(R, P, Q)[1], 2 * B * np.broadcast_to(b, (P, Q)), rtol=0, atol=1e-13)


def test_it_does_not_change():
    """Later changes of the array that it was made from are not seen."""
    values = np.ones(P)
    one = Coefficient("post", values)
    values[:] = 9.0
    np.testing.assert_array_equal(one.values, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        one.values[0] = 2.0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Coefficient("axon", 1.0), "the end of a Coefficient is 'axon'; allowed: post, pre"),
        (
            lambda: Coefficient("pre", np.array([1.0, np.inf])),
            "the values of a Coefficient are .*; they must be finite",
        ),
        (lambda: Apply(product, (Coefficient("pre", 1.0), post("rate"))), "Apply takes factors of one end"),
        (lambda: Term(Coefficient("pre", 1.0), pre("rate")), "a Term takes a post factor, then a pre factor"),
        (
            lambda: change(Term(Coefficient("post", np.ones(4)), pre("rate"))),
            r"a Coefficient at the post end of projection 'wire' has shape \(4,\); "
            r"allowed for 'output': a number, \(3,\) or \(2, 3\)",
        ),
        (
            lambda: change(Term(post("rate"), Apply(product, (pre("rate"), Coefficient("pre", np.ones((3, Q))))))),
            r"a Coefficient at the pre end of projection 'wire' has shape \(3, 4\)",
        ),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()


def test_a_bias_has_a_gain_of_its_own():
    term = Term(post("rate"), pre("rate"), PerSynapse(normal(P, Q), bias=-2.0))
    np.testing.assert_allclose(change(term, part="bias")[1], -2 * Y[0].sum(0), rtol=0, atol=1e-13)
    np.testing.assert_allclose(change(term)[1], normal(P, Q) * (Y[0].T @ X[0]), rtol=0, atol=1e-13)
    own = Term(post("rate"), pre("rate"), PerSynapse(3.0, bias=normal(P)))
    np.testing.assert_allclose(change(own, part="bias")[0], normal(P) * Y[0].sum(0), rtol=0, atol=1e-13)
    with pytest.raises(ConfigurationError, match="its bias has shape"):
        change(Term(post("rate"), pre("rate"), PerSynapse(normal(P, Q))))


# ---- sharing term by term -------------------------------------------------------------------------------------------

PRE, KERNEL = (2, 4, 4), (3, 2, 2, 2)


def shared(how, share_of, reduce="mean"):
    """(change, each term's product [B, O, L, J]) of y x - 0.3 y + x^2 on a convolution."""
    conv = Conv2d(2)
    shape = conv.output_shape(PRE, KERNEL[0])
    terms = (
        Term(post("rate"), pre("rate")),
        Term(post("rate"), One("pre"), PerSynapse(-0.3)),
        Term(One("post"), Apply(product, (pre("rate"), pre("rate")))),
    )
    rule = ThreeFactorRule((Component(terms),), share=how, share_of=share_of, reduce=reduce)
    net = pair(PRE, shape, connectivity=conv, weight=0.0, port="feedback", rule=rule)
    x, y = normal(1, B, int(np.prod(PRE))), normal(1, B, int(np.prod(shape)), seed=7)
    state = simulate(net, Phase("p", 1, {"input": x, "output": y}), batch=B)[1]
    image = x[0].reshape(B, *PRE)
    patches = np.stack([image[:, :, i : i + 2, j : j + 2] for i in range(3) for j in range(3)], 1).reshape(B, 1, 9, 8)
    z = y[0].reshape(B, KERNEL[0], 9, 1)
    return weight(state)[0], [z * patches, -0.3 * z + 0 * patches, patches**2 + 0 * z]


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("how", ["max", "min", "median", "mean", "sum"])
def test_share_of_each_term(how, reduce):
    def joined(value):
        return np.sort(value, 2)[:, :, 4] if how == "median" else getattr(np, how)(value, 2)

    for share_of in ("term", "change"):
        ours, products = shared(how, share_of, reduce)
        rows = sum(joined(one) for one in products) if share_of == "term" else joined(sum(products))
        expected = getattr(np, reduce)(rows, 0).reshape(KERNEL)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)
    whole, each = (shared(how, share_of, reduce)[0] for share_of in ("change", "term"))
    assert (np.abs(whole - each).max() > 0.1) == (how in ("max", "min", "median"))  # sums and means do not care


def test_share_of_is_checked():
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),)),), share_of="term")
    remembered = Component(rule.components[0].terms, tau=5.0)
    for components in ((remembered,), (rule.components[0],) * 2):
        with pytest.raises(ConfigurationError, match="share_of 'term' needs a rule of one component without memory"):
            replace(rule, components=components)
    with pytest.raises(ConfigurationError, match="share_of is 'all'; allowed: change, term"):
        replace(rule, share_of="all")
    traced = Term(Trace(post("rate"), 5.0), pre("rate"))  # a trace is a memory of a neuron, not of the component
    assert replace(rule, components=(Component((traced,)),)).share_of == "term"
