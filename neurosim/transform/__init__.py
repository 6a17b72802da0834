"""Changes of the change: what happens to the accumulated `G` before it reaches the weight (`w + T_n(...T_1(G))`).

A pointwise transform is one scalar function, specialised like a neuron:
`step(change, weight, count, *memory, *constants) -> (change, *memory)`, where `count` is the number of earlier updates.
A transform that looks at neighbouring synapses gets a `layout` that knows rows and blocks of any connectivity:
`update(change, weight, layout) -> change`. G is *added* to the weight: signs live in the rule.
"""

from neurosim.transform.base import Chain, Layout, Transform, flatten
from neurosim.transform.heterosynaptic import GROUPINGS, NORMALISATIONS, Heterosynaptic
from neurosim.transform.normalisation import Normalised, NormRate, Sparsify
from neurosim.transform.pointwise import (
    OPTIMIZERS,
    Adam,
    Annealed,
    Clip,
    LessPast,
    Momentum,
    Rate,
    Scale,
    Schedule,
    WeightDecay,
    optimizer,
)

__all__ = [
    "GROUPINGS",
    "NORMALISATIONS",
    "OPTIMIZERS",
    "Adam",
    "Annealed",
    "Chain",
    "Clip",
    "Heterosynaptic",
    "Layout",
    "LessPast",
    "Momentum",
    "NormRate",
    "Normalised",
    "Rate",
    "Scale",
    "Schedule",
    "Sparsify",
    "Transform",
    "WeightDecay",
    "flatten",
    "optimizer",
]
