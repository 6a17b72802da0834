"""What learns: a simulator behind the few calls that an experiment needs.

Any torch module with an optimizer can be another learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from neurosim.adapter import Decoder, Encoder
from neurosim.backends import Simulator, State, compile
from neurosim.backends.learning import task_loss
from neurosim.network import Network
from neurosim.phase import Held, Phase
from neurosim.random import Stream
from neurosim.recorder import Probe, Recording
from neurosim.types import DTYPES, Array, ConfigurationError, Tensor, choice, positive
from neurosim.wiring import TARGET


class Score(NamedTuple):
    """Mean loss `[R]` and accuracy `[R]` (a part of 1) over examples."""

    loss: Array
    accuracy: Array


class Learner(Protocol):
    """`state` is opaque: nested dictionaries and tuples of tensors and numbers, so that a checkpoint can hold it."""

    def init(self) -> Any: ...

    def train_step(self, state: Any, x: Array, y: Array, first_sample: int) -> Any: ...

    def evaluate(self, state: Any, x: Array, y: Array) -> Score: ...


@dataclass(frozen=True)
class Settings:
    """How examples become time.

    `steps` of simulation per example; `carry` keeps the activity from one presentation to the next (else it starts at
    rest); `start` of an evaluation: "rest", or "training" (the rows of the training state, repeated, as the original
    BioHSIC code does); `evaluate_batch` examples are evaluated at once.
    """

    steps: int
    carry: bool = False
    start: str = "rest"
    evaluate_batch: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigurationError(f"{name} is {value!r}; it must be a whole number >= 1")
            positive(value, name)
        choice(self.start, ("rest", "training"), "start")


class SimulatorLearner:
    """A network on a backend, with an encoder in front and a decoder behind."""

    def __init__(
        self,
        network: Network,
        encoder: Encoder,
        decoder: Decoder,
        settings: Settings,
        *,
        batch: int,
        dt: float,
        replicas: int,
        seed: int,
        dtype: str,
        device: str,
        backend: str,
    ):
        self.network, self.encoder, self.decoder, self.settings = network, encoder, decoder, settings
        self.batch, self.dt, self.seed = batch, dt, seed
        self.simulator: Simulator = compile(
            network, dt, replicas=replicas, seed=seed, backend=backend, dtype=dtype, device=device
        )
        self.dtype, self.device = DTYPES[dtype], torch.device(device)
        self.replica_ids = torch.arange(replicas, device=self.device)
        self.classes = network[network.output].units
        self.readout = Probe(network.output, network[network.output].axon)

    def init(self) -> State:
        return self.simulator.init(self.batch)

    def train_step(self, state: State, x: Array, y: Array, first_sample: int) -> State:
        """Show one batch: `x [R or 1, B, D]`, `y [R or 1, B]`; `first_sample` addresses the encoder's noise."""
        if not self.settings.carry:
            state = self.simulator.fresh(state)
        samples = torch.arange(first_sample, first_sample + x.shape[1], device=self.device)
        state, _ = self.simulator.run(state, self._phase("train", x, y, samples, learn=True))
        return state

    def evaluate(self, state: State, x: Array, y: Array) -> Score:
        """Loss and accuracy over `x [n, D]`, `y [n]` (or `[R, n]`), without learning; the state is not touched."""
        loss, right = [], []
        for start in range(0, len(x), self.settings.evaluate_batch):
            rows = slice(start, start + self.settings.evaluate_batch)
            label = torch.as_tensor(np.atleast_2d(y)[:, rows], device=self.device)
            value, _ = self.respond(state, x[rows], label.cpu().numpy(), start)
            loss.append(task_loss(value, self._one_hot(label), "cross_entropy"))
            right.append(value.argmax(-1) == label)
        return Score(
            torch.cat(loss, -1).mean(-1).double().cpu().numpy(), torch.cat(right, -1).double().mean(-1).cpu().numpy()
        )

    def respond(
        self, state: State, x: Array, y: Array, first_sample: int, probes: Sequence[Probe] = ()
    ) -> tuple[Tensor, Recording]:
        """Decoded output `[R, B, classes]` for `x [B, D]`, and what `probes` ask for."""
        start = self._start(state, len(x))
        samples = torch.arange(first_sample, first_sample + len(x), device=self.device)
        phase = self._phase("test", x[None], np.atleast_2d(y), samples, learn=False)
        wanted = {
            probe.key: probe for probe in (*probes, self.readout)
        }  # the readout last: every step of every unit of it
        _, recording = self.simulator.run(start, phase, tuple(wanted.values()))
        output = torch.as_tensor(recording[self.readout.key], device=self.device)
        return self.decoder(output, self.dt), recording.only(probe.key for probe in probes)

    def _start(self, state: State, rows: int) -> State:
        if self.settings.start == "rest":
            return self.simulator.fresh(state, rows)
        return self.simulator.repeat(state, rows)

    def _phase(self, name: str, x: Array, y: Array, samples: Tensor, learn: bool) -> Phase:
        values = torch.as_tensor(np.ascontiguousarray(x), dtype=self.dtype, device=self.device).flatten(2)
        one_hot = self._one_hot(torch.as_tensor(y, device=self.device))
        stream = Stream(self.seed, f"encoder/{name}")
        values = values[0] if values.shape[0] == 1 else values  # one order for all replicas, or one each
        drive = {
            self.network.input: self.encoder(values, self.settings.steps, self.dt, stream, self.replica_ids, samples)
        }
        signals = {"input": values, "label": one_hot[0] if one_hot.shape[0] == 1 else one_hot}
        if learn and self.network.has(TARGET):
            drive[TARGET] = Held(signals["label"])
        return Phase(name, self.settings.steps, drive, signals, learn=learn, samples=samples)

    def _one_hot(self, label: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(label.long(), self.classes).to(self.dtype)
