"""The third factor of FORCE learning: recursive least squares. It is not local, and the certificate says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from neurosim.factor import Factor
from neurosim.modulator.base import Memory, View
from neurosim.types import ConfigurationError, Tensor, positive


@dataclass(frozen=True)
class RecursiveLeastSquares:
    """m_ij = error_i k_j, one number per synapse, with k = P r and

        P <- P - P r r^T P / (1 + r^T P r),       P = I / alpha at the start  (k reads the new P),

    so that P is the inverse of alpha I + sum r r^T over all that has arrived, and w = sum error k minimises the sum of
    squared errors + alpha |w|^2 (Sussillo, Abbott 2009, doi 10.1016/j.neuron.2009.07.018; Haykin 2002, ch. 9).

    `error` is a post factor, `arriving` r a pre factor. All batch rows are taken up at once, exactly: their changes are
    to be summed. `every`: only at every so many steps; m = 0 in between. P belongs to pairs of inputs, thus to no
    synapse and no neuron: a memory `[R, Q, Q]` of the whole projection.
    """

    error: Factor
    arriving: Factor
    alpha: float = 1.0
    every: int = 1

    scope: ClassVar[str] = "neuron"
    every_step: ClassVar[bool] = False
    of_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive(self.alpha, "alpha of RecursiveLeastSquares")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ConfigurationError(
                f"every of RecursiveLeastSquares is {self.every!r}; it must be a whole number of steps >= 1"
            )

    def factors(self) -> tuple[Factor, ...]:
        return (self.error,)

    def pre_factors(self) -> tuple[Factor, ...]:
        """What it reads at the pre end."""
        return (self.arriving,)

    def signals(self) -> tuple[str, ...]:
        return ()

    def init(self) -> Memory:
        return {}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        error, r = view.post(self.error), view.pre(self.arriving)
        inverse: Tensor = memory["P"] if memory else self._start(r)
        if view.clock % self.every:
            return torch.zeros_like(error)[..., :, None] * r[..., None, :], {"P": inverse}
        projected = r @ inverse  # [R, B, Q]: P r, for P is symmetric
        rows = torch.eye(r.shape[1], dtype=r.dtype, device=r.device)
        k = torch.linalg.solve(rows + projected @ r.transpose(-1, -2), projected)
        return error[..., :, None] * k[..., None, :], {"P": inverse - projected.transpose(-1, -2) @ k}

    def _start(self, r: Tensor) -> Tensor:
        units = r.shape[-1]
        return (torch.eye(units, dtype=r.dtype, device=r.device) / self.alpha).expand(r.shape[0], units, units)
