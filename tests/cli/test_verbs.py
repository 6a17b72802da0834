"""The other verbs: what they print and write."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TINY

import neurosim
from neurosim import neuron
from neurosim.cli import VERBS, main
from neurosim.cli_config import names
from neurosim.cli_list import KINDS, first_sentence


def output(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


# ---- help ------------------------------------------------------------------------------------------------------------


def test_help_and_version(capsys):
    usage = output(capsys, "--help")
    assert usage == output(capsys)
    assert all(verb in usage for verb in VERBS)
    assert output(capsys, "--version") == f"neurosim {neurosim.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb, capsys):
    assert f"python -m neurosim {verb}" in output(capsys, verb, "--help")


def test_help_of_run_has_every_setting(capsys):
    text = output(capsys, "run", "-h")
    for key in (
        "epochs",
        "batch",
        "vary",
        "orders",
        "seed",
        "replicas",
        "dt",
        "steps",
        "threads",
        "folder",
        "overwrite",
        "quiet",
    ):
        assert f"{key}: " in text
    assert "_target_" not in text


def test_from_a_shell():
    done = subprocess.run([sys.executable, "-m", "neurosim", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("neurosim ")


def test_control_c_while_the_packages_load():
    program = """
import runpy, sys
class Stop:
    def find_spec(self, name, *_):
        if name == "neurosim.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
runpy.run_module("neurosim", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "neurosim", "list"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.stderr == ""


# ---- list ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_list_has_one_line_each(kind, capsys):
    lines = output(capsys, "list", kind).splitlines()
    rows = KINDS[kind]()
    assert len(lines) == len(rows) > 0
    for line, (name, said) in zip(lines, rows, strict=True):
        assert line.split()[0] == name
        assert len(said) > 5, f"{name} has no description"


def test_list_of_everything(capsys):
    text = output(capsys, "list")
    for kind in KINDS:
        assert f"{kind}\n" in text
        assert output(capsys, "list", kind) in text
    assert "  xor" in text


def test_list_follows_the_files(capsys):
    for kind, group in (("tasks", "task"), ("rules", "rule"), ("networks", "network")):
        assert [line.split()[0] for line in output(capsys, "list", kind).splitlines()] == list(names(group))
    neurons = output(capsys, "list", "neurons")
    named = [line.split()[0] for line in neurons.splitlines() if not line.endswith("; in Python.")]
    assert named == list(names("neuron"))
    assert "AdEx" in neurons
    assert "PoissonSource" in neurons
    assert "Protocol" not in neurons
    for kind, group in (
        ("laterals", "lateral"),
        ("input_neurons", "input_neuron"),
        ("output_neurons", "output_neuron"),
    ):
        assert [line.split()[0] for line in output(capsys, "list", kind).splitlines()] == list(names(group))


def test_a_sentence_does_not_end_at_an_abbreviation():
    class Example:
        """As in Bellec et al. (2020), with a leak. And more."""

    assert first_sentence(Example) == "As in Bellec et al. (2020), with a leak."
    assert first_sentence(neuron.Relay).endswith(".")


# ---- show ------------------------------------------------------------------------------------------------------------


def test_show_says_what_run_would_build(capsys, tmp_path):
    text = output(capsys, "show", *TINY)
    assert "xor: 2 inputs, 2 classes" in text
    assert "40 training, 20 validation, 20 test examples" in text
    assert (
        "hidden0     10  LeakyRate(tau_mem=5, activation=relu, integration=exact), then LayerNorm(epsilon=1e-06)"
        in text
    )
    assert "input.rate -> hidden0.basal" in text
    assert "20 weights + 10 biases" in text
    assert "biohsic on input_hidden0, hidden0_hidden1" in text
    assert "delta on hidden1_output" in text
    assert "post slope x pre rate" in text
    assert "modulator   HSIC(of=rate, window=10" in text
    assert "one product per term over the whole batch" in text
    assert "rule.biohsic.lr = " in text
    assert "vary = [init]" in text
    assert not list(tmp_path.iterdir())


def test_show_of_spikes_and_composition(capsys):
    text = output(capsys, "show", "task=xor", "rule=biohsic+shuffled", "network=spiking")
    assert "LIF(tau_mem=" in text
    assert re.search(r"Shuffled\(modulator=HSIC\(of=trace\(spike, tau \d+ ms, mean, read after\)", text)


def test_show_of_a_neuron_and_a_lateral_by_name(capsys):
    text = output(capsys, "show", *TINY, "neuron=izhikevich", "lateral=k_winners", "network.neuron.d=6")
    assert "Izhikevich(a=0.02, b=0.2, c=-65, d=6, v_th=30" in text
    assert "then KWinners(k=2)" in text
    assert "network.neuron.a = 0.02" in text
    assert "network.neuron.tau_mem" not in text


def test_show_of_a_gradient_names_what_its_loss_is_of(capsys):
    """BPTT's loss is that of the run's own decoder."""
    for decoder, described in (("decoder=mean decoder.last=3", "Mean(last=3)"), ("decoder=last", "Last")):
        assert main(["show", "task=xor", "rule=bptt", "network=spiking", *decoder.split()]) == 0
        assert f"the cross_entropy loss of {described} of output, through all steps" in capsys.readouterr().out


def test_the_memory_that_show_gives(capsys):
    """Weights and biases of 2-3-2 units, two replicas of four bytes; twice as much for AdamW's moments."""
    text = output(capsys, "show", *TINY, "network.hidden=[3]", "dtype=float32")
    own = 4 * 2 * (2 * 3 + 3 + 3 * 2 + 2)
    wiring = 4 * 2 * (2 + 2 + 2 + 2)  # output -> prediction -> error <- target, error -> output
    assert f"weights      {own + wiring} bytes" in text
    assert f"transforms   {2 * own} bytes" in text
    assert re.search(r"evaluation   \d+\.\d kB +activity, input and output of 500 examples at once", text)
    assert f"weights      {2 * (own + wiring)} bytes" in output(
        capsys, "show", *TINY, "network.hidden=[3]", "dtype=float64"
    )


@pytest.mark.parametrize("experiment", names("experiment"))
def test_show_of_every_experiment(experiment, capsys):
    assert "settings (any of them" in output(capsys, "show", f"experiment={experiment}")


# ---- export and plot -------------------------------------------------------------------------------------------------


def test_export_writes_three_kinds(finished, tmp_path, capsys):
    for suffix in ("h5", "csv", "npz"):
        assert output(capsys, "export", str(finished), f"target=x.{suffix}") == f"x.{suffix}\n"
    with h5py.File(tmp_path / "x.h5") as file:
        assert file.attrs["schema"] == "neurosim-trace"
    assert (tmp_path / "x.csv").read_text().startswith("time,node,population,replica,neuron\n")
    with np.load(tmp_path / "x.npz") as file:
        assert any(name.startswith("spikes/hidden0") for name in file)


def test_export_of_a_trace_file(finished, tmp_path, capsys):
    output(capsys, "export", str(finished / "trace.h5"), "target=x.npz")
    assert (tmp_path / "x.npz").stat().st_size > 0


def test_plot_draws_again(finished, capsys):
    figures = sorted((finished / "figures").iterdir())
    before = {path: path.read_bytes() for path in figures}
    for path in figures:
        path.unlink()
    printed = [Path(line) for line in output(capsys, "plot", str(finished)).splitlines()]
    assert sorted(printed) == figures
    assert {path: path.read_bytes() for path in figures} == before
