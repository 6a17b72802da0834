"""From a resolved configuration to an Experiment: every argument is checked against its dataclass before it is used."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Union, get_args, get_origin

from hydra.utils import get_object, instantiate

from neurosim.cli_errors import innermost, nearest, one_line
from neurosim.cli_rules import parse_rules
from neurosim.experiment import Experiment
from neurosim.network import Layered
from neurosim.types import ConfigurationError

TARGET = "_target_"
WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", type(None): "null"}
PLAIN = (str, int, float, bool, dict, list, tuple, type(None))
NODES = ("scheme", "rule", "task", "network", "encoder", "decoder", "settings", "backend", "probe")
TOP = (
    "epochs", "batch", "presentation", "limit", "vary", "orders", "shuffle_labels", "evaluate_train", "credit",
    "seed", "replicas", "dt",
)  # fmt: skip


@dataclass(frozen=True)
class Screen:
    """What a command does around the run."""

    threads: int = 1
    folder: str | None = None
    overwrite: bool = False
    figures: bool = True
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigurationError(f"threads is {self.threads}; it must be a whole number >= 1")
        if self.folder is not None and not self.folder:
            raise ConfigurationError("folder= has no value; give a folder for the results, or leave it out")


def screen(config: Mapping[str, Any]) -> Screen:
    names = [field.name for field in fields(Screen)]
    return construct(Screen, {name: config[name] for name in names if name in config}, "")  # type: ignore[no-any-return]


def experiment(config: Mapping[str, Any]) -> Experiment:
    """The Experiment that a resolved configuration describes; ConfigurationError says which key is wrong."""
    lost = [name for name in (*NODES, *TOP) if name not in config]
    if lost:
        raise ConfigurationError(f"the configuration has no {', '.join(lost)}, which a run needs")
    hints = _hints(Experiment)
    top = {name: checked(config[name], hints[name], name) for name in TOP}
    rules = {name: build(node, f"rule.{name}") for name, node in _mapping(config["rule"], "rule").items()}
    expression = parse_rules(str(config["scheme"]), _rule_names(str(config["scheme"])))
    for node in expression.nodes:
        if node not in rules:
            raise ConfigurationError(f"the configuration has no rule.{node}, which scheme {config['scheme']} needs")
    backend = _mapping(config["backend"], "backend")
    arguments = {
        **top,
        **{name: build(config[name], name) for name in ("task", "network", "encoder", "decoder", "settings")},
        "scheme": expression.scheme(rules),
        "recorded": build(config["probe"], "probe"),
    }
    _check_spikes(arguments["network"])
    for key, argument in (("name", "backend"), ("dtype", "dtype"), ("device", "device")):
        if key in backend:
            arguments[argument] = checked(backend[key], str, f"backend.{key}")
    return construct(Experiment, arguments, "")  # type: ignore[no-any-return]


def _check_spikes(network: Any) -> None:
    """A layer norm or a softmax would make graded values of spikes, and the trace spikes of them."""
    if not isinstance(network, Layered) or network.neuron.outputs[0] != "spike" or network.lateral is None:
        return
    if not getattr(network.lateral, "keeps_spikes", False):
        raise ConfigurationError(
            f"network.lateral is a {type(network.lateral).__name__}, which would make graded values of the spikes of "
            f"{type(network.neuron).__name__}; take network=spiking, lateral=none or lateral=k_winners"
        )


def _rule_names(text: str) -> list[str]:
    """All words of an expression: whatever was saved in a configuration is known."""
    return [word for word in text.removeprefix("layered:").replace("/", "+").split("+") if word]


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{path} is {value!r}; it must hold names with values")
    return value


def build(node: Any, path: str) -> Any:
    """The object of a node with a `_target_` (its inner nodes first); a node without one stays as it is."""
    if isinstance(node, list):
        return [build(item, f"{path}[{index}]") for index, item in enumerate(node)]
    if not isinstance(node, Mapping):
        if "." not in path:  # a whole part of the run, given as a word or number
            raise ConfigurationError(f"{path} is {node!r}; it must name a configuration or hold names with values")
        return node
    if TARGET not in node:
        if "." not in path:
            raise ConfigurationError(f"{path} has no {TARGET}, so nothing says what it is")
        return {key: build(value, f"{path}.{key}") for key, value in node.items()}
    target = _target(node[TARGET], path)
    if isinstance(target, type) and is_dataclass(target):
        arguments = {key: build(value, f"{path}.{key}") for key, value in node.items() if key != TARGET}
        return construct(target, arguments, path)
    try:
        return instantiate(dict(node), _convert_="all")
    except Exception as error:
        cause = innermost(error)
        if isinstance(cause, ConfigurationError | TypeError):
            raise ConfigurationError(f"{path}: {one_line(cause)}") from error
        raise


def _target(name: Any, path: str) -> Any:
    try:
        return get_object(checked(name, str, f"{path}.{TARGET}"))
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{path}.{TARGET} is {name!r}, which cannot be found") from error


def construct(kind: type, arguments: Mapping[str, Any], path: str) -> Any:
    """`kind(**arguments)` for a dataclass: unknown, missing and wrongly typed arguments become one sentence each."""
    known = {field.name: field for field in fields(kind) if field.init}
    prefix = f"{path}." if path else ""
    for name in arguments:
        if name not in known:
            allowed = ", ".join(known) or "nothing to set"
            near = nearest(str(name), known)
            raise ConfigurationError(f"there is no {prefix}{name}; {path or 'a run'} has: {allowed}{near}")
    for name, field in known.items():
        if name not in arguments and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigurationError(f"{prefix}{name} has no value; {kind.__name__} needs it")
    hints = _hints(kind)
    values = {
        name: _argument(value, known[name], hints.get(name, Any), prefix + name) for name, value in arguments.items()
    }
    try:
        return kind(**values)
    except ConfigurationError as error:  # a neuron says "tau_mem is -1": here it is known whose
        if "." not in path or str(error).startswith(path):
            raise
        raise ConfigurationError(f"{path}: {error}") from error


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # names that are imported for type checkers only
        return {}


def _argument(value: Any, field: Field[Any], hint: Any, path: str) -> Any:
    number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
    if hint is Any and number and isinstance(value, str | bool | Mapping):
        raise ConfigurationError(f"{path} is {value!r}; it must be a number, a list of numbers or a distribution")
    return checked(value, hint, path)


def checked(value: Any, hint: Any, path: str) -> Any:
    """`value` if it has the type that `hint` says (a list for a tuple becomes one); ConfigurationError otherwise."""
    try:
        return convert(value, hint)
    except TypeError:
        shown = "a node" if isinstance(value, Mapping) else repr(value)
        raise ConfigurationError(f"{path} is {shown}; it must be {words(hint)}") from None


def convert(value: Any, hint: Any) -> Any:
    """`value` in the shape that `hint` asks for; TypeError if it does not fit."""
    origin = get_origin(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return value
    if origin in (Union, types.UnionType):
        return _first_fit(value, get_args(hint))
    if origin is tuple:
        return _tuple(value, get_args(hint))
    if origin is typing.Literal:
        return _require(value in get_args(hint), value)
    if hint is float:
        return _require(isinstance(value, int | float) and not isinstance(value, bool), value)
    if hint is int:
        return _require(isinstance(value, int) and not isinstance(value, bool), value)
    if hint in (str, bool, type(None), None):
        return _require(isinstance(value, type(None) if hint is None else hint), value)
    if origin is Callable or hint is Callable or getattr(origin, "__name__", "") == "Callable":
        return _require(callable(value), value)
    if origin is not None:
        return value
    if getattr(hint, "_is_protocol", False):
        return _require(not isinstance(value, PLAIN), value)
    return _require(not isinstance(hint, type) or isinstance(value, hint), value)


def _require(fits: bool, value: Any) -> Any:
    if not fits:
        raise TypeError
    return value


def _first_fit(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in hints:
        try:
            return convert(value, hint)
        except TypeError:
            continue
    raise TypeError


def _tuple(value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    _require(isinstance(value, list | tuple), value)
    if len(hints) == 2 and hints[1] is Ellipsis:
        return tuple(convert(item, hints[0]) for item in value)
    _require(not hints or len(value) == len(hints), value)
    return tuple(convert(item, hint) for item, hint in zip(value, hints, strict=True)) if hints else tuple(value)


def words(hint: Any) -> str:
    """A type in words."""
    if hint in WORDS:
        return WORDS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(words(argument) for argument in arguments))
    if origin is tuple:
        kind = (
            {int: "whole numbers", float: "numbers", str: "words"}.get(arguments[0], "values")
            if arguments
            else "values"
        )
        many = f"{len(arguments)} " if arguments and arguments[-1] is not Ellipsis else ""
        return f"a list of {many}{kind}"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    return f"a node with a {TARGET} (a {getattr(hint, '__name__', 'value')})"


__all__ = ["Screen", "build", "checked", "construct", "experiment", "screen"]
