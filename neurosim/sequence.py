"""Examples that last: inputs and targets that change from one row of time to the next.

An example of a task is one value per input, shown all the time, or a sequence of T rows, each shown for an equal part
of the presentation (`steps / T` time steps). Its target is one label, one label per row, or K values per row; a row
without a target (label -1, value NaN) is neither taught nor scored. See `neurosim.task.Split` for the arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neurosim.adapter import Decoder, Encoder
from neurosim.phase import Held
from neurosim.random import Stream
from neurosim.types import Array, ConfigurationError, Tensor

NO_LABEL = -1


class Target(NamedTuple):
    """`value [T, R or 1, B, K]`: one-hot labels or values, 0 where none is given; `given [T, R or 1, B]` is 1 or 0.

    T is 1 where one target holds for the whole example. `classes`: the values are one-hot labels.
    """

    value: Tensor
    given: Tensor
    classes: bool

    @property
    def mean(self) -> Tensor:
        """The mean target `[R or 1, B, K]` over the rows that have one: the one-hot label, where there is but one."""
        count = self.given.sum(0).clamp(min=1.0)
        mean: Tensor = (self.given[..., None] * self.value).sum(0) / count[..., None]
        return mean


def target(y: Array, outputs: int, dtype: torch.dtype, device: torch.device) -> Target:
    """`y` as a target: integer labels `[R or 1, B]` or `[R or 1, B, T]`, or float values `[R or 1, B, T, K]`.

    ConfigurationError where it has another shape, or K is not the number of `outputs`.
    """
    classes = np.issubdtype(y.dtype, np.integer)
    if y.ndim not in ((2, 3) if classes else (4,)):
        kind, allowed = ("labels", "[R, B] or [R, B, T]") if classes else ("values", "[R, B, T, K]")
        raise ConfigurationError(f"a target of {kind} has shape {y.shape}; allowed: {allowed}")
    if not classes:
        if y.shape[-1] != outputs:
            raise ConfigurationError(
                f"a target has {y.shape[-1]} values per row, but the network has {outputs} outputs"
            )
        values = torch.as_tensor(np.ascontiguousarray(y), device=device).permute(2, 0, 1, 3)
        missing = values.isnan().any(-1)
        return Target(
            values.nan_to_num(0.0).masked_fill(missing[..., None], 0.0).to(dtype), (~missing).to(dtype), False
        )
    labels = torch.as_tensor(np.ascontiguousarray(y), device=device).long()
    labels = labels[None] if labels.dim() == 2 else labels.permute(2, 0, 1)
    given = (labels != NO_LABEL).to(dtype)
    one_hot = torch.nn.functional.one_hot(labels.clamp(min=0), outputs).to(dtype)
    return Target(one_hot * given[..., None], given, True)


def held(value: Tensor, steps: int) -> Held | Tensor:
    """Rows `[T, R or 1, B, K]` as the drive of a phase of `steps`: `Held` if there is but one row.

    One replica for all is given without its axis.
    """
    value = value[:, 0] if value.shape[1] == 1 else value
    return Held(value[0]) if len(value) == 1 else value.repeat_interleave(_per_row(steps, len(value)), 0)


def encoded(
    encoder: Encoder,
    values: Tensor,
    inputs: int,
    steps: int,
    dt: float,
    stream: Stream,
    replica: Tensor,
    samples: Tensor,
) -> Held | Tensor:
    """The drive that `encoder` makes of `values [B, T * inputs]` or `[R, B, T * inputs]`, row after row."""
    rows = rows_in(values.shape[-1], inputs)
    if rows == 1:
        return encoder(values, steps, dt, stream, replica, samples)
    per_row, parts = _per_row(steps, rows), list[Tensor]()
    for row, value in enumerate(values.unflatten(-1, (rows, inputs)).unbind(-2)):
        drive = encoder(value, per_row, dt, stream, replica, samples, start=row * per_row)
        parts.append(drive.x.expand(per_row, *drive.x.shape) if isinstance(drive, Held) else drive)
    return torch.cat(parts)


def rows_in(size: int, inputs: int) -> int:
    """How many rows of `inputs` values an example of `size` values has; ConfigurationError if it does not divide."""
    if size % inputs:
        raise ConfigurationError(f"an example has {size} values, which are no rows for {inputs} inputs")
    return size // inputs


def _per_row(steps: int, rows: int) -> int:
    if steps % rows:
        raise ConfigurationError(
            f"steps is {steps}, but an example has {rows} rows of time; steps must be a multiple of {rows}"
        )
    return steps // rows


def decoded(decoder: Decoder, output: Tensor, rows: int, dt: float) -> Tensor:
    """`decoder` on each of the `rows` parts of a recorded output `[steps, R, B, K]`: `[T, R, B, K]`."""
    return torch.stack([decoder(part, dt) for part in output.split(_per_row(len(output), rows))])


class Scores:
    """Loss and accuracy, gathered over batches of decoded outputs.

    Labels: cross-entropy, and the part of the rows where the largest output is the right one; both are means over the
    rows with a target, then over examples. Values: half the squared error, and in the place of the accuracy the part
    of the target's variance that is explained, over all outputs, negative for what is worse than the mean:
    1 - sum (value - target)^2 / sum (target - mean target)^2.
    """

    def __init__(self) -> None:
        self.loss: list[Tensor] = []
        self.right: list[Tensor] = []
        self.taken: list[Target] = []

    def add(self, value: Tensor, target: Target) -> None:
        """One batch: `value [T, R, B, K]` against its target."""
        count = target.given.sum(0).clamp(min=1.0)
        if target.classes:
            loss = -(target.value * torch.log_softmax(value, -1)).sum(-1)
            right = (value.argmax(-1) == target.value.argmax(-1)).to(value.dtype)
        else:
            right = ((value - target.value) ** 2).sum(-1)
            loss = 0.5 * right
        self.loss.append((target.given * loss).sum(0) / count)
        self.right.append(
            (target.given * right).sum(0) if not target.classes else (target.given * right).sum(0) / count
        )
        self.taken.append(target)

    def result(self) -> tuple[Array, Array]:
        """(loss `[R]`, accuracy `[R]`)."""
        loss, right = torch.cat(self.loss, -1).mean(-1).double(), torch.cat(self.right, -1).double()
        accuracy = right.mean(-1) if self.taken[0].classes else 1.0 - right.sum(-1) / self._variation()
        return loss.cpu().numpy(), accuracy.cpu().numpy()

    def _variation(self) -> Tensor:
        """Sum of squares of the targets around their mean, `[R or 1]`."""
        value = torch.cat([target.value for target in self.taken], 2).double()
        given = torch.cat([target.given for target in self.taken], 2).double()[..., None]
        mean = (given * value).sum((0, 2), keepdim=True) / given.sum((0, 2), keepdim=True)
        variation: Tensor = (given * (value - mean) ** 2).sum((0, 2, 3))
        return variation


def label_of(y: Array) -> Array:
    """One label per example of `y [n]`, `[n, T]` (the last that is given) or values `[n, T, K]` (none: -1)."""
    if y.ndim == 1:
        return y
    if not np.issubdtype(y.dtype, np.integer):
        return np.full(len(y), NO_LABEL)
    last = y.shape[1] - 1 - np.argmax((y != NO_LABEL)[:, ::-1], 1)
    labels: Array = y[np.arange(len(y)), last]
    return labels
