"""Rows that probes ask for, collected during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurosim.backends.moment import Moment
from neurosim.backends.plan import Plan
from neurosim.recorder import Probe, Recording
from neurosim.types import ConfigurationError, Tensor

if TYPE_CHECKING:
    from neurosim.backends.learning import Learning

LEARNING_FIELDS = ("weight", "bias", "eligibility", "modulator")


class Tape:
    """Checks the probes against the plan, then keeps their rows."""

    def __init__(self, plan: Plan, probes: Sequence[Probe], learning: Learning):
        self.plan, self.probes = plan, tuple(probes)
        self.rows: dict[str, list[Tensor]] = {probe.key: [] for probe in self.probes}
        self.steps: dict[str, list[int]] = {probe.key: [] for probe in self.probes}
        self.start: int | None = None
        for probe in self.probes:
            self._check(probe)

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
            raise ConfigurationError(f"a probe asks for {probe.field!r} of {probe.target!r}; it has: {', '.join(allowed)}")

    def write(self, moment: Moment, activity: dict[str, Any], learned: dict[str, Any]) -> None:
        """Keep this step's rows: the first step of the run and every `every`-th after it."""
        self.start = moment.clock if self.start is None else self.start
        for probe in self.probes:
            if (moment.clock - self.start) % probe.every == 0:
                self.rows[probe.key].append(self._row(probe, moment, activity, learned).detach())
                self.steps[probe.key].append(moment.clock)

    def _row(self, probe: Probe, moment: Moment, activity: dict[str, Any], learned: dict[str, Any]) -> Tensor:
        if self.plan.network.has(probe.target):
            units = self.plan.network[probe.target].units
            value = moment.read(probe.key, 0).expand(self.plan.replicas, int(activity["batch"]), units)
            return value if probe.units is None else value[..., list(probe.units)]
        if probe.field == "modulator":
            if probe.target not in moment.modulators:
                raise ConfigurationError(f"no rule modulates projection {probe.target!r} in this phase, so nothing can be recorded of it")
            return moment.modulators[probe.target]
        if probe.field == "eligibility":
            if probe.target not in activity["eligibility"]:
                raise ConfigurationError(f"the rule of projection {probe.target!r} keeps no eligibility, so none can be recorded")
            eligibility: Tensor = activity["eligibility"][probe.target]["weight"][-1]
            return eligibility
        if probe.target not in learned[probe.field]:
            raise ConfigurationError(f"projection {probe.target!r} has no {probe.field} of its own to record")
        return self._weight(probe, learned[probe.field][probe.target])

    def _weight(self, probe: Probe, weight: Tensor) -> Tensor:
        edges = self.plan.synapses[probe.target].edges
        if probe.field == "weight" and edges is not None and edges.dense is not None:
            return weight.reshape(self.plan.replicas, *edges.dense)
        return weight

    def recording(self, hide_replicas: bool) -> Recording:
        """What was collected, as NumPy arrays."""
        values = {}
        for probe in self.probes:
            rows = self.rows[probe.key]
            array = torch.stack(rows).cpu().numpy() if rows else np.zeros((0,))
            has_replicas = array.ndim > 2
            values[probe.key] = array[:, 0] if hide_replicas and has_replicas and array.shape[1] == 1 else array
        return Recording(values, {key: np.asarray(steps) for key, steps in self.steps.items()}, self.plan.dt)
