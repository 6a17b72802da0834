"""The credit monitor: does the change that a rule asks for point where the gradient of the loss points?

For every layer with a rule (a projection on a driving path to the output), with the weights as they are and over some
batches of examples:

    u = sum of G over the batches: what the rule gathers, before rates and optimizers
    g = sum of -dLoss/dw of the same batches, through all steps of a presentation (a spike has its surrogate derivative)

    cosine = u.g / (|u| |g|),    norm_ratio = |u| / |g|

Two nulls stand beside them: the same rule with its third factor dealt to random neurons of the layer, anew in every
step (`cosine_shuffled`, `norm_ratio_shuffled`; NaN for a rule without one), and a random direction (`cosine_random`,
normal numbers; its size says how large a cosine is by chance alone: about 1 / sqrt(number of weights)).

Rates, optimizers and everything else that acts synapse by synapse on the change are left out of u, transforms that look
at neighbouring synapses are kept. Constraints and biases are left out. Nothing that is measured touches the run: the
monitor has simulators of its own on the backend `reference`, in which no weight moves. Its presentations begin as the
run's first one does, at rest; the loss is cross-entropy of the decoded output.

What is compared is alignment with a gradient that a local rule need not follow: a rule may learn with a small cosine
(feedback alignment does at first), and one without a teacher is not meant to have a large one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from neurosim.adapter import Decoder
from neurosim.backends import State
from neurosim.learner import SimulatorLearner
from neurosim.modulator import Shuffled
from neurosim.network import Network, Projection
from neurosim.random import Stream
from neurosim.rule import GradientRule, ThreeFactorRule
from neurosim.sequence import NO_LABEL
from neurosim.stage import TRAIN
from neurosim.types import Array, ConfigurationError, Tensor
from neurosim.vocabulary import fill

COLUMNS = (
    "epoch", "replica", "layer", "cosine", "norm_ratio", "cosine_shuffled", "norm_ratio_shuffled", "cosine_random",
)  # fmt: skip
CREDIT = np.dtype([(name, "i8" if name in COLUMNS[:2] else "U64" if name == "layer" else "f8") for name in COLUMNS])

Row = tuple[int, int, str, float, float, float, float, float]
Batch = tuple[Array, Array]  # x [1, B, ...], y [1, B, ...]


def _gather(change: Any, weight: Any, count: Any, gathered: Any) -> tuple[Any, Any]:
    return fill(change, 0.0), gathered + change


@dataclass(frozen=True)
class Gathered:
    """change <- 0; the memory `gathered` is the sum of all changes that came in."""

    pointwise: ClassVar[bool] = True
    memory: ClassVar[tuple[str, ...]] = ("gathered",)
    step = staticmethod(_gather)

    def constants(self) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True)
class OfRow:
    """A decoder that sees one of `rows` equal parts of the output."""

    decoder: Any
    rows: int
    row: int

    def __call__(self, output: Tensor, dt: float) -> Tensor:
        decoded: Tensor = self.decoder(output.split(len(output) // self.rows)[self.row], dt)
        return decoded


class CreditMonitor:
    """Measures `network`, whose rules are attached; `learner` makes a learner of a description (a simulator of the
    reference backend with the run's encoder), `decoder` is the run's. ConfigurationError where no layer has a rule, or
    the targets are no single label per example.
    """

    def __init__(
        self,
        network: Network,
        learner: Callable[[Network], SimulatorLearner],
        decoder: Decoder,
        batches: Sequence[Batch],
        seed: int,
    ):
        self.layers = [p.name for p in network.forward() if p.rule is not None]
        if not self.layers:
            raise ConfigurationError("no layer has a rule: there is no update that credit could compare")
        self.batches, self.seed = tuple(batches), seed
        self.shuffles = {p.name for p in network.projections if _third_factor(p.rule)}
        goal = GradientRule(_at_target(decoder, self.batches), output=network.output, transforms=(Gathered(),))
        self.local = learner(network.with_projections(_listening))
        self.shuffled = learner(network.with_projections(lambda p: _listening(_dealt(p))))
        self.gradient = learner(
            replace(
                network.with_projections(lambda p: replace(p, rule=goal if p.name in self.layers else None)),
                trial=(replace(TRAIN, noise=network.test.noise),),
            )
        )

    def measure(self, state: State, epoch: int) -> list[Row]:
        """One row per replica and layer, for the weights and clock of a training `state`."""
        local = self._changes(self.local, state)
        gradient = self._changes(self.gradient, state)
        shuffled = self._changes(self.shuffled, state) if self.shuffles else {}
        return list(self._rows(epoch, local, gradient, shuffled))

    def _rows(self, epoch: int, local: Any, gradient: Any, shuffled: Any) -> Iterator[Row]:
        for layer in self.layers:
            for replica, (u, g) in enumerate(zip(local[layer], gradient[layer], strict=True)):
                dealt = shuffled[layer][replica] if layer in self.shuffles else torch.full_like(u, torch.nan)
                stream = Stream(self.seed, f"credit/{layer}")
                chance = stream.normal(replica, 0, epoch, torch.arange(u.numel()))
                yield (
                    epoch, replica, layer,
                    cosine(u, g), norm_ratio(u, g), cosine(dealt, g), norm_ratio(dealt, g), cosine(chance, g),
                )  # fmt: skip

    def _changes(self, learner: SimulatorLearner, state: State) -> dict[str, list[Tensor]]:
        """What came together of every layer's change, by replica, flat and in float64."""
        own = learner.init()
        known = {kind: {**own.learned[kind], **_shared(own, state, kind)} for kind in ("weight", "bias", "modulator")}
        own = State(own.activity, {**own.learned, **known}, state.clock)
        for index, (x, y) in enumerate(self.batches):
            own = learner.train_step(own, x, y, index * learner.batch)
        found = {layer: own.learned["transform"][layer]["weight"][-1]["gathered"] for layer in self.layers}
        return {layer: _by_replica(learner, layer, value.double().cpu()) for layer, value in found.items()}


def cosine(one: Tensor, other: Tensor) -> float:
    """u.g / (|u| |g|); NaN where one of them is zero."""
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if size > 0 else float("nan")


def norm_ratio(one: Tensor, other: Tensor) -> float:
    """|u| / |g|; NaN where g is zero."""
    return float(one.norm() / other.norm()) if float(other.norm()) > 0 else float("nan")


def batches_of(x: Array, y: Array, order: Array, batch: int, most: int = 10) -> tuple[Batch, ...]:
    """At most `most` disjoint batches of the examples `x [n, ...]`, `y [n, ...]` in an order `[n]`."""
    starts = range(0, min(most * batch, len(x) - batch + 1), batch)
    return tuple((x[order[None, start : start + batch]], y[order[None, start : start + batch]]) for start in starts)


def _at_target(decoder: Decoder, batches: Sequence[Batch]) -> Any:
    """The decoder of the row that has the target; ConfigurationError unless there is one label for each example."""
    y = np.concatenate([labels for _, labels in batches], 1)[0]
    if y.ndim == 1:
        return decoder
    if np.issubdtype(y.dtype, np.integer):
        rows = np.flatnonzero((y != NO_LABEL).any(0))
        if len(rows) == 1:
            return OfRow(decoder, y.shape[1], int(rows[0]))
    raise ConfigurationError(
        "credit compares with the gradient of one label per example: this task has several targets, or values"
    )


def _third_factor(rule: Any) -> bool:
    return isinstance(rule, ThreeFactorRule) and rule.modulator.scope != "none"


def _dealt(projection: Projection) -> Projection:
    """With the third factor dealt to random neurons."""
    rule = projection.rule
    if not _third_factor(rule) or isinstance(rule.modulator, Shuffled):
        return projection
    return replace(projection, rule=replace(rule, modulator=Shuffled(rule.modulator)))


def _listening(projection: Projection) -> Projection:
    """With a rule that gathers its changes and moves nothing."""
    rule = projection.rule
    if rule is None:
        return projection
    kept = tuple(transform for transform in rule.chain if not transform.pointwise)
    quiet = replace(rule, transforms=(*kept, Gathered()), bias_transforms=(Gathered(),), constraints=())
    return replace(projection, rule=quiet)


def _shared(own: State, state: State, kind: str) -> dict[str, Any]:
    """What the run has learned of a kind, as far as the monitor's network has the part."""
    learned: Mapping[str, Any] = state.learned[kind]
    return {name: value for name, value in learned.items() if name in own.learned[kind]}


def _by_replica(learner: SimulatorLearner, layer: str, value: Tensor) -> list[Tensor]:
    """A weight-like value as one flat vector per replica."""
    edges = learner.simulator.plan.synapses[layer].edges
    if edges is not None:
        return list(value.split(list(edges.counts)))
    return [part.reshape(-1) for part in value]


# ---- the file --------------------------------------------------------------------------------------------------------


def written(rows: Sequence[Row]) -> str:
    """Rows as the text of a credit.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row[:3], *(f"{value:.9g}" for value in row[3:])) for row in rows)
    return text.getvalue()


def read_credit(path: Path) -> Array:
    """A `credit.csv` as a structured array; a damaged or missing one is a ConfigurationError."""
    if not path.is_file():
        raise ConfigurationError(f"there is no {path}: credit=true makes a run write it")
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            rows = [tuple(row[name] for name in COLUMNS) for row in csv.DictReader(lines)]
        return np.array([(int(r[0]), int(r[1]), r[2], *map(float, r[3:])) for r in rows], CREDIT)
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is damaged: its columns are {', '.join(COLUMNS)}") from error
