"""What a rule says of itself, and what it refuses."""

from __future__ import annotations

import pytest

from neurosim.factor import One, Trace, post, pre
from neurosim.modulator import Broadcast, Feedback, Unmodulated
from neurosim.rule import Component, GradientRule, OfComponent, PerSynapse, SynapseNoise, Term, ThreeFactorRule
from neurosim.transform import Chain, Clip, Rate
from neurosim.types import ConfigurationError

TERM = Term(post("slope"), pre("rate"))


def rule(**options):
    return ThreeFactorRule((Component((TERM,)),), **options)


def test_what_it_reads():
    trace = Trace(pre("spike"), 5.0)
    first = Component((Term(post("slope"), trace),), decay=post("theta"))
    second = Component((Term(One("post"), One("pre"), OfComponent(0)), Term(post("v"), pre("rate"), PerSynapse(2.0))))
    full = ThreeFactorRule((first, second), Feedback(post("feedback")))
    assert list(full.post_factors()) == [post("slope"), post("theta"), One("post"), post("v"), post("feedback")]
    assert list(full.pre_factors()) == [trace, One("pre"), pre("rate")]
    assert list(full.traces()) == [trace]
    assert first.has_memory
    assert not second.has_memory
    assert Component((TERM,), tau=3.0).has_memory


def test_chains():
    assert rule(transforms=(Chain((Rate(1.0),)), Clip(2.0))).chain == (Rate(1.0), Clip(2.0))
    assert rule(transforms=(Rate(1.0),)).bias_chain == (Rate(1.0),)
    assert rule(transforms=(Rate(1.0),), bias_transforms=()).bias_chain == ()
    gradient = GradientRule(len, transforms=(Rate(1.0),))
    assert gradient.chain == gradient.bias_chain == (Rate(1.0),)
    assert GradientRule(len, bias_transforms=(Clip(1.0),)).bias_chain == (Clip(1.0),)


def test_defaults():
    plain = rule()
    assert (plain.accumulate, plain.when, plain.share, plain.reduce) == ("sum", "step", "sum", "mean")
    assert plain.modulator == Unmodulated()
    assert plain.perturbation is None
    assert ThreeFactorRule((Component((Term(One("post"), One("pre"), SynapseNoise(0.3)),)),)).perturbation == 0.3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Term(pre("rate"), pre("rate")), "a Term takes a post factor, then a pre factor"),
        (lambda: Term(post("rate"), post("rate")), "a Term takes a post factor, then a pre factor"),
        (lambda: Component(()), "a Component needs at least one term"),
        (lambda: Component((TERM,), 5.0, post("v")), "either tau or decay, not both"),
        (lambda: Component((TERM,), 0.0), "tau of a Component \\(ms\\) is 0.0"),
        (lambda: Component((TERM,), decay=pre("v")), "the decay of a Component is a number per post-synaptic neuron"),
        (lambda: ThreeFactorRule(()), "a ThreeFactorRule needs at least one component"),
        (lambda: rule(accumulate="max"), "accumulate is 'max'; allowed: sum, mean, last"),
        (lambda: rule(when="trial"), "when is 'trial'; allowed: step, phase, sample"),
        (lambda: rule(share="first"), "share is 'first'; allowed: sum, mean, max, min, median"),
        (lambda: rule(reduce="max"), "reduce is 'max'; allowed: sum, mean, sequential"),
        (lambda: OfComponent(0, "now"), "read of OfComponent is 'now'; allowed: before, after"),
        (lambda: SynapseNoise(0.0), "sd of SynapseNoise is 0.0"),
        (lambda: GradientRule(len, "hinge"), "loss is 'hinge'; allowed: cross_entropy, mse"),
        (lambda: Broadcast("reward", 0.0), "tau of Broadcast \\(samples\\) is 0.0"),
    ],
)
def test_errors(make, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        make()


@pytest.mark.parametrize("index", [0, 1, -1])
def test_a_component_reads_an_earlier_one_only(index):
    reading = Component((Term(One("post"), One("pre"), OfComponent(index)),))
    with pytest.raises(
        ConfigurationError, match=f"component 0 reads component {index}; it can only read an earlier one"
    ):
        ThreeFactorRule((reading, Component((TERM,))))
