"""The pictures of a run: learning curve, activity of recorded trials, weights. Drawn from the folder alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neurosim import figure
from neurosim.run_folder import Run, open_run

TRIALS = 5  # recorded trials that a picture of activity shows, one after the other


def plot(folder: Path) -> list[Path]:
    """Draw the figures of a run into `folder/figures`; return their paths."""
    run = open_run(folder)
    target = Path(folder) / "figures"
    target.mkdir(exist_ok=True)
    return [
        figure.learning_curve(run.metrics, target / "learning_curve.png"),
        *_credit(run, target),
        *_activity(run, target),
        *_weights(run, target),
    ]


def _credit(run: Run, target: Path) -> Iterator[Path]:
    if (run.folder / "credit.csv").is_file():
        yield figure.credit(run.credit, target / "credit.png")


def _activity(run: Run, target: Path) -> Iterator[Path]:
    """The first test trials of the last recorded epoch, replica 0: spikes as a raster, anything else as lines."""
    if not (run.folder / "trace.h5").exists() or not any(name.startswith("trials/") for name in run.recordings.names):
        return
    trace = run.recordings
    trials = trace.trials[(trace.trials["replica"] == trace.replicas[0]) & (trace.trials["phase"] == "test")]
    if not len(trials):
        return
    epoch = int(trials["epoch"].max())
    shown = trials[trials["epoch"] == epoch][:TRIALS]
    begin, end = float(shown["start"].min()), float(shown["stop"].max())
    what = f"epoch {epoch}, {len(shown)} test samples in a row, replica 0"
    for population in trace.populations:
        raster = trace.raster(population, epoch=epoch, phase="test")[:, : len(shown), 0]
        path = target / f"raster_{population}.png"
        flat = raster.swapaxes(0, 1).reshape(-1, raster.shape[-1])
        yield figure.raster(flat, path, trace.dt, title=f"Spikes of {population}, {what}")
    for name in sorted({name.split("/")[1] for name in trace.names if name.startswith("report/")}):
        attributes = trace.group_attributes(f"report/{name}")
        population, variable = str(attributes["population"]), str(attributes["field"])
        time, values = trace.report(population, variable)
        inside = (time > begin) & (time <= end + 1e-9)
        path = target / f"activity_{name}.png"
        title = f"{variable} of {population}, {what}"
        step = float(time[1] - time[0]) if len(time) > 1 else trace.dt
        yield figure.activity(values[inside, 0], path, step, title=title, label=variable)


def _weights(run: Run, target: Path) -> Iterator[Path]:
    for name, weight in run.weights.items():
        if weight.ndim == 3:
            yield figure.weights(weight[0], target / f"weights_{name}.png", title=f"Weights {name}, replica 0")
