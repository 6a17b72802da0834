"""The verb `bench`."""

import pytest

from neurosim import cli_bench
from neurosim.benchmark import Check
from neurosim.benchmark.layers import Layer
from neurosim.cli import main


def test_small(capsys):
    assert main(["bench", "dense", "reservoir", "size=small", "repeats=2", "backend=cpu,reference"]) == 0
    out = capsys.readouterr().out
    assert out.count("neurosim cpu") == out.count("neurosim reference") == 2
    assert "us per step" in out
    assert "peak MB" in out
    assert "VOID" not in out


def test_a_void_row_is_said_and_is_exit_code_1(capsys, monkeypatch):
    monkeypatch.setattr(Layer, "checks", {"rate": Check(0.9, 0.01)})
    assert main(["bench", "dense", "size=small", "repeats=1"]) == 1
    assert "VOID: rate is " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dens"], "there is no benchmark 'dens'; allowed: cuba_4k"),
        (["gpu_scan"], "benchmark 'gpu_scan' (the scan of that layer alone, without its matrix product) needs a GPU"),
        (["dense", "size=tiny"], "size is 'tiny'; allowed: full, small"),
        (["dense", "repeats=0"], "repeats is '0'; it must be a whole number of at least 1"),
        (["dense", "threads=two"], "threads is 'two'"),
        (["dense", "backend=gpu"], "there is no backend 'gpu'; allowed: cpu, triton, reference"),
        (["dense", "speed=9"], "there is no setting of bench 'speed'"),
        (["dense", "--fast"], "there is no option --fast"),
    ],
)
def test_bad_input_is_one_sentence(words, said, capsys, monkeypatch):
    monkeypatch.setattr(cli_bench, "_measure", None)
    assert main(["bench", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_help(capsys):
    assert main(["bench", "--help"]) == 0
    assert "three_factor_32" in capsys.readouterr().out
