"""`certify`: is a rule local? Its passport, or a table of all rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from neurosim.cli_build import experiment
from neurosim.cli_config import Composed, composed, names, parse, source
from neurosim.cli_show import describe, factor, gain_of, table
from neurosim.experiment import Experiment
from neurosim.inspect import passport
from neurosim.inspect.certificate import certify as certificate_of
from neurosim.inspect.verdict import BYTES, Certificate, Finding, widest
from neurosim.network import Network
from neurosim.rule import ThreeFactorRule
from neurosim.types import ConfigurationError

HELP = """\
usage: python -m neurosim certify rule=<name> [network=<name>] [key=value ...]
       python -m neurosim certify rule=all [network=<name>]

Moves every variable of a step by itself and sees which changes of weights move with it, after 50 steps of learning on
random data (5 inputs, 3 outputs, batch 7, 2 replicas, float64; `batch=` and `replicas=` change that). Prints the rule's
passport: equation, factors, class (synapse < neuron < layer < broadcast), what is broadcast, parameters, source.

The exit code is 0 for a local rule, 1 for one that is rejected; for rule=all it is 0 if every rule is what it says."""

INPUTS, OUTPUTS = 5, 3
BEFORE = "feedback_alignment"  # a rule for those that change another one
GIVEN = {"task": "xor", "batch": "7", "replicas": "2"}  # unless the command line says something else
SAID = {  # of settings that mean the same everywhere, and have no comment of their own
    "beta1": "in [0, 1): momentum, or the first moment of Adam",
    "beta2": "in [0, 1): second moment of Adam",
    "weight_decay": ">= 0: part of a weight that is lost in every update; for adamw",
    "w_max": "upper bound, above w_min; none: open",
}
Made = TypeVar("Made")
SETTING = re.compile(r"^( *)(\w+):.*?#\s*(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Certified:
    """A rule expression with its schemes, on a network, and the verdict."""

    text: str
    network_name: str
    schemes: tuple[Any, ...]
    network: Network
    certificate: Certificate

    @property
    def as_it_says(self) -> bool:
        """Is the verdict the one that the rule claims (`local`, true unless its class denies it)?"""
        return self.certificate.local == all(getattr(scheme, "local", True) for scheme in self.schemes)


def certify(arguments: Sequence[str]) -> int:
    """Print the passport of `rule=<expression>`, or the table of `rule=all`; 0 if local (all: as claimed), else 1."""
    words = parse(arguments)
    if words.rule is None or not words.rule:
        raise ConfigurationError(
            f"rule=<name> is missing; write certify rule=all, or one of: {', '.join(names('rule'))}"
        )
    if words.experiment is not None:
        raise ConfigurationError("certify takes rule=<name>, not an experiment")
    if words.rule == "all":
        if words.settings or set(words.groups) - {"network"}:
            raise ConfigurationError("certify rule=all takes no settings but network=<name>")
        return _all([word for word in arguments if word.startswith("network=")])
    certified = _first([[f"rule={words.rule}"]], [word for word in arguments if not word.startswith("rule=")])
    for line in report(certified):
        print(line)
    return 0 if certified.certificate.local else 1


def _all(more: Sequence[str]) -> int:
    found = [_first([[f"rule={name}"], [f"rule={BEFORE}+{name}"]], more) for name in names("rule")]
    head = ["rule", "network", "verdict", "hidden", "output", "a step", "a sample", "broadcast, or what leaks"]
    print("Numbers broadcast in all layers together, for one sample, in every step and once a sample (4 bytes each)\n")
    for line in table([head, *map(_row, found)]):
        print(line)
    wrong = [one.text for one in found if not one.as_it_says]
    if wrong:
        print(f"\nnot what they claim to be: {', '.join(wrong)}")
    return 1 if wrong else 0


def _first(rules: Sequence[Sequence[str]], more: Sequence[str]) -> Certified:
    return first_fit(rules, more, _certified)


def first_fit(rules: Sequence[Sequence[str]], more: Sequence[str], make: Callable[[Sequence[str]], Made]) -> Made:
    """What is made of the first of these rules that fits the network; without network=, spiking neurons are tried
    after rates.
    """
    networks = [[]] if any(word.startswith("network=") for word in more) else [[], ["network=spiking"]]
    refused: list[ConfigurationError] = []
    for rule in rules:
        for network in networks:
            try:
                return make([*rule, *network, *more])
            except ConfigurationError as error:
                refused.append(error)
    raise refused[0]


def described(arguments: Sequence[str]) -> tuple[Composed, Experiment, Network]:
    """The configuration, experiment and small network (5 inputs, 3 outputs) of these words, with its rules."""
    keys = {word.partition("=")[0] for word in arguments}
    made = composed([*(f"{key}={value}" for key, value in GIVEN.items() if key not in keys), *arguments])
    wanted = experiment(made.config)
    return made, wanted, wanted.scheme(wanted.network(INPUTS, OUTPUTS))


def _certified(arguments: Sequence[str]) -> Certified:
    made, wanted, network = described(arguments)
    verdict = certificate_of(network, wanted.dt, batch=wanted.batch, replicas=wanted.replicas, seed=wanted.seed)
    return Certified(made.names["rule"], made.names["network"], tuple(_parts(wanted.scheme)), network, verdict)


def _parts(scheme: Any) -> Iterator[Any]:
    if hasattr(scheme, "schemes"):
        for part in scheme.schemes:
            yield from _parts(part)
    else:
        yield scheme


# ---- the table -------------------------------------------------------------------------------------------------------


def _row(one: Certified) -> list[str]:
    findings = one.certificate.findings
    ends = {finding.projection: one.network.projection(finding.projection).post for finding in findings}
    hidden = [finding for finding in findings if ends[finding.projection] != one.network.output]
    output = [finding for finding in findings if ends[finding.projection] == one.network.output]
    leaks = one.certificate.leaks
    what = leaks[0] if leaks else ", ".join(dict.fromkeys(item.what for f in findings for item in f.shared))
    local = one.certificate.local
    return [
        one.text,
        one.network_name,
        "LOCAL" if local else "REJECTED",
        _class(hidden, local),
        _class(output, local),
        number(sum(finding.values("step") for finding in findings)) if local else "-",
        number(sum(finding.values("sample") for finding in findings)) if local else "-",
        what or "nothing",
    ]


def _class(findings: Sequence[Finding], local: bool) -> str:
    return widest([finding.scope for finding in findings]) if findings and local else "-"


def number(value: float) -> str:
    """A number as it is read."""
    return f"{value:.3g}"


# ---- the passport ----------------------------------------------------------------------------------------------------


def report(one: Certified) -> Iterator[str]:
    """The passport of a rule, line by line."""
    certificate = one.certificate
    yield f"{one.text} on network {one.network_name}: {'LOCAL' if certificate.local else 'REJECTED'}"
    yield f"class       {certificate.scope}"
    for leak in certificate.leaks:
        yield f"because     {leak}"
    for scheme in one.schemes:
        yield ""
        yield from _scheme(scheme)
    yield "\nprojections"
    for finding in certificate.findings:
        yield from _finding(finding, one.network)


def _scheme(scheme: Any) -> Iterator[str]:
    yield f"{type(scheme).__name__}"
    first, *more = passport.equations(scheme)
    yield f"equation    {first}"
    yield from (f"            {line}" for line in more)
    yield f"source      {passport.source(scheme)}"
    said = {**SAID, **_comments(scheme)}
    rows = [[f"{name} = {value}", said.get(name, "")] for name, value in _settings(scheme)]
    yield "parameters" if rows else "parameters  none"
    yield from table(rows) if rows else ()


def _settings(scheme: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The parameters of a scheme, and those of what it is made of, by their names on the command line."""
    for name in (field.name for field in fields(scheme) if field.name != "layers"):
        value = getattr(scheme, name)
        if is_dataclass(value):
            yield f"{prefix}{name}", type(value).__name__
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", describe(value)


def _comments(scheme: Any) -> dict[str, str]:
    """What the configuration of a rule says about its settings: units, allowed words."""
    target = f"{type(scheme).__module__}.{type(scheme).__name__}"
    texts = [source("rule", name) for name in names("rule")]
    found, parents = dict[str, str](), list[str]()
    for indent, name, comment in SETTING.findall(next((text for text in texts if f"_target_: {target}\n" in text), "")):
        parents = [*parents[: len(indent) // 2], name]
        found[".".join(parents)] = comment
    return found


def _finding(finding: Finding, network: Network) -> Iterator[str]:
    rule = network.projection(finding.projection).rule
    yield f"  {finding.projection}: {finding.rule}, {'class ' + finding.scope if not finding.leaks else 'REJECTED'}"
    if isinstance(rule, ThreeFactorRule):
        yield f"    factors     {'; '.join(_factors(rule))}"
        yield f"    modulator   {describe(rule.modulator) if rule.modulator.scope != 'none' else '1'}"
        yield f"    transforms  {', '.join(map(describe, rule.chain)) or 'none'}"
    for item in finding.shared:
        much = f"{number(item.values)} numbers, {number(item.values * BYTES)} bytes per {_per(item.per)}"
        yield f"    broadcast   {item.what}: {much}"
    if not finding.shared and not finding.leaks:
        yield "    broadcast   nothing"
    for leak in finding.leaks:
        yield f"    leak        {leak}"


def _per(word: str) -> str:
    return "step and sample" if word == "step" else "sample"


def _factors(rule: ThreeFactorRule) -> Iterator[str]:
    for component in rule.components:
        for term in component.terms:
            gain = f" x {gain_of(term.gain)}" if term.gain is not None else ""
            yield f"post {factor(term.post)} x pre {factor(term.pre)}{gain}"
