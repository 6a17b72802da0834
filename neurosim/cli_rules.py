"""`rule=` as an expression: `a`, `a+b` (one after the other), `layered:a/b` (layers with different rules)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurosim.cli_errors import listed, unknown
from neurosim.scheme import Composed, PerLayer
from neurosim.types import ConfigurationError

LAYERED = "layered:"
HOW = "write rule=a, rule=a+b or rule=layered:a/b"


@dataclass(frozen=True)
class Part:
    """One rule of an expression: its config file `name`, and the `node` under `rule` that holds its settings."""

    name: str
    node: str


@dataclass(frozen=True)
class Expression:
    """What `rule=` says: groups of parts, one group unless `layered`; in a group a part acts after those before it."""

    text: str
    layered: bool
    groups: tuple[tuple[Part, ...], ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for group in self.groups for part in group)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(part.node for part in self.parts)

    def scheme(self, rules: Mapping[str, Any]) -> Any:
        """The learning scheme, from the rule objects by node."""
        schemes = [_composed([rules[part.node] for part in group]) for group in self.groups]
        return PerLayer(tuple(schemes)) if self.layered else schemes[0]


def _composed(schemes: list[Any]) -> Any:
    return schemes[0] if len(schemes) == 1 else Composed(tuple(schemes))


def parse_rules(text: str, known: Sequence[str]) -> Expression:
    """Read an expression of `known` rules; a rule that occurs again gets a node of its own: `biohsic`, `biohsic_2`."""
    text = text.strip().strip("'\"")
    layered = text.startswith(LAYERED)
    body = text.removeprefix(LAYERED)
    if not body:
        what = f"rule={text} names no rule" if layered else "rule= has no value"
        raise ConfigurationError(f"{what}; {HOW}; {listed('rule', known)}")
    if "/" in body and not layered:
        raise ConfigurationError(f"rule={text} gives rules to layers; write rule=layered:{body}")
    seen: dict[str, int] = {}
    groups = [tuple(_part(word, text, known, seen) for word in group.split("+")) for group in body.split("/")]
    return Expression(text, layered, tuple(groups))


def _part(word: str, text: str, known: Sequence[str], seen: dict[str, int]) -> Part:
    if not word:
        raise ConfigurationError(f"rule={text} has an empty part; {HOW}")
    if word not in known:
        raise ConfigurationError(unknown("rule", word, known))
    seen[word] = seen.get(word, 0) + 1
    return Part(word, word if seen[word] == 1 else f"{word}_{seen[word]}")


def place(key: str, expression: Expression, known: Sequence[str]) -> str:
    """The full key of a `rule.` setting: with one part, `rule.lr` is short for `rule.biohsic.lr`."""
    _, _, rest = key.partition(".")
    first = rest.partition(".")[0]
    if first in expression.nodes:
        return key
    if first in known:
        parts = ", ".join(expression.nodes)
        raise ConfigurationError(f"{key} sets the rule {first!r}, but rule={expression.text} has: {parts}")
    if len(expression.nodes) > 1:
        raise ConfigurationError(
            f"{key} does not say which rule it means; write rule.{expression.nodes[0]}.{rest}: the parts are "
            f"{', '.join(expression.nodes)}"
        )
    return f"rule.{expression.nodes[0]}.{rest}"
