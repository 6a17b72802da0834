"""Figures: what is drawn is what was given, as PNG, without pyplot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.stats import t

from neurosim import figure
from neurosim.interval import mean_and_interval, student_quantile
from neurosim.run_folder import METRICS
from neurosim.types import ConfigurationError


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures: list[Figure] = []
    save = figure._save
    monkeypatch.setattr(figure, "_save", lambda one, path: figures.append(one) or save(one, path))
    return figures


def metrics(epochs: int = 4, replicas: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = [
        (epoch, replica, split, random.random(), random.random())
        for epoch in range(epochs)
        for replica in range(replicas)
        for split in ("train", "test")
    ]
    return np.array(rows, METRICS)


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and imread(path).shape[1] == 700


def test_learning_curve_shows_mean_and_interval(tmp_path, drawn):
    table = metrics()
    assert is_png(figure.learning_curve(table, tmp_path / "a.png"))
    above, below = drawn[0].axes
    rows = table[table["split"] == "test"].reshape(4, 3)
    assert above.lines[1].get_label() == "test"
    assert np.allclose(above.lines[1].get_ydata(), 100 * rows["accuracy"].mean(1))
    assert np.allclose(below.lines[1].get_ydata(), rows["loss"].mean(1))
    band = below.collections[1].get_paths()[0].vertices
    half = t.ppf(0.975, 2) * rows["loss"].std(1, ddof=1) / np.sqrt(3)
    first = band[band[:, 0] == 0][:, 1]
    assert np.isclose(first.max() - first.min(), 2 * half[0])
    assert (above.get_ylabel(), below.get_ylabel(), below.get_xlabel()) == ("accuracy (%)", "loss", "epoch")
    assert "3 replicas" in above.get_title(loc="left")


def test_the_band_of_an_accuracy_stays_possible(tmp_path, drawn):
    table = metrics()
    table["accuracy"] = np.where(table["replica"] == 0, 0.01, 0.99)
    figure.learning_curve(table, tmp_path / "a.png")
    band = drawn[0].axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.0, 100.0)


def test_learning_curve_of_one_replica_one_epoch(tmp_path, drawn):
    assert is_png(figure.learning_curve(metrics(1, 1), tmp_path / "a.png"))
    assert drawn[0].axes[0].get_title(loc="left") == "one replica"
    assert drawn[0].axes[0].lines[0].get_marker() == "o"


def test_learning_curve_of_a_diverged_replica(tmp_path, drawn):
    table = metrics()
    table["loss"][table["replica"] == 1] = np.nan
    figure.learning_curve(table, tmp_path / "a.png")
    kept = table[(table["split"] == "train") & (table["replica"] != 1)].reshape(4, 2)
    assert np.allclose(drawn[0].axes[1].lines[0].get_ydata(), kept["loss"].mean(1))


def test_learning_curve_of_nothing(tmp_path):
    with pytest.raises(ConfigurationError, match="no metrics"):
        figure.learning_curve(metrics()[:0], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_raster_from_array_and_from_times(tmp_path, drawn):
    spikes = np.zeros((10, 3), bool)
    spikes[[1, 4, 4], [0, 0, 2]] = True
    assert is_png(figure.raster(spikes, tmp_path / "a.png", dt=0.5))
    assert is_png(figure.raster([np.array([1.0, 2.5]), np.array([]), np.array([2.5])], tmp_path / "b.png"))
    for one in drawn:
        lines = one.axes[0].lines
        assert [line.get_xdata().tolist() for line in lines] == [[1.0, 2.5], [], [2.5]]
        assert [set(line.get_ydata()) for line in lines] == [{0}, set(), {2}]
        assert one.axes[0].get_title(loc="left") == "3 spikes of 3 neurons"
    with pytest.raises(ConfigurationError, match="needs its dt"):
        figure.raster(spikes, tmp_path / "c.png")


def test_weights_diverge_from_zero(tmp_path, drawn):
    assert is_png(figure.weights(np.array([[0.5, -2.0], [np.nan, 1.0]]), tmp_path / "a.png"))
    image = drawn[0].axes[0].images[0]
    assert image.get_clim() == (-2.0, 2.0)
    assert np.array_equal(image.get_array().filled(0), [[0.5, -2.0], [0, 1.0]])
    assert is_png(figure.weights(np.zeros((2, 2)), tmp_path / "b.png"))
    with pytest.raises(ConfigurationError, match="matrix"):
        figure.weights(np.zeros((1, 2, 2)), tmp_path / "c.png")


def test_activity(tmp_path, drawn):
    traces = np.random.default_rng(0).random((20, 30))
    assert is_png(figure.activity(traces, tmp_path / "a.png", dt=2.0, most=5))
    axes = drawn[0].axes[0]
    assert len(axes.lines) == 6
    assert np.allclose(axes.lines[-1].get_ydata(), traces.mean(1))
    assert axes.lines[0].get_xdata()[-1] == 40.0
    with pytest.raises(ConfigurationError, match=r"\[T, N\]"):
        figure.activity(traces[0], tmp_path / "b.png", dt=1.0)


def test_same_figure_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        figure.learning_curve(metrics(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot write"):
        figure.weights(np.eye(2), tmp_path / "no" / "a.png")


def test_no_pyplot():
    ask = "import sys, neurosim.figure; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 29, 100, 999])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_student_quantile(freedom, level):
    assert np.isclose(student_quantile(freedom, level), t.ppf((1 + level) / 2, freedom), rtol=1e-10, atol=0)


def test_mean_and_interval():
    values = np.random.default_rng(0).random((2, 5))
    mean, half = mean_and_interval(values, axis=1)
    assert np.allclose(mean, values.mean(1))
    low, high = t.interval(0.95, 4, values.mean(1), values.std(1, ddof=1) / np.sqrt(5))
    assert np.allclose([mean - half, mean + half], [low, high])
    assert np.isnan(mean_and_interval(values[:1])[1]).all()
    assert np.isnan(mean_and_interval(values[:, :2], axis=1)[1]).all()
    assert not np.isnan(mean_and_interval(values[:, :3], axis=1)[1]).any()
