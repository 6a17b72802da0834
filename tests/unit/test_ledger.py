"""The learning ledger, counted by hand on three neurons with two inputs (six synapses), ten steps a presentation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from neurosim.backends.plan import make_plan
from neurosim.connectivity import Conv2d, FixedProbability
from neurosim.factor import Trace, post, pre
from neurosim.inspect.ledger import Account, Work, ledger, operations, trace_bytes
from neurosim.lateral import LayerNorm
from neurosim.network import Layered, Network, Population, Projection
from neurosim.neuron import AdaptiveLIF, LeakyRate, Relay, SpikeRelay, StaticRate
from neurosim.rule import Component, OfWeight, Term, ThreeFactorRule
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.bptt import BPTT
from neurosim.rules.eprop import EProp
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.krotov_hopfield import KrotovHopfield
from neurosim.rules.reward_stdp import RewardSTDP
from neurosim.rules.stdp import STDP
from neurosim.rules.weight_perturbation import WeightPerturbation
from neurosim.scheme import Composed
from neurosim.transform import Adam, Normalised, Rate, WeightDecay
from neurosim.transform import Heterosynaptic as Coupling

STEPS, INPUTS, CELLS = 10, 2, 3
SYNAPSES = INPUTS * CELLS
N = 4  # bytes of a number
ADAMW = 11 + 1 + 1  # operations per synapse of Adam, weight decay and rate, counted in the source by hand


def rates(lateral: Any = None) -> Network:
    described = Layered(StaticRate("tanh"), StaticRate("linear"), (CELLS,), lateral=lateral, bias=False)
    return described(INPUTS, 2)


def spiking() -> Network:
    cells = AdaptiveLIF(tau_mem=10.0, beta=0.5, reset="subtract")
    return Network(
        (Population("input", INPUTS, SpikeRelay()), Population("hidden0", CELLS, cells),
         Population("output", 2, LeakyRate(5.0, "linear"))),
        (Projection("input", "hidden0", delay=0), Projection("hidden0", "output", delay=0)),
    )  # fmt: skip


def accounts(network: Network) -> dict[str, Account]:
    return {account.projection: account for account in ledger(make_plan(network, 1.0, 0, 2), STEPS)}


def first(network: Network) -> Account:
    return accounts(network)["input_hidden0"]


def memory(account: Account) -> tuple[int, int, int, int]:
    return account.traces, account.eligibility, account.gathered, account.transforms


def test_two_factors_at_the_end_of_a_presentation():
    """Hebb: y x in the last step alone, then one rate per synapse."""
    account = first(Hebb(output="none")(rates()))
    assert account.synapses == SYNAPSES
    assert memory(account) == (0, 0, N * SYNAPSES, 0)
    assert account.step == Work()
    assert account.sample == Work(SYNAPSES, SYNAPSES, SYNAPSES * (1 + 1), 0.0)


def test_traces_and_an_update_in_every_step():
    """Pair STDP: a trace of 2 inputs and one of 3 neurons; two terms of three numbers; bounds."""
    account = first(STDP(w_min=-1.0, output="none")(spiking()))
    assert memory(account) == (N * (INPUTS + CELLS), 0, 0, 0)
    work = (INPUTS + CELLS) + SYNAPSES * (2 + 2) + SYNAPSES * 1
    assert account.step == Work(SYNAPSES, SYNAPSES, work, 0.0)
    assert account.sample == Work(STEPS * SYNAPSES, STEPS * SYNAPSES, STEPS * work, 0.0)


def test_eligibility_with_two_components():
    """e-prop, adaptive neurons: psi x with a memory; psi x + slope_theta a with a memory; times the signal."""
    account = first(EProp()(spiking()))
    assert memory(account) == (N * INPUTS, 2 * N * SYNAPSES, N * SYNAPSES, 2 * N * SYNAPSES)
    work = INPUTS + SYNAPSES * (1 + 1) + SYNAPSES * (1 + 1 + 1) + SYNAPSES
    assert account.step == Work(0, 0, work, 0.0)
    assert account.sample == Work(SYNAPSES, SYNAPSES, STEPS * work + ADAMW * SYNAPSES, 0.0)


def test_a_third_factor_that_is_broadcast():
    """R-STDP: the pair terms into a memory, times one number per sample that all synapses get."""
    account = first(RewardSTDP(w_min=-1.0, output="none")(spiking()))
    rule = RewardSTDP(w_min=-1.0, output="none")(spiking()).projection("input_hidden0").rule
    assert account.traces == N * (INPUTS + CELLS)
    assert account.eligibility == N * SYNAPSES
    assert account.sample.broadcast == N * 1 + STEPS * account.step.broadcast
    assert account.step.broadcast == 0.0
    assert rule.modulator.signals() == ("reward",)


def test_feedback_that_passes_through_a_layer_norm():
    """FA: slope x, times what arrives: three products per neuron, six per synapse; the Jacobian shares four sums."""
    plain, normed = (first(FeedbackAlignment()(rates(lateral))) for lateral in (None, LayerNorm()))
    assert plain.step == Work(0, 0, SYNAPSES + CELLS, 0.0)
    assert normed.step == Work(0, 0, SYNAPSES + CELLS, 4.0 * N)
    assert plain.sample == Work(SYNAPSES, SYNAPSES, STEPS * (SYNAPSES + CELLS) + ADAMW * SYNAPSES, 0.0)
    assert normed.sample.broadcast == STEPS * 4.0 * N
    assert memory(plain) == (0, 0, N * SYNAPSES, 2 * N * SYNAPSES)


def test_a_gain_that_reads_the_weight_and_a_total():
    """Krotov-Hopfield: who is first, and for the second all 3 currents and a count of larger ones; max|D| is one number
    more. -y u w reads each weight once, as the update does."""
    account = first(KrotovHopfield(output="none")(rates()))
    assert account.sample.reads == SYNAPSES
    assert account.sample.writes == SYNAPSES
    assert account.sample.broadcast == N * (CELLS + 2 + 1)


def test_weights_read_without_an_update():
    term = Term(post("rate"), pre("rate"), OfWeight(math.tanh))
    rule = ThreeFactorRule((Component((term,)),), when="phase", transforms=(Rate(1.0),))
    net = rates().with_projections(lambda p: replace(p, rule=rule) if p.post == "hidden0" else p)
    account = first(net)
    assert account.step == Work(SYNAPSES, 0, 2 * SYNAPSES, 0.0)
    assert account.sample == Work(STEPS * SYNAPSES, SYNAPSES, STEPS * 2 * SYNAPSES + SYNAPSES, 0.0)


def test_signals_and_a_modulator_of_the_layer():
    """BioHSIC: input (2) and label (2) once a sample, a number from each neuron of the layer in every step."""
    account = first(BioHSIC(window=4)(rates()))
    assert account.step.broadcast == N * CELLS
    assert account.sample.broadcast == N * (STEPS * CELLS + 2 + 2)
    assert (account.step.reads, account.step.writes) == (SYNAPSES, SYNAPSES)


def test_what_rules_share_is_there_once():
    net = Composed((STDP(w_min=-1.0, output="same"),))(recurrent())
    plan = make_plan(net, 1.0, 0, 1)
    own = ledger(plan, STEPS)
    assert [account.traces for account in own] == [N * (INPUTS + CELLS), N * CELLS, N * (CELLS + 2)]
    # x of the input, x and y of the cells (of one tau: one trace), y of the output
    assert trace_bytes(plan, own) == N * (INPUTS + CELLS + 2)


def recurrent() -> Network:
    net = spiking()
    cells = net["hidden0"].neuron
    loop = Projection("hidden0", "hidden0", name="recurrent")
    populations = tuple(replace(p, neuron=cells) if p.name == "output" else p for p in net.populations)
    return Network(populations, (net.projections[0], loop, net.projections[1]))


def test_a_mean_trace_costs_two():
    trace = Trace(pre("rate"), 5.0, "mean")
    rule = ThreeFactorRule((Component((Term(post("rate"), trace),)),), when="step")
    net = rates().with_projections(lambda p: replace(p, rule=rule) if p.post == "hidden0" else p)
    assert first(net).step.multiply_adds == 2 * INPUTS + SYNAPSES


def test_biases_and_convolutions():
    """A kernel of 2 x 1 x 2 x 2 weights and 2 biases, at 9 positions."""
    rule = ThreeFactorRule((Component((Term(post("rate"), pre("rate")),), tau=5.0),), when="phase")
    net = Network(
        (Population("input", (1, 4, 4), Relay()), Population("output", (2, 3, 3), StaticRate("tanh"))),
        (Projection("input", "output", connectivity=Conv2d(2), delay=0, bias=True, rule=rule),),
    )
    account = accounts(net)["input_output"]
    assert account.synapses == 8 + 2
    assert account.gathered == N * 10
    assert account.eligibility == N * 10 * 9
    assert account.step.multiply_adds == 10 * 9 * 2


def test_sparse_layers_count_their_edges():
    net = Hebb(output="none")(rates())
    sparse = net.with_projections(
        lambda p: replace(p, connectivity=FixedProbability(0.5)) if p.name == "input_hidden0" else p
    )
    plan = make_plan(sparse, 1.0, 0, 1)
    edges = plan.synapses["input_hidden0"].edges
    assert edges is not None
    assert ledger(plan, STEPS)[0].synapses == edges.counts[0] < SYNAPSES


def test_a_gradient_stores_what_every_neuron_did():
    """Two inputs (rate), three cells and two outputs (rate and slope, no state), ten steps."""
    account = first(BPTT()(rates()))
    relay = rates()["input"].neuron
    values = INPUTS * (len(relay.states) + len(relay.outputs)) + (CELLS + 2) * 2
    assert account.eligibility == N * values * STEPS
    assert account.sample.multiply_adds is None
    assert (account.sample.reads, account.sample.writes) == (SYNAPSES, SYNAPSES)


def test_stages_of_a_trial_in_which_nothing_is_learned():
    net = WeightPerturbation()(rates())
    account = first(net)
    stages = [stage for stage in net.trial if stage.learn is True or "input_hidden0" in (stage.learn or ())]
    assert account.sample.writes == SYNAPSES
    assert account.sample.multiply_adds < 2 * STEPS * len(stages) * SYNAPSES + ADAMW * SYNAPSES


def test_a_transform_across_synapses_adds_work_and_no_memory():
    plain, coupled = (
        first(Composed((FeedbackAlignment(), *more))(rates())) for more in ((), (Heterosynaptic(0.2, 2),))
    )
    assert memory(plain) == memory(coupled)
    assert coupled.sample.multiply_adds - plain.sample.multiply_adds == SYNAPSES * operations(Coupling.update)


@pytest.mark.parametrize(
    ("function", "count"), [(Adam.step, 11), (WeightDecay.step, 1), (Rate.step, 1), (Normalised.update, None)]
)
def test_operations_in_the_source(function, count):
    assert operations(function) == count if count else operations(function) > 1
