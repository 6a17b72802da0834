"""Composing the configuration of a run: words of the command line -> Hydra -> one resolved dictionary.

`rule=` is taken apart before Hydra sees it (`neurosim.cli_rules`): every rule of the expression becomes a node
`rule.<name>`. Then come, each over the one before: run.yaml and its groups; the presets that fit, or the experiment;
the words of the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from neurosim.cli_errors import innermost, nearest, one_line, unknown
from neurosim.cli_parts import PARTS, SPIKING, check_whole, content, replacing, spikes
from neurosim.cli_rules import Expression, parse_rules, place
from neurosim.types import ConfigurationError

MODULE = "neurosim.configs"
GROUPS = ("task", "rule", "network", "encoder", "decoder", "backend", "probe")
CHOSEN = tuple(group for group in GROUPS if group != "rule")
HOW = "write key=value, as in epochs=5 or vary=[init,order], with quotes where a value has special characters"
SHORT = {"dtype": "backend.dtype", "device": "backend.device"}  # so common that they have a short form


@dataclass(frozen=True)
class Composed:
    """A resolved configuration as plain data; `names` are what was chosen, by group."""

    config: dict[str, Any]
    names: dict[str, str]

    @property
    def text(self) -> str:
        """What a run saves: all but how it was watched, so that a run which goes on says how that goes."""
        return OmegaConf.to_yaml(OmegaConf.create({key: self.config[key] for key in self.config if key != "quiet"}))


@dataclass
class Words:
    """The words of a command line, sorted: choices of groups and of parts of the network, rule expression, experiment,
    settings by key, in order.
    """

    groups: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    rule: str | None = None
    experiment: str | None = None
    settings: list[tuple[str, str, str]] = field(default_factory=list)  # sign ("", +, ++, ~), key, "=value" or ""


@cache
def names(group: str) -> tuple[str, ...]:
    """The configurations of a group."""
    folder = resources.files(MODULE) / group
    return tuple(sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")))


def source(group: str, name: str) -> str:
    """The text of a configuration file."""
    return (resources.files(MODULE) / group / f"{name}.yaml").read_text(encoding="utf-8")


def parse(arguments: Sequence[str]) -> Words:
    """Sort the words of a command line; ConfigurationError for one that cannot be read, or comes twice."""
    words, seen = Words(), dict[str, str]()
    for argument in arguments:
        sign, key, value = take_apart(argument)
        key = SHORT.get(key, key)
        if key in seen:
            raise ConfigurationError(f"{key} is given twice: {seen[key]} and {argument}")
        seen[key] = argument
        if key in (*GROUPS, *PARTS, "experiment"):
            _choose(words, sign, key, value.removeprefix("=").strip(), argument)
        else:
            _read(argument, key)
            words.settings.append((sign, key, value))
    return words


def take_apart(argument: str) -> tuple[str, str, str]:
    body = argument.lstrip("+~")
    sign = argument[: len(argument) - len(body)]
    key, equals, value = body.partition("=")
    if not key or sign not in ("", "+", "++", "~") or (not equals and sign != "~"):
        raise ConfigurationError(f"{argument!r} cannot be read; {HOW}")
    return sign, key.strip(), equals + value


def _choose(words: Words, sign: str, key: str, value: str, argument: str) -> None:
    if sign:
        raise ConfigurationError(f"{argument!r} cannot be read; write {key}=<name>")
    if key == "rule":
        if "," in value:
            raise ConfigurationError(f"{argument} lists several rules; add -m to run one after the other")
        words.rule = value
        return
    if not value:
        raise ConfigurationError(f"{key}= has no value; allowed: {', '.join(names(key))}")
    if "," in value and set(value.split(",")) <= set(names(key)):
        raise ConfigurationError(f"{argument} lists several values; add -m to run one after the other")
    if value not in names(key):
        raise ConfigurationError(unknown(key, value, names(key)))
    if key == "experiment":
        words.experiment = value
    else:
        (words.parts if key in PARTS else words.groups)[key] = value


def _read(argument: str, key: str) -> Override:
    """One override as Hydra reads it; a list of values belongs to a sweep."""
    try:
        override: Override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise ConfigurationError(f"{argument!r} cannot be read; {HOW}") from error
    if override.is_sweep_override():
        raise ConfigurationError(f"{argument} lists several values; add -m to run one after the other")
    if key.partition(".")[0] == "hydra":
        raise ConfigurationError(f"{key} is a setting of Hydra's sweeps; it works with -m only")
    if key == "scheme":
        raise ConfigurationError("scheme is set by rule=")
    return override


def composed(arguments: Sequence[str]) -> Composed:
    """The configuration that a command line asks for, resolved."""
    words = parse(arguments)
    experiment = _header(words.experiment) if words.experiment else {}
    parts = {part: content(part, source(part, name)) for part, name in words.parts.items()}
    if "neuron" in parts and not experiment and spikes(parts["neuron"]):
        words.groups.setdefault("network", SPIKING)  # where such a neuron is at home
    chosen = {**_defaults(), **_overridden(experiment), **words.groups}
    rule = words.rule if words.rule is not None else experiment.get("scheme")
    if "task" not in chosen or rule is None:
        lost = [*(["task=<name>"] if "task" not in chosen else []), *(["rule=<name>"] if rule is None else [])]
        raise ConfigurationError(
            f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} missing; write task=<name> rule=<name>, or "
            "experiment=<name>; `python -m neurosim list` shows names"
        )
    expression = parse_rules(str(rule), names("rule"))
    overrides = list(_base(words, expression, chosen))
    if parts:
        overrides += replacing(parts, _compose(overrides))
    settings = _settings(words, expression, overrides)
    config = _resolved(_compose([*overrides, *settings]), expression)
    found = {**chosen, **words.parts, "rule": expression.text, "experiment": words.experiment or ""}
    return Composed({**config, "names": found}, found)


def _top() -> dict[str, Any]:
    """The content of run.yaml."""
    content: dict[str, Any] = yaml.safe_load((resources.files(MODULE) / "run.yaml").read_text(encoding="utf-8"))
    return content


def _defaults() -> dict[str, str]:
    """Group choices of run.yaml."""
    pairs = {group: name for entry in _top()["defaults"] if isinstance(entry, dict) for group, name in entry.items()}
    return {group: name for group, name in pairs.items() if name != "???"}


def _header(experiment: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(source("experiment", experiment))
    return content


def _overridden(experiment: Mapping[str, Any]) -> dict[str, str]:
    """Group choices of an experiment: `override /task: xor` in its defaults list."""
    found = {}
    for entry in experiment.get("defaults", ()):
        for key, name in entry.items() if isinstance(entry, dict) else ():
            found[key.removeprefix("override").strip().lstrip("/")] = name
    return found


def _base(words: Words, expression: Expression, chosen: Mapping[str, str]) -> Iterator[str]:
    """Hydra's overrides before the user's settings: groups, a node per rule, the experiment or the presets."""
    for group, name in words.groups.items():
        yield f"{group}={name}"
    for part in expression.parts:
        yield f"+rule@rule.{part.node}={part.name}"
    if words.experiment:
        yield f"+experiment={words.experiment}"
    else:
        found = presets(expression, chosen)
        if found:
            yield f"+preset=[{','.join(found)}]"
    yield f"scheme='{expression.text}'"


def presets(expression: Expression, chosen: Mapping[str, str]) -> list[str]:
    """Presets of the task, with the network, with each rule, with both; where rules disagree, the first one's holds."""
    task, network = chosen["task"], chosen["network"]
    wanted = [task, f"{task}_{network}"]
    for rule in reversed(dict.fromkeys(part.name for part in expression.parts)):
        wanted += [f"{task}_{rule}", f"{task}_{rule}_{network}"]
    return [name for name in wanted if name in names("preset")]


def _settings(words: Words, expression: Expression, overrides: Sequence[str]) -> list[str]:
    """The user's settings with full keys; ConfigurationError for a key that the configuration does not have."""
    known = names("rule")
    placed = [
        (sign, place(key, expression, known) if key.startswith("rule.") else key, value)
        for sign, key, value in words.settings
    ]
    base = _compose(overrides) if placed else None
    whole = {part: names(part) for part in PARTS}
    for sign, key, value in placed:
        if base is not None and not sign.startswith("+"):
            _check_key(key, base)
            if sign != "~":
                check_whole(key, _read(f"{key}{value}", key).value(), base, whole)
    return [f"{sign}{key}{value}" for sign, key, value in placed]


def _check_key(key: str, base: DictConfig) -> None:
    if _has(base, key):
        return
    keys = list(_flat(base))
    last = key.rpartition(".")[2]
    parent = key.rpartition(".")[0]
    same = [one for one in keys if one.rpartition(".")[2] == last and (parent not in keys or one.startswith(parent))]
    siblings = [one.rpartition(".")[2] for one in keys if one.rpartition(".")[0] == parent]
    if same:
        help = f"; did you mean {' or '.join(same)}?"
    elif siblings and parent:
        help = f"; {parent} has: {', '.join(dict.fromkeys(siblings))}{nearest(last, siblings)}"
    else:
        allowed = [*keys, *GROUPS, *PARTS, "experiment", "resume"]
        help = nearest(key, allowed) or "; `python -m neurosim show` lists the settings"
    raise ConfigurationError(f"there is no setting {key!r}{help}")


def _has(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = node._get_node(part)
    return True


def _flat(node: Any, prefix: str = "") -> Iterator[str]:
    """All keys of a configuration, nodes before what is in them."""
    for key in node:
        name = f"{prefix}{key}"
        if key != "_target_":
            yield name
        inner = node._get_node(key)
        if isinstance(inner, DictConfig) and not (inner._is_none() or inner._is_interpolation() or inner._is_missing()):
            yield from _flat(inner, f"{name}.")


def _compose(overrides: Sequence[str]) -> DictConfig:
    """Hydra's compose, its errors as one sentence."""
    instance = GlobalHydra.instance()
    outer, instance.hydra = instance.hydra, None  # in a sweep there is one already: Hydra knows no inner one
    try:
        with initialize_config_module(MODULE, version_base="1.3"):
            return compose("run", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(_reworded(error, overrides)) from error
    finally:
        GlobalHydra.instance().hydra = outer


def _reworded(error: BaseException, overrides: Sequence[str]) -> str:
    lines = [line.strip() for line in f"{error}\n{innermost(error)}".splitlines()]
    noise = ("full_key", "object_type", "See ", "Available", "Set the env")
    said = [line for line in dict.fromkeys(lines) if line and not line.startswith(noise)]
    guilty = [override for override in overrides if override.lstrip("+~").partition("=")[0] in " ".join(lines)]
    which = f" ({guilty[-1]})" if guilty else ""
    return f"the configuration cannot be composed{which}: {one_line('; '.join(said[:2]))}"


def _resolved(config: DictConfig, expression: Expression) -> dict[str, Any]:
    """Plain data without the settings of rules that are not in the expression (an experiment may bring them)."""
    with open_dict(config):
        for name in [name for name in config.rule if name not in expression.nodes]:
            del config.rule[name]
    known = [*_top(), *CHOSEN, "rule"]
    for name in config:
        if name not in known:
            raise ConfigurationError(f"there is no setting {name!r}{nearest(str(name), known)}")
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "a setting"
        raise ConfigurationError(f"{key} cannot be resolved: {one_line(str(error).splitlines()[0])}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def settings_text() -> str:
    """The top-level settings of run.yaml with their comments, for `run --help`."""
    text = (resources.files(MODULE) / "run.yaml").read_text(encoding="utf-8").partition("epochs:")
    return f"{text[1]}{text[2]}".replace("\n  _target_: neurosim.learner.Settings", "").rstrip()
