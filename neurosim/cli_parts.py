"""Choosing parts of a network by name: `neuron=adex`, `output_neuron=lif`, `input_neuron=relay`, `lateral=k_winners`.

A part replaces what the network, its presets or an experiment say about it, so that none of their settings can meet a
neuron that does not have them; settings of the command line come after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from neurosim.cli_errors import nearest
from neurosim.types import ConfigurationError

PARTS = ("neuron", "output_neuron", "input_neuron", "lateral")  # folders of configs, and keys of `network`
HOME = "network"
SPIKING = "spiking"  # the network that a spiking neuron is at home in
TARGET = "_target_"


@cache
def content(part: str, text: str) -> DictConfig:
    """A part's configuration: keys of `network`, the part's own first."""
    config = OmegaConf.create(text)
    if not isinstance(config, DictConfig) or part not in config:
        raise ConfigurationError(f"a configuration in {part}/ must set {part}")
    return config


def spikes(config: DictConfig) -> bool:
    """Does the neuron that a configuration chooses spike?"""
    return bool(get_object(config.neuron[TARGET]).outputs[0] == "spike")


def replacing(chosen: Mapping[str, DictConfig], base: DictConfig) -> Iterator[str]:
    """Hydra's overrides that put the chosen parts into the composed configuration `base`."""
    network = base[HOME]
    for part, config in chosen.items():
        if part == "neuron":
            yield from _kept(network, config.neuron)
        for name, node in config.items():
            key = str(name)
            if key == part or not isinstance(node, DictConfig) or TARGET in node:
                if key in network and network[key] is not None:  # Hydra cannot delete what is null
                    yield f"~{HOME}.{key}"
                yield f"++{HOME}.{key}={literal(node)}"
            else:
                yield from (f"++{HOME}.{key}.{inner}={literal(value)}" for inner, value in _plain(node).items())


def _kept(network: DictConfig, neuron: DictConfig) -> Iterator[str]:
    """What other parts take over from the network's own neuron (`${network.neuron.tau_mem}`), and the new one lacks."""
    start = f"${{{HOME}.neuron."
    for part, node in _plain(network).items():
        for key, told in node.items() if isinstance(node, dict) else ():
            if isinstance(told, str) and told.startswith(start) and told[len(start) : -1] not in neuron:
                yield f"{HOME}.{part}.{key}={literal(network[part][key])}"


def _plain(node: DictConfig) -> dict[str, Any]:
    """A node as a dictionary, interpolations as they are written."""
    content = OmegaConf.to_container(node, resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def literal(value: Any) -> str:
    """A value as Hydra's command line reads it."""
    if isinstance(value, DictConfig):
        return literal(_plain(value))
    if isinstance(value, ListConfig):
        return literal(list(value))
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def check_whole(key: str, value: Any, base: DictConfig, names: Mapping[str, tuple[str, ...]]) -> None:
    """ConfigurationError if a word or number is given for a whole node of settings."""
    home, _, part = key.partition(".")
    if isinstance(value, dict) or (value is None and part not in ("neuron", "output_neuron")):
        return
    if home == HOME and part in names:
        near = nearest(str(value).lower(), names[part])
        raise ConfigurationError(
            f"{key} is {value!r}, but it holds settings; choose by {part}=<name>: {', '.join(names[part])}{near}"
        )
    node = OmegaConf.select(base, key, default=None, throw_on_missing=False)
    if isinstance(node, DictConfig):
        inner = ", ".join(str(name) for name in node if name != TARGET) or "nothing"
        raise ConfigurationError(f"{key} is {value!r}, but it holds settings: {inner}; write {key}.<setting>=<value>")
