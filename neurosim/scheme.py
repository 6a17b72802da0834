"""Learning schemes: functions `Network -> Network` that attach rules, with the wiring they need, and how they
compose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from neurosim.connectivity import AveragePool, MaxPool
from neurosim.network import Network, Projection
from neurosim.rule import Rule, ThreeFactorRule
from neurosim.types import ConfigurationError
from neurosim.wiring import PortTaken


class Scheme(Protocol):
    """A frozen dataclass of hyper-parameters. `layers` names the forward projections it teaches (None: all of them)."""

    layers: tuple[str, ...] | None

    def __call__(self, network: Network) -> Network: ...


def chosen(network: Network, layers: tuple[str, ...] | None) -> tuple[Projection, ...]:
    """The forward projections a scheme teaches (no pools: their weights are fixed).

    ConfigurationError if it names one that is not on the forward path.
    """
    forward = tuple(p for p in network.forward() if not isinstance(p.connectivity, AveragePool | MaxPool))
    if not forward:
        raise ConfigurationError(
            f"no driving path leads from {network.input!r} to {network.output!r}, so there is nothing to teach"
        )
    if layers is None:
        return forward
    names = [projection.name for projection in forward]
    for name in layers:
        if name not in names:
            raise ConfigurationError(f"layers names {name!r}; the forward projections are: {', '.join(names)}")
    return tuple(projection for projection in forward if projection.name in layers)


def split(network: Network, layers: tuple[str, ...] | None) -> tuple[tuple[Projection, ...], tuple[Projection, ...]]:
    """The chosen forward projections: those to hidden populations, and those to the output."""
    taught = chosen(network, layers)
    return tuple(p for p in taught if p.post != network.output), tuple(p for p in taught if p.post == network.output)


def attach(network: Network, names: tuple[str, ...], make: Callable[[Projection], Rule]) -> Network:
    """`network` with the rule `make(projection)` on each projection named."""
    return network.with_projections(lambda p: replace(p, rule=make(p)) if p.name in names else p)


def change_rules(network: Network, change: Callable[[Projection, ThreeFactorRule], ThreeFactorRule]) -> Network:
    """`network` with every three-factor rule changed; ConfigurationError if there is none."""
    if not any(isinstance(p.rule, ThreeFactorRule) for p in network.projections):
        raise ConfigurationError(
            "there is no three-factor rule to change: a rule comes first, as in rule=biohsic+shuffled"
        )
    return network.with_projections(
        lambda p: replace(p, rule=change(p, p.rule)) if isinstance(p.rule, ThreeFactorRule) else p
    )


def applied(scheme: Any, network: Network) -> Network:
    """`scheme(network)`; where it wants a port that another scheme has taken, the sentence names it too."""
    try:
        taught: Network = scheme(network)
    except PortTaken as error:
        name = getattr(scheme, "title", "") or type(scheme).__name__
        raise ConfigurationError(f"{name} cannot be added: {error}") from error
    return taught


@dataclass(frozen=True)
class Composed:
    """Several schemes, one after the other: `rule=a+b`."""

    schemes: tuple[Any, ...]

    def __call__(self, network: Network) -> Network:
        for scheme in self.schemes:
            network = applied(scheme, network)
        return network


@dataclass(frozen=True)
class PerLayer:
    """Different schemes for different layers, from the input on: `rule=layered:a/b`.

    As many schemes as forward projections, or two: then the last projection gets the second one and all others the
    first.
    """

    schemes: tuple[Any, ...]

    def __call__(self, network: Network) -> Network:
        names = [projection.name for projection in chosen(network, None)]
        if len(self.schemes) == len(names):
            groups: list[tuple[str, ...]] = [(name,) for name in names]
        elif len(self.schemes) == 2 and len(names) > 2:
            groups = [tuple(names[:-1]), (names[-1],)]
        else:
            raise ConfigurationError(
                f"layered has {len(self.schemes)} rules for {len(names)} projections "
                f"({', '.join(names)}); give 2 or {len(names)}"
            )
        for scheme, group in zip(self.schemes, groups, strict=True):
            network = applied(_restricted(scheme, group), network)
        return network


def _restricted(scheme: Any, layers: tuple[str, ...]) -> Any:
    if isinstance(scheme, Composed):
        return Composed(tuple(_restricted(part, layers) for part in scheme.schemes))
    if not hasattr(scheme, "layers"):
        raise ConfigurationError(
            f"{type(scheme).__name__} teaches the whole network and cannot be one of several layered rules"
        )
    return replace(scheme, layers=layers)
