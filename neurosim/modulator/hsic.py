"""The third factor of BioHSIC: the gradient of an information bottleneck with respect to the newest sample's activity.

Objective of a layer z, over a window of N samples (Daruwalla, Lipasti 2024, doi 10.3389/fncom.2024.1240348):

    L = HSIC(z, x) - gamma HSIC(z, y),   HSIC(a, b) = tr(Ka H Kb H) / (N - 1)^2,   H = I - 1 1^T / N,
    k(u, v) = exp(-|u - v|^2 / (2 s^2)),   s = sigma sqrt(D),   D features.

All forms of the third factor share one shape, with the newest sample last (index N):

    xi_i = sum_p c_p k(z_N, z_p) (z_N,i - z_p,i)

and differ in the N coefficients c_p, which depend on the window's inputs x and labels y alone. Those N numbers, and the
N kernel values k(z_N, z_p), are all that is broadcast over the layer; the rest is local to neuron i. With M = Kx -
gamma Ky:

    exact       c_p = -(2 / s^2) [H M H]_Np / (N - 1)^2                      the gradient dL / dz_N
    repository  c_p =  (2 / s^2) (d_p + d_N) / (N (N - 1)^2),  d = diag(H M)  the authors' code since October 2024
    published   c_p =  (2 / s^2)  d_N        / (N (N - 1)^2)                  the code behind the published figures

The last two are not the gradient: they push the newest sample away from every other one, whatever its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from neurosim.factor import Factor
from neurosim.modulator.base import Memory, View
from neurosim.types import ConfigurationError, Tensor, choice, positive
from neurosim.vocabulary import exp, matmul, row_sum

FORMS = ("exact", "repository", "published")
MEMORIES = ("batch", "buffer")


def kernel_matrix(values: Tensor, sigma: float) -> Tensor:
    """Gaussian kernel `[..., N, N]` of rows `values [..., N, D]`, with width s = sigma sqrt(D)."""
    difference = values.unsqueeze(-2) - values.unsqueeze(-3)
    return torch.exp(-(difference * difference).sum(-1) / (2.0 * sigma**2 * values.shape[-1]))


def coefficients(kx: Tensor, ky: Tensor, gamma: float, form: str) -> Tensor:
    """c_p without the factor 2 / s^2, `[..., N]`, from the kernels `[..., N, N]` of the inputs and labels."""
    combined = kx - gamma * ky
    count = combined.shape[-1]
    rows = combined.mean(-1)
    if form == "exact":
        centred = combined[..., -1, :] - rows[..., -1:] - rows + rows.mean(-1, keepdim=True)
        return -centred / (count - 1) ** 2
    diagonal = combined.diagonal(dim1=-2, dim2=-1) - rows
    newest = diagonal[..., -1:].expand_as(diagonal)
    return (diagonal + newest if form == "repository" else newest) / (count * (count - 1) ** 2)


def third_factor(z: Any, coefficient: Any, width: Any) -> Any:
    """xi `[..., H]` = sum_p coefficient_p exp(-|z_N - z_p|^2 / width) (z_N - z_p), from `z [..., N, H]`; array
    vocabulary.
    """
    difference = z[..., -1:, :] - z
    kernel = exp(-row_sum(difference * difference) / width)
    return matmul((coefficient * kernel)[..., None, :], difference)[..., 0, :]


def objective(x: Tensor, y: Tensor, z: Tensor, gamma: float, sigma: tuple[float, float, float]) -> Tensor:
    """HSIC(z, x) - gamma HSIC(z, y), biased estimator, from rows `[..., N, D]`; `sigma` for x, y, z."""
    count = z.shape[-2]
    centring = torch.eye(count, dtype=z.dtype, device=z.device) - 1.0 / count
    combined = kernel_matrix(x, sigma[0]) - gamma * kernel_matrix(y, sigma[1])
    product = combined @ centring @ kernel_matrix(z, sigma[2]) @ centring
    return product.diagonal(dim1=-2, dim2=-1).sum(-1) / (count - 1) ** 2


@dataclass(frozen=True)
class HSIC:
    """m = -xi (see the module): one update step moves the newest sample's activity down the information-bottleneck
    objective.

    `window` N is the memory capacity. `memory` "batch": the batch holds the N rows of the window, newest last, and m =
    0 on the others (the published protocol). "buffer": every batch row is its own stream; its last N - 1 samples (x, y,
    z) are remembered from the end of each phase, and m = 0 until the memory is full. `of` is the activity z (a rate, or
    a rate trace of spikes). Reads the signals "input" and "label". Raises ConfigurationError if a window of the wrong
    size arrives.
    """

    of: Factor
    window: int
    gamma: float
    sigma_x: float
    sigma_y: float
    sigma_z: float
    form: str = "exact"
    memory: str = "batch"

    scope: ClassVar[str] = "layer"
    every_step: ClassVar[bool] = False
    of_output: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 2:
            raise ConfigurationError(
                f"window is {self.window}; the HSIC window must be a whole number of at least 2 samples"
            )
        choice(self.form, FORMS, "form of the HSIC modulator")
        choice(self.memory, MEMORIES, "memory of the HSIC modulator")
        for name in ("sigma_x", "sigma_y", "sigma_z"):
            positive(getattr(self, name), name)
        positive(self.gamma, "gamma", zero=True)

    def factors(self) -> tuple[Factor, ...]:
        return (self.of,)

    def signals(self) -> tuple[str, ...]:
        return ("input", "label")

    def init(self) -> Memory:
        return {}

    def update(self, view: View, memory: Memory) -> tuple[Tensor, Memory]:
        z = view.post(self.of)
        return self._batch(view, z, memory) if self.memory == "batch" else self._buffer(view, z, memory)

    def check_window(self, rows: int) -> None:
        """ConfigurationError unless the batch, which with memory "batch" is the window, has its size."""
        if rows != self.window:
            raise ConfigurationError(
                f"the HSIC window is {self.window} samples, but the batch has {rows} rows; "
                "with memory 'batch' they must be equal"
            )

    def window_coefficients(self, x: Tensor, y: Tensor, features: int) -> Tensor:
        """c_p with its factor 2 / s^2, `[..., N]`, from the window's inputs and labels `[..., N, D]`."""
        return self.common_coefficients(x, y) * (2.0 / (self.sigma_z**2 * features))

    def common_coefficients(self, x: Tensor, y: Tensor) -> Tensor:
        """c_p without the factor 2 / s^2: the same for all layers."""
        kx, ky = kernel_matrix(x, self.sigma_x), kernel_matrix(y, self.sigma_y)
        return coefficients(kx, ky, self.gamma, self.form)

    def _third_factor(self, view: View, z: Tensor, coefficient: Tensor) -> Tensor:
        xi: Tensor = view.specialise(third_factor)(z, coefficient, 2.0 * self.sigma_z**2 * z.shape[-1])
        return -xi

    def _batch(self, view: View, z: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        self.check_window(z.shape[-2])
        start = view.clock - view.step
        if memory.get("start") != start:  # inputs and labels are held: their kernels once per phase, not once per step
            coefficient = self.window_coefficients(view.signal("input"), view.signal("label"), z.shape[-1])
            memory = {"start": start, "coefficient": coefficient}
        m = torch.zeros_like(z)
        m[..., -1, :] = self._third_factor(view, z, memory["coefficient"])
        # Nothing outlives its phase: a state may be branched, or start at clock 0 again.
        return m, {} if view.last else memory

    def _buffer(self, view: View, z: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        start = view.clock - view.step
        newest = {"x": view.signal("input"), "y": view.signal("label"), "z": z}
        if not memory:
            memory = {"filled": 0, **{name: value.unsqueeze(-2)[..., :0, :] for name, value in newest.items()}}
        for name, value in newest.items():
            if memory[name].shape[:2] != value.shape[:2] or memory[name].shape[-1] != value.shape[-1]:
                raise ConfigurationError(
                    f"the HSIC buffer remembers {name} of shape {tuple(memory[name].shape)} (replicas, batch, samples, "
                    f"width), but now it has shape {tuple(value.shape)}; with memory 'buffer' every batch row is "
                    "a stream of its own"
                )
        if memory["filled"] < self.window - 1:
            m = torch.zeros_like(z)
        else:
            if memory.get("start") != start:
                x, y = (torch.cat((memory[name], newest[name].unsqueeze(-2)), -2) for name in ("x", "y"))
                memory = {**memory, "start": start, "coefficient": self.window_coefficients(x, y, z.shape[-1])}
            m = self._third_factor(view, torch.cat((memory["z"], z.unsqueeze(-2)), -2), memory["coefficient"])
        return m, self._remember(memory, newest) if view.last else memory

    def _remember(self, memory: Memory, newest: dict[str, Tensor]) -> Memory:
        keep = self.window - 1
        pushed = {
            name: torch.cat((memory[name], value.unsqueeze(-2)), -2)[..., -keep:, :] for name, value in newest.items()
        }
        return {"filled": pushed["x"].shape[-2], **pushed}
