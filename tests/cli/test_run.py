"""What `run` does when nothing is wrong: networks, rules, presets, experiments, folders, sweeps, going on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY
from hydra.utils import get_object
from omegaconf import OmegaConf

from neurosim import lateral, neuron
from neurosim.checkpoint import load
from neurosim.cli import main
from neurosim.cli_build import experiment
from neurosim.cli_config import composed, names, presets, source
from neurosim.cli_rules import parse_rules
from neurosim.cli_run import numbered
from neurosim.recorder import Probe
from neurosim.run_folder import open_run
from neurosim.storage import read_trace


def run(*arguments: str) -> None:
    assert main(["run", *arguments, "quiet=true"]) == 0


# ---- networks and rules ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Callable[[str], dict[str, np.ndarray]]:
    """Initial weights of a network: they depend on the seed alone, not on the rule."""

    @cache
    def made(network: str) -> dict[str, np.ndarray]:
        folder = tmp_path_factory.mktemp("untrained") / "run"
        run("task=xor", "rule=frozen", "rule.lr=0", f"network={network}", f"folder={folder}", *SMALL)
        return open_run(folder).weights

    return made


def changed(folder: str, start: dict[str, np.ndarray]) -> set[str]:
    """Projections whose weights are no more what they were."""
    weights = open_run(folder).weights
    return {name for name in weights if name in start and not np.array_equal(weights[name], start[name])}


LAYERS = {"input_hidden0", "hidden0_hidden1", "hidden1_output"}


@pytest.mark.parametrize("network", names("network"))
@pytest.mark.parametrize("rule", ["biohsic", "layered:biohsic/frozen"])
def test_every_network_with_the_same_task_and_rule(network, rule):
    run("task=xor", f"rule={rule}", f"network={network}", "folder=r", *SMALL)
    rows = open_run("r").metrics
    assert len(rows) == 2 * 2 * 3  # epochs, replicas, splits
    assert np.isfinite(rows["loss"]).all()


# ---- parts of the network --------------------------------------------------------------------------------------------


def hidden_capable() -> set[str]:
    """Neurons that can be a hidden layer by themselves: driven, with a slope for rules, spiking or with an activation.

    Relays, sources and controllers are wiring; a `Perturbed` is put around a neuron by its rule.
    """
    found = set()
    for name in neuron.__all__:
        kind = getattr(neuron, name)
        if not (isinstance(kind, type) and is_dataclass(kind)):
            continue
        own = {field.name for field in fields(kind)} & {"surrogate", "activation"}
        if own and "basal" in kind.ports and "slope" in kind.outputs:
            found.add(name)
    return found


def target(part: str, name: str) -> str:
    """The class that a part's configuration makes."""
    node = OmegaConf.create(source(part, name))[part]
    return "none" if node is None else node._target_.rpartition(".")[2]


def test_every_neuron_and_lateral_has_a_name():
    assert sorted(target("neuron", name) for name in names("neuron")) == sorted(hidden_capable())
    assert {"LIF", "AdEx", "Izhikevich", "CobaLIF", "LeakyRate", "TwoCompartment"} <= hidden_capable()
    laterals = {name for name, kind in vars(lateral).items() if is_dataclass(kind) and hasattr(kind, "step")}
    assert sorted(target("lateral", name) for name in names("lateral")) == sorted({"none", *laterals})


@pytest.mark.parametrize("part", ["neuron", "output_neuron", "input_neuron", "lateral"])
def test_a_part_has_all_its_parameters(part):
    for name in names(part):
        node = OmegaConf.create(source(part, name))[part]
        if node is not None:
            wanted = {field.name for field in fields(get_object(node._target_)) if field.init}
            assert set(node) - {"_target_"} == wanted, name


@pytest.mark.parametrize("name", names("neuron"))
def test_every_neuron_runs_by_name(name):
    """On its own network, without one of the old neuron's settings, and on another: two presentations, finite."""
    chosen = composed(["task=xor", "rule=biohsic", f"neuron={name}"]).config
    assert chosen["network"]["neuron"] == OmegaConf.to_container(OmegaConf.create(source("neuron", name)).neuron)
    words = ["task=digits", "rule=biohsic", f"neuron={name}", "lateral=none", "network.hidden=[6,5]"]
    made = experiment(composed([*words, "network=static"]).config)  # a preset of digits sets v_th of spiking networks
    assert type(made.network.neuron).__name__ == target("neuron", name)
    run("task=xor", "rule=biohsic", f"neuron={name}", "folder=r", *SMALL)
    rows = open_run("r").metrics
    assert len(rows) == 2 * 2 * 3
    assert np.isfinite(rows["loss"]).all()
    trace = read_trace(Path("r"))
    assert ("hidden0" in trace.populations) == (made.network.neuron.outputs[0] == "spike")


@pytest.mark.parametrize("name", ["adex", "izhikevich", "coba_lif"])
def test_neurons_in_millivolts_spike_in_every_layer(name):
    words = ["task=xor", "rule=frozen", f"neuron={name}", "task.test=40", "replicas=8"]
    made = experiment(composed(words).config)
    dataset, network = made.build()
    learner = made.learner(network)
    probes = tuple(Probe(layer, "spike") for layer in ("hidden0", "hidden1"))
    _, seen = learner.respond(learner.init(), dataset.test.x, dataset.test.y, 0, probes)
    for key, spikes in seen.items():
        assert 0.001 < spikes.mean() < 0.5, key


@pytest.mark.parametrize("name", names("lateral"))
def test_every_lateral_runs_by_name(name):
    run("task=xor", "rule=biohsic", f"lateral={name}", "folder=r", *SMALL)
    assert np.isfinite(open_run("r").metrics["loss"]).all()
    assert experiment(open_run("r").config).network.lateral is None or name != "none"


@pytest.mark.parametrize("name", names("output_neuron"))
def test_every_output_neuron_runs_by_name(name):
    run("task=xor", "rule=biohsic", "network=spiking", f"output_neuron={name}", "folder=r", *SMALL)
    assert type(experiment(open_run("r").config).network.output_neuron).__name__ == target("output_neuron", name)
    assert np.isfinite(open_run("r").metrics["loss"]).all()


def test_winners_of_spiking_neurons_are_spikes():
    words = ["network=spiking", "lateral=k_winners", "network.lateral.k=1", "network.hidden=[8,6]"]
    run("task=xor", "rule=biohsic", "folder=r", *words, *SMALL)
    raster = read_trace(Path("r")).raster("hidden0", phase="test")
    assert raster.sum(-1).max() == 1  # at most one neuron of the layer in each step


def test_a_neuron_brings_its_network_but_not_into_an_experiment():
    def network(*words: str) -> str:
        return composed(["rule=biohsic", *words]).names["network"]

    assert network("task=xor", "neuron=lif") == network("task=xor", "neuron=adex") == "spiking"
    assert network("task=xor", "neuron=two_compartment") == "layered"
    assert network("task=xor", "neuron=lif", "network=static") == "static"
    made = composed(["experiment=biohsic_xor_published", "neuron=static_rate"])
    assert made.names["network"] == "layered"
    assert made.config["network"]["neuron"] == {"_target_": "neurosim.neuron.StaticRate", "activation": "relu"}
    assert made.config["network"]["output_neuron"]["tau_mem"] == 5.0  # as with the neuron that was there
    assert made.config["network"]["output_neuron"]["integration"] == "euler"


def test_settings_of_a_part_come_after_its_name():
    words = ["task=digits", "rule=biohsic", "neuron=cuba_lif"]
    made = composed([*words, "network.neuron.tau_mem=7", "network.weight.scale=3"]).config["network"]
    assert made["neuron"]["tau_mem"] == made["output_neuron"]["tau_mem"] == 7
    assert (made["neuron"]["v_th"], made["weight"]["scale"]) == (1.0, 3)  # not the 0.15 of the preset for LIF
    assert composed(["task=digits", "rule=biohsic", "network=spiking"]).config["network"]["neuron"]["v_th"] == 0.15


@pytest.mark.parametrize(
    ("network", "neuron", "lateral"),
    [("layered", "leaky_rate", "layer_norm"), ("spiking", "lif", "none"), ("static", "static_rate", "layer_norm")],
)
def test_a_network_is_made_of_the_parts_with_a_name(network, neuron, lateral):
    words = ["task=linear", "rule=biohsic", f"network={network}"]  # a task without presets
    chosen = composed([*words, f"neuron={neuron}", f"lateral={lateral}"]).config
    assert composed(words).config["network"] == chosen["network"]


def test_the_folder_and_the_headline_name_the_parts(capsys):
    assert main(["run", *TINY, "neuron=lif", "lateral=k_winners"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("xor, rule biohsic, network spiking, neuron lif, lateral k_winners; backend")
    assert lines[-1] == "results in runs/xor-biohsic-spiking-lif-k_winners/1"
    run("resume=runs/xor-biohsic-spiking-lif-k_winners/1", "epochs=2")


@pytest.mark.parametrize(("encoder", "sent"), [("hold", "rate"), ("poisson", "spike"), ("latency", "spike")])
def test_spikes_of_the_input_are_recorded_as_spikes(encoder, sent):
    outside = [] if encoder == "hold" else ["encoder.outside=clip"]
    fast = ["encoder.max_rate=900"] if encoder == "poisson" else ["encoder.t_max=5"] if encoder == "latency" else []
    more = [word for word in SMALL if word != "figures=false"]
    words = ["task=xor", "rule=biohsic", "network=spiking", f"encoder={encoder}", *outside, *fast, *more]
    run(*words, "folder=r")
    trace = read_trace(Path("r"))
    assert ("input" in trace.populations) == (sent == "spike")
    assert Path("r/figures", f"{'raster' if sent == 'spike' else 'activity'}_input.png").is_file()
    if sent == "spike":
        assert len(trace.spikes("input")[0]) > 0
        run(*words, "input_neuron=relay", "folder=relay")
        assert "input" not in read_trace(Path("relay")).populations


# ---- what a trace holds of learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "kept"), [("biohsic", ("modulator",)), ("eprop", ("modulator", "eligibility"))])
def test_a_trace_holds_what_learning_is_made_of(rule, kept):
    run("task=xor", f"rule={rule}", "network=spiking", "folder=r", *SMALL)
    trace = read_trace(Path("r"))
    for field in ("weight", "modulator", "eligibility"):
        assert (f"learning/input_hidden0/{field}" in trace.names) == (field in ("weight", *kept))
    for field in kept:
        values = trace.learning("input_hidden0", field)[1]
        assert np.nan_to_num(values).any(), field
    shown = trace.trials[trace.trials["phase"] == "train"]
    assert len(shown) == 2 * 10  # two presentations of ten samples in the one epoch, which is first and last


def test_looking_at_training_changes_no_number():
    words = ["task=xor", "rule=eprop", "network=spiking", *SMALL]
    for name, probe in (("seen", "standard"), ("unseen", "none")):
        run(*words, f"probe={probe}", f"folder={name}")
    assert Path("seen/metrics.csv").read_bytes() == Path("unseen/metrics.csv").read_bytes()
    seen, unseen = open_run("seen").weights, open_run("unseen").weights
    assert all(np.array_equal(seen[name], unseen[name]) for name in unseen)


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", names("rule"))
def test_every_rule_runs(rule, untrained, capsys):
    """Alone, after another rule, or on spikes: each says in one sentence what it needs."""
    tried = []
    for expression, network in ((rule, "layered"), (f"biohsic+{rule}", "layered"), (rule, "spiking")):
        words = ["task=xor", f"rule={expression}", f"network={network}", "folder=r", "quiet=true", *SMALL]
        if main(["run", *words]) == 0:
            assert changed("r", untrained(network))
            return
        tried.append(capsys.readouterr().err)
    pytest.fail("\n".join(tried))


def test_what_frozen_and_composed_rules_change(untrained):
    run("task=xor", "rule=frozen", "folder=frozen", *SMALL)
    run("task=xor", "rule=biohsic", "folder=biohsic", *SMALL)
    run("task=xor", "rule=biohsic+shuffled", "folder=shuffled", *SMALL)
    start = untrained("layered")
    assert changed("frozen", start) == {"hidden1_output"}
    assert changed("biohsic", start) == changed("shuffled", start) == LAYERS
    assert not np.array_equal(
        open_run("biohsic").weights["input_hidden0"], open_run("shuffled").weights["input_hidden0"]
    )


def test_layered_gives_each_layer_its_own_settings(untrained):
    run("task=xor", "rule=layered:biohsic/biohsic/frozen", *SMALL, "folder=r", "rule.biohsic_2.lr=0")
    assert changed("r", untrained("layered")) == {"input_hidden0", "hidden1_output"}


def test_the_short_form_of_a_setting_is_the_long_one():
    short, long = composed([*TINY, "rule.lr=0.5"]), composed([*TINY, "rule.biohsic.lr=0.5"])
    assert short.config == long.config
    assert short.config["rule"]["biohsic"]["lr"] == 0.5
    assert composed([*TINY, "dtype=float64"]).config["backend"]["dtype"] == "float64"


def test_a_setting_of_a_part_stays_in_its_part():
    made = composed(["task=xor", "rule=biohsic+frozen", "rule.frozen.lr=0.25"]).config["rule"]
    assert made["frozen"]["lr"] == 0.25
    assert made["biohsic"]["lr"] != 0.25


def test_the_window_follows_the_batch():
    assert composed(["task=xor", "rule=biohsic", "batch=7"]).config["rule"]["biohsic"]["window"] == 7


# ---- presets and experiments -----------------------------------------------------------------------------------------


def test_presets_go_from_the_general_to_the_special(monkeypatch):
    known = ("xor", "xor_spiking", "xor_biohsic", "xor_biohsic_spiking", "xor_frozen", "digits_biohsic")
    monkeypatch.setattr("neurosim.cli_config.names", lambda group: known)
    xor, spiking = {"task": "xor", "network": "layered"}, {"task": "xor", "network": "spiking"}

    def found(rule: str, chosen: dict[str, str]) -> list[str]:
        return presets(parse_rules(rule, ("biohsic", "frozen", "shuffled")), chosen)

    assert found("biohsic", xor) == ["xor", "xor_biohsic"]
    assert found("biohsic", spiking) == ["xor", "xor_spiking", "xor_biohsic", "xor_biohsic_spiking"]
    assert found("biohsic+shuffled", xor) == ["xor", "xor_biohsic"]
    assert found("biohsic+frozen", xor) == ["xor", "xor_frozen", "xor_biohsic"]  # the first rule has the last word
    assert found("shuffled", xor) == ["xor"]
    assert found("biohsic", {"task": "linear", "network": "layered"}) == []


def flat(node: dict, prefix: str = "") -> dict[str, object]:
    """A tree of settings by full key."""
    found = {}
    for key, value in node.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("network", ["layered", "spiking"])
def test_presets_apply_and_the_user_has_the_last_word(network):
    words = ["task=xor", "rule=biohsic", f"network={network}"]
    wanted = {}
    for name in presets(parse_rules("biohsic", names("rule")), {"task": "xor", "network": network}):
        content = OmegaConf.create(source("preset", name))
        content.pop("defaults", None)
        wanted |= flat(OmegaConf.to_container(content))
    assert wanted
    made = flat(composed(words).config)
    assert {key: made[key] for key in wanted} == wanted
    assert composed([*words, "epochs=77"]).config["epochs"] == 77


@pytest.mark.parametrize("preset", names("preset"))
def test_every_preset_is_found_by_some_command(preset):
    tasks, networks, rules = names("task"), names("network"), names("rule")
    expressions = [parse_rules(rule, rules) for rule in rules]
    assert any(
        preset in presets(expression, {"task": task, "network": network})
        for expression in expressions
        for task in tasks
        for network in networks
    )


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_runs_two_presentations(experiment):
    run(
        f"experiment={experiment}",
        "epochs=1",
        "limit=2",
        "replicas=2",
        "folder=r",
        "evaluate_train=20",
        "figures=false",
    )
    rows = open_run("r").metrics
    assert set(rows["epoch"]) == {0, 1}


@pytest.mark.parametrize("rule", ["frozen", "biohsic+shuffled"])
def test_an_experiment_with_another_rule(rule):
    made = composed(["experiment=biohsic_xor_published", f"rule={rule}"])
    assert set(made.config["rule"]) == set(rule.split("+"))
    assert made.config["rule"][rule.split("+")[0]]["lr"] == 1e-4


@pytest.mark.parametrize(
    ("task", "hidden", "sigma_x", "sigma_z"), [("xor", [10, 4], 0.3, 2.0), ("linear", [4], 0.5, 1.0)]
)
def test_the_published_protocol(task, hidden, sigma_x, sigma_z):
    """What Daruwalla and Lipasti (2024) ran, as far as it is known, whatever the defaults and presets become."""
    made = composed([f"experiment=biohsic_{task}_published"]).config
    rule = made["rule"]["biohsic"]
    assert (made["task"]["original"], made["task"]["divide_by"]) == (True, 255.0)
    assert (made["network"]["hidden"], made["network"]["neuron"]["integration"]) == (hidden, "euler")
    assert (made["network"]["output_neuron"]["integration"], made["network"]["output_neuron"]["tau_mem"]) == (
        "euler",
        5.0,
    )
    assert (rule["sigma_x"], rule["sigma_y"], rule["sigma_z"], rule["gamma"]) == (sigma_x, 0.25, sigma_z, 10.0)
    assert (rule["form"], rule["memory"], rule["window"], rule["when"]) == ("published", "batch", 10, "step")
    assert (rule["optimizer"], rule["lr"], rule["lr_output"], rule["beta1"], rule["beta2"]) == (
        "adamw",
        1e-4,
        None,
        0.9,
        0.99,
    )
    assert rule["weight_decay"] == 1e-4
    assert (made["epochs"], made["batch"], made["presentation"], made["replicas"], made["dt"]) == (
        25,
        10,
        "windows",
        30,
        1.0,
    )
    assert made["vary"] == ["init"]
    assert {key: made["settings"][key] for key in ("steps", "carry", "start")} == {
        "steps": 20,
        "carry": True,
        "start": "training",
    }
    assert made["decoder"]["last"] == 10


# ---- results ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(*TINY, f"seed={seed}", f"folder={folder}")
    first, again, other = (Path(folder, "metrics.csv").read_bytes() for folder in "abc")
    assert first == again
    assert first != other


def test_folders_are_numbered_and_hold_everything(tmp_path):
    run(*TINY, "probe=none")
    run(*(one for one in TINY if one != "figures=false"))
    parent = tmp_path / "runs" / "xor-biohsic-layered"
    assert sorted(path.name for path in parent.iterdir()) == ["1", "2"]
    found = {path.name for path in (parent / "2").iterdir()}
    assert {"config.yaml", "metrics.csv", "checkpoint.npz", "result.json", "trace", "trace.h5", "figures"} == found
    assert (parent / "2" / "figures" / "learning_curve.png").stat().st_size > 1000
    assert {path.name for path in (parent / "1").iterdir()} == found - {"trace", "figures"}
    run("task=xor", "rule=layered:biohsic/frozen", *SMALL)
    assert (tmp_path / "runs" / "xor-layered-biohsic-frozen-layered" / "1").is_dir()


def test_two_runs_that_start_at_once_get_two_folders(tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(()))  # the other run's folder came after the look
    assert numbered(tmp_path) == tmp_path / "2"


def test_the_saved_configuration_is_resolved_and_runs_again(finished):
    config = open_run(finished).config
    assert config["rule"]["biohsic"]["window"] == config["batch"] == 10
    assert "${" not in (finished / "config.yaml").read_text()
    assert config["names"]["network"] == "spiking"


def test_overwrite_replaces_a_run():
    run(*TINY, "folder=r")
    before = Path("r", "metrics.csv").read_bytes()
    run(*TINY, "seed=1", "folder=r", "overwrite=true")
    assert Path("r", "metrics.csv").read_bytes() != before
    trials = read_trace(Path("r")).trials
    assert (trials["phase"] == "test").sum() == 2 * 2  # samples, epochs: nothing of the old run
    assert not Path("r", ".before").exists()


def test_threads_is_what_torch_gets(monkeypatch):
    asked = []
    monkeypatch.setattr("neurosim.cli_run.torch.set_num_threads", asked.append)
    run(*TINY, "folder=r", "threads=2")
    assert asked == [2]


def test_what_is_printed(capsys):
    assert main(["run", *TINY]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == (
        "xor, rule biohsic, network layered; backend cpu (float32, cpu); 2 replicas, 1 epoch of 3 presentations; "
        f"trace up to {re.search('up to (.*)', lines[0])[1]}"
    )
    assert re.fullmatch(r"epoch 1/1: validation loss \d\.\d+, accuracy \d+\.\d+ %", lines[2])
    assert "test" in out
    assert lines[-1] == "results in runs/xor-biohsic-layered/1"


def test_quiet_prints_nothing_and_is_not_saved(capsys):
    run(*TINY, "folder=r")
    assert capsys.readouterr() == ("", "")
    assert "quiet" not in open_run("r").config
    config = Path("r/config.yaml")
    config.write_text(config.read_text() + "quiet: true\n")  # as runs of earlier versions have it
    assert main(["run", "resume=r", "epochs=2"]) == 0
    assert "going on in epoch 2 of r" in capsys.readouterr().out
    assert main(["run", "resume=r", "epochs=3", "quiet=true"]) == 0
    assert capsys.readouterr() == ("", "")
    assert "quiet" not in open_run("r").config


def test_two_replicas_have_no_interval(capsys):
    assert main(["run", *TINY]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ test")]
    assert [cell.strip() for cell in table[0].split("│")[3:4]] == ["2 replicas"]


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_sweep_runs_every_combination(tmp_path, capsys):
    small = [one for one in SMALL if not one.startswith("replicas")]
    words = ["task=xor", "rule=biohsic,layered:biohsic/frozen+shuffled", "replicas=range(1,3)", *small]
    assert main(["run", "-m", *words]) == 0
    out = capsys.readouterr().out
    assert "job 4 of 4" in out
    found = {}
    for folder in sorted((tmp_path / "runs" / "sweep" / "1").iterdir()):
        if folder.is_dir():
            config = open_run(folder).config
            found[folder.name] = (config["scheme"], config["replicas"])
            assert (folder / "result.json").is_file()
    layered = "layered:biohsic/frozen+shuffled"
    assert found == {"0": ("biohsic", 1), "1": ("biohsic", 2), "2": (layered, 1), "3": (layered, 2)}
    assert sum(line.startswith("│ rule=") for line in out.splitlines()) == 4


def test_a_sweep_of_experiments_into_a_folder_of_ones_own(tmp_path):
    words = [
        "experiment=biohsic_xor_published,biohsic_linear_published",
        "seed=3",
        "epochs=1",
        "limit=1",
        "replicas=1",
        "figures=false",
    ]
    assert main(["run", "--multirun", *words, "quiet=true", "hydra.sweep.dir=mine"]) == 0
    configs = [open_run(tmp_path / "mine" / str(job)).config for job in range(2)]
    assert [(config["names"]["task"], config["seed"]) for config in configs] == [("xor", 3), ("linear", 3)]


def test_a_sweep_over_neurons_and_laterals(tmp_path):
    words = ["neuron=lif,izhikevich", "lateral=none,k_winners", "quiet=true"]
    assert main(["run", "-m", *TINY, *words, "hydra.sweep.dir=mine"]) == 0
    found = [open_run(tmp_path / "mine" / str(job)).config["names"] for job in range(4)]
    assert [(names["neuron"], names["lateral"]) for names in found] == [
        ("lif", "none"), ("lif", "k_winners"), ("izhikevich", "none"), ("izhikevich", "k_winners"),
    ]  # fmt: skip


def test_a_quiet_sweep_prints_nothing(capsys):
    assert main(["run", "-m", *TINY, "seed=0,1", "quiet=true"]) == 0
    assert capsys.readouterr() == ("", "")


def test_nothing_of_a_sweep_starts_if_a_job_cannot(tmp_path, capsys):
    assert main(["run", "-m", *TINY, "seed=0,x"]) == 2
    assert "seed is 'x'" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "sweep" / "1").exists()


# ---- stopping and going on -------------------------------------------------------------------------------------------

LONG = [
    "task=xor",
    "rule=biohsic",
    "task.train=100",
    "task.validation=20",
    "task.test=20",
    "probe.samples=2",
    "replicas=2",
    "network=spiking",
]
LONG += [
    "encoder=poisson",
    "encoder.outside=clip",
    "epochs=3",
    "limit=60",
    "settings.steps=8",
    "settings.carry=true",
    "figures=false",
]  # noise, and activity that is kept


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    run(*LONG, f"folder={folder}")
    return folder


def equal(one: object, other: object) -> bool:
    """Bit equality of nested states."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def started(folder: Path, *before: str) -> subprocess.Popen:
    """A run in a process of its own, in the middle of its training."""
    command = [*before, sys.executable, "-m", "neurosim", "run", *LONG, f"folder={folder}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    limit = time.monotonic() + 60
    while time.monotonic() < limit and not (folder / "checkpoint.npz").exists():
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "before"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        (signal.SIGUSR1, ()),
        (signal.SIGINT, ("sh", "-c", 'trap "" INT; exec "$0" "$@"')),  # as a shell starts a job in the background
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(number, before, uninterrupted, tmp_path, capsys):
    folder = tmp_path / "run"
    process = started(folder, *before)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said == f"stopped; everything is saved. Go on with: python -m neurosim run resume={folder}\n"
    assert (folder / "metrics.csv").read_bytes() != (uninterrupted / "metrics.csv").read_bytes()
    _, meta = load(folder / "checkpoint.npz")
    assert 0 < meta["presentation"] <= 60  # stopped inside an epoch
    assert main(["run", f"resume={folder}"]) == 0
    assert "going on in epoch" in capsys.readouterr().out
    for name in ("metrics.csv", "result.json"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    (state, meta), (other_state, other_meta) = (load(one / "checkpoint.npz") for one in (folder, uninterrupted))
    assert equal(state, other_state)
    assert {**meta, "code version": None} == {**other_meta, "code version": None}
    ours, theirs = read_trace(folder), read_trace(uninterrupted)
    assert ours.names == theirs.names
    for name in ours.names:
        assert np.array_equal(ours.array(name), theirs.array(name)), name


def test_more_epochs_are_the_run_that_was_longer_from_the_start():
    run(*TINY, "folder=short")
    run("resume=short", "epochs=3")
    run(*[one for one in TINY if one != "epochs=1"], "epochs=3", "folder=long")
    assert Path("short", "metrics.csv").read_bytes() == Path("long", "metrics.csv").read_bytes()
    short, long = open_run("short").weights, open_run("long").weights
    assert all(np.array_equal(short[name], value) for name, value in long.items())
    assert open_run("short").config["epochs"] == 3


def test_a_finished_run_resumed_stays_as_it_is():
    run(*TINY, "folder=r")
    before = {name: Path("r", name).read_bytes() for name in ("metrics.csv", "checkpoint.npz", "result.json")}
    run("resume=r", "dtype=float32", "device=cpu")
    assert {name: Path("r", name).read_bytes() for name in before} == before
