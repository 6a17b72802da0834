"""Pictures of a run as PNG files; no display, no global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurosim.durable import replacing
from neurosim.interval import FEWEST, mean_and_interval
from neurosim.types import Array, ConfigurationError

DPI = 100
SPLITS = {"train": "#4477aa", "validation": "#ccbb44", "test": "#aa3377"}  # Paul Tol's colours: told apart by everyone
INK = "#222222"
LAYERS = ("#4477aa", "#aa3377", "#228833", "#ccbb44", "#66ccee", "#ee6677")


def learning_curve(metrics: Array, path: Path | str, title: str = "Learning curve") -> Path:
    """Accuracy and loss over epochs, mean over replicas with its 95 % interval as a band.

    `metrics` is a structured array with the columns epoch, replica, split, loss and accuracy (a part of 1).
    """
    figure, (above, below) = _figure(title, rows=2, height=5.6)
    for split, colour in SPLITS.items():
        rows = metrics[metrics["split"] == split]
        if len(rows):
            _curve(above, rows, "accuracy", 100.0, split, colour, within=(0.0, 100.0))
            _curve(below, rows, "loss", 1.0, split, colour, within=(-np.inf, np.inf))
    if not above.lines:
        raise ConfigurationError(f"no metrics to draw for {path}; a split is one of {', '.join(SPLITS)}")
    above.set_ylabel("accuracy (%)")
    below.set_ylabel("loss")
    below.set_xlabel("epoch")
    above.legend(frameon=False, loc="lower right")
    for axes in (above, below):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(np.unique(metrics["epoch"])) == 1:
            axes.set_xlim(metrics["epoch"][0] - 1, metrics["epoch"][0] + 1)
    replicas = len(np.unique(metrics["replica"]))
    what = "mean and 95 % interval" if replicas >= FEWEST else "mean"
    words = f"{what} over {replicas} replicas" if replicas > 1 else "one replica"
    above.set_title(words, fontsize=9, color=INK, loc="left")
    return _save(figure, path)


def credit(rows: Array, path: Path | str, title: str = "Update and gradient") -> Path:
    """Cosine (with its 95 % interval) and norm ratio of each layer's update and the gradient over epochs, means over
    replicas; dashed: the third factor dealt to random neurons, dotted: a random direction.

    `rows` is a structured array with the columns of `neurosim.inspect.credit`.
    """
    figure, (above, below) = _figure(title, rows=2, height=5.6)
    for index, layer in enumerate(dict.fromkeys(rows["layer"].tolist())):
        colour = LAYERS[index % len(LAYERS)]
        own = rows[rows["layer"] == layer]
        _curve(above, own, "cosine", 1.0, layer, colour, within=(-1.0, 1.0))
        _null(above, own, "cosine_random", colour, ":")
        _null(below, own, "norm_ratio", colour, "-")
        for axes, name in ((above, "cosine_shuffled"), (below, "norm_ratio_shuffled")):
            _null(axes, own, name, colour, "--")
    above.axhline(0.0, color=INK, linewidth=0.6)
    above.set_ylabel("cosine")
    below.set_ylabel("norm of the update / of the gradient")
    below.set_xlabel("epoch")
    if bool((rows["norm_ratio"] > 0).any()):
        below.set_yscale("log")
    above.legend(frameon=False, fontsize=8)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    words = "dashed: shuffled third factor, dotted: random direction"
    above.set_title(words, fontsize=9, color=INK, loc="left")
    return _save(figure, path)


def raster(spikes: Sequence[Array] | Array, path: Path | str, dt: float | None = None, title: str = "Spikes") -> Path:
    """Spike raster from times in ms (one array per neuron), or from an array `[T, N]` with its `dt` in ms."""
    if isinstance(spikes, np.ndarray) and spikes.ndim == 2:
        if dt is None:
            raise ConfigurationError("a raster [T, N] needs its dt in ms")
        times = [(np.flatnonzero(column) + 1) * dt for column in spikes.T]
        end = len(spikes) * dt
    else:
        times = [np.asarray(train, dtype=float) for train in spikes]
        end = 1.02 * max((float(train.max()) for train in times if len(train)), default=1.0)
    figure, (axes,) = _figure(title)
    size = float(np.clip(250.0 / max(1, len(times)), 1.0, 12.0))
    for neuron, train in enumerate(times):
        axes.plot(train, np.full(len(train), neuron), "|", color=INK, markersize=size, markeredgewidth=1.0)
    axes.set(xlabel="time (ms)", ylabel="neuron", xlim=(0, end), ylim=(-0.5, max(1, len(times)) - 0.5))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{sum(map(len, times))} spikes of {len(times)} neurons", fontsize=9, color=INK, loc="left")
    return _save(figure, path)


def weights(values: Array, path: Path | str, title: str = "Weights") -> Path:
    """A weight matrix `[P, Q]` in colours that diverge from zero; anything flatter or deeper is an error."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise ConfigurationError(f"a weight picture needs a matrix [post, pre], got shape {values.shape}")
    finite = np.abs(values[np.isfinite(values)])
    limit = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    figure, (axes,) = _figure(title)
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    axes.set(xlabel="pre-synaptic neuron", ylabel="post-synaptic neuron")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.colorbar(image, ax=axes, label="weight")
    words = f"{values.shape[0]} x {values.shape[1]}, mean {np.nanmean(values):.3g}, sd {np.nanstd(values):.3g}"
    axes.set_title(words, fontsize=9, color=INK, loc="left")
    return _save(figure, path)


def activity(
    traces: Array, path: Path | str, dt: float, title: str = "Activity", label: str = "rate", most: int = 12
) -> Path:
    """Traces `[T, N]` over time in ms (`dt` per row): the first `most` neurons as lines, the mean of all in black."""
    traces = np.asarray(traces, dtype=float)
    if traces.ndim != 2:
        raise ConfigurationError(f"an activity picture needs traces [T, N], got shape {traces.shape}")
    figure, (axes,) = _figure(title)
    time = (np.arange(len(traces)) + 1) * dt
    shown = min(most, traces.shape[1])
    axes.plot(time, traces[:, :shown], color=SPLITS["train"], linewidth=0.8, alpha=0.6)
    axes.plot(time, traces.mean(1), color=INK, linewidth=2.0)
    axes.set(xlabel="time (ms)", ylabel=label, xlim=(0, max(dt, len(traces) * dt)))
    words = f"blue: {shown} of {traces.shape[1]} neurons, black: mean of all"
    axes.set_title(words, fontsize=9, color=INK, loc="left")
    return _save(figure, path)


def _figure(title: str, rows: int = 1, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7.0, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, color=INK)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _curve(
    axes: Axes, rows: Array, column: str, factor: float, label: str, colour: str, within: tuple[float, float]
) -> None:
    """Mean over replicas against epoch, its band cut to what is possible; epochs with nothing finite are left out."""
    epochs, means, halves = [], [], []
    for epoch in np.unique(rows["epoch"]):
        values = factor * rows[column][rows["epoch"] == epoch]
        values = values[np.isfinite(values)]
        if len(values):
            mean, half = mean_and_interval(values)
            epochs.append(epoch)
            means.append(float(mean))
            halves.append(float(half))
    mark = "o" if len(epochs) < 2 else ""
    axes.plot(epochs, means, color=colour, label=label, linewidth=1.8, marker=mark)
    low, high = np.subtract(means, halves).clip(*within), np.add(means, halves).clip(*within)
    axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)


def _null(axes: Axes, rows: Array, column: str, colour: str, style: str) -> None:
    """Mean over replicas, without a band; epochs with nothing finite are left out."""
    epochs = np.unique(rows["epoch"])
    values = [rows[column][rows["epoch"] == epoch] for epoch in epochs]
    finite = [(epoch, value[np.isfinite(value)].mean()) for epoch, value in zip(epochs, values, strict=True)
              if np.isfinite(value).any()]  # fmt: skip
    if finite:
        axes.plot(*zip(*finite, strict=True), color=colour, linestyle=style, linewidth=1.0)


def _save(figure: Figure, path: Path | str) -> Path:
    path = Path(path)
    with replacing(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return path
