"""The credit monitor: 1 where a rule is the gradient, 0 for chance, and the run goes on as if nobody had looked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_experiment import assert_equal, small, stopped_after

from neurosim import checkpoint, figure
from neurosim.adapter import Hold, Last, Poisson
from neurosim.connectivity import FixedProbability
from neurosim.inspect import credit
from neurosim.inspect.credit import COLUMNS, CREDIT, CreditMonitor, batches_of, read_credit, written
from neurosim.learner import Settings, SimulatorLearner
from neurosim.network import Layered, Network, Population, Projection
from neurosim.neuron import LIF, AdaptiveLIF, LeakyRate, SpikeRelay, StaticRate
from neurosim.rules.bptt import BPTT
from neurosim.rules.delta import Delta
from neurosim.rules.eprop import EProp
from neurosim.rules.feedback_alignment import FeedbackAlignment
from neurosim.rules.hebb import Hebb
from neurosim.rules.heterosynaptic import Heterosynaptic
from neurosim.rules.kolen_pollack import KolenPollack
from neurosim.run_folder import open_run
from neurosim.run_loop import Interrupted, run
from neurosim.scheme import Composed
from neurosim.surrogate import FastSigmoid
from neurosim.types import ConfigurationError

INPUTS, HIDDEN, CLASSES, BATCH, REPLICAS = 6, 40, 3, 5, 2
SPIKES = {"tau_mem": 10.0, "v_th": 0.5, "reset": "subtract", "surrogate": FastSigmoid(2.0)}
NEURONS = {"lif": LIF(**SPIKES), "adaptive": AdaptiveLIF(**SPIKES, tau_theta=20.0, beta=0.3)}


def batches(seed: int = 0, count: int = 2) -> Any:
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, 1, (count * BATCH, INPUTS)), random.integers(CLASSES, size=count * BATCH)
    return batches_of(x, y, np.arange(count * BATCH), BATCH)


def monitor(network: Network, encoder: Any = None, steps: int = 20, shown: Any = None) -> CreditMonitor:
    def learner(described: Network) -> SimulatorLearner:
        return SimulatorLearner(
            described, encoder or Hold(), Last(), Settings(steps), batch=BATCH, dt=1.0, replicas=REPLICAS, seed=3,
            dtype="float64", device="cpu", backend="reference",
        )  # fmt: skip

    made = CreditMonitor(network, learner, Last(), shown or batches(), 3)
    made.start = learner(network).init()  # type: ignore[attr-defined]
    return made


def table(network: Network, epoch: int = 0, **options: Any) -> Any:
    made = monitor(network, **options)
    return np.array(made.measure(made.start, epoch), CREDIT)  # type: ignore[attr-defined]


def spiking(kind: str) -> Network:
    return Network(
        (
            Population("input", INPUTS, SpikeRelay()),
            Population("hidden", HIDDEN, NEURONS[kind]),
            Population("output", CLASSES, LeakyRate(5.0, "linear")),
        ),
        (
            Projection("input", "hidden", 0.2 * np.random.default_rng(1).normal(size=(HIDDEN, INPUTS)) + 0.1, delay=0),
            Projection("hidden", "output", np.random.default_rng(2).normal(size=(CLASSES, HIDDEN)), delay=0),
        ),
    )


def rates(hidden: tuple[int, ...] = (HIDDEN,)) -> Network:
    return Layered(StaticRate("tanh"), StaticRate("linear"), hidden)(INPUTS, CLASSES)


# ---- where a rule is the gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NEURONS)
def test_eprop_with_symmetric_feedback_is_the_gradient(kind):
    """One hidden layer, the reset detached in both, the loss of the last step (Bellec et al. 2020)."""
    net = EProp(feedback="symmetric", accumulate="last")(spiking(kind))
    found = table(net, encoder=Poisson(max_rate=300.0))
    assert set(found["layer"]) == {"input_hidden", "hidden_output"}
    assert len(found) == 2 * REPLICAS
    np.testing.assert_allclose(found["cosine"], 1.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["norm_ratio"], 1.0, rtol=1e-6)
    hidden = found[found["layer"] == "input_hidden"]
    assert (np.abs(hidden["cosine_shuffled"]) < 0.6).all()
    assert (hidden["cosine_shuffled"] != hidden["cosine"]).all()


def test_eprop_with_random_feedback_is_not():
    net = EProp(feedback="random", accumulate="last")(spiking("adaptive"))
    found = table(net, encoder=Poisson(max_rate=300.0))
    assert (found["cosine"][found["layer"] == "input_hidden"] < 0.9).all()


def test_feedback_alignment_with_the_transpose_is_the_gradient():
    net = FeedbackAlignment(accumulate="last")(rates())
    taught = monitor(net, steps=2)
    state = taught.start  # type: ignore[attr-defined]
    random = np.array(taught.measure(state, 0), CREDIT)
    forward = state.learned["weight"]["hidden0_output"]
    state.learned["weight"]["back_hidden0_output"] = forward.mT.clone()
    found = np.array(taught.measure(state, 0), CREDIT)
    np.testing.assert_allclose(found["cosine"], 1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["norm_ratio"], 1.0, rtol=1e-12)
    assert (random["cosine"][random["layer"] == "input_hidden0"] < 0.9).all()
    state.learned["weight"]["back_hidden0_output"] = -2.0 * forward.mT
    turned = np.array(taught.measure(state, 0), CREDIT)
    turned = turned[turned["layer"] == "input_hidden0"]
    np.testing.assert_allclose(turned["cosine"], -1.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(turned["norm_ratio"], 2.0, rtol=1e-12)


def test_the_gradient_is_itself_and_has_no_third_factor():
    found = table(BPTT(lr=0.3)(rates()), steps=2)
    np.testing.assert_allclose(found["cosine"], 1.0, rtol=0, atol=1e-12)
    assert np.isnan(found["cosine_shuffled"]).all()
    assert np.isnan(found["norm_ratio_shuffled"]).all()


def test_the_norm_is_that_before_the_rate():
    one, other = (table(FeedbackAlignment(lr=lr)(rates()), steps=2) for lr in (1e-3, 1.0))
    for name in COLUMNS[3:]:
        np.testing.assert_array_equal(one[name], other[name])


# ---- the nulls -------------------------------------------------------------------------------------------------------


def test_a_random_direction_is_chance():
    """About 1 / sqrt(n), n the number of weights, another one in each replica, layer and epoch."""
    made = monitor(FeedbackAlignment()(rates((HIDDEN, HIDDEN))), steps=2)
    found = [np.array(made.measure(made.start, epoch), CREDIT) for epoch in range(10)]  # type: ignore[attr-defined]
    wide = np.concatenate([one[one["layer"] == "hidden0_hidden1"]["cosine_random"] for one in found])
    assert 0.5 < wide.std() * HIDDEN < 1.7
    assert len(set(wide)) == len(wide)
    assert (np.abs(wide) < 0.15).all()


def test_a_shuffled_third_factor_keeps_its_size():
    """One step, one hidden layer: the same values at other neurons."""
    found = table(FeedbackAlignment(accumulate="last")(rates()), steps=1, shown=batches(count=1))
    hidden = found[found["layer"] == "input_hidden0"]
    assert (hidden["cosine_shuffled"] < 0.8 * np.abs(hidden["cosine"]).max()).all()
    np.testing.assert_allclose(hidden["norm_ratio_shuffled"], hidden["norm_ratio"], rtol=0.5)


# ---- what counts -----------------------------------------------------------------------------------------------------


def test_transforms_across_synapses_count_and_those_of_one_synapse_do_not():
    plain, coupled = (
        table(Composed((FeedbackAlignment(), *more))(rates()), steps=2) for more in ((), (Heterosynaptic(0.5, 3),))
    )
    assert (np.abs(plain["cosine"] - coupled["cosine"]) > 1e-3).all()


def test_feedback_that_learns_is_no_layer_and_stays_as_it_is():
    made = monitor(KolenPollack()(rates()), steps=2)
    assert made.layers == ["input_hidden0", "hidden0_output"]
    before = {name: value.clone() for name, value in made.start.learned["weight"].items()}  # type: ignore[attr-defined]
    made.measure(made.start, 0)  # type: ignore[attr-defined]
    for name, value in made.start.learned["weight"].items():  # type: ignore[attr-defined]
        assert torch.equal(value, before[name])


def test_replicas_of_a_sparse_layer():
    """Replicas differ in their edges, so their changes have different lengths."""
    net = rates()
    sparse = net.with_projections(
        lambda p: replace(p, connectivity=FixedProbability(0.5)) if p.name == "input_hidden0" else p
    )
    found = table(BPTT()(sparse), steps=2)
    np.testing.assert_allclose(found["cosine"], 1.0, rtol=0, atol=1e-12)


def test_batches_are_disjoint_and_in_order():
    x, y = np.arange(20.0)[:, None], np.arange(20)
    shown = batches_of(x, y, np.arange(20)[::-1], 6)
    assert [labels.tolist() for _, labels in shown] == [[list(range(19, 13, -1))], [list(range(13, 7, -1))], [
        list(range(7, 1, -1))
    ]]  # fmt: skip
    assert len(batches_of(x, y, np.arange(20), 6, most=2)) == 2


def test_the_row_with_the_target():
    """A sequence whose last row alone has a label: the loss is that of the last row."""
    random = np.random.default_rng(5)
    x, y = random.uniform(0, 1, (1, BATCH, 4, INPUTS)), np.full((1, BATCH, 4), -1)
    y[..., 3] = random.integers(CLASSES, size=BATCH)
    net = EProp(feedback="symmetric", accumulate="last")(spiking("adaptive"))
    found = table(net, encoder=Poisson(max_rate=300.0), steps=20, shown=((x, y),))
    np.testing.assert_allclose(found["cosine"], 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "shown", "message"),
    [
        (rates(), None, "no layer has a rule"),
        (Hebb()(rates()), ((np.zeros((1, 2, 3, INPUTS)), np.zeros((1, 2, 3), int)),), "several targets, or values"),
        (Hebb()(rates()), ((np.zeros((1, 2, INPUTS)), np.zeros((1, 2, 1, 3))),), "several targets, or values"),
    ],
)
def test_what_cannot_be_compared(network, shown, message):
    with pytest.raises(ConfigurationError, match=message):
        monitor(network, shown=shown)


def test_a_rule_without_hidden_layers_shows_the_output():
    assert monitor(Delta()(rates()), steps=2).layers == ["hidden0_output"]


# ---- the file --------------------------------------------------------------------------------------------------------


def test_what_is_written_comes_back(tmp_path):
    rows = [(1, 0, "a_b", 0.5, 2.0, float("nan"), 1.0, -0.25)]
    path = tmp_path / "credit.csv"
    path.write_text(written(rows))
    back = read_credit(path)
    assert back.dtype.names == COLUMNS
    assert back["layer"].tolist() == ["a_b"]
    assert np.isnan(back["cosine_shuffled"][0])
    assert [back[name][0] for name in ("cosine", "norm_ratio", "cosine_random")] == [0.5, 2.0, -0.25]


@pytest.mark.parametrize("text", ["epoch,replica\n0,0\n", f"{','.join(COLUMNS)}\n0,0,a,b,c,d,e,f\n"])
def test_a_damaged_file_is_one_sentence(tmp_path, text):
    (tmp_path / "credit.csv").write_text(text)
    with pytest.raises(ConfigurationError, match="is damaged: its columns are epoch"):
        read_credit(tmp_path / "credit.csv")
    with pytest.raises(ConfigurationError, match="credit=true makes a run write it"):
        credit.read_credit(tmp_path / "other.csv")


@pytest.mark.parametrize("name", ["cosine", "cosine_shuffled"])
def test_a_picture(tmp_path, name):
    rows = np.zeros(8, CREDIT)
    rows["epoch"], rows["replica"], rows["norm_ratio"] = np.repeat([0, 1], 4), np.tile([0, 1], 4), 0.5
    rows["layer"] = np.tile(["a", "a", "b", "b"], 2)
    before = figure.credit(rows, tmp_path / "a.png").read_bytes()
    rows[name] = np.linspace(-1, 1, 8)
    assert figure.credit(rows, tmp_path / "b.png").read_bytes() != before
    rows["norm_ratio"] = np.nan
    assert figure.credit(rows, tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


# ---- in a run --------------------------------------------------------------------------------------------------------


def test_a_run_is_the_same_with_and_without_it(tmp_path):
    for name, wanted in (("with", True), ("without", False)):
        run(small(credit=wanted), tmp_path / name, "a: 1\n")
    assert (tmp_path / "with/metrics.csv").read_bytes() == (tmp_path / "without/metrics.csv").read_bytes()
    assert not (tmp_path / "without/credit.csv").exists()
    one, other = (checkpoint.load(tmp_path / name / "checkpoint.npz")[0] for name in ("with", "without"))
    assert_equal(one, other)
    rows = open_run(tmp_path / "with").credit
    assert len(rows) == 3 * 3 * 2  # epochs 0 to 2, replicas, layers
    assert set(rows["epoch"]) == {0, 1, 2}
    assert np.isfinite(rows["cosine"]).all()
    first, last = (rows[rows["epoch"] == epoch]["cosine"] for epoch in (0, 2))
    assert (first != last).all()
    assert (tmp_path / "with/figures/credit.png").exists()


def test_a_stopped_run_goes_on_with_the_same_rows(tmp_path, monkeypatch):
    run(small(credit=True), tmp_path / "whole", "a: 1\n")
    with monkeypatch.context() as patch:
        stopped_after(patch, 30)
        with pytest.raises(Interrupted):
            run(small(credit=True), tmp_path / "parts", "a: 1\n")
    run(small(credit=True), tmp_path / "parts", "a: 1\n", resume=True)
    assert (tmp_path / "whole/credit.csv").read_bytes() == (tmp_path / "parts/credit.csv").read_bytes()
