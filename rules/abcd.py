"""Hebbian plasticity with coefficients (ABCD), one set for each synapse, each neuron or each channel.

    dw_ij = eta_ij (A_ij z_i x_j + B_ij x_j + C_ij z_i + D_ij) + D_out_ij                  per synapse
    dw_ij = (eta_i + eta_j) / 2 (A_i A_j z_i x_j + B_j x_j + C_i z_i + D_i D_j)            per neuron, per channel
    w <- w / max|w|

x is what arrives, z the activity of the post neuron; on spiking networks both are low-pass traces. The coefficients do
not change within a life: they are evolved, or given. A neuron has one set, read as pre neuron and as post neuron: five
numbers for each neuron instead of five for each synapse. Letters are those of Najarro and Risi; Ferigo et al. write
C_i C_j for the correlation, A for the pre and B for the post coefficient.

In a convolution the synapses of a kernel entry are joined by `share`: the whole change, or (`share_of` term) each of
the four terms, and eta, on its own: their sum is then multiplied by the joined eta. With per synapse each kernel entry
has a set.

E. Najarro, S. Risi, "Meta-learning through Hebbian plasticity in random networks", NeurIPS 2020, arXiv 2007.02686; A.
Ferigo, E. Cunegatti, G. Iacca, "Neuron-centric Hebbian learning", GECCO 2024, arXiv 2403.12076.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.connectivity import Conv2d, Shape
from neurosim.constraint import DividedByMax
from neurosim.factor import Apply, Coefficient, Factor, One
from neurosim.modulator import Unmodulated
from neurosim.network import Network, Population, Projection
from neurosim.rule import SHARES, Component, PerSynapse, Term, ThreeFactorRule
from neurosim.scheme import attach
from neurosim.transform import Rate, Scale
from neurosim.types import Array, ConfigurationError, choice, numeric

from .activity import activity
from .delta import pre_factor
from .readout import taught, with_readout
from .reward_stdp import TASK, reward_modulator, with_reward

SETS = ("synapse", "neuron", "channel")


def product(a: float, b: float) -> float:
    """a b."""
    return a * b


def times(coefficient: Array, factor: Factor) -> Factor:
    """A factor with a coefficient per neuron."""
    own = Coefficient(factor.end, coefficient)
    return own if isinstance(factor, One) else Apply(product, (own, factor))


def shared_rate(connectivity: Conv2d, pre_shape: Shape, post_shape: Shape, pre: Array, post: Array, how: str) -> Array:
    """(post_i + pre_j) / 2 of the synapses of each kernel entry, joined by `how`: `[..., out, in, k, k]`.

    `pre [..., Q]` and `post [..., P]` are numbers per neuron; the median is the lower one.
    """
    wide, k, stride = connectivity.padding, connectivity.kernel, connectivity.stride
    border = [*[(0, 0)] * pre.ndim, (wide, wide), (wide, wide)]
    mode: Any = "reflect" if connectivity.padding_mode == "reflect" else "constant"
    image = np.pad(pre.reshape(*pre.shape[:-1], *pre_shape), border, mode=mode)
    every: Any = np.lib.stride_tricks.sliding_window_view
    windows = every(image, (k, k), (-2, -1))[..., ::stride, ::stride, :, :]
    mean = (
        post.reshape(*post.shape[:-1], post_shape[0], 1, *post_shape[1:], 1, 1) + windows[..., None, :, :, :, :, :]
    ) / 2
    flat = np.moveaxis(mean.reshape(*mean.shape[:-4], -1, k, k), -3, 0)  # [positions, ..., out, in, k, k]
    joined: Array = np.sort(flat, 0)[(len(flat) - 1) // 2] if how == "median" else getattr(np, how)(flat, 0)
    return joined


@dataclass(frozen=True)
class ABCD:
    """See the module. `A`, `B`, `C`, `D`, `eta`: a number, an array, or one of them by name. `per` synapse: of the
    shape of the weight, by projection; neuron: `[N]`, by population; channel: `[C]`, by population (of a population
    without channels: as neuron). An axis of replicas may come first. `D_out`: a constant outside the rate, per synapse
    only.

    `share` sum | mean | max | min | median and `share_of` change | term of convolutions; `normalise` max | none: of the
    weights after an update. `reward` None, or the modulator of RewardSTDP: "task" or the name of a signal, with
    `tau_reward`. `tau_trace` (ms) of the rate traces of spikes. `when`, `accumulate` and `reduce` as in
    `ThreeFactorRule`; `output` delta | same | none: what the output layer learns by (the delta rule with `lr_output`).
    Biases stay as they are.
    """

    A: Any = 1.0
    B: Any = 0.0
    C: Any = 0.0
    D: Any = 0.0
    eta: Any = 1e-2
    D_out: Any = 0.0
    per: str = "synapse"
    share: str = "mean"
    share_of: str = "change"
    normalise: str = "max"
    reward: str | None = None
    tau_reward: float | None = None
    tau_trace: float = 20.0
    when: str = "phase"
    accumulate: str = "last"
    reduce: str = "mean"
    output: str = "delta"
    lr_output: float = 1e-3
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        choice(self.per, SETS, "per of ABCD")
        choice(self.share, SHARES, "share of ABCD")
        choice(self.normalise, ("max", "none"), "normalise of ABCD")
        if self.per != "synapse" and not self._absent("D_out"):
            raise ConfigurationError(f"D_out of ABCD is a constant per synapse; with per={self.per} it must be 0")

    def _absent(self, letter: str) -> bool:
        value = getattr(self, letter)
        return isinstance(value, int | float) and value == 0

    def _named(self, letter: str, name: str) -> Array:
        """The numbers of a projection or population."""
        value = getattr(self, letter)
        if isinstance(value, Mapping):
            if name not in value:
                raise ConfigurationError(f"{letter} of ABCD has nothing for {name!r}; it has: {', '.join(value)}")
            value = value[name]
        return numeric(value, f"{letter} of ABCD", "a number, an array, or one of them by name")

    def _numbers(self, letter: str, population: Population) -> Array:
        """One number for each neuron of a population."""
        values = self._named(letter, population.name)
        if values.ndim == 0:
            return np.full(population.units, values)
        sets = population.shape[0] if self.per == "channel" else population.units
        if values.shape[-1] != sets:
            raise ConfigurationError(
                f"{letter} of ABCD has {values.shape[-1]} numbers for {population.name!r}; "
                f"one per {self.per} makes {sets}"
            )
        return np.repeat(values, population.units // sets, -1)

    def _of_synapses(self, projection: Projection, z: Factor, x: Factor) -> tuple[Term, ...]:
        eta, name = self._named("eta", projection.name), projection.name
        constant = eta * self._named("D", name) + self._named("D_out", name)
        ends: dict[str, tuple[Factor, Factor]] = {"A": (z, x), "B": (One("post"), x), "C": (z, One("pre"))}
        terms = [
            Term(*ends[letter], PerSynapse(eta * self._named(letter, name), bias=0.0))
            for letter in ends
            if not self._absent(letter)
        ]
        if not (self._absent("D") and self._absent("D_out")) or not terms:
            terms.append(Term(One("post"), One("pre"), PerSynapse(constant, bias=0.0)))
        return tuple(terms)

    def _of_neurons(self, network: Network, projection: Projection, z: Factor, x: Factor) -> tuple[Term, ...]:
        """The four terms, without eta."""
        pre, post = network[projection.pre], network[projection.post]
        one_post, one_pre = One("post"), One("pre")
        terms = []
        if not self._absent("A"):
            terms.append(Term(times(self._numbers("A", post), z), times(self._numbers("A", pre), x)))
        if not self._absent("B"):
            terms.append(Term(one_post, times(self._numbers("B", pre), x)))
        if not self._absent("C"):
            terms.append(Term(times(self._numbers("C", post), z), one_pre))
        if not self._absent("D") or not terms:
            terms.append(Term(times(self._numbers("D", post), one_post), times(self._numbers("D", pre), one_pre)))
        return tuple(terms)

    def _by_rate(self, network: Network, projection: Projection, terms: tuple[Term, ...]) -> tuple[Term, ...]:
        """Each term times (eta_i + eta_j) / 2, as two terms: what a neuron knows of eta is its own."""
        of_pre, of_post = (self._numbers("eta", network[name]) / 2 for name in (projection.pre, projection.post))
        halves = ((Term(times(of_post, one.post), one.pre), Term(one.post, times(of_pre, one.pre))) for one in terms)
        return tuple(half for pair in halves for half in pair)

    def terms(self, network: Network, projection: Projection) -> tuple[tuple[Term, ...], tuple[Any, ...]]:
        """The terms of a projection's rule, and what their sum is multiplied by."""
        z = activity(network, projection, self.tau_trace)
        x = pre_factor(network, projection, self.tau_trace)
        if self.per == "synapse":
            return self._of_synapses(projection, z, x), ()
        terms, connectivity = self._of_neurons(network, projection, z, x), projection.connectivity
        if self.share_of == "change" or not isinstance(connectivity, Conv2d):
            return self._by_rate(network, projection, terms), ()
        pre, post = network[projection.pre], network[projection.post]
        etas = self._numbers("eta", pre), self._numbers("eta", post)
        return terms, (Scale(shared_rate(connectivity, pre.shape, post.shape, *etas, self.share)),)

    def rule(self, network: Network, projection: Projection) -> ThreeFactorRule:
        terms, scale = self.terms(network, projection)
        return ThreeFactorRule(
            (Component(terms),),
            Unmodulated() if self.reward is None else reward_modulator(self.reward, self.tau_reward),
            accumulate=self.accumulate,
            when=self.when,
            share=self.share,
            share_of=self.share_of,
            reduce=self.reduce,
            transforms=scale,
            constraints=(DividedByMax(),) if self.normalise == "max" else (),
            bias_transforms=(Rate(0.0),),
            name="abcd",
        )

    def __call__(self, network: Network) -> Network:
        learning = taught(network, self.layers, self.output)
        if self.reward == TASK:
            network = with_reward(network, tuple(dict.fromkeys(p.post for p in learning)))
        network = attach(network, tuple(p.name for p in learning), lambda p: self.rule(network, p))
        return with_readout(network, self.layers, self.output, self.lr_output, self.tau_trace)
