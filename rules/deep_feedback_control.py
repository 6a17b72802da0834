"""Deep feedback control: a controller drives the output to its target through all layers; they learn to need it less.

    dw_ij = lr (rate_i - basal_rate_i) pre_j        in the stage "control", its mean or its last step

A unit has a basal compartment, which the layer below drives, and an apical one, which the controller u drives:

    tau_mem dv/dt = -v + v_basal + v_apical,   v_basal = W rate_below + b,   v_apical = Q u
    tau_control dc/dt = e - leak c,            u = c + proportional e

with e = output target - output; the output target is the free output plus `stepsize` times the error of the task
(Meulemans et al. 2021), or, with `stepsize` None, the task's target itself (strong feedback, Meulemans et al. 2022).
A network without an error would not be controlled: rate = basal_rate. Nothing is linearised or solved; the network and
its controller run in time.

The feedback weights Q of the hidden layers learn in the stage "sleep", where noise of deviation sigma is added to the
apical compartments, the controller holds the output where it was without noise, and

    dQ_ik = lr_feedback (-v_apical_i u_k / sigma^2 - decay_feedback Q_ik)

which leads from small Q to J^T M, J the Jacobian of the output by the potentials of the layer, M symmetric and positive
(and, as potentials take time, smaller for layers farther from the output). Q of the output is the identity.

A. Meulemans, M. Tristany Farinha, J. García Ordóñez, P. Vilimelis Aceituno, J. Sacramento, B. F. Grewe, "Credit
assignment in neural networks through deep feedback control", NeurIPS 2021, arXiv 2106.07887; A. Meulemans,
M. Tristany Farinha, M. R. Cervera, J. Sacramento, B. F. Grewe, "Minimizing control for credit assignment with strong
feedback", ICML 2022, arXiv 2204.07249.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from neurosim.factor import Apply, post, pre
from neurosim.network import Network, Projection
from neurosim.neuron import LeakyController, NoiseSource
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach, chosen
from neurosim.transform import WeightDecay, optimizer
from neurosim.types import ConfigurationError, positive

from .control_wiring import Loop, apical, stages, two_compartments, with_loop


def scaled(value: Any, factor: Any) -> Any:
    """factor value."""
    return factor * value


@dataclass(frozen=True)
class DeepFeedbackControl:
    """See the module. Rate units only, with or without a lateral; meant for an input that is held.

    A presentation is shown for as many steps as the run says without control (stage "free"), then `sleep_steps` with
    noise (0: feedback weights stay as they are), then `control_steps` under control, where weights change once, by the
    `accumulate` mean | last of the steps. `lr`, `optimizer` none | momentum | adam | adamw with `beta1`, `beta2`,
    `weight_decay`; `loss` cross_entropy | mse. `stepsize` (lambda): see the module.

    The controller has `tau_control` (ms), `leak` (alpha) and `proportional` gain; `leak_of` integral leaks c (the
    paper), control leaks u (the published code). `delay` (ms) from the controller to the units, None is one step;
    `tau_apical` (ms) of the apical compartment, 0 is none. Feedback weights start with standard deviation `scale` /
    sqrt(outputs). Sleep has noise of deviation `sigma` with time constant `tau_noise` (ms), and a controller with
    `sleep_leak` and `sleep_proportional`; `lr_feedback` and `decay_feedback` are those of the feedback weights.
    """

    lr: float = 3e-3
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-4
    accumulate: str = "mean"
    loss: str = "cross_entropy"
    stepsize: float | None = 0.1
    control_steps: int = 20
    tau_control: float = 5.0
    leak: float = 0.01
    proportional: float = 0.5
    leak_of: str = "integral"
    delay: float | None = 0.0
    tau_apical: float = 0.0
    scale: float = 0.1
    sleep_steps: int = 10
    sigma: float = 0.05
    tau_noise: float = 2.0
    sleep_leak: float = 1.0
    sleep_proportional: float = 0.5
    lr_feedback: float = 1e-2
    decay_feedback: float = 0.01
    layers: tuple[str, ...] | None = None

    def _controller(self, leak: float, proportional: float) -> LeakyController:
        tau = positive(self.tau_control, "tau_control (ms)")
        positive(leak, "leak of the controller", zero=True)
        return LeakyController(1.0 / tau, tau / leak if leak else math.inf, proportional, self.leak_of)

    def _loop(self) -> Loop:
        return Loop(
            controller=self._controller(self.leak, self.proportional),
            sleep_controller=self._controller(self.sleep_leak, self.sleep_proportional) if self.sleep_steps else None,
            noise=NoiseSource(std=positive(self.sigma, "sigma"), tau=self.tau_noise),
            stepsize=self.stepsize,
            delay=self.delay,
            scale=self.scale,
            loss=self.loss,
        )

    def _optimizer(self, lr: float, name: str | None = None, weight_decay: float = 0.0) -> tuple[Any, ...]:
        """The optimizer for a rate; `name` None is the one chosen, without decoupled decay."""
        name = ("adam" if self.optimizer == "adamw" else self.optimizer) if name is None else name
        return optimizer(name, lr, beta1=self.beta1, beta2=self.beta2, weight_decay=weight_decay)

    def forward_rule(self) -> ThreeFactorRule:
        """The rule of the forward weights."""
        transforms = self._optimizer(self.lr, self.optimizer, self.weight_decay)
        term = Term(post("prediction_error"), pre("rate"))
        return ThreeFactorRule(
            (Component((term,)),), accumulate=self.accumulate, when="phase", transforms=transforms, name="control"
        )

    def feedback_rule(self) -> ThreeFactorRule:
        """The rule of the feedback weights: anti-Hebbian, with decay."""
        term = Term(Apply(scaled, (post("v_apical"),), (-1.0 / self.sigma**2,)), pre("rate"))
        return ThreeFactorRule(
            (Component((term,)),),
            accumulate="mean",
            when="phase",
            transforms=(WeightDecay(self.decay_feedback), *self._optimizer(self.lr_feedback)),
            name="sleep",
        )

    def __call__(self, network: Network) -> Network:
        taught = chosen(network, self.layers)
        self._check()
        controlled = tuple(dict.fromkeys(projection.post for projection in taught))
        populations = tuple(
            two_compartments(one, self.tau_apical) if one.name in controlled else one for one in network.populations
        )
        _check_sent(network, taught)
        wired = with_loop(replace(network, populations=populations), controlled, self._loop())
        names = tuple(projection.name for projection in taught)
        wired = attach(wired, names, lambda _: self.forward_rule())
        if self.sleep_steps:
            hidden = tuple(apical(name) for name in controlled if name != network.output)
            wired = attach(wired, hidden, lambda _: self.feedback_rule())
        steps = (self.stepsize, self.control_steps, self.sleep_steps)
        return wired.with_trial(*stages(wired, names, controlled, *steps))

    def _check(self) -> None:
        for name in ("control_steps", "sleep_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < (name == "control_steps"):
                least = 1 if name == "control_steps" else 0
                raise ConfigurationError(f"{name} is {value!r}; it must be a whole number >= {least}")
        if self.stepsize is not None:
            positive(self.stepsize, "stepsize")


def _check_sent(network: Network, taught: tuple[Projection, ...]) -> None:
    for projection in taught:
        if network.sent(projection) != "rate":
            raise ConfigurationError(
                f"deep_feedback_control compares rates, but projection {projection.name!r} "
                f"carries {network.sent(projection)!r}"
            )
