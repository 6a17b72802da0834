"""Spiking competition: adaptive thresholds, lateral inhibition, STDP and weight normalisation (Diehl, Cook 2015).

    at a post spike S_i:  w_ij <- w_ij + lr S_i (x_j - x_target) ((w_max - w_ij) / w_max)^mu
    then                  0 <= w_ij <= w_max,  and  sum_j w_ij = norm
    theta_i <- theta_i + theta_plus S_i - theta_decay theta_i,    a spike where v_i >= v_th + theta_i

x_j is the trace of the pre spikes that have arrived. An input that was silent before the spike (x_j < x_target) loses,
one that was active gains. The threshold theta belongs to the neuron and outlives the sample: whoever fires often gets
harder to drive, so that all units find work. A spike inhibits all other units of its layer one step later, through
interneurons (one to one, then to all others) or directly. The paper has conductances and normalises once a sample
(`when` sample); here inhibition is a current, as the networks of this package have it.

The layer is read out by the delta rule, or, as in the paper, by giving each unit the class for which it fires most
(`assigned_classes`, `voted`).

P. U. Diehl, M. Cook, "Unsupervised learning of digit recognition using spike-timing-dependent plasticity", Front.
Comput. Neurosci. 9:99 (2015), doi 10.3389/fncom.2015.00099.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from neurosim.connectivity import OneToOne
from neurosim.constraint import Bounds, RowNorm
from neurosim.factor import One, Trace, post, pre
from neurosim.network import Network, Population, Projection
from neurosim.neuron import LIF, OffsetLIF
from neurosim.rule import Component, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate, WeightDecay
from neurosim.types import Array, ConfigurationError, choice, positive

from .readout import taught, with_readout
from .stdp import soft

LATERALS = ("interneurons", "direct", "none")
NOBODY = -1  # the class of a unit that never fires


def dead_units(counts: Array) -> Array:
    """The units that never fire: their indices. `counts [B, N]` are spikes of N units for B samples."""
    return np.flatnonzero(counts.sum(0) == 0)


def assigned_classes(counts: Array, y: Array, classes: int) -> Array:
    """For each unit the class of the samples for which it fires most on average, `NOBODY` if it never fires: `[N]`.

    `counts [B, N]` are its spikes for B training samples, `y [B]` their classes; a tie goes to the lower class.
    """
    mean = np.stack([counts[y == k].mean(0) if (y == k).any() else 0.0 * counts[0] for k in range(classes)])
    return np.where(counts.sum(0) > 0, mean.argmax(0), NOBODY)


def voted(counts: Array, assigned: Array, classes: int) -> Array:
    """The class whose units fire most on average, for each of the samples of `counts [B, N]`: `[B]`.

    `assigned [N]` comes from `assigned_classes`; a class that no unit stands for gets no vote.
    """
    votes = [
        counts[:, assigned == k].mean(1) if (assigned == k).any() else np.full(len(counts), -1.0)
        for k in range(classes)
    ]
    winners: Array = np.stack(votes).argmax(0)
    return winners


@dataclass(frozen=True)
class DiehlCook:
    """See the module. `lr` in units of the weight; `x_target`; `tau_plus` (ms) of x; `mu` >= 0; `w_max`; `norm` of a
    unit's summed weights; `theta_plus` (units of v) and `theta_decay` (part, per update) of the threshold.

    `lateral` interneurons | direct | none, and its strength `inhibition` >= 0 (a spike brings minus that to port
    `basal` of all others). `when` step | phase | sample: the weights change; the threshold moves in every step.
    `reduce` mean | sum | sequential over the batch. `output` delta | same | none: what the output layer learns by (the
    delta rule with `lr_output`, reading spikes through a trace of tau_plus). Biases stay as they are. Needs `LIF`
    neurons, which become `OffsetLIF`.
    """

    lr: float = 0.03
    x_target: float = 0.7
    tau_plus: float = 20.0
    mu: float = 1.0
    w_max: float = 1.0
    norm: float = 10.0
    theta_plus: float = 0.001
    theta_decay: float = 0.0
    lateral: str = "interneurons"
    inhibition: float = 10.0
    when: str = "step"
    reduce: str = "sum"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        x = Trace(pre(network.sent(projection)), positive(self.tau_plus, "tau_plus"), "sum")
        w_max = positive(self.w_max, "w_max")
        growth = Term(post("spike"), x, soft(1.0, self.mu, w_max, 0.0))
        loss = Term(
            post("spike"), One("pre"), soft(-positive(self.x_target, "x_target", zero=True), self.mu, w_max, 0.0)
        )
        return ThreeFactorRule(
            (Component((growth, loss)),),
            when=self.when,
            reduce=self.reduce,
            transforms=(Rate(self.lr),),
            constraints=(Bounds(0.0, w_max), RowNorm(self.norm, order=1)),
            bias_transforms=(Rate(0.0),),
            name="diehl_cook",
        )

    def homeostasis(self) -> ThreeFactorRule:
        """The threshold, as the bias of a projection without weights: it grows with each spike, and decays."""
        decay = positive(self.theta_decay, "theta_decay", zero=True)
        if decay > 1:
            raise ConfigurationError(f"theta_decay is {self.theta_decay}; it is the part lost per update, at most 1")
        return ThreeFactorRule(
            (Component((Term(post("spike"), One("pre")),)),),
            reduce=self.reduce,
            transforms=(Rate(0.0),),
            bias_transforms=(Rate(positive(self.theta_plus, "theta_plus", zero=True)), WeightDecay(decay)),
            name="homeostasis",
        )

    def competing(self, network: Network, name: str) -> Network:
        """`network` with thresholds that learn, and with lateral inhibition, in population `name`."""
        here = network[name]
        if not isinstance(here.neuron, LIF):
            raise ConfigurationError(
                f"population {name!r} has {type(here.neuron).__name__} neurons, but diehl_cook lets spikes of LIF "
                "neurons compete; use network=spiking"
            )
        neuron = OffsetLIF(**{field.name: getattr(here.neuron, field.name) for field in fields(here.neuron)})
        changed = tuple(replace(p, neuron=neuron) if p.name == name else p for p in network.populations)
        network = replace(network, populations=changed)
        threshold = Projection(
            name, name, 0.0, OneToOne(), port="threshold", bias=True, rule=self.homeostasis(), name=f"threshold_{name}"
        )
        populations, wires = self.inhibitory(name, here.units)
        return network.with_parts(populations, (threshold, *wires))

    def inhibitory(self, name: str, units: int) -> tuple[tuple[Population, ...], tuple[Projection, ...]]:
        """Lateral inhibition of a population: interneurons, and the projections that carry it."""
        strength = positive(self.inhibition, "inhibition", zero=True)
        others = -strength * (1.0 - np.eye(units))
        if choice(self.lateral, LATERALS, "lateral") == "none":
            return (), ()
        if self.lateral == "direct":
            return (), (Projection(name, name, others, name=f"lateral_{name}"),)
        relay = f"interneurons_{name}"
        excites = Projection(name, relay, 1.0, OneToOne(), delay=0, name=f"excites_{relay}")  # 1 is their threshold
        return (Population(relay, units, LIF()),), (excites, Projection(relay, name, others, name=f"lateral_{name}"))

    def __call__(self, network: Network) -> Network:
        learning = taught(network, self.layers, self.output)
        names = tuple(projection.name for projection in learning)
        for name in dict.fromkeys(projection.post for projection in learning):
            network = self.competing(network, name)
        network = attach(network, names, lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_plus)
