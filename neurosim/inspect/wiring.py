"""The wiring half of the certificate: which weights and outputs move the port sum of a neuron."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from neurosim.backends.needs import released_by
from neurosim.backends.resolve import Synapses
from neurosim.backends.update import Part
from neurosim.connectivity import Dense, OneToOne
from neurosim.inspect.entries import Entries
from neurosim.inspect.scene import Scene, Variable
from neurosim.inspect.sums import lateral_values
from neurosim.network import Network, Projection
from neurosim.types import Tensor

TIED = {
    "transpose": "tied to {} by transpose: every synapse would need another synapse's weight",
    "sign": "tied to {} by sign: every synapse would need one bit per weight of another synapse",
}


def leaks(scene: Scene) -> Iterator[str]:
    """What moves a port sum and should not, one sentence each."""
    for synapses in scene.simulator.plan.synapses.values():
        if synapses.projection.tied is not None:
            source, how = synapses.projection.tied
            yield f"projection {synapses.name} is {TIED[how].format(source)}"
        else:
            yield from _from_outputs(scene, synapses)
            yield from _from_weights(scene, synapses)


def competitions(network: Network, projection: Projection, ports: set[str]) -> Iterator[tuple[str, int]]:
    """(what, values) of laterals whose result reaches the teaching `ports` of a post neuron one to one.

    A one-to-one chain belongs to the neuron; a lateral on the way makes what arrives depend on the whole layer.
    """
    found: dict[str, None] = {projection.post: None}
    for name in found.copy():
        frontier = [name]
        while frontier:
            here = frontier.pop()
            for wire in network.projections:
                arrives = wire.post == here and isinstance(wire.connectivity, OneToOne) and wire.pre not in found
                if arrives and (here != projection.post or network.port(wire) in ports):
                    found[wire.pre] = None
                    frontier.append(wire.pre)
    for name in list(found)[1:]:
        lateral = network[name].lateral
        if lateral is not None and hasattr(lateral, "step"):
            values = lateral_values(lateral, network[name].shape[0], torch.float64)
            yield f"{type(lateral).__name__} of {name}", values


def scalars(network: Network, projection: Projection, ports: set[str]) -> Iterator[str]:
    """Populations of one neuron that reach the teaching `ports` of all post neurons with one fixed number: a loss."""
    for wire in network.projections:
        arrives = wire.post == projection.post and network.port(wire) in ports and network[wire.post].units > 1
        same = wire.rule is None and isinstance(wire.weight, int | float) and isinstance(wire.connectivity, Dense)
        if arrives and same and network[wire.pre].units == 1:
            yield wire.pre


def _delivered(scene: Scene, synapses: Synapses, moment: Any) -> Tensor:
    """What a projection brings to its port in this step."""
    scene.context.learned = moment.learned
    with torch.no_grad():
        brought: Tensor = scene.simulator.deliver(synapses, moment, scene.context)
    return brought.clone()


def _moment(scene: Scene, changed: dict[str, Any] | None = None) -> Any:
    values = {**scene.values, **(changed or {})}
    moment = copy.copy(scene.moment)
    moment.now, moment._history, moment.learned = values["now"], values["past"], values["learned"]
    return moment


def _wired(synapses: Synapses, unit: int) -> Tensor:
    """Which post units a pre unit is wired to, `[P]`, in replica 0."""
    result = torch.zeros(synapses.post.units, dtype=torch.bool)
    if synapses.edges is not None:
        edges = synapses.edges
        result[edges.post[(edges.pre == unit) & (edges.post < synapses.post.units)].long()] = True
    elif synapses.kind == "one_to_one":
        result[unit] = True
    elif synapses.kind == "convolution":
        _, height, width = synapses.pre.shape
        rows = _windows(synapses, unit // width % height, 1)
        columns = _windows(synapses, unit % width, 2)
        result = (rows[:, None] & columns).expand(synapses.post.shape).reshape(-1)
    else:
        result[:] = True
    return result


def _windows(synapses: Synapses, place: int, axis: int) -> Tensor:
    connectivity = synapses.projection.connectivity
    start: Tensor = torch.arange(synapses.post.shape[axis]) * connectivity.stride - connectivity.padding
    places = [place]
    if connectivity.padding_mode == "reflect":
        places += [-place, 2 * (synapses.pre.shape[axis] - 1) - place]  # its mirror images beyond the two borders
    reached: Tensor = torch.stack([(start <= at) & (at < start + connectivity.kernel) for at in places]).any(0)
    return reached


def _from_outputs(scene: Scene, synapses: Synapses) -> Iterator[str]:
    name = synapses.name
    sender = released_by(name) if name in scene.simulator.releases else synapses.pre.name
    source = f"{sender}.{'released' if name in scene.simulator.releases else synapses.sent}"
    base = _delivered(scene, synapses, _moment(scene))
    for source_label in scene.values["now"]:
        units = range(synapses.pre.units) if source_label == source else (None,)
        for unit in units:
            allowed = torch.zeros(synapses.post.units, dtype=torch.bool)
            if unit is not None:
                allowed = _wired(synapses, unit)
            changed = scene.with_moved(Variable("now", (source_label,), unit))
            for past in range(len(scene.values["past"].get(source_label, ()))):
                changed |= _past(scene, changed, source_label, unit, past)
            got = _delivered(scene, synapses, _moment(scene, changed))
            wrong = (got != base)[0].any(0) & ~allowed if unit is not None else (got != base).any(0).any(0)
            if bool(wrong.any()):
                who = source_label if unit is None else f"unit {unit} of {source_label}"
                yield f"{_port(synapses)} moves with {who}, to which it is not wired"
                return


def _port(synapses: Synapses) -> str:
    return f"port {synapses.port} of {synapses.post.name}, by projection {synapses.name},"


def _past(scene: Scene, changed: dict[str, Any], source: str, unit: int | None, past: int) -> dict[str, Any]:
    moved = scene.with_moved(Variable("past", (source,), unit, past))["past"][source][past]
    steps = list(changed.get("past", scene.values["past"])[source])
    steps[past] = moved
    return {"past": {**changed.get("past", scene.values["past"]), source: tuple(steps)}}


def _from_weights(scene: Scene, synapses: Synapses) -> Iterator[str]:
    base = _delivered(scene, synapses, _moment(scene))
    learned = scene.values["learned"]
    for kind in ("weight", "bias"):
        for other in learned[kind]:
            if other != synapses.name:
                got = _delivered(scene, synapses, _moment(scene, scene.with_moved(Variable("learned", (kind, other)))))
                if bool((got != base).any()):
                    yield f"{_port(synapses)} moves with the {kind} of {other}"
    weight = learned["weight"][synapses.name]
    part = Part("weight", scene.simulator.operations[synapses.name], (), (), ())
    entries = Entries(synapses, part, weight, scene.simulator.plan.replicas)
    row_of = torch.tensor([entries.row_of(unit) for unit in range(synapses.post.units)])
    for row in entries.row.unique().tolist():
        own = entries.disturbed(weight, (entries.row == row) & (entries.replica == 0), scene.amount)
        changed = {"learned": {**learned, "weight": {**learned["weight"], synapses.name: own}}}
        moved = (_delivered(scene, synapses, _moment(scene, changed)) != base).any(1)
        if bool(moved[1:].any() or (moved[0] & (row_of != row)).any()):
            yield f"{_port(synapses)} moves with weights of other neurons"
            return
