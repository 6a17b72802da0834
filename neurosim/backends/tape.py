"""Rows that probes ask for, collected during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.moment import Moment
from neurosim.backends.plan import Plan
from neurosim.recorder import Probe, Recording
from neurosim.rule import ThreeFactorRule
from neurosim.types import Array, ConfigurationError, Tensor

if TYPE_CHECKING:
    from neurosim.backends.learning import Learning

LEARNING_FIELDS = ("weight", "bias", "eligibility", "modulator")


class Tape:
    """Checks the probes against the plan, then keeps their rows, all of them `[R, ...]`."""

    def __init__(self, plan: Plan, probes: Sequence[Probe], learning: Learning, checked: bool = False):
        """`checked`: are these probes known to fit?"""
        self.plan, self.probes, self.learning = plan, tuple(probes), learning
        self.rows: dict[str, list[Tensor]] = {}
        self.steps: dict[str, list[int | range]] = {}
        self.events: dict[str, list[Array]] = {probe.key: [] for probe in self.probes if probe.events}
        self.start: int | None = None
        for probe in self.probes:
            if not checked:
                self._check(probe)
            if probe.key in self.rows:
                raise ConfigurationError(f"two probes ask for {probe.key!r}; one is enough, give it the units of both")
            self.rows[probe.key], self.steps[probe.key] = [], []

    def _check(self, probe: Probe) -> None:
        network = self.plan.network
        if network.has(probe.target):
            allowed = network[probe.target].fields()
        elif probe.target in self.plan.synapses:
            allowed = LEARNING_FIELDS
        else:
            names = [p.name for p in network.populations] + list(self.plan.synapses)
            raise ConfigurationError(f"a probe asks for {probe.target!r}; the network has: {', '.join(names)}")
        if probe.field not in allowed:
            raise ConfigurationError(
                f"a probe asks for {probe.field!r} of {probe.target!r}; it has: {', '.join(allowed)}"
            )
        if isinstance(probe.every, bool) or not isinstance(probe.every, int) or probe.every < 1:
            raise ConfigurationError(
                f"the probe of {probe.key!r} keeps every {probe.every!r} steps; it must be at least 1"
            )
        if probe.events and (not network.has(probe.target) or probe.every != 1 or probe.units is not None):
            raise ConfigurationError(
                f"the probe of {probe.key!r} keeps events; that works on populations, with all units and every step"
            )
        if network.has(probe.target):
            self._check_units(probe, network[probe.target].units)
        else:
            self._check_learning(probe)

    def _check_units(self, probe: Probe, units: int) -> None:
        wrong = [unit for unit in probe.units or () if not 0 <= unit < units]
        if wrong:
            raise ConfigurationError(f"the probe of {probe.key!r} asks for unit {wrong[0]}; allowed: 0 to {units - 1}")

    def _check_learning(self, probe: Probe) -> None:
        synapses = self.plan.synapses[probe.target]
        rule, name = synapses.projection.rule, probe.target
        if probe.units is not None:
            raise ConfigurationError(f"the probe of {probe.key!r} picks units; that works on populations only")
        if probe.field in ("modulator", "eligibility") and not isinstance(rule, ThreeFactorRule):
            raise ConfigurationError(
                f"projection {name!r} has no three-factor rule, so it has no {probe.field} to record"
            )
        if probe.field == "eligibility" and name not in self.learning.activity(1):
            raise ConfigurationError(f"the rule of projection {name!r} keeps no eligibility, so none can be recorded")
        if (probe.field == "weight" and synapses.projection.tied) or (probe.field == "bias" and not synapses.has_bias):
            raise ConfigurationError(f"projection {name!r} has no {probe.field} of its own to record")

    def first(self, probe: Probe, clock: int) -> int:
        """The first step from `clock` on that is kept: the first of the run, and every `every`-th after it."""
        self.start = clock if self.start is None else self.start
        return clock + (self.start - clock) % probe.every

    def keep(self, probe: Probe, rows: Tensor, steps: range) -> None:
        """Take over the rows `[K, R, ...]` of several steps at once."""
        self.rows[probe.key].append(rows)
        self.steps[probe.key].append(steps)

    def keep_events(self, probe: Probe, found: Array) -> None:
        """Take over events `[K, 4]` (clock, replica, row, unit), in the order of time."""
        self.events[probe.key].append(found)

    def write(
        self, moment: Moment, activity: dict[str, Any], learned: dict[str, Any], probes: Sequence[Probe] | None = None
    ) -> None:
        """Keep this step's rows (of some of the probes): the first step of the run and every `every`-th after it."""
        self.start = moment.clock if self.start is None else self.start
        for probe in self.probes if probes is None else probes:
            if probe.events:
                found = torch.nonzero(moment.read(probe.key, 0).detach()).cpu().numpy()
                self.keep_events(probe, np.insert(found, 0, moment.clock, axis=1))
            elif (moment.clock - self.start) % probe.every == 0:
                row = self._row(probe, moment, activity, learned).detach()
                kept = row if probes is None else row.clone()  # a workspace is written again
                self.rows[probe.key].append(kept[None])
                self.steps[probe.key].append(moment.clock)

    def _row(self, probe: Probe, moment: Moment, activity: dict[str, Any], learned: dict[str, Any]) -> Tensor:
        name, size = probe.target, (self.plan.replicas, int(activity["batch"]))
        if self.plan.network.has(name):
            value = moment.read(probe.key, 0).expand(*size, self.plan.network[name].units)
            return value if probe.units is None else value[..., list(probe.units)]
        if probe.field == "modulator":
            nothing = torch.full((1, 1, 1), torch.nan, dtype=self.learning.dtype, device=self.learning.device)
            return moment.modulators.get(name, nothing).expand(*size, self.plan.synapses[name].post.units)
        if probe.field == "eligibility":
            return self._eligibility(name, activity["eligibility"][name]["weight"][-1], size)
        value = learned[probe.field][name]
        return self._by_replica(name, value) if probe.field == "weight" else value

    def _eligibility(self, name: str, value: Tensor, size: tuple[int, int]) -> Tensor:
        """`[R, B, *weight]`; zeros before the rule has run."""
        synapses, operation = self.plan.synapses[name], self.learning.operations[name]
        if not value.numel():
            ends = (self.learning.one * 0.0).expand(*size, synapses.post.units), synapses.pre.units
            value = operation.post(ends[0]) * operation.pre(lambda delay: ends[0][..., :1].expand(*size, ends[1]))
        if synapses.edges is None:
            return value
        return torch.stack([self._by_replica(name, row) for row in value], 1)

    def _by_replica(self, name: str, value: Tensor) -> Tensor:
        """Edges `[E]` of all replicas as `[R, P, Q]` of a dense projection, else `[R, E]` filled up with NaN."""
        edges = self.plan.synapses[name].edges
        if edges is None:
            return value
        if edges.dense is not None:
            return value.reshape(self.plan.replicas, *edges.dense)
        parts = value.split(list(edges.counts))
        return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=torch.nan)

    def recording(self, hide_replicas: bool) -> Recording:
        """What was collected, as NumPy arrays."""
        values = {}
        for key, rows in self.rows.items():
            array = _joined(rows).cpu().numpy() if rows else np.zeros((0, 1))
            values[key] = array[:, 0] if hide_replicas else array
        steps = {key: _clocks(steps) for key, steps in self.steps.items()}
        for key, parts in self.events.items():
            found = np.concatenate([np.zeros((0, 4), np.int64), *parts])
            steps[key], values[key] = found[:, 0], found[:, 2 if hide_replicas else 1 :]
        return Recording(values, steps, self.plan.dt)


def _joined(rows: list[Tensor]) -> Tensor:
    """Blocks of rows as one; a single block is not copied again."""
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _clocks(steps: list[int | range]) -> Array:
    """Steps and ranges of steps as one array."""
    if len(steps) == 1 and isinstance(steps[0], range):
        return np.arange(steps[0].start, steps[0].stop, steps[0].step)
    return np.asarray([step for one in steps for step in (one if isinstance(one, range) else (one,))])
