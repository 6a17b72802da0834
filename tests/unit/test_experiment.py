"""The loop: what is shown in which order, what is written, and that a stopped run goes on bit for bit."""

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosim import checkpoint, figure, run_loop
from neurosim.adapter import Hold, Latency, Mean, Poisson
from neurosim.experiment import Experiment
from neurosim.factor import post, pre
from neurosim.lateral import LayerNorm
from neurosim.learner import Settings, SimulatorLearner
from neurosim.network import Layered
from neurosim.neuron import LIF, LeakyRate, Relay, SpikeRelay
from neurosim.recorded import Recorded, keeps_eligibility
from neurosim.recorder import Probe
from neurosim.rule import Component, OfComponent, Term, ThreeFactorRule
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.delta import Delta
from neurosim.run_folder import open_run
from neurosim.run_loop import Interrupted, RunLoop, run, summary_table
from neurosim.storage import export
from neurosim.tasks.xor import Xor
from neurosim.types import ConfigurationError


def small(**changes) -> Experiment:
    hidden = LeakyRate(tau_mem=5.0, activation="relu")
    experiment = Experiment(
        task=Xor(train=24, validation=8, test=12),
        network=Layered(hidden, LeakyRate(5.0, "linear"), hidden=(5,), lateral=LayerNorm()),
        scheme=BioHSIC(window=4, lr=1e-2),
        encoder=Hold(),
        decoder=Mean(),
        settings=Settings(steps=3, carry=True),
        epochs=2,
        batch=4,
        replicas=3,
        vary=("init", "order"),
        recorded=Recorded(samples=5),
    )
    return replace(experiment, **changes)


def stopped_after(monkeypatch: pytest.MonkeyPatch, presentations: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal after so many training presentations."""
    original, count = RunLoop._show, [0]

    def show(self: RunLoop, order: np.ndarray) -> None:
        before, left = self.presentation, presentations - count[0]
        self.several = min(self.several, left) if left > 0 else self.several
        original(self, order)
        count[0] += self.presentation - before
        if count[0] == presentations and left > 0:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(RunLoop, "_show", show)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_presentations_in_one_call_are_presentations_one_by_one(tmp_path, monkeypatch, backend):
    shown, original = [], SimulatorLearner.train_batches

    def counted(self, state, x, y, first_sample):
        shown.append(x.shape[1] // 4)
        return original(self, state, x, y, first_sample)

    monkeypatch.setattr(SimulatorLearner, "train_batches", counted)
    for name, most in (("single", 1), ("several", 6)):
        shown.clear()
        monkeypatch.setattr(run_loop, "AT_ONCE", 1000.0)
        monkeypatch.setattr(run_loop, "MOST_AT_ONCE", most)
        run(small(backend=backend), tmp_path / name, "a: 1\n")
        assert sum(shown) == 2 * 21 - 4  # the first two of an epoch are recorded
        assert max(shown) == most
    assert (tmp_path / "single/metrics.csv").read_bytes() == (tmp_path / "several/metrics.csv").read_bytes()
    assert_equal(*(checkpoint.load(tmp_path / name / "checkpoint.npz")[0] for name in ("single", "several")))


STOPS = [(1, signal.SIGTERM), (20, signal.SIGINT), (21, signal.SIGUSR1), (30, signal.SIGTERM)]


@pytest.mark.parametrize(("presentations", "number"), STOPS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch, presentations, number):
    run(small(), tmp_path / "whole", "a: 1\n")
    with monkeypatch.context() as patch:
        stopped_after(patch, presentations, number)
        with pytest.raises(Interrupted, match="resume=") as stop:
            run(small(), tmp_path / "parts", "a: 1\n")
    assert stop.value.number == number
    run(small(), tmp_path / "parts", "a: 1\n", resume=True)
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "parts/metrics.csv").read_bytes()
    assert_equal(*(checkpoint.load(tmp_path / name / "checkpoint.npz")[0] for name in ("whole", "parts")))
    whole, parts = (open_run(tmp_path / name).recordings for name in ("whole", "parts"))
    for name in whole.names:
        np.testing.assert_array_equal(whole.array(name), parts.array(name))


def assert_equal(one, two) -> None:
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            assert_equal(one[name], two[name])
    elif isinstance(one, tuple | list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    elif hasattr(one, "numpy"):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    else:
        assert one == two


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"code": "other"}])
def test_resume_refuses_what_would_not_be_bit_equal(tmp_path, monkeypatch, change):
    run(small(epochs=1), tmp_path, "a: 1\n")
    if "code" in change:
        monkeypatch.setattr(checkpoint, "code_version", lambda: "0.0+other")
        change = {}
    with pytest.raises(ConfigurationError, match=r"was saved with (dtype float32|code version)"):
        run(small(**change), tmp_path, "a: 1\n", resume=True)


def test_the_same_run_twice_writes_the_same_metrics_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(small(seed=seed), tmp_path / name, "a: 1\n")
    a, b, c = ((tmp_path / name / "metrics.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_metrics_hold_every_epoch_replica_and_split(tmp_path):
    result = run(small(), tmp_path, "a: 1\n")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [tuple(row) for row in rows[:1]] == [("epoch", "replica", "split", "loss", "accuracy")]
    assert len(rows) == 3 * 3 * 3
    last = [float(row["accuracy"]) for row in rows if row["epoch"] == "2" and row["split"] == "test"]
    mean, half, worst = result.summary("test")
    assert mean == pytest.approx(np.mean(last))
    assert worst == min(last)
    assert half == pytest.approx(
        4.302652729911275 * np.std(last, ddof=1) / np.sqrt(3)
    )  # t quantile, 2 degrees of freedom


def test_windows_slide_and_batches_do_not_overlap():
    experiment = small()
    order = np.arange(10)[None]
    assert experiment.presentations(10) == 7
    np.testing.assert_array_equal(experiment.rows(order, 2), [[2, 3, 4, 5]])
    disjoint = small(presentation="batches")
    assert disjoint.presentations(10) == 2
    np.testing.assert_array_equal(disjoint.rows(order, 1), [[4, 5, 6, 7]])
    assert small(limit=3).presentations(10) == 3


def test_replicas_share_an_order_unless_it_varies():
    assert small(vary=("init",)).order(50, 1).shape == (1, 50)
    own = small(replicas=4).order(50, 1)
    assert len({tuple(row) for row in own}) == 4
    grouped = small(replicas=4, orders=2).order(50, 1)
    np.testing.assert_array_equal(grouped[0], grouped[1])
    np.testing.assert_array_equal(grouped[2], grouped[3])
    assert (grouped[1] != grouped[2]).any()
    assert (own != small(replicas=4).order(50, 2)).any()
    np.testing.assert_array_equal(np.sort(own[3]), np.arange(50))


def test_shuffled_labels_keep_the_inputs_and_the_counts(tmp_path):
    plain, null = (RunLoop(small(shuffle_labels=on), tmp_path / str(on), "", None, False) for on in (False, True))
    np.testing.assert_array_equal(plain.train.x, null.train.x)
    assert plain.labels.shape == (1, 24)
    assert null.labels.shape == (3, 24)
    for labels in null.labels:
        np.testing.assert_array_equal(np.sort(plain.train.y), np.sort(labels))
    assert len({tuple(labels) for labels in null.labels}) == 3


def test_shuffled_labels_are_what_training_sees(tmp_path):
    own, shared = (
        RunLoop(small(shuffle_labels=True, vary=vary), tmp_path / vary[-1], "", None, False)
        for vary in (("init", "order"), ("init",))
    )
    rows = np.array([[0, 5], [1, 5], [2, 5]])
    np.testing.assert_array_equal(own._labels(rows), [[own.labels[r, rows[r, 0]], own.labels[r, 5]] for r in range(3)])
    np.testing.assert_array_equal(shared._labels(rows[:1]), shared.labels[:, [0, 5]])
    shared.epoch = 1
    shared._show(shared.experiment.order(24, 1))
    np.testing.assert_equal(shared.learner.evaluate(shared.state, shared.train.x, shared.labels).loss.shape, (3,))


@pytest.mark.parametrize(
    ("epochs", "trials", "shown"), [("first_last", 10, 16), ("last", 5, 8), ("all", 15, 16), ("none", 0, 0)]
)
def test_recorded_epochs(tmp_path, epochs, trials, shown):
    run(small(recorded=Recorded(samples=5, epochs=epochs)), tmp_path, "a: 1\n")
    trace = open_run(tmp_path).recordings
    assert ("trials/sample" in trace.names) == (trials > 0)
    if trials:
        assert {phase: (trace.trials["phase"] == phase).sum() for phase in ("test", "train")} == {
            "test": trials,
            "train": shown,  # two presentations of four samples in every epoch that counts
        }
        assert trace.report("hidden0", "rate")[1].shape == (3 * (trials + shown), 1, 5)


def test_recorded_variables_and_every(tmp_path):
    variables = Recorded(samples=2, epochs="last", variables=("hidden0.v",), every=2, training=0)
    run(small(recorded=variables), tmp_path, "a: 1\n")
    trace = open_run(tmp_path).recordings
    assert [name for name in trace.names if name.startswith("report")] == ["report/hidden0/data", "report/hidden0/time"]
    assert len(trace.report("hidden0", "v")[0]) == 2 * 2


def test_recorded_training_is_the_training(tmp_path):
    """What is in the trace are the presentations that the network learned from, with third factors; and looking on
    changes no bit of the run."""
    for name, training in (("seen", 2), ("unseen", 0)):
        run(small(recorded=Recorded(samples=5, training=training)), tmp_path / name, "a: 1\n")
    assert (tmp_path / "seen/metrics.csv").read_bytes() == (tmp_path / "unseen/metrics.csv").read_bytes()
    assert_equal(*(checkpoint.load(tmp_path / name / "checkpoint.npz")[0] for name in ("seen", "unseen")))

    experiment, trace = small(), open_run(tmp_path / "seen").recordings
    trials = trace.trials[trace.trials["phase"] == "train"]
    order = experiment.order(24, 1)[0]
    np.testing.assert_array_equal(trials["sample"][trials["epoch"] == 1], [*order[:4], *order[1:5]])
    np.testing.assert_array_equal(trials["label"], small().build()[0].train.y[trials["sample"]])
    assert not (open_run(tmp_path / "unseen").recordings.trials["phase"] == "train").any()

    loop = RunLoop(experiment, tmp_path / "by hand", "", None, False)
    loop.epoch, (x, y) = 1, (loop.train.x, loop.train.y)
    rows = experiment.rows(experiment.order(24, 1), 0)
    probes = (Probe("input_hidden0", "modulator"), Probe("input_hidden0", "weight", 2))
    _, recording = loop.learner.train(loop.learner.init(), x[rows], y[rows], 0, probes)
    _, modulator = trace.learning("input_hidden0", "modulator")
    third = recording["input_hidden0.modulator"][:, 0]  # [T, B, N]; in the trace row by row of the batch
    np.testing.assert_array_equal(modulator[:12, 0], np.moveaxis(third, 1, 0).reshape(12, 5))
    assert (third[:, -1] != 0).any()
    assert (third[:, :-1] == 0).all()  # the newest sample alone has a third factor
    _, weight = trace.learning("input_hidden0", "weight")
    np.testing.assert_array_equal(weight[1:3], recording["input_hidden0.weight"][:, :1])  # after epoch 0's one row
    assert (weight[1] != weight[2]).any()


def test_a_modulator_may_be_a_variable_of_the_probe(tmp_path):
    recorded = Recorded(samples=2, epochs="last", variables=("hidden0.rate", "input_hidden0.modulator"))
    run(small(recorded=recorded), tmp_path, "a: 1\n")
    trace = open_run(tmp_path).recordings
    assert trace.learning("input_hidden0", "modulator")[1].shape == (3 * 2 * 4, 1, 5)
    assert len(trace.report("hidden0", "rate")[0]) == 3 * (2 + 2 * 4)


def test_only_rules_with_a_memory_keep_an_eligibility():
    assert not any(keeps_eligibility(p.rule) for p in small().build()[1].projections if p.rule is not None)
    trace = Component((Term(post("spike"), pre("spike")),), tau=5.0)
    later = Component((Term(post("slope"), pre("spike"), OfComponent(0)),))
    assert keeps_eligibility(ThreeFactorRule((trace,)))
    assert keeps_eligibility(ThreeFactorRule((Component(trace.terms), later)))


def test_the_trace_names_the_commit_and_the_sources(tmp_path, monkeypatch):
    for commit in ("0123abc-dirty", None):
        monkeypatch.setattr(checkpoint, "git_commit", lambda commit=commit: commit)
        run(small(epochs=1), tmp_path / str(commit), "a: 1\n")
        attributes = open_run(tmp_path / str(commit)).recordings.attributes
        assert attributes["commit"] == (commit or "unknown")
        assert f"{attributes['package_version']}+{attributes['source_hash']}" == checkpoint.code_version()


def test_what_cannot_be_run_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigurationError, match="window is 3 samples, but the batch has 4 rows"):
        RunLoop(small(scheme=BioHSIC(window=3)), tmp_path / "r", "", None, False)
    RunLoop(small(), tmp_path / "r", "", None, False)
    assert not list(tmp_path.iterdir())


def test_the_rehearsal_changes_no_number(tmp_path, monkeypatch):
    run(small(epochs=1), tmp_path / "rehearsed", "a: 1\n")
    monkeypatch.setattr(Experiment, "rehearse", lambda *_: None)
    run(small(epochs=1), tmp_path / "at once", "a: 1\n")
    first, second = (checkpoint.load(tmp_path / name / "checkpoint.npz") for name in ("rehearsed", "at once"))
    assert_equal(first[0], second[0])
    assert (tmp_path / "rehearsed/metrics.csv").read_bytes() == (tmp_path / "at once/metrics.csv").read_bytes()


def test_rules_for_hidden_layers_need_one(tmp_path):
    bare = replace(small().network, hidden=())
    with pytest.raises(ConfigurationError, match=r"network\.hidden is \[\], but biohsic acts on hidden layers only"):
        small(network=bare).build()
    _, network = small(network=bare, scheme=Delta()).build()
    assert [p.rule is not None for p in network.forward()] == [True]


@pytest.mark.parametrize(
    ("encoder", "asked", "sent"),
    [
        (Hold(), None, "rate"),
        (Poisson(outside="clip"), None, "spike"),
        (Latency(t_max=3.0, outside="clip"), None, "spike"),
        (Poisson(outside="clip"), Relay(), "rate"),
        (Hold(), SpikeRelay(), "spike"),
    ],
)
def test_the_input_sends_spikes_where_the_encoder_makes_them(tmp_path, encoder, asked, sent):
    network = replace(small().network, input_neuron=asked)
    run(small(network=network, encoder=encoder, epochs=1), tmp_path, "a: 1\n")
    trace = open_run(tmp_path).recordings
    assert ("input" in trace.populations) == (sent == "spike")
    assert ("report/input/data" in trace.names) == (sent == "rate")
    assert (tmp_path / f"figures/{'raster' if sent == 'spike' else 'activity'}_input.png").exists()


def test_a_spiking_network_leaves_rasters_and_rates(tmp_path):
    spiking = Layered(LIF(5.0, v_th=0.1, arrival="filtered"), LeakyRate(5.0, "linear"), hidden=(6,))
    run(small(network=spiking, epochs=1), tmp_path, "a: 1\n")
    opened = open_run(tmp_path)
    assert opened.rates("hidden0").shape == (1, 6)
    assert (tmp_path / "figures/raster_hidden0.png").stat().st_size > 1000
    assert (tmp_path / "figures/learning_curve.png").exists()
    assert opened.weights["input_hidden0"].shape == (3, 6, 2)


def test_a_raster_shows_test_trials_not_those_of_training(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figure, "raster", lambda spikes, path, *_, **__: drawn.update({path.stem: spikes}) or path)
    spiking = Layered(LIF(5.0, v_th=0.1, arrival="filtered"), LeakyRate(5.0, "linear"), hidden=(6,))
    run(small(network=spiking, epochs=1), tmp_path, "a: 1\n")
    trace = open_run(tmp_path).recordings
    shown = trace.raster("hidden0", epoch=1, phase="test")[:, :5, 0]
    np.testing.assert_array_equal(drawn["raster_hidden0"], np.moveaxis(shown, 1, 0).reshape(-1, 6))
    assert drawn["raster_hidden0"].any()


def test_evaluation_from_the_training_state_differs_from_rest(tmp_path):
    loops = {
        start: RunLoop(small(settings=Settings(3, carry=True, start=start)), tmp_path / start, "", None, False)
        for start in ("rest", "training")
    }
    scores = {}
    for start, loop in loops.items():
        order = loop.experiment.order(24, 1)
        loop.epoch = 1
        for _ in range(3):
            loop._show(order)
        scores[start] = loop.learner.evaluate(loop.state, loop.dataset.test.x, loop.dataset.test.y).loss
    assert (scores["rest"] != scores["training"]).all()


BAD = [
    ({"epochs": 0}, "epochs is 0"),
    ({"batch": 2.5}, "batch is 2.5"),
    ({"replicas": True}, "replicas is True"),
    ({"presentation": "random"}, "presentation is 'random'; allowed: windows, batches"),
    ({"vary": ("init", "weather")}, "an entry of vary is 'weather'"),
    ({"vary": ()}, "replicas always differ in init: name it"),
    ({"vary": ("order",)}, "replicas always differ in init: name it"),
    ({"seed": -1}, "seed is -1"),
    ({"dt": -1.0}, r"dt \(ms\) is -1.0"),
    ({"limit": 0}, "limit is 0"),
    ({"orders": 2}, "orders is 2; it must divide"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD)
def test_bad_settings_are_one_sentence(change, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        small(**change)


def test_a_batch_larger_than_the_data_is_one_sentence(tmp_path):
    with pytest.raises(ConfigurationError, match="batch is 40, but the training split has 24 examples"):
        RunLoop(small(batch=40, scheme=BioHSIC(window=40)), tmp_path, "", None, False)


def test_the_second_interrupt_is_immediate(tmp_path, monkeypatch):
    original = RunLoop._show

    def show(self: RunLoop, order: np.ndarray) -> None:
        original(self, order)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunLoop, "_show", show)
    with pytest.raises(KeyboardInterrupt):
        run(small(), Path(tmp_path), "a: 1\n")


def test_the_trace_is_as_small_as_it_is_planned(tmp_path):
    loop = RunLoop(small(), tmp_path, "a: 1\n", None, resume=False)
    planned = loop.planned()
    loop.run()
    files = [tmp_path / "trace.h5", *(tmp_path / "trace").iterdir()]
    assert planned / 5 < sum(path.stat().st_size for path in files) < planned


def test_the_metrics_in_the_trace_say_their_split(tmp_path):
    run(small(), tmp_path, "a: 1\n")
    opened = open_run(tmp_path)
    assert opened.recordings.metrics["split"].tolist() == opened.metrics["split"].tolist()


def test_spikes_of_a_network_without_spikes(tmp_path):
    run(small(), tmp_path, "a: 1\n")
    with pytest.raises(ConfigurationError, match="no spikes of 'hidden0' were recorded; spikes are there of: no pop"):
        open_run(tmp_path).rates("hidden0")
    with pytest.raises(ConfigurationError, match=r"a \.csv holds spikes, and the trace has none"):
        export(tmp_path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_one_replica_in_the_title(tmp_path):
    experiment = small(replicas=1)
    assert summary_table(run(experiment, tmp_path, "a: 1\n"), experiment).title == "epoch 2, one replica"


@pytest.mark.parametrize("field", ["modulator", "eligibility"])
def test_what_only_learning_forms_needs_training(field):
    recorded = Recorded(variables=("hidden0.rate", f"input_hidden0.{field}"), training=0)
    with pytest.raises(ConfigurationError, match=rf"cannot record input_hidden0\.{field}: .*probe\.training is 0"):
        recorded.probes(small().build()[1])


def test_two_replicas_have_no_interval(tmp_path):
    experiment = small(replicas=2)
    result = run(experiment, tmp_path, "a: 1\n")
    assert np.isnan(result.summary("test")[1])
    assert list(summary_table(result, experiment).columns[2].cells) == ["2 replicas"] * 3
