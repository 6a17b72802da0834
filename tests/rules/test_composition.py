"""Schemes compose: one after the other (`a+b`), or different ones for different layers (`layered:a/b`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from plain import LAYERS, described, shown, train

from neurosim.modulator import HSIC, Feedback, Shuffled
from neurosim.rule import GradientRule
from neurosim.rules.backprop import Backprop
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.bptt import BPTT
from neurosim.rules.delta import Delta
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.shuffled import Shuffled as ShuffledScheme
from neurosim.rules.softhebb import SoftHebb
from neurosim.scheme import Composed, PerLayer
from neurosim.transform import Heterosynaptic as HeterosynapticTransform
from neurosim.types import ConfigurationError

TRIALS = [[shown(0)], [shown(1)]]
HSIC_RULE = BioHSIC(window=3, optimizer="none", lr=0.5, lr_output=0.1)
DELTA, BACKPROP = Delta(lr=0.1, optimizer="none"), Backprop(lr=0.1, optimizer="none", when="step", accumulate="sum")


def rules(scheme, hidden=(6, 5)):
    network = scheme(described("leaky", hidden=hidden))
    return [projection.rule for projection in network.forward()]


def learned(scheme, trials=TRIALS):
    _, state = train(scheme(described("leaky")), trials)
    return {(part, name): state.learned[part][name].numpy() for part in ("weight", "bias") for name in LAYERS}


def same(first, second):
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


def test_composed_runs_in_order():
    """A null and a coupling change what stands before them; a rule replaces the rule of the layers it teaches."""
    shuffled, coupled = ShuffledScheme(), Heterosynaptic(0.3, 2)
    hidden = rules(Composed((HSIC_RULE, shuffled, coupled)))[0]
    assert isinstance(hidden.modulator, Shuffled)
    assert isinstance(hidden.modulator.modulator, HSIC)
    assert hidden.chain[0] == HeterosynapticTransform(0.3, 2)
    same(learned(Composed((HSIC_RULE, shuffled, coupled))), learned(Composed((HSIC_RULE, coupled, shuffled))))
    same(learned(Composed((HSIC_RULE, BACKPROP))), learned(BACKPROP))
    same(learned(Composed((HSIC_RULE,))), learned(HSIC_RULE))


def test_composed_in_composed_is_flat():
    nested = Composed((Composed((HSIC_RULE, ShuffledScheme())), Heterosynaptic(0.3, 2)))
    same(learned(nested), learned(Composed((HSIC_RULE, ShuffledScheme(), Heterosynaptic(0.3, 2)))))


def test_two_rules_are_for_the_hidden_layers_and_the_output():
    mixed = rules(PerLayer((HSIC_RULE, DELTA)))
    assert [type(rule.modulator) for rule in mixed] == [HSIC, HSIC, Feedback]
    same(learned(PerLayer((HSIC_RULE, DELTA))), learned(HSIC_RULE))
    same(learned(PerLayer((BACKPROP, DELTA))), learned(BACKPROP))


def test_as_many_rules_as_layers():
    mixed = rules(PerLayer((HSIC_RULE, BACKPROP, DELTA)))
    assert [rule.name for rule in mixed] == ["biohsic", "backprop", "delta"]
    assert [type(rule.modulator) for rule in mixed] == [HSIC, Feedback, Feedback]
    once = [[shown(0, steps=1)]]  # later on, what one layer learned reaches the others
    values = learned(PerLayer((HSIC_RULE, BACKPROP, DELTA)), once)
    for other, layers in ((learned(HSIC_RULE, once), (0, 2)), (learned(BACKPROP, once), (1, 2))):
        for k, name in enumerate(LAYERS):
            assert np.array_equal(values["weight", name], other["weight", name]) == (k in layers)


def test_two_rules_for_two_layers():
    assert [rule.name for rule in rules(PerLayer((BACKPROP, DELTA)), hidden=(5,))] == ["backprop", "delta"]


def test_a_frozen_layer_has_no_rule():
    """Delta teaches the output only: as the rule of a hidden layer it leaves that layer alone."""
    mixed = rules(PerLayer((DELTA, BACKPROP, DELTA)))
    assert [rule if rule is None else rule.name for rule in mixed] == [None, "backprop", "delta"]


def test_a_group_may_be_composed():
    coupled = Composed((HSIC_RULE, Heterosynaptic(0.3, 2)))
    mixed = rules(PerLayer((coupled, DELTA)))
    heterosynaptic = [HeterosynapticTransform(0.3, 2) in rule.chain for rule in mixed]
    assert heterosynaptic == [True, True, False]


def test_a_null_may_be_for_one_layer_only():
    mixed = rules(Composed((HSIC_RULE, ShuffledScheme(layers=LAYERS[:1]))))
    assert [isinstance(rule.modulator, Shuffled) for rule in mixed] == [True, False, False]


def test_a_gradient_rule_beside_a_local_one():
    mixed = rules(PerLayer((HSIC_RULE, BPTT())))
    assert isinstance(mixed[2], GradientRule)
    before = learned(PerLayer((HSIC_RULE, BPTT(lr=0.0, weight_decay=0.0))))
    after = learned(PerLayer((HSIC_RULE, BPTT(lr=0.1))))
    for k, name in enumerate(LAYERS):
        assert (np.abs(before["weight", name] - after["weight", name]).max() > 1e-4) == (k == 2)


@pytest.mark.parametrize("count", [1, 4])
def test_a_wrong_number_of_rules_is_named(count):
    sentence = rf"layered has {count} rules for 3 projections \({', '.join(LAYERS)}\); give 2 or 3"
    with pytest.raises(ConfigurationError, match=sentence):
        PerLayer((DELTA,) * count)(described("leaky"))


@dataclass(frozen=True)
class WholeNetwork:
    def __call__(self, network):
        return network


@pytest.mark.parametrize("scheme", [WholeNetwork(), Composed((HSIC_RULE, WholeNetwork())), PerLayer((DELTA, DELTA))])
def test_a_scheme_for_the_whole_network_is_refused(scheme):
    with pytest.raises(
        ConfigurationError, match="teaches the whole network and cannot be one of several layered rules"
    ):
        PerLayer((scheme, DELTA))(described("leaky"))


SHARING = [
    (
        (SoftHebb(), FeedbackAlignment()),
        "feedback_alignment cannot be added: .*'competition_hidden0' sends \\(for softhebb\\)",
    ),
    (
        (FeedbackAlignment(), SoftHebb()),
        "SoftHebb cannot be added: .*'error_hidden0' sends \\(for feedback_alignment\\)",
    ),
    ((Backprop(), KrotovHopfield()), "KrotovHopfield cannot be added: .*'error_hidden0' sends \\(for backprop\\)"),
    ((Backprop(), Hebb(centred=True)), "Hebb cannot be added: .*'error_hidden0' sends \\(for backprop\\)"),
    ((Hebb(centred=True), Backprop()), "backprop cannot be added: .*'centred_hidden0' sends \\(for hebb\\)"),
    ((Hebb(clamp=True, output="same"), Delta()), "Delta cannot be added: .*'target' sends \\(for hebb\\)"),
    ((Hebb(centred=True), SoftHebb()), "SoftHebb cannot be added: .*'centred_hidden0' sends \\(for hebb\\)"),
]


@pytest.mark.parametrize(("schemes", "message"), SHARING)
def test_rules_that_would_share_a_port_are_both_named(schemes, message):
    """An error, who won, the activity itself: at one port a rule would read their sum without a word."""
    with pytest.raises(ConfigurationError, match=f"(?i){message}"):
        Composed(schemes)(described("leaky"))


def test_rules_of_different_layers_do_not_share():
    PerLayer((SoftHebb(), Backprop()))(described("leaky"))
    PerLayer((Hebb(centred=True), Backprop()))(described("leaky"))
