"""`HeterosynapticSGD`: stochastic gradient descent with heterosynaptic coupling, for any torch module.

    d <- g + weight_decay w
    v <- momentum v + (1 - dampening) d,    d <- v, or d + momentum v (nesterov)
    w <- w - lr H^-1 d,    H = (1 - alpha) I + alpha 1 1^T on blocks of inputs of one neuron

The first two lines are those of `torch.optim.SGD`, to which alpha 0 is equal bit for bit; H^-1 is the transform
`neurosim.transform.Heterosynaptic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from neurosim.backends.layout import Matrix
from neurosim.transform import Heterosynaptic
from neurosim.types import ConfigurationError, Tensor, choice, positive

STARTS = ("gradient", "zero")


class HeterosynapticSGD(torch.optim.Optimizer):
    """See the module. `lr`, `momentum`, `dampening`, `weight_decay`, `nesterov` and `maximize` as in `torch.optim.SGD`;
    `alpha`, `block`, `grouping`, `normalise` and `seed` as in `Heterosynaptic`. Each may differ by parameter group.

    The first axis of a parameter with two axes or more is the neuron (a filter of a convolution, a word of an
    embedding), all others together are its inputs, row by row; where that is not so (a transposed convolution), or no
    coupling is wanted, its group has alpha 0. Parameters with one axis (biases, normalisation) are never coupled.

    The velocity v starts as the first d, as in torch. `momentum_start` "zero" lets it start at 0, so that with
    `dampening` = `momentum` it is an exponential moving average from the first step on (the published code, with
    `grouping` "flat": C. Kümpel, I. Amaya 2025, github.com/clarakuempel/HeterosynapticLearning).

    ConfigurationError (a ValueError) for settings out of range and for sparse gradients.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        alpha: float = 0.2,
        block: int = 4,
        grouping: str = "row",
        normalise: str = "none",
        seed: int = 0,
        maximize: bool = False,
        momentum_start: str = "gradient",
    ) -> None:
        self._layouts: dict[str, Any] = {}  # a parameter as the weight of a projection
        step = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        how = {"nesterov": nesterov, "maximize": maximize, "momentum_start": momentum_start}
        coupling = {"alpha": alpha, "block": block, "grouping": grouping, "normalise": normalise, "seed": seed}
        super().__init__(params, {**step, **how, **coupling})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._layouts = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with its own settings where it has any."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters with a gradient; the loss, if a `closure` evaluates it again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            coupling = _coupling(group)
            for index, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    direction = self._direction(parameter, group)
                    if parameter.dim() > 1 and parameter.numel():
                        layout = self._layouts.setdefault(f"{number}.{index}", Matrix(f"{number}.{index}"))
                        direction = coupling.update(direction[None], parameter[None], layout)[0]
                    parameter.add_(direction, alpha=-group["lr"])
        return loss

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """What plain SGD would subtract, over lr: the operations of torch in its order, for equal bits."""
        gradient: Tensor = parameter.grad  # type: ignore[assignment]
        if gradient.is_sparse:
            raise ConfigurationError("HeterosynapticSGD couples neighbours, so it takes no sparse gradients")
        gradient = -gradient if group["maximize"] else gradient
        if group["weight_decay"] != 0:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if group["momentum"] == 0:
            return gradient
        velocity: Tensor | None = self.state[parameter].get("momentum_buffer")
        if velocity is None and group["momentum_start"] == "gradient":
            velocity = gradient.clone()
        else:
            velocity = torch.zeros_like(gradient) if velocity is None else velocity.mul_(group["momentum"])
            velocity.add_(gradient, alpha=1 - group["dampening"])
        self.state[parameter]["momentum_buffer"] = velocity
        return gradient.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity


def _coupling(group: dict[str, Any]) -> Heterosynaptic:
    return Heterosynaptic(group["alpha"], group["block"], group["grouping"], group["normalise"], group["seed"])


def _check(group: dict[str, Any]) -> None:
    """ConfigurationError where a setting of a group is out of range."""
    for name in ("lr", "momentum", "weight_decay"):
        positive(group[name], f"{name} of HeterosynapticSGD", zero=True)
    choice(group["momentum_start"], STARTS, "momentum_start of HeterosynapticSGD")
    if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
        raise ConfigurationError("nesterov of HeterosynapticSGD needs a momentum above 0 and a dampening of 0")
    _coupling(group)
