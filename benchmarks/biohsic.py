"""BioHSIC on XOR: the published protocol (30 replicas) and the main job, each backend with the same seeds."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.benchmark import Check, Contender, in_process
from neurosim.benchmark.work import Limit
from neurosim.cli_run import run

sys.path.insert(0, str(Path(__file__).parent / "studies"))
from biohsic_original import experiment

NO_LIMIT: Limit = float("nan"), "not known: the work is many small steps, not one operation"


@dataclass(frozen=True)
class Protocol:
    """Some presentations of the published protocol, scaled to its 25 epochs (training, without the evaluations)."""

    presentations: int = 60
    replicas: int = 30
    epochs: int = 25
    unit: str = "s per 25 epochs, scaled up"

    @property
    def about(self) -> str:
        return f"BioHSIC XOR, published protocol, {self.replicas} replicas, {self.presentations} presentations measured"

    @cached_property
    def spec(self) -> Any:
        return experiment("xor", "published", 255.0, self.replicas, 0, "cpu")

    @property
    def scale(self) -> float:
        return self.epochs * self.spec.presentations(900) / self.presentations

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        return {"weight": Check(self.own("reference").sample().values["weight"], 1e-3)}

    def own(self, backend: str) -> Contender:
        spec = experiment("xor", "published", 255.0, self.replicas, 0, backend)
        dataset, network = spec.build()
        learner = spec.learner(network)
        start, order = learner.init(), spec.order(len(dataset.train), 1)
        rows = np.concatenate([spec.rows(order, presentation) for presentation in range(self.presentations)], axis=1)

        def train() -> Any:  # in one call, as the run loop does
            return learner.train_batches(start, dataset.train.x[rows], dataset.train.y[rows], 0)

        def read(state: Any) -> dict[str, Any]:
            weights = [weight.numpy().reshape(-1) for weight in state.learned["weight"].values()]
            return {"weight": np.concatenate(weights).astype(float)}

        return in_process(f"neurosim {backend}", train, read, own=True)

    def limit(self) -> Limit:
        return NO_LIMIT


@dataclass(frozen=True)
class MainJob:
    """`python -m neurosim run task=xor rule=biohsic`, without figures and traces, inside one process."""

    epochs: int = 2
    unit: str = "s"
    scale: float = 1.0

    @property
    def about(self) -> str:
        return f"run task=xor rule=biohsic epochs={self.epochs}, all else as it is"

    @cached_property
    def checks(self) -> Mapping[str, Check]:
        return {"accuracy": Check(self.own("reference").sample().values["accuracy"], 0.02)}

    def own(self, backend: str) -> Contender:
        words = f"task=xor rule=biohsic backend={backend} epochs={self.epochs} probe=none quiet=true figures=false"

        def job() -> Any:
            with tempfile.TemporaryDirectory() as folder:
                return run([*words.split(), f"folder={folder}/run"])

        def read(result: Any) -> dict[str, float]:
            last = (result.metrics["epoch"] == result.epochs) & (result.metrics["split"] == "test")
            return {"accuracy": float(np.mean(result.metrics["accuracy"][last]))}

        return in_process(f"neurosim {backend}", job, read, own=True)

    def limit(self) -> Limit:
        return NO_LIMIT
