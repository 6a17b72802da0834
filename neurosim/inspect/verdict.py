"""What the locality certificate says: classes, what is broadcast, leaks."""

from __future__ import annotations

from dataclasses import dataclass

CLASSES = ("synapse", "neuron", "layer", "broadcast")
BYTES = 4  # of a broadcast number, in float32


@dataclass(frozen=True)
class Shared:
    """What is broadcast: `values` numbers for a sample, in every "step" or, as a signal is held, once a "sample"."""

    what: str
    values: float
    per: str = "step"


@dataclass(frozen=True)
class Finding:
    """The certificate of one projection's rule: its class, what is broadcast, and what leaks (nothing, if local)."""

    projection: str
    rule: str
    scope: str
    shared: tuple[Shared, ...]
    leaks: tuple[str, ...]

    def values(self, per: str) -> float:
        """Numbers per "step" (and sample), or per "sample"."""
        return sum(item.values for item in self.shared if item.per == per)


@dataclass(frozen=True)
class Certificate:
    """The verdict on a network with rules: one finding per plastic projection, and leaks of the wiring."""

    findings: tuple[Finding, ...]
    wiring: tuple[str, ...]

    @property
    def leaks(self) -> tuple[str, ...]:
        """Every leak, the wiring's first."""
        found = [*self.wiring, *(leak for finding in self.findings for leak in finding.leaks)]
        return tuple(dict.fromkeys(found))

    @property
    def local(self) -> bool:
        return not self.leaks

    @property
    def scope(self) -> str:
        """The widest class of all projections; "nonlocal" where anything leaks."""
        return widest([finding.scope for finding in self.findings]) if self.local else "nonlocal"


def widest(scopes: list[str]) -> str:
    """The last of these in the order of `CLASSES`."""
    return max(scopes, key=CLASSES.index, default=CLASSES[0])
