"""The works by name, at full size and small.

Arrays (weights, inputs) are made with NumPy, so that a peer can be given the same. What must be found is computed in
float64 by plain NumPy, or is a rate that other simulators agree on; random inputs of a peer are its own.
"""

from __future__ import annotations

from collections.abc import Callable

from neurosim.benchmark.balanced import Brunel, Coba, Cuba
from neurosim.benchmark.gradients import LayerGradient
from neurosim.benchmark.layers import Layer, RandomReservoir, ThreeFactor
from neurosim.benchmark.plasticity import PairStdp
from neurosim.benchmark.work import Work
from neurosim.types import ConfigurationError

WORKS: dict[str, Callable[[], Work]] = {
    "cuba_4k": lambda: Cuba(4_000),
    "cuba_20k": lambda: Cuba(20_000),
    "cuba_100k": lambda: Cuba(100_000),
    "cuba_1m": lambda: Cuba(1_000_000, steps=1_000, rate=None, like=4_000),
    "coba": Coba,
    "brunel": Brunel,
    "stdp": PairStdp,
    "dense": lambda: Layer(784, 1024, density=0.05, mean=0.15, spread=0.4),
    "dense_500": lambda: Layer(784, 1024, steps=500, density=0.05, mean=0.15, spread=0.4),
    "three_factor_1": lambda: ThreeFactor(batch=1),
    "three_factor_32": lambda: ThreeFactor(batch=32, samples=3),
    "reservoir": RandomReservoir,
    "layer_512": lambda: Layer(512, 512, steps=500, spread=0.45),
    "layer_2048": lambda: Layer(2048, 2048, steps=500, spread=0.45),
    "layer_4096": lambda: Layer(4096, 4096, steps=500, spread=0.45),
    "gradient_512": lambda: LayerGradient(512, 512, steps=500, spread=0.45),
    "gradient_2048": lambda: LayerGradient(2048, 2048, steps=500, spread=0.45),
    "gradient_4096": lambda: LayerGradient(4096, 4096, steps=500, spread=0.45),
}
SMALL: dict[str, Callable[[], Work]] = {
    "cuba_4k": lambda: Cuba(500, steps=200, rate=None),
    "cuba_20k": lambda: Cuba(600, steps=200, rate=None),
    "cuba_100k": lambda: Cuba(700, steps=200, rate=None),
    "cuba_1m": lambda: Cuba(900, steps=200, rate=None, like=800, tolerance=0.3),
    "coba": lambda: Coba(500, steps=400, skip=10.0, rate=None, tolerance=0.08, probability=0.16),
    "brunel": lambda: Brunel(250, steps=400, skip=10.0, rate=None, tolerance=0.08, J=0.5),
    "stdp": lambda: PairStdp(300, 10, steps=1000, w_max=0.045),
    "dense": lambda: Layer(60, 40, batch=2, steps=30, density=0.05, mean=0.15, spread=0.4),
    "dense_500": lambda: Layer(60, 40, batch=2, steps=40, density=0.05, mean=0.15, spread=0.4),
    "three_factor_1": lambda: ThreeFactor(batch=1, inputs=40, units=20, samples=2),
    "three_factor_32": lambda: ThreeFactor(batch=4, inputs=40, units=20, samples=2),
    "reservoir": lambda: RandomReservoir(50, steps=20),
    "layer_512": lambda: Layer(40, 30, batch=2, steps=30),
    "layer_2048": lambda: Layer(50, 30, batch=2, steps=30),
    "layer_4096": lambda: Layer(60, 30, batch=2, steps=30),
    "gradient_512": lambda: LayerGradient(40, 30, batch=2, steps=30),
    "gradient_2048": lambda: LayerGradient(50, 30, batch=2, steps=30),
    "gradient_4096": lambda: LayerGradient(60, 30, batch=2, steps=30),
}
LARGE = ("cuba_1m",)  # much memory: run only where named
THREADED = ("cuba_4k", "cuba_20k", "cuba_100k", "coba", "brunel")  # also run on two threads
GPU = {
    "gpu_layer_16384": "LIF layer 16384 -> 16384, batch 16, T 500",
    "gpu_scan": "the scan of that layer alone, without its matrix product",
    "gpu_cuba_1m": "CUBA network of 1,000,000 neurons",
    "gpu_three_factor": "three-factor learning 4096 -> 4096",
}  # what needs a GPU


def usual() -> list[str]:
    """The works that are run where none is named."""
    return [name for name in WORKS if name not in LARGE]


def work(name: str, small: bool = False) -> Work:
    """The work of a name, at full size or so small that it takes no time (to see that it runs, not how fast)."""
    if name in GPU:
        raise ConfigurationError(f"benchmark {name!r} ({GPU[name]}) needs a GPU")
    if name not in WORKS:
        raise ConfigurationError(f"there is no benchmark {name!r}; allowed: {', '.join(WORKS)}")
    return (SMALL if small else WORKS)[name]()
