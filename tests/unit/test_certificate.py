"""The locality certificate: classes and counts of known rules, and planted leaks that it must name."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from neurosim.backends import compile
from neurosim.backends.synapse import DenseOperation
from neurosim.factor import post
from neurosim.inspect.certificate import certify
from neurosim.inspect.verdict import Shared
from neurosim.lateral import LayerNorm
from neurosim.modulator import Broadcast, Feedback
from neurosim.network import Layered, Network
from neurosim.neuron import LIF, LeakyRate
from neurosim.phase import Held, Phase
from neurosim.rules.backprop import Backprop
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.bptt import BPTT
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.node_perturbation import NodePerturbation
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.rules.shuffled import Shuffled
from neurosim.rules.sign_symmetric import SignSymmetric
from neurosim.rules.softhebb import SoftHebb
from neurosim.rules.stdp import STDP
from neurosim.rules.weight_perturbation import WeightPerturbation
from neurosim.scheme import change_rules
from neurosim.types import ConfigurationError

BATCH = 3
HIDDEN = 5
FEEDBACK = post("feedback")
VIEWED = ("post", "pre", "permutation", "specialise")


def network(lateral: Any = None, neuron: Any = None) -> Network:
    """4 inputs, one hidden layer of 5, 2 outputs."""
    hidden = LeakyRate(4.0, "tanh") if neuron is None else neuron
    return Layered(hidden, LeakyRate(4.0, "linear"), (HIDDEN,), lateral=lateral)(4, 2)


def certified(net: Network) -> Any:
    return certify(net, 1.0, batch=BATCH)


def hidden(net: Network) -> Any:
    """The finding of the hidden layer's projection, in a network that is local."""
    certificate = certified(net)
    assert certificate.local, certificate.leaks
    return certificate.findings[0]


def spiking() -> Network:
    return network(neuron=LIF(10.0, 0.1, reset="subtract", arrival="filtered"))


# ---- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "scope"),
    [
        (lambda: Hebb()(network()), "synapse"),
        (lambda: STDP(w_min=-1.0)(spiking()), "synapse"),
        (lambda: FeedbackAlignment()(network()), "neuron"),
        (lambda: Heterosynaptic(0.2, 2)(Hebb()(network())), "neuron"),
        (lambda: FeedbackAlignment()(network(LayerNorm())), "layer"),
        (lambda: SoftHebb()(network()), "layer"),
        (lambda: BioHSIC(BATCH)(network()), "broadcast"),
        (lambda: RewardSTDP(w_min=-1.0)(spiking()), "broadcast"),
        (lambda: RewardSTDP(w_min=-1.0, reward="task")(spiking()), "broadcast"),
        (lambda: WeightPerturbation()(network()), "broadcast"),
        (lambda: NodePerturbation()(network()), "broadcast"),
        (lambda: NodePerturbation(share="deviation", tau_loss=3.0)(spiking()), "broadcast"),
    ],
)
def test_class(net, scope):
    assert hidden(net()).scope == scope


def test_what_is_broadcast_is_counted():
    # The pullback of a layer norm shares mean(g), mean(g y), mean(x) and var(x).
    assert hidden(FeedbackAlignment()(network(LayerNorm()))).shared == (Shared("pullback of LayerNorm", 4.0),)
    assert hidden(Hebb()(network())).shared == ()
    # One kernel value for each older sample of the window: that of the newest with itself is always 1.
    hsic = hidden(BioHSIC(BATCH)(network()))
    assert hsic.shared == (
        Shared("HSIC", BATCH - 1.0),
        Shared("signal input", 4.0, "sample"),
        Shared("signal label", 2.0, "sample"),
    )
    assert (hsic.values("step"), hsic.values("sample")) == (2.0, 6.0)
    # The loss is one number, and all that weight and node perturbation share, in both passes.
    for scheme in (WeightPerturbation(), NodePerturbation()):
        assert hidden(scheme(network())).shared == (Shared("rate of loss, a single neuron", 1.0),)
    # The largest change of the projection, and for the signed softmax its sum and who is the largest.
    soft = hidden(SoftHebb()(network()))
    assert [item.values for item in soft.shared] == [1.0, 2.0]


def test_a_shuffle_needs_every_value_of_the_layer():
    found = hidden(Shuffled()(FeedbackAlignment()(network())))
    assert found.scope == "layer"
    assert found.shared == (Shared("every value of Shuffled", float(HIDDEN)),)


# ---- rejected --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "sentence"),
    [
        (Backprop(), "projection back_hidden0_output is tied to hidden0_output by transpose"),
        (SignSymmetric(), "one bit per weight"),
        (BPTT(), "needs the whole graph"),
    ],
)
def test_what_is_not_local_is_rejected_by_name(scheme, sentence):
    certificate = certified(scheme(network()))
    assert not certificate.local
    assert certificate.scope == "nonlocal"
    assert sentence in certificate.leaks[0]


# ---- planted leaks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaky(Feedback):
    """Feedback times something that it should not see; `how` says what."""

    of: Any = FEEDBACK
    of_output: bool = False
    how: Any = None

    def update(self, view: Any, memory: Any) -> Any:
        m, memory = super().update(view, memory)
        extra, memory = self.how(view, m, memory)
        return m + extra, memory


@dataclass(frozen=True)
class LeakyLayer(Leaky):
    """The same, with the words "of the layer" on it."""

    scope: ClassVar[str] = "layer"


def planted(how: Any, kind: Any = Leaky) -> Network:
    return change_rules(
        FeedbackAlignment()(network()),
        lambda p, rule: replace(rule, modulator=kind(how=how)) if p.post == "hidden0" else rule,
    )


def rejection(net: Network) -> str:
    certificate = certified(net)
    assert not certificate.local
    return " | ".join(certificate.leaks)


LABELS = torch.tensor([0, 1, 1])


def test_labels_in_a_closure():
    labels = LABELS.clone()

    def how(view, m, memory):
        return 0.1 * labels.to(m.dtype)[:, None], memory

    assert "how.labels, an array that its rule holds and does not declare" in rejection(planted(how))
    assert torch.equal(labels, LABELS)


def test_an_undeclared_signal():
    def how(view, m, memory):
        return 0.1 * view.signals["label"].sum(-1, keepdim=True), memory

    assert "signal 'label', which it does not declare" in rejection(planted(how))


def behind(function: Any) -> Any:
    """What a function of a view closes over: not hidden from a rule that insists, so the certificate has to see it."""
    return next(cell.cell_contents for cell in function.__closure__ if hasattr(cell.cell_contents, "moment"))


def test_a_view_has_no_side_door():
    """None of its functions is a method of something that knows the network."""
    seen = set()

    def how(view, m, memory):
        seen.update((name, hasattr(getattr(view, name), "__self__")) for name in VIEWED)
        return 0.0 * m, memory

    net = planted(how)
    simulator = compile(net, 1.0, dtype="float64")
    label = torch.eye(2, dtype=torch.float64)
    simulator.run(simulator.init(2), Phase("train", 1, {"input": Held(torch.ones(2, 4)), "target": Held(label)}))
    assert seen == {(name, False) for name in VIEWED}


@pytest.mark.parametrize("kind", [Leaky, LeakyLayer])
def test_the_activity_of_another_layer(kind):
    """By force, through what the functions of a view close over."""

    def how(view, m, memory):
        return behind(view.post).moment.read("output.rate", 0).mean(-1, keepdim=True), memory

    assert "output.rate" in rejection(planted(how, kind))


def test_a_recording_of_another_layer():
    class Held:
        recorded = None

    box = Held()
    box.state = {"output": torch.ones(2, BATCH, 2, dtype=torch.float64)}

    def how(view, m, memory):
        return box.state["output"].mean(-1, keepdim=True), memory

    assert "how.box.state['output']" in rejection(planted(how))


def test_a_neighbour_through_the_modulator():
    def how(view, m, memory):
        return m.roll(1, -1), memory

    assert "hidden0.feedback of other neurons" in rejection(planted(how))


def test_a_neighbour_through_the_memory():
    def how(view, m, memory):
        return 0.0 * m, {"late": m.roll(1, -1)}

    assert "kept in the modulator's memory 'late'" in rejection(planted(how))


def test_other_weights():
    def how(view, m, memory):
        return view.weight.sum((-1, -2))[:, None, None], memory

    assert "the weight of other neurons" in rejection(planted(how))


def test_another_projections_weight():
    def how(view, m, memory):
        return behind(view.post).moment.learned["weight"]["hidden0_output"].sum((-1, -2))[:, None, None], memory

    assert "the weight of hidden0_output" in rejection(planted(how))


def test_chance():
    def how(view, m, memory):
        return torch.rand_like(m), memory

    assert "two equal steps differ" in rejection(planted(how))


@dataclass(frozen=True)
class MixRows:
    """change <- change + a tenth of the neighbouring neuron's."""

    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def update(self, change: Any, weight: Any, layout: Any) -> Any:
        return change + 0.1 * change.roll(1, 1)


@pytest.mark.parametrize("lateral", [None, LayerNorm()])
def test_a_transform_that_mixes_rows(lateral):
    """Also where the modulator is of the layer anyway: that does not excuse the transform."""
    net = change_rules(
        FeedbackAlignment()(network(lateral)), lambda p, rule: replace(rule, transforms=(MixRows(), *rule.transforms))
    )
    assert "the rule of input_hidden0 reads hidden0.slope of other neurons" in rejection(net)


@dataclass(frozen=True)
class Unread(Feedback):
    of: Any = FEEDBACK
    of_output: bool = False

    def update(self, view: Any, memory: Any) -> Any:
        return torch.ones((), dtype=view.weight.dtype), memory


def test_a_declared_variable_must_be_used():
    net = change_rules(FeedbackAlignment()(network()), lambda p, rule: replace(rule, modulator=Unread()))
    assert "the rule of input_hidden0 has hidden0.feedback declared but never used" in rejection(net)


def test_a_declared_signal_must_be_used():
    class Deaf(Broadcast):
        def update(self, view, memory):
            return torch.ones((), dtype=view.weight.dtype), memory

    net = change_rules(Hebb()(network()), lambda p, rule: replace(rule, modulator=Deaf("reward")))
    assert "has signal reward declared but never used" in rejection(net)


def test_a_delivery_to_the_wrong_neuron(monkeypatch):
    """The wiring half: a projection that brings a neuron what belongs to its neighbour."""
    right = DenseOperation.deliver
    monkeypatch.setattr(DenseOperation, "deliver", lambda self, weight, read: right(self, weight, read).roll(1, -1))
    assert "port basal of hidden0, by projection input_hidden0, moves with weights of other neurons" in rejection(
        Hebb()(network())
    )


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input():
    with pytest.raises(ConfigurationError, match="nothing to certify"):
        certified(network())
    with pytest.raises(ConfigurationError, match="batch is 1 and replicas is 2"):
        certify(Hebb()(network()), 1.0, batch=1)
