"""`open_run`: everything in a run folder comes back, and what is none is one sentence."""

import numpy as np
import pytest
import torch
from test_storage import ATTRIBUTES, DT, KEPT, NEURONS, STEPS, expected_raster, write

from neurosim.checkpoint import save
from neurosim.run_folder import open_run
from neurosim.types import ConfigurationError

CSV = """epoch,replica,split,loss,accuracy
0,0,train,0.7,0.5
0,1,train,nan,0.25
1,0,validation,0.1,1.0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text("task:\n  name: xor\nseed: 0\n")
    (tmp_path / "metrics.csv").write_text(CSV)
    return tmp_path


def test_config_and_metrics(folder):
    run = open_run(str(folder))
    assert run.config == {"task": {"name": "xor"}, "seed": 0}
    assert run.metrics.dtype.names == ("epoch", "replica", "split", "loss", "accuracy")
    assert run.metrics["split"].tolist() == ["train", "train", "validation"]
    assert run.metrics["accuracy"].tolist() == [0.5, 0.25, 1.0]
    assert np.isnan(run.metrics["loss"][1])
    assert run.metrics["epoch"].dtype.kind == "i"


def test_weights(folder):
    weight = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    save(folder / "checkpoint.npz", {"learned": {"weight": {"in->hidden": weight}, "memory": {}}}, {})
    assert list(open_run(folder).weights) == ["in->hidden"]
    assert np.array_equal(open_run(folder).weights["in->hidden"], weight.numpy())


def test_recordings_rates_cv_and_psth(folder):
    raster = expected_raster(write(folder, segments=8))  # [T, trials, R, N]
    run = open_run(folder)
    assert run.recordings.attributes["config"] == ATTRIBUTES["config"]
    assert np.allclose(run.rates("hidden"), 1000 * raster.sum((0, 1)) / (raster.shape[0] * raster.shape[1] * DT))
    assert np.allclose(run.rates("hidden", epoch=2), 1000 * raster[:, 8:12].sum((0, 1)) / (4 * STEPS * DT))
    bins, values = run.psth("hidden", 1.0, phase="test")
    assert bins.tolist() == [0.0, 1.0, 2.0]
    assert values.shape == (3, len(KEPT), NEURONS)
    assert np.allclose(values[1], 1000 * raster[2:4].sum((0, 1)) / (raster.shape[1] * 2 * DT))

    wanted = np.full((len(KEPT), NEURONS), np.nan)
    for replica, neuron in np.ndindex(wanted.shape):
        found = []
        for trial in range(raster.shape[1]):
            intervals = np.diff(np.flatnonzero(raster[:, trial, replica, neuron]))
            if len(intervals) > 1:
                found.append(intervals.std() / intervals.mean())
        if found:
            wanted[replica, neuron] = np.mean(found)
    assert np.isfinite(wanted).sum() > 5
    assert np.allclose(run.cv("hidden"), wanted, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "content", "part", "sentence"),
    [
        ("metrics.csv", None, "metrics", "has not finished an epoch"),
        ("metrics.csv", "epoch,loss\n0,1\n", "metrics", "no column replica, split, accuracy"),
        ("metrics.csv", CSV + "2,0,test\n", "metrics", "damaged in line 5"),
        ("metrics.csv", CSV + "x,0,test,0,1\n", "metrics", "damaged in line 5"),
        ("config.yaml", "a: [", "config", "cannot be read as YAML"),
        ("config.yaml", "- 1\n", "config", "is no configuration"),
        ("checkpoint.npz", "text", "weights", "not a whole neurosim checkpoint"),
        ("checkpoint.npz", None, "weights", "there is no checkpoint"),
        ("trace.h5", "text", "recordings", "not a readable HDF5 file"),
        ("trace.h5", None, "recordings", "holds no trace"),
    ],
)
def test_missing_or_damaged_part_is_one_sentence(folder, name, content, part, sentence):
    if content is None:
        (folder / name).unlink(missing_ok=True)
    else:
        (folder / name).write_text(content)
    run = open_run(folder)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        getattr(run, part)
    assert "\n" not in str(caught.value)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(ConfigurationError, match=r"has no config\.yaml"):
        open_run(tmp_path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        open_run(tmp_path / "no")
