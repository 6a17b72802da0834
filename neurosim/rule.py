"""The one learning rule, and the equation every backend carries out.

For a projection with post-synaptic neurons i, pre-synaptic neurons j, batch rows b and components c:

    e^c_ij <- d^c_i e^c_ij + sum_k post_k,i pre_k,j gain_k,ij        components; d^c = exp(-dt / tau) or a post field
    G_ij   <- G_ij + reduce_b( share( m_b,i e_b,ij ) )               every step ("sum", "mean"), a phase's last ("last")
    w_ij   <- C( w_ij + T_n( ... T_1( G_ij ) ) ),   G_ij <- 0        when due: every step, every phase, every sample

The last component meets the modulator m. A bias is a weight from a constant 1, whose traces
start at rest like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from neurosim.factor import Factor, Trace, traces
from neurosim.modulator import Unmodulated
from neurosim.transform import flatten
from neurosim.types import ConfigurationError, choice, positive

SHARES = ("sum", "mean", "max", "min", "median")


@dataclass(frozen=True)
class OfWeight:
    """Gain `fn(w, *constants)`, a module-level scalar function of the step vocabulary."""

    fn: Callable[..., Any]
    constants: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class PerSynapse:
    """Gain given as numbers: a scalar or an array that broadcasts against the weight (Hebbian ABCD coefficients).

    `bias` is the gain of the bias, a number or one for each; None: `value`, which then has to fit it.
    """

    value: Any
    bias: Any = None


@dataclass(frozen=True)
class OfComponent:
    """Gain = the value of component `index`, before its update in this step or after it (only an earlier component)."""

    index: int
    read: str = "before"

    def __post_init__(self) -> None:
        choice(self.read, ("before", "after"), "read of OfComponent")


@dataclass(frozen=True)
class SynapseNoise:
    """Gain = `sd` times a standard normal number per synapse, held for a whole phase (weight perturbation)."""

    sd: float

    def __post_init__(self) -> None:
        positive(self.sd, "sd of SynapseNoise")


Gain: TypeAlias = OfWeight | PerSynapse | OfComponent | SynapseNoise | None


@dataclass(frozen=True)
class Term:
    """post_k,i pre_k,j gain_k,ij; gain None is 1."""

    post: Factor
    pre: Factor
    gain: Gain = None

    def __post_init__(self) -> None:
        if self.post.end != "post" or self.pre.end != "pre":
            raise ConfigurationError("a Term takes a post factor, then a pre factor")


@dataclass(frozen=True)
class Component:
    """A sum of terms with a memory: `tau` (ms) gives d = exp(-dt / tau) (inf: 1, a sum since the start), `decay` a post
    factor as d; neither: no memory (d = 0).
    """

    terms: tuple[Term, ...]
    tau: float | None = None
    decay: Factor | None = None

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigurationError("a Component needs at least one term")
        if self.tau is not None and self.decay is not None:
            raise ConfigurationError("a Component has either tau or decay, not both")
        if self.tau is not None and self.tau != math.inf:
            positive(self.tau, "tau of a Component (ms)")
        if self.decay is not None and self.decay.end != "post":
            raise ConfigurationError("the decay of a Component is a number per post-synaptic neuron: a post factor")

    @property
    def has_memory(self) -> bool:
        return self.tau is not None or self.decay is not None


@dataclass(frozen=True)
class ThreeFactorRule:
    """The rule of a projection; see the module for the equation.

    `accumulate` "sum" | "mean" (over the steps that G gathered) | "last" (each phase's last step); `when` "step" |
    "phase" | "sample" (a trial's end, what its phases gathered together); `share` joins synapses tied by a convolution
    ("sum" | "mean" | "max" | "min" | "median"), `share_of` the whole "change" or each "term" of it on its own before
    they are added (one component, without memory), `reduce` the batch ("sum" | "mean" | "sequential": one row after
    the other, each with its own transforms and constraints). `bias_transforms` None: as `transforms`. `name` is what
    `show` prints.
    """

    components: tuple[Component, ...]
    modulator: Any = Unmodulated()
    accumulate: str = "sum"
    when: str = "step"
    share: str = "sum"
    share_of: str = "change"
    reduce: str = "mean"
    transforms: tuple[Any, ...] = ()
    constraints: tuple[Any, ...] = ()
    bias_transforms: tuple[Any, ...] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        choice(self.accumulate, ("sum", "mean", "last"), "accumulate")
        choice(self.when, ("step", "phase", "sample"), "when")
        choice(self.share, SHARES, "share")
        choice(self.share_of, ("change", "term"), "share_of")
        choice(self.reduce, ("sum", "mean", "sequential"), "reduce")
        if not self.components:
            raise ConfigurationError("a ThreeFactorRule needs at least one component")
        if self.share_of == "term" and (len(self.components) > 1 or self.components[0].has_memory):
            raise ConfigurationError("share_of 'term' needs a rule of one component without memory")
        for index, component in enumerate(self.components):
            for term in component.terms:
                if isinstance(term.gain, OfComponent) and not 0 <= term.gain.index < index:
                    raise ConfigurationError(
                        f"component {index} reads component {term.gain.index}; it can only read an earlier one"
                    )
        gains = [term.gain for component in self.components for term in component.terms]
        noise = {gain.sd for gain in gains if isinstance(gain, SynapseNoise)}
        if len(noise) > 1:
            raise ConfigurationError(
                f"a rule perturbs its weights once: the SynapseNoise of all terms has one sd, not {noise}"
            )

    @property
    def perturbation(self) -> float | None:
        """The standard deviation of the noise on the weights, if a term has `SynapseNoise`."""
        gains = (term.gain for component in self.components for term in component.terms)
        return next((gain.sd for gain in gains if isinstance(gain, SynapseNoise)), None)

    @property
    def chain(self) -> tuple[Any, ...]:
        return flatten(self.transforms)

    @property
    def bias_chain(self) -> tuple[Any, ...]:
        return self.chain if self.bias_transforms is None else flatten(self.bias_transforms)

    def post_factors(self) -> Iterator[Factor]:
        """All post factors that the rule reads, its modulator's and decays included."""
        for component in self.components:
            yield from (term.post for term in component.terms)
            if component.decay is not None:
                yield component.decay
        yield from self.modulator.factors()

    def pre_factors(self) -> Iterator[Factor]:
        """All pre factors that the rule reads, its modulator's included."""
        for component in self.components:
            yield from (term.pre for term in component.terms)
        yield from getattr(self.modulator, "pre_factors", tuple)()

    def traces(self) -> Iterator[Trace]:
        """All traces that the rule needs."""
        for factor in (*self.post_factors(), *self.pre_factors()):
            yield from traces(factor)


@dataclass(frozen=True)
class GradientRule:
    """G = -dLoss/dw by automatic differentiation through the phase: a baseline, not local.

    The loss is over the decoded output of a phase, `decoder(recorded output [T, R, B, N]) -> [R, B, N]`, against the
    signal `target [R, B, N]`: "cross_entropy" (softmax) or "mse" (half the sum of squares), mean over the batch. Spikes
    have the surrogate gradient of their neuron. `through_time` False cuts the graph between steps. G is taken at the
    end of each phase.
    """

    decoder: Any
    loss: str = "cross_entropy"
    target: str = "label"
    output: str = "output"
    through_time: bool = True
    transforms: tuple[Any, ...] = ()
    constraints: tuple[Any, ...] = ()
    bias_transforms: tuple[Any, ...] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        choice(self.loss, ("cross_entropy", "mse"), "loss")

    @property
    def chain(self) -> tuple[Any, ...]:
        return flatten(self.transforms)

    @property
    def bias_chain(self) -> tuple[Any, ...]:
        return self.chain if self.bias_transforms is None else flatten(self.bias_transforms)


Rule: TypeAlias = ThreeFactorRule | GradientRule
