"""Runs small enough to be made many times, and one that is made once and only read."""

from pathlib import Path

import pytest

from neurosim.cli import main

SMALL = [
    "task.train=40",
    "task.validation=20",
    "task.test=20",
    "evaluate_train=20",
    "settings.steps=5",
    "probe.samples=2",
    "settings.carry=false",
    "vary=[init]",
    "figures=false",
    "epochs=1",
    "limit=3",
    "replicas=2",
]
TINY = ["task=xor", "rule=biohsic", *SMALL]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Every command is given in an empty folder, without a data set lying around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEUROSIM_DATA", raising=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of a finished run with spikes; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    small = [one for one in TINY if one != "figures=false"]
    assert main(["run", *small, "network=spiking", f"folder={folder}", "quiet=true"]) == 0
    return folder
