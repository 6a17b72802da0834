"""e-prop 1 (Bellec et al. 2020): eligibility propagation for recurrent networks of LIF and adaptive LIF neurons.

    dw_ij = lr sum_t L_i eF_ij,    L = B delta,    delta = slope (target - prediction) of the readout,

    eF_ij <- exp(-dt / tau_out) eF_ij + e_ij                  low-pass filter of the leaky readout; without it eF = e
    e_ij  = slope_i x_j + slope_theta_i a_ij                  a_ij: before its update in this step
    a_ij  <- keep_theta_i a_ij + slope_i x_j                  adaptive neurons only
    x_j   <- exp(-dt / tau_mem) x_j + pre_j                   pre_j: what arrives

slope_i is the pseudo-derivative psi of the spike (times the gain of the input, where a neuron has one), slope_theta_i =
-beta psi and keep_theta_i = exp(-dt / tau_theta) - beta psi belong to the threshold (see `neurosim.neuron.adaptive`).
a_ij decays with a number of the post neuron and is a memory per synapse and sample; without adaptation only eF is. The
readout learns by the delta rule, its inputs filtered with tau_out too. This is the gradient of the loss summed over
time with one part left out: how a spike acts on later spikes through recurrent synapses and the reset.

B is the transpose of the readout's weights ("symmetric": the best, and not local), random numbers ("random"), or
starts as these and learns as the readout does, both decaying ("adaptive": dB_jk = lr delta_k xF_j - decay B_jk, where
xF is the spike train of neuron j filtered with tau_out, which is what the readout synapse sees).

With `c_reg` > 0 each presentation also moves the firing rates towards f_target (the paper's regularisation, minus the
gradient of c_reg / 2 (n_i / t_reg - f_target / 1000)^2, n_i the spikes of neuron i in it and t_reg its length):

    dw_ij = lr ( sum_t L_i eF_ij + c_reg / t_reg (f_target / 1000 - n_i / t_reg) sum_t e_ij )

n_i and sum_t e_ij are memories that begin with the activity at rest, so presentations must (`carry` false). What is
added in a step is the growth of the second part, so that both are sums over steps.

G. Bellec, F. Scherr, A. Subramoney, E. Hajek, D. Salaj, R. Legenstein, W. Maass, "A solution to the learning dilemma
for recurrent networks of spiking neurons", Nat. Commun. 11:3625 (2020), doi 10.1038/s41467-020-17236-y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurosim.connectivity import OneToOne
from neurosim.factor import Apply, Factor, One, Trace, post, pre
from neurosim.modulator import Feedback, Unmodulated
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, AdaptiveLIF, DelayedResetLIF, LeakyRate, Relay, StaticRate
from neurosim.random import LecunNormal
from neurosim.rule import Component, OfComponent, Term, ThreeFactorRule
from neurosim.scheme import attach, chosen
from neurosim.transform import WeightDecay, optimizer
from neurosim.types import ConfigurationError, choice, positive
from neurosim.wiring import with_error

from .feedback_wiring import error_of, gated_error, hidden_of, tied_back, with_feedback

FEEDBACKS = ("symmetric", "random", "adaptive")


def constant(value: Any, what: str) -> float:
    """A time constant as one number; ConfigurationError where neurons differ in it: a trace has one."""
    if np.ndim(value) != 0 or not isinstance(value, float | int | np.number):
        raise ConfigurationError(f"{what} differs from neuron to neuron; eprop filters with one number per population")
    return float(value)


def membrane_of(population: Population) -> float:
    """tau_mem (ms) of a population that e-prop teaches; ConfigurationError where its equations are not those above."""
    neuron: Any = population.neuron
    if not isinstance(neuron, LIF | AdaptiveLIF | DelayedResetLIF):
        raise ConfigurationError(
            f"eprop teaches spikes of LIF, AdaptiveLIF and DelayedResetLIF neurons; {population.name!r} has "
            f"{type(neuron).__name__}"
        )
    held = not isinstance(neuron, DelayedResetLIF) and np.any(np.asarray(neuron.t_ref) != 0)
    if neuron.reset not in ("subtract", "none") or neuron.integration != "exact" or held or population.lateral:
        raise ConfigurationError(
            f"eprop needs neurons that never forget or lose their input: reset subtract or none, integration exact, "
            f"t_ref 0 (but for DelayedResetLIF) and no lateral; {population.name!r} differs"
        )
    return constant(neuron.tau_mem, f"tau_mem of {population.name!r}")


def adapts(population: Population) -> bool:
    """Has it a moving threshold?"""
    neuron: Any = population.neuron
    return isinstance(neuron, AdaptiveLIF | DelayedResetLIF) and bool(np.any(np.asarray(neuron.beta) != 0))


def readout_of(population: Population) -> float | None:
    """tau_mem (ms) of the readout, None for one without memory; ConfigurationError for any other neuron."""
    neuron: Any = population.neuron
    if isinstance(neuron, StaticRate):
        return None
    if not isinstance(neuron, LeakyRate) or neuron.integration != "exact":
        raise ConfigurationError(
            f"eprop reads out by LeakyRate (integration exact) or StaticRate; {population.name!r} has "
            f"{type(neuron).__name__}"
        )
    return constant(neuron.tau_mem, f"tau_mem of {population.name!r}")


def lacking(count: Any, strength: float, target: float, duration: float) -> Any:
    """strength (target - count / duration): what a rate lacks of its target."""
    return strength * (target - count / duration)


def exceeding(count: Any, strength: float, target: float, duration: float) -> Any:
    """strength (count / duration - target): what a rate has beyond its target."""
    return strength * (count / duration - target)


@dataclass(frozen=True)
class EProp:
    """See the module. `lr`, `optimizer` none | momentum | adam | adamw with `beta1`, `beta2`, `weight_decay`; `when`
    step | phase | sample and `accumulate` sum | mean | last; `loss` cross_entropy | mse, of the readout in each step.

    `feedback` symmetric | random | adaptive. `scale`: random feedback weights have, and adaptive ones start with,
    standard deviation scale / sqrt(number of outputs). `decay` of readout and feedback weights with every update, for
    adaptive feedback only. `filtered` False: eligibilities of hidden layers pass no filter of the readout. Symmetric
    and adaptive feedback teach populations that project to the output, random feedback all.

    `c_reg` >= 0 (0: no regularisation), `f_target` in Hz and `t_reg` in ms, the length of a presentation: see the
    module; with accumulate sum or mean. The readout is not regularised.
    """

    lr: float = 1e-3
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-4
    when: str = "phase"
    accumulate: str = "sum"
    loss: str = "cross_entropy"
    feedback: str = "random"
    scale: float = 1.0
    decay: float = 1e-3
    filtered: bool = True
    c_reg: float = 0.0
    f_target: float = 10.0
    t_reg: float = 100.0
    layers: tuple[str, ...] | None = None

    title: ClassVar[str] = "eprop"

    def __post_init__(self) -> None:
        positive(self.c_reg, "c_reg of eprop", zero=True)
        positive(self.f_target, "f_target of eprop (Hz)", zero=True)
        positive(self.t_reg, "t_reg of eprop (ms)")
        if self.c_reg > 0 and self.accumulate == "last":
            raise ConfigurationError(
                "eprop with c_reg looks at a whole presentation: accumulate is last, not sum or mean"
            )

    @property
    def local(self) -> bool:
        """A tied transpose is the one part that is not."""
        return self.feedback != "symmetric"

    def transforms(self, decaying: bool) -> tuple[Any, ...]:
        chain = optimizer(self.optimizer, self.lr, beta1=self.beta1, beta2=self.beta2, weight_decay=self.weight_decay)
        return (*chain, WeightDecay(self.decay)) if decaying else chain

    def _rule(self, components: tuple[Component, ...], modulator: Any, decaying: bool = False) -> ThreeFactorRule:
        return ThreeFactorRule(
            components,
            modulator,
            accumulate=self.accumulate,
            when=self.when,
            reduce="mean",
            transforms=self.transforms(decaying),
            name=self.title,
        )

    def hidden_rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        """The rule of a projection, feed-forward or recurrent, to spiking neurons."""
        here = network[projection.post]
        tau_mem, tau_out = membrane_of(here), readout_of(network[network.output])
        if network.port(projection) != here.neuron.ports[0]:
            raise ConfigurationError(f"eprop teaches port {here.neuron.ports[0]!r}, not that of {projection.name!r}")
        term = Term(post("slope"), Trace(pre(network.sent(projection)), tau_mem))
        tau = tau_out if self.filtered else None
        adaptation: tuple[Component, ...] = ()
        terms: tuple[Term, ...] = (term,)
        if adapts(here):
            adaptation = (Component((term,), decay=post("keep_theta")),)
            terms = (term, Term(post("slope_theta"), One("pre"), OfComponent(0)))
        if self.c_reg == 0:
            return self._rule((*adaptation, Component(terms, tau=tau)), Feedback(post("feedback")))
        return self._rule((*adaptation, *self._regularised(here, terms, tau, len(adaptation))), Unmodulated())

    def _regularised(
        self, here: Population, terms: tuple[Term, ...], tau: float | None, first: int
    ) -> tuple[Component, ...]:
        """e, its filter, its sum, and what they come to in a step: credit, and the growth of the pull to f_target."""
        e, filtered, gathered = range(first, first + 3)
        strength = self.c_reg / self.t_reg, self.f_target / 1000.0, self.t_reg
        now, before = (Trace(post(here.axon), math.inf, read=read) for read in ("after", "before"))
        growth = (
            Term(Apply(lacking, (now,), strength), One("pre"), OfComponent(gathered, "after")),
            Term(Apply(exceeding, (before,), strength), One("pre"), OfComponent(gathered)),
        )
        return (
            Component(terms),
            Component((Term(One("post"), One("pre"), OfComponent(e, "after")),), tau=tau),
            Component((Term(One("post"), One("pre"), OfComponent(e, "after")),), tau=math.inf),
            Component((Term(post("feedback"), One("pre"), OfComponent(filtered, "after")), *growth)),
        )

    def output_rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        """The delta rule, its input filtered as the readout filters it."""
        seen = self._seen(network, pre(network.sent(projection)))
        term = Term(post("slope"), seen)
        return self._rule((Component((term,)),), Feedback(post("feedback")), self.feedback == "adaptive")

    def _seen(self, network: Network, spikes: Any) -> Factor:
        tau_out = readout_of(network[network.output])
        return spikes if tau_out is None else Trace(spikes, tau_out)

    def _readout(self, network: Network, name: str) -> Projection:
        """The projection from `name` to the output; ConfigurationError if there is none, or several."""
        found = [p for p in chosen(network, None) if (p.pre, p.post) == (name, network.output)]
        if len(found) != 1:
            raise ConfigurationError(
                f"{self.feedback} feedback follows the weights from a population to the output, but {len(found)} "
                f"projections lead from {name!r} to {network.output!r}; random feedback teaches any population"
            )
        return found[0]

    def _symmetric(self, network: Network, source: str, name: str) -> Network:
        wire = tied_back(self._readout(network, name), source, name, "transpose")
        return with_feedback(network, replace(wire, port="feedback"))

    def _random(self, network: Network, source: str, name: str) -> Network:
        weight = LecunNormal(self.scale)
        return with_feedback(network, Projection(source, name, weight, port="feedback", delay=0, name=f"eprop_{name}"))

    def _adaptive(self, network: Network, source: str, name: str) -> Network:
        """A population between the error and `name`, which gets a copy of the spikes: the post end of B's synapses."""
        readout = self._readout(network, name)
        if readout.connectivity.kind != "dense" or readout not in chosen(network, self.layers):
            raise ConfigurationError(f"adaptive feedback learns as {readout.name!r} does: it must be dense and taught")
        error, copy = error_of(name), post("feedback")
        wires = (
            Projection(name, error, 1.0, OneToOne(), "feedback", readout.output, readout.delay),
            Projection(source, error, LecunNormal(self.scale), delay=0, name=f"eprop_{name}"),
        )
        network = network.with_parts((Population(error, network[name].size, Relay()),), wires)
        network = with_feedback(network, Projection(error, name, 1.0, OneToOne(), port="feedback", delay=0))
        rule = self._rule((Component((Term(self._seen(network, copy), pre("rate")),)),), Unmodulated(), decaying=True)
        return attach(network, (f"eprop_{name}",), lambda _: rule)

    def __call__(self, network: Network) -> Network:
        choice(self.feedback, FEEDBACKS, "feedback of eprop")
        taught = chosen(network, self.layers)
        hidden = hidden_of(network, taught)
        for name in hidden:
            membrane_of(network[name])
        readout_of(network[network.output])
        network = with_error(network, self.loss)
        source, populations, wires = gated_error(network, network.output)
        network = network.with_parts(populations, wires) if hidden else network
        connect = {"symmetric": self._symmetric, "random": self._random, "adaptive": self._adaptive}[self.feedback]
        for name in hidden:
            network = connect(network, source, name)
        return attach(
            network,
            tuple(p.name for p in taught),
            lambda p: self.output_rule(network, p) if p.post == network.output else self.hidden_rule(network, p),
        )
