"""Who else does a work: packages, how they are installed, and which function makes the contender.

Nothing here loads a peer: each is loaded in the process that runs it. No peer is needed by the package itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from neurosim.benchmark import Recipe, Work
from neurosim.benchmark.balanced import Balanced
from neurosim.benchmark.gradients import LayerGradient
from neurosim.benchmark.layers import Layer, RandomReservoir, ThreeFactor
from neurosim.benchmark.plasticity import PairStdp


@dataclass(frozen=True)
class Package:
    """A distribution in the version that was compared with before, and the command that installs it here."""

    name: str
    version: str
    command: str
    compiler: bool = False  # needs g++ when it runs


def _plain(name: str, version: str, compiler: bool = False) -> Package:
    return Package(name, version, f"pip install {name}=={version}", compiler)


def _alone(name: str, version: str, *needed: str) -> Package:
    """A package whose declared dependencies would replace torch by another build."""
    first = f"pip install {' '.join(needed)}; " if needed else ""
    return Package(name, version, f"{first}pip install --no-deps {name}=={version}")


BINDSNET = (
    "pandas", "tensorboardX", "tqdm", "opencv-python-headless", "scikit-image", "scikit-learn", "gymnasium", "ale-py",
)  # fmt: skip
PACKAGES = {
    package.name: package
    for package in (
        _plain("torch", "2.13.0"),
        _plain("scipy", "1.17.1"),
        _plain("brian2", "2.9.0", compiler=True),
        _plain("nest-simulator", "3.10.0"),
        _plain("snntorch", "1.0.0"),
        _plain("norse", "1.1.0"),
        _alone("spikingjelly", "2.0.0", "loguru", "tqdm", "requests"),
        _alone("sinabs", "3.1.3", "pbr", "matplotlib"),
        _plain("jax", "0.10.2"),
        _plain("reservoirpy", "0.4.2"),
        _alone("bindsnet", "0.3.4", *BINDSNET),
    )
}


@dataclass(frozen=True)
class Peer:
    """`function(work)`, or `function(work, threads)`, of `module` makes the contender that is called `name`."""

    name: str
    package: str
    module: str
    function: str
    threaded: bool = False  # the function is told the number of threads
    many: bool = True  # can it use more than one thread?
    note: str = ""  # what is to be known of its row

    def recipe(self, work: Any, threads: int) -> Recipe:
        used = threads if self.many else 1
        arguments = (replace(work), used) if self.threaded else (replace(work),)
        return Recipe(self.name, self.module, self.function, arguments, threads=used)

    def missing(self) -> str:
        """Why this peer cannot take part, or ""."""
        package = PACKAGES[self.package]
        if installed(self.package) is None:
            return f"{self.name} is not installed: {package.name} {package.version}; {package.command}"
        if package.compiler and shutil.which("g++") is None:
            return f"{self.name} needs a C++ compiler (g++), and there is none"
        return ""


def installed(package: str) -> str | None:
    """The version of a distribution that is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


NOTES = {
    "NEST": "pairs of spikes count otherwise: its synapse sees a pre spike one step before the neuron does, and a post "
    "spike one step after it",
    "BindsNET PostPre": "pairs of spikes count otherwise: a trace holds the spikes of the step itself, and a spike "
    "reaches the neuron one step later",
    "BindsNET MSTDPET": "the rule pairs pre traces with post spikes (Florian 2007) where the work has the surrogate "
    "slope, so that the changes cannot agree",
    "Norse": "SuperSpike has a slope of 1 whatever its alpha, so that all potentials are 25 times as large; the "
    "derivative is then that of the work",
    "SpikingJelly": "SoftSign's derivative is that of the work times half the slope, by which the loss is divided",
}
STANDALONE = Peer("Brian2 C++", "brian2", "brian_peers", "standalone", threaded=True)
NEST = Peer("NEST", "nest-simulator", "nest_peers", "network", threaded=True)
SPIKING = (STANDALONE, Peer("Brian2 Cython", "brian2", "brian_peers", "cython", many=False), NEST)
PEERS: dict[type, tuple[Peer, ...]] = {
    Balanced: SPIKING,
    PairStdp: (
        STANDALONE,
        replace(NEST, many=False, note=NOTES["NEST"]),
        Peer("BindsNET PostPre", "bindsnet", "bindsnet_peers", "stdp", note=NOTES["BindsNET PostPre"]),
    ),
    Layer: (
        Peer("torch, a product per step", "torch", "torch_peers", "layer_steps"),
        Peer("torch, one product, in place", "torch", "torch_peers", "layer_batched"),
        Peer("snnTorch Leaky", "snntorch", "snntorch_peers", "layer"),
        Peer("Norse LIFBoxCell", "norse", "norse_peers", "layer"),
        Peer("SpikingJelly LIFNode", "spikingjelly", "spikingjelly_peers", "layer"),
        Peer("Sinabs LIF", "sinabs", "sinabs_peers", "layer"),
        Peer("JAX product and scan", "jax", "jax_peers", "layer"),
        Peer("JAX scan of products", "jax", "jax_peers", "layer_steps"),
    ),
    LayerGradient: (
        Peer("torch, one product, unbind", "torch", "gradient_peers", "gradient"),
        Peer("snnTorch Leaky", "snntorch", "snntorch_peers", "gradient"),
        Peer("Norse LIFBoxCell", "norse", "norse_peers", "gradient", note=NOTES["Norse"]),
        Peer("SpikingJelly LIFNode", "spikingjelly", "spikingjelly_peers", "gradient", note=NOTES["SpikingJelly"]),
        Peer("Sinabs LIF, a call per step", "sinabs", "sinabs_peers", "gradient"),
        Peer("JAX product and scan", "jax", "jax_peers", "gradient"),
    ),
    ThreeFactor: (
        Peer("torch, outer products", "torch", "torch_peers", "outer_products"),
        Peer("torch, outer products in place", "torch", "torch_peers", "outer_products_in_place"),
        Peer("torch, factorised", "torch", "torch_peers", "factorised"),
        Peer("BindsNET MSTDPET", "bindsnet", "bindsnet_peers", "three_factor", note=NOTES["BindsNET MSTDPET"]),
    ),
    RandomReservoir: (
        Peer("torch CSR", "torch", "torch_peers", "torch_csr"),
        Peer("torch dense", "torch", "torch_peers", "torch_dense"),
        Peer("SciPy CSR", "scipy", "torch_peers", "scipy_csr"),
        Peer("ReservoirPy", "reservoirpy", "reservoir_peers", "reservoir"),
    ),
}
ALONE = ("cuba_1m",)  # no peer: too much memory or time


ON_ONE = ", 1 thread"  # ends the name of who has one thread where others have more


def on_one(recipe: Recipe) -> Recipe:
    """The name of a contender with one thread beside others."""
    return replace(recipe, name=recipe.name + ON_ONE)


def notes(name: str, work: Work) -> dict[str, str]:
    """What is to be known of the rows of peers that take part."""
    return {peer.name: peer.note for peer in _chosen(name, work) if peer.note and not peer.missing()}


def peers_of(name: str, work: Work, threads: int) -> tuple[list[Recipe], list[str]]:
    """Recipes of the peers at a work, and why others are left out. With several threads a peer that is not quicker for
    them may be the best on one, so Brian2's program takes part with one too.
    """
    chosen = _chosen(name, work)
    reasons = [peer.missing() for peer in chosen]
    here = [peer for peer, reason in zip(chosen, reasons, strict=True) if not reason]
    recipes = [peer.recipe(work, threads) for peer in here]
    if threads > 1 and STANDALONE in here:
        recipes.insert(1, on_one(STANDALONE.recipe(work, 1)))
    return recipes, [reason for reason in reasons if reason]


def _chosen(name: str, work: Work) -> Sequence[Peer]:
    for kind in () if name in ALONE else type(work).__mro__:
        if kind in PEERS:
            return PEERS[kind]
    return ()
