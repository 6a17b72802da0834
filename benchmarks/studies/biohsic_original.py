"""The original BioHSIC protocol on linear and XOR: the published form beside frozen layers and the other two forms.

    python benchmarks/studies/biohsic_original.py [--cells xor:published:255:150 ...] [--output
    docs/results/biohsic_original.json]

Protocol (Daruwalla, Lipasti 2024, and the authors' code): the original 900 + 100 points, leaky rate units (tau 5 ms,
Euler, dt 1 ms) with layer norm, windows of N = 10 samples sliding by one, 20 steps and 20 AdamW updates (1e-4) a
window, 25 epochs, potentials carried over. Test accuracy of every epoch from the training state (as the original) and
from rest. Replicas come in five groups with their own data order; initialisations differ in all. A cell is
task:rule:divide_by:replicas. Writes each cell as it ends, so the study can be stopped and goes on where it was.
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
from neurosim.learner import Settings
from neurosim.network import Layered
from neurosim.neuron import LeakyRate
from neurosim.rules.biohsic import BioHSIC
from neurosim.rules.delta import Delta
from neurosim.tasks.linear import Linear
from neurosim.tasks.xor import Xor

HIDDEN = {"linear": (4,), "xor": (10, 4)}
SIGMAS = {"linear": (0.5, 0.25, 1.0), "xor": (0.3, 0.25, 2.0)}
GROUPS = 5
PUBLISHED = [f"{task}:{rule}:255:150" for task in ("xor", "linear") for rule in ("published", "frozen")]
OTHERS = [f"{task}:{rule}:255:30" for task in ("xor", "linear") for rule in ("exact", "repository")]
OTHERS += [
    f"{task}:{rule}:1:30" for task in ("xor", "linear") for rule in ("published", "exact", "repository", "frozen")
]


def experiment(task: str, rule: str, divide_by: float, replicas: int, seed: int, backend: str = "cpu") -> Experiment:
    """One cell of the table."""
    adamw = {"lr": 1e-4, "optimizer": "adamw", "beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-4, "when": "step"}
    sigma_x, sigma_y, sigma_z = SIGMAS[task]
    scheme: Any = Delta(**adamw)
    if rule != "frozen":
        scheme = BioHSIC(window=10, form=rule, gamma=10.0, sigma_x=sigma_x, sigma_y=sigma_y, sigma_z=sigma_z, **adamw)
    hidden = LeakyRate(tau_mem=5.0, activation="relu", integration="euler")
    output = LeakyRate(tau_mem=5.0, activation="linear", integration="euler")
    return Experiment(
        task={"xor": Xor, "linear": Linear}[task](original=True, divide_by=divide_by),
        network=Layered(hidden, output, hidden=HIDDEN[task], lateral=LayerNorm()),
        scheme=scheme,
        encoder=Hold(),
        decoder=Mean(last=10),
        settings=Settings(steps=20, carry=True, start="training"),
        epochs=25,
        batch=10,
        vary=("init", "order"),
        orders=GROUPS,
        seed=seed,
        replicas=replicas,
        backend=backend,
    )


def run(cell: str, seed: int) -> dict[str, Any]:
    """Test accuracy `[epoch, replica]` of a cell, evaluated from the training state and from rest."""
    task, rule, divide_by, replicas = cell.split(":")
    spec = experiment(task, rule, float(divide_by), int(replicas), seed)
    dataset, network = spec.build()
    learner = spec.learner(network)
    state = learner.init()
    accuracy: dict[str, list[list[float]]] = {"training": [], "rest": []}
    started = time.time()
    for epoch in range(spec.epochs + 1):
        if epoch:
            order = spec.order(len(dataset.train), epoch)
            for presentation in range(spec.presentations(len(dataset.train))):
                rows = spec.rows(order, presentation)
                state = learner.train_step(state, dataset.train.x[rows], dataset.train.y[rows], 0)
        for start, scores in accuracy.items():
            learner.settings = replace(spec.settings, start=start)
            scores.append(learner.evaluate(state, dataset.test.x, dataset.test.y).accuracy.tolist())
        print(
            f"{cell} epoch {epoch}: {100 * np.mean(accuracy['training'][-1]):.1f} %, {time.time() - started:.0f} s",
            flush=True,
        )
    return {"cell": cell, "seed": seed, "groups": GROUPS, "minutes": (time.time() - started) / 60, **accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", default=PUBLISHED + OTHERS)
    parser.add_argument("--output", type=Path, default=Path("docs/results/biohsic_original.json"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for cell in arguments.cells:
        if cell not in done:
            done[cell] = run(cell, arguments.seed)
            arguments.output.write_text(json.dumps(done))


if __name__ == "__main__":
    main()
