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
from neurosim.network import Network
from neurosim.phase import Phase, staged
from neurosim.random import Stream
from neurosim.recorder import Probe, Recording
from neurosim.sequence import Scores, Target, decoded, encoded, held, target
from neurosim.stage import Stage
from neurosim.types import DTYPES, Array, ConfigurationError, Tensor, choice, positive
from neurosim.wiring import ERROR, TARGET, UNTAUGHT


class Score(NamedTuple):
    """Mean loss `[R]` and accuracy `[R]` (a part of 1) over examples; see `neurosim.sequence.Scores`."""

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
        self.inputs, self.outputs = network[network.input].units, network[network.output].units
        self.readout = Probe(network.output, network[network.output].axon)

    def init(self) -> State:
        return self.simulator.init(self.batch)

    def train_step(self, state: State, x: Array, y: Array, first_sample: int) -> State:
        """`train` without a recording."""
        return self.train(state, x, y, first_sample)[0]

    def train(
        self, state: State, x: Array, y: Array, first_sample: int, probes: Sequence[Probe] = ()
    ) -> tuple[State, Recording]:
        """Show one batch: `x [R or 1, B, ...]`, `y [R or 1, B, ...]`; `first_sample` addresses the encoder's noise.

        The stages of the network's trial are run one after the other, all on this batch, encoded once.
        """
        if not self.settings.carry:
            state = self.simulator.fresh(state)
        samples = torch.arange(first_sample, first_sample + x.shape[1], device=self.device)
        phases = self._phases("train", self.network.trial, x, y, samples)
        state, recording = self.simulator.run(state, phases, tuple(probes))
        return state, recording

    def train_batches(self, state: State, x: Array, y: Array, first_sample: int) -> State:
        """`train_step` on one batch after the other: `x [R or 1, K * B, ...]`, `y` alike; the same bits."""
        samples = torch.arange(first_sample, first_sample + x.shape[1], device=self.device)
        phases = self._phases("train", self.network.trial, x, y, samples)
        return self.simulator.run_batches(state, phases, rest=not self.settings.carry)

    def evaluate(self, state: State, x: Array, y: Array) -> Score:
        """Loss and accuracy over `x [n, ...]`, without learning; the state is not touched.

        `y [n]`, or with replicas in front: `[R or 1, n]`, and for sequences `[R or 1, n, T]` or `[R or 1, n, T, K]`.
        """
        scores, y = Scores(), _with_replicas(y)
        for start in range(0, len(x), self.settings.evaluate_batch):
            rows = slice(start, start + self.settings.evaluate_batch)
            value, _ = self._respond(state, x[rows], y[:, rows], start)
            scores.add(value, self._target(y[:, rows]))
        return Score(*scores.result())

    def respond(
        self, state: State, x: Array, y: Array, first_sample: int, probes: Sequence[Probe] = ()
    ) -> tuple[Tensor, Recording]:
        """Decoded output `[R, B, K]` for `x [B, ...]` (`[T, R, B, K]` where `y` has a target per row), and what
        `probes` ask for.
        """
        value, recording = self._respond(state, x, _with_replicas(y), first_sample, probes)
        return value[0] if len(value) == 1 else value, recording

    def _respond(
        self, state: State, x: Array, y: Array, first_sample: int, probes: Sequence[Probe] = ()
    ) -> tuple[Tensor, Recording]:
        start = self._start(state, len(x))
        samples = torch.arange(first_sample, first_sample + len(x), device=self.device)
        phases = self._phases("test", (self.network.test,), x[None], y, samples)
        wanted = {
            probe.key: probe for probe in (*probes, self.readout)
        }  # the readout last: every step of every unit of it
        _, recording = self.simulator.run(start, phases, tuple(wanted.values()))
        output = torch.as_tensor(recording[self.readout.key], device=self.device)
        value = decoded(self.decoder, output, len(self._target(y).value), self.dt)
        return value, recording.only(probe.key for probe in probes)

    def _start(self, state: State, rows: int) -> State:
        if self.settings.start == "rest":
            return self.simulator.fresh(state, rows)
        return self.simulator.repeat(state, rows)

    def _phases(self, use: str, stages: Sequence[Stage], x: Array, y: Array, samples: Tensor) -> tuple[Phase, ...]:
        """The phases of a trial on one batch; `use` "train" | "test" names the encoder's stream."""
        values = torch.as_tensor(np.ascontiguousarray(x), dtype=self.dtype, device=self.device).flatten(2)
        wanted = self._target(y)
        stream = Stream(self.seed, f"encoder/{use}")
        values = values[0] if values.shape[0] == 1 else values  # one order for all replicas, or one each
        signals = {"input": values, "label": wanted.mean[0] if wanted.mean.shape[0] == 1 else wanted.mean}
        shown = {
            steps: Phase(use, steps, self._drive(values, wanted, steps, stream, samples), signals, samples=samples)
            for steps in {stage.steps or self.settings.steps for stage in stages}
        }
        return tuple(staged(stage, shown[stage.steps or self.settings.steps]) for stage in stages)

    def _drive(self, values: Tensor, wanted: Target, steps: int, stream: Stream, samples: Tensor) -> dict[str, Any]:
        """What drives the input and, where a rule has put them there, the target and the silence of the error."""
        of_input = encoded(self.encoder, values, self.inputs, steps, self.dt, stream, self.replica_ids, samples)
        drive: dict[str, Any] = {self.network.input: of_input}
        if self.network.has(TARGET):
            drive[TARGET] = held(wanted.value, steps)
        if self.network.has(ERROR) and not bool(wanted.given.all()):
            silence = (1.0 - wanted.given)[..., None].expand(wanted.value.shape)
            drive[UNTAUGHT] = held(silence, steps)
        return drive

    def _target(self, y: Array) -> Target:
        return target(y, self.outputs, self.dtype, self.device)


def _with_replicas(y: Array) -> Array:
    """Targets with an axis of replicas in front; labels `[n]` and values `[n, T, K]` are the same for all."""
    one_for_all = y.ndim == (1 if np.issubdtype(y.dtype, np.integer) else 3)
    return y[None] if one_for_all else y
