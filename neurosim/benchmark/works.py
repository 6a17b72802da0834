"""The works by name, at full size and small.

Arrays (weights, inputs) are made with NumPy, so that a peer can be given the same. What must be found is computed in
float64 by plain NumPy, or is a rate that other simulators agree on; random inputs of a peer are its own.
"""

from __future__ import annotations

from collections.abc import Callable

from neurosim.benchmark.gradients import LayerGradient
from neurosim.benchmark.layers import Layer, RandomReservoir, ThreeFactor
from neurosim.benchmark.spiking import Cuba, PairStdp
from neurosim.benchmark.work import Work
from neurosim.types import ConfigurationError

WORKS: dict[str, Callable[[], Work]] = {
    "cuba_4k": lambda: Cuba(4_000),
    "cuba_20k": lambda: Cuba(20_000),
    "cuba_100k": lambda: Cuba(100_000),
    "stdp": PairStdp,
    "dense": lambda: Layer(784, 1024, density=0.05, mean=0.15, spread=0.4),
    "three_factor_1": lambda: ThreeFactor(batch=1),
    "three_factor_32": lambda: ThreeFactor(batch=32, samples=3),
    "reservoir": RandomReservoir,
    "layer_512": lambda: Layer(512, 512, steps=500, spread=0.45),
    "layer_2048": lambda: Layer(2048, 2048, steps=500, spread=0.45),
    "gradient_512": lambda: LayerGradient(512, 512, steps=500, spread=0.45),
    "gradient_2048": lambda: LayerGradient(2048, 2048, steps=500, spread=0.45),
}
SMALL: dict[str, Callable[[], Work]] = {
    "cuba_4k": lambda: Cuba(500, steps=200, rate=None),
    "cuba_20k": lambda: Cuba(600, steps=200, rate=None),
    "cuba_100k": lambda: Cuba(700, steps=200, rate=None),
    "stdp": lambda: PairStdp(300, 10, steps=1000, w_max=0.045),
    "dense": lambda: Layer(60, 40, batch=2, steps=30, density=0.05, mean=0.15, spread=0.4),
    "three_factor_1": lambda: ThreeFactor(batch=1, inputs=40, units=20, samples=2),
    "three_factor_32": lambda: ThreeFactor(batch=4, inputs=40, units=20, samples=2),
    "reservoir": lambda: RandomReservoir(50, steps=20),
    "layer_512": lambda: Layer(40, 30, batch=2, steps=30),
    "layer_2048": lambda: Layer(50, 30, batch=2, steps=30),
    "gradient_512": lambda: LayerGradient(40, 30, batch=2, steps=30),
    "gradient_2048": lambda: LayerGradient(50, 30, batch=2, steps=30),
}


def work(name: str, small: bool = False) -> Work:
    """The work of a name, at full size or so small that it takes no time (to see that it runs, not how fast)."""
    if name not in WORKS:
        raise ConfigurationError(f"there is no benchmark {name!r}; allowed: {', '.join(WORKS)}")
    return (SMALL if small else WORKS)[name]()
