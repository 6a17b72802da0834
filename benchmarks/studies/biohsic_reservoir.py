"""BioHSIC on XOR with its third factor from a reservoir in the loop, beside the analytic one and two nulls.

    python benchmarks/studies/biohsic_reservoir.py [--cells batch buffer ...] [--replicas 10] [--epochs 3]
    [--output docs/results/biohsic_reservoir.json]

Shown as the presets of task=xor rule=biohsic show it (form repository, AdamW 3e-3, 10 steps a window of 10 samples,
activity carried), replicas with their own weights, reservoirs and data orders. Cells:

    frozen      hidden layers stay as they are
    batch       the window is the batch (the published protocol): the newest sample alone moves the hidden weights
    buffer      every row of the batch is a stream and remembers its last samples; all ten move them
    silent      memory=reservoir with a readout of zeros that does not learn: xi = 0, only weight decay is left
    lms, hebb   memory=reservoir, its readout learns online all the time, by least mean squares or reward
    ahead       memory=reservoir; the readout learns (lms) during the first epoch while hidden layers stay as they are;
                then it stays as it is, and they learn from what it says

`relative error` says how well the readout gives the third factor to a hidden layer at the end of a presentation, the
moment that counts: sum (xi - m)^2 / sum m^2 over 20 presentations of the last epoch (1 is what a readout of zeros has),
before and after they have moved the readout ("first step", "last step"); in `ahead` the readout is put back after each.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosim.adapter import Hold, Mean
from neurosim.experiment import Experiment
from neurosim.lateral import LayerNorm
from neurosim.learner import Settings, SimulatorLearner
from neurosim.network import Layered, Network
from neurosim.neuron import LeakyRate
from neurosim.recorder import Probe
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.delta import Delta
from neurosim.rules.memory_reservoir import MemoryReservoir, memory_of, xi_of
from neurosim.stage import Stage
from neurosim.tasks.xor import Xor

CELLS = ("frozen", "batch", "buffer", "silent", "lms", "hebb", "ahead")
HIDDEN = ("hidden0", "hidden1")
OPTIMIZER: dict[str, Any] = {"lr": 3e-3, "when": "phase", "accumulate": "last"}


def scheme(cell: str, settings: MemoryReservoir) -> Any:
    """The rules of a cell."""
    if cell == "frozen":
        return Delta(**OPTIMIZER)
    memory = cell if cell in ("batch", "buffer") else "reservoir"
    if cell == "silent":
        settings = replace(settings, lr=0.0)
    if cell == "hebb":
        settings = replace(settings, learning="reward_modulated_hebb", lr=0.4 * settings.lr)
    return BioHSIC(window=10, form="repository", memory=memory, reservoir=settings, **OPTIMIZER)


def experiment(cell: str, epochs: int, replicas: int, seed: int, settings: MemoryReservoir) -> Experiment:
    """The run that a cell is, as the presets have it."""
    neuron = LeakyRate(tau_mem=5.0, activation="relu")
    return Experiment(
        task=Xor(),
        network=Layered(neuron, replace(neuron, activation="linear"), lateral=LayerNorm()),
        scheme=scheme(cell, settings),
        encoder=Hold(),
        decoder=Mean(),
        settings=Settings(steps=10, carry=True),
        epochs=epochs,
        batch=10,
        vary=("init", "order"),
        seed=seed,
        replicas=replicas,
        backend="cpu",
    )


def readouts(network: Network) -> tuple[str, ...]:
    """The readouts of the memory reservoirs that learn."""
    names = (f"{memory_of(name)}_{xi_of(name)}" for name in HIDDEN)
    plastic = [p.name for p in network.projections if p.rule is not None]
    return tuple(name for name in names if name in plastic)


def stages(cell: str, network: Network, epoch: int) -> Network:
    """The network with what learns in this epoch."""
    if cell != "ahead":
        return network
    memory = readouts(network)
    others = tuple(p.name for p in network.projections if p.rule is not None and p.name not in memory)
    output = tuple(name for name in others if network.projection(name).post == network.output)
    return network.with_trial((Stage("train", learn=(*memory, *output) if epoch == 1 else others),))


def relative_error(
    learner: SimulatorLearner, state: Any, x: Any, y: Any, rows: Any, put_back: bool
) -> dict[str, list[float]]:
    """See the module; by hidden layer, first and last step."""
    names = readouts(learner.network)
    if not names:
        return {}
    probes = [Probe(name, "modulator") for name in names] + [Probe(xi_of(name), "rate") for name in HIDDEN]
    total: dict[str, Any] = {name: np.zeros((2, 2)) for name in HIDDEN}
    for row in rows:
        samples = torch.arange(row.shape[1])
        stage = (Stage("train", learn=names),)
        phases = learner._phases("train", stage, x[row], y[row], samples)
        before = state.learned["weight"]
        state, recording = learner.simulator.run(state, phases, probes)
        if put_back:
            state = state._replace(learned={**state.learned, "weight": before})
        for hidden, name in zip(HIDDEN, names, strict=True):
            wrong, xi = recording[f"{name}.modulator"], recording[f"{xi_of(hidden)}.rate"]
            for index, step in enumerate((0, -1)):
                total[hidden][index] += (wrong[step] ** 2).sum(), ((wrong[step] + xi[step]) ** 2).sum()
    return {name: (value[:, 0] / value[:, 1]).tolist() for name, value in total.items()}


def run(cell: str, epochs: int, replicas: int, seed: int, settings: MemoryReservoir) -> dict[str, Any]:
    """One cell: test accuracy `[epochs + 1, R]`, and how well the readouts imitate."""
    wanted = experiment(cell, epochs + (cell == "ahead"), replicas, seed, settings)
    dataset, network = wanted.build()
    x, y, started = dataset.train.x, dataset.train.y, time.perf_counter()
    learner = wanted.learner(network)
    state = learner.init()
    scores = [learner.evaluate(state, dataset.test.x, dataset.test.y).accuracy.tolist()]
    for epoch in range(1, wanted.epochs + 1):
        learner = wanted.learner(stages(cell, network, epoch))
        order = wanted.order(len(x), epoch)
        last = wanted.presentations(len(x)) - (20 if epoch == wanted.epochs else 0)
        for k in range(last):
            rows = wanted.rows(order, k)
            state = learner.train_step(state, x[rows], y[rows], 0)
        scores.append(learner.evaluate(state, dataset.test.x, dataset.test.y).accuracy.tolist())
        print(cell, epoch, round(float(np.mean(scores[-1])), 4), round(time.perf_counter() - started), "s", flush=True)
    rest = [wanted.rows(order, k) for k in range(last, last + 20)]
    # What moves a readout that learns by reward is no error.
    error = {} if cell == "hebb" else relative_error(learner, state, x, y, rest, put_back=cell == "ahead")
    return {"accuracy": scores, "relative error (first step, last step)": error}


def main() -> None:
    """Run the cells that the output does not have yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", nargs="*", default=CELLS, choices=CELLS)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=MemoryReservoir.lr)
    parser.add_argument("--scale", type=float, default=MemoryReservoir.scale)
    parser.add_argument("--output", type=Path, default=Path("docs/results/biohsic_reservoir.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    for cell in asked.cells:
        if cell not in done:
            settings = MemoryReservoir(lr=asked.lr, scale=asked.scale)
            done[cell] = run(cell, asked.epochs, asked.replicas, asked.seed, settings)
            done[cell]["asked"] = {"replicas": asked.replicas, "epochs": asked.epochs, "seed": asked.seed}
            asked.output.write_text(json.dumps(done, indent=1) + "\n")
        last = np.asarray(done[cell]["accuracy"][-1])
        half = 2.262 * last.std(ddof=1) / np.sqrt(len(last)) if len(last) == 10 else float("nan")
        print(f"{cell:8s} {100 * last.mean():.2f} +- {100 * half:.2f} % (worst {100 * last.min():.1f})")
        print(f"         {done[cell]['relative error (first step, last step)']}")


if __name__ == "__main__":
    main()
