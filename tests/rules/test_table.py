"""Every rule has a config with exactly its parameters, builds on rate and on spiking networks, and runs."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from plain import DT, as_trial, shown
from schemes import CONFIGS, schemes

from neurosim.backends import compile
from neurosim.rules.biohsic import BioHSIC
from neurosim.scheme import Composed
from neurosim.types import ConfigurationError

INPUTS, OUTPUTS, BATCH, STEPS = 4, 3, 3, 10

# configs/rule/<name>.yaml -> the class it makes
TABLE = {path.stem: OmegaConf.load(path)["_target_"] for path in sorted((CONFIGS / "rule").glob("*.yaml"))}
NAMES = {"frozen": "delta"}  # a config is named as the file in rules/, but for this one
AFTER_ANOTHER = ("heterosynaptic", "shuffled")  # they change a rule that stands before them
LATERAL = ("diehl_cook",)  # they add wires that drive: inhibition between hidden neurons
DECODER = {"_target_": "neurosim.adapter.Mean"}
NETWORKS = ("layered", "static", "spiking")
REFUSED = {  # rules that are for spikes only, or for rates only
    (rule, network): "spikes"
    for rule in ("diehl_cook", "dopamine_stdp", "eprop", "inhibitory_stdp", "reward_stdp", "stdp", "triplet_stdp")
    for network in ("layered", "static")
}
REFUSED["deep_feedback_control", "spiking"] = "spikes"


def config(rule: str, network: str = "layered"):
    """The two nodes as the command line joins them; `window: ${batch}` and the like are resolved."""
    folder = {"network": CONFIGS / "network" / f"{network}.yaml", "rule": CONFIGS / "rule" / f"{rule}.yaml"}
    whole = OmegaConf.create(
        {"batch": BATCH, "decoder": DECODER, **{node: OmegaConf.load(path) for node, path in folder.items()}}
    )
    if network == "spiking":
        whole.network.neuron.v_th = 0.05  # spikes in every layer, with weights that nobody has tuned
    return whole


def test_the_table_is_the_folder():
    assert len(TABLE) >= 10
    expected = {f"{scheme.__module__}.{name}" for name, scheme in schemes().items()}
    assert sorted(TABLE.values()) == sorted(expected)
    for name, target in TABLE.items():
        assert target.split(".")[:-1] == ["neurosim", "rules", NAMES.get(name, name)]


@pytest.mark.parametrize("rule", TABLE)
def test_config_has_exactly_the_parameters(rule):
    """All fields but `layers`, which `rule=layered:a/b` fills in."""
    node = config(rule).rule
    scheme = get_class(node._target_)
    names = [field.name for field in fields(scheme)]
    assert "layers" in names
    assert set(node) - {"_target_"} == set(names) - {"layers"}


@pytest.mark.parametrize("rule", TABLE)
def test_every_parameter_is_explained(rule):
    """A first line in the config, and the name in the docstring of the class or of one it is made from."""
    lines = (CONFIGS / "rule" / f"{rule}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    scheme = get_class(TABLE[rule])
    words = " ".join(part.__doc__ or "" for part in scheme.__mro__)
    for field in fields(scheme):
        if field.name != "layers":
            assert f"`{field.name}`" in words, field.name


def built(rule: str, network: str):
    """The network that `rule` makes of a config network, and what was there before."""
    whole = config(rule, network)
    scheme = instantiate(whole.rule)
    if rule in AFTER_ANOTHER:
        scheme = Composed((BioHSIC(window=BATCH), scheme))
    before = instantiate(whole.network)(INPUTS, OUTPUTS)
    return scheme(before), before


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("rule", TABLE)
def test_builds_and_takes_two_training_steps(rule, network):
    if (rule, network) in REFUSED:
        with pytest.raises(ConfigurationError, match=REFUSED[rule, network]):
            built(rule, network)
        return
    net, before = built(rule, network)
    simulator = compile(net, DT, replicas=2, dtype="float64")
    start = state = simulator.init(BATCH)
    for k in range(2):
        state, _ = simulator.run(state, as_trial(shown(k, STEPS), net, {"reward": torch.ones(BATCH, 1)}))
    for projection in before.projections:
        moved = state.learned["weight"][projection.name] - start.learned["weight"][projection.name]
        has_rule = net.projection(projection.name).rule is not None
        assert torch.isfinite(moved).all()
        assert bool((moved != 0).any()) == has_rule
    assert any(p.rule is not None for p in net.projections)


@pytest.mark.parametrize("rule", TABLE)
def test_leaves_the_network_it_is_given(rule):
    net, before = built(rule, "layered" if (rule, "spiking") in REFUSED else "spiking")
    assert {p.name for p in before.populations} <= {p.name for p in net.populations}
    assert all(projection.rule is None for projection in before.projections)
    forward = [p.name for p in before.forward()]
    lateral = [p.name for p in net.forward() if p.name not in forward]
    assert [p.name for p in net.forward() if p.name not in lateral] == forward
    assert bool(lateral) == (rule in LATERAL)
    for name in forward:
        ours, theirs = net.projection(name), before.projection(name)
        assert (ours.pre, ours.post, ours.weight, ours.delay) == (theirs.pre, theirs.post, theirs.weight, theirs.delay)


@pytest.mark.parametrize("rule", TABLE)
def test_wants_a_network_with_a_path(rule):
    scheme = instantiate(config(rule).rule)
    network = instantiate(config(rule).network)(INPUTS, OUTPUTS)
    cut = type(network)(network.populations, network.projections[:1])
    sentence = "a rule comes first" if rule in AFTER_ANOTHER else "there is nothing to teach"
    with pytest.raises(ConfigurationError, match=sentence):
        scheme(cut)
