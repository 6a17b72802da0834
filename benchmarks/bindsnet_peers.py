"""Pair STDP in BindsNET (PostPre, additive traces), its spikes drawn before the clock starts, as its users do.

BindsNET imports torchvision, for its data sets only, and its newest version wants a newer torch than the others: where
no torchvision fits, an empty module takes its place in this process. It has no rule with the surrogate slope of the
three-factor work, so it has no row there.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch


def stand_in() -> None:
    """Empty modules in place of torchvision, whatever is asked of them."""

    class Nothing(ModuleType):
        __path__: tuple[str, ...] = ()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("", ".datasets", ".transforms", ".utils"):
        sys.modules[f"torchvision{name}"] = Nothing(f"torchvision{name}")
    sys.modules["torchvision"].datasets = sys.modules["torchvision.datasets"]  # type: ignore[attr-defined]


try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    for broken in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[broken]
    stand_in()

from bindsnet.learning import PostPre  # noqa: E402
from bindsnet.network import Network  # noqa: E402
from bindsnet.network.nodes import Input, LIFNodes  # noqa: E402
from bindsnet.network.topology import Connection  # noqa: E402
from torch_peers import without_gradient  # noqa: E402

from neurosim.benchmark import Contender  # noqa: E402
from neurosim.benchmark.plasticity import PairStdp  # noqa: E402


class Counted:
    """A monitor that counts spikes only."""

    def __init__(self, layer: Any):
        self.layer, self.spikes = layer, 0

    def record(self) -> None:
        self.spikes += int(self.layer.s.sum())

    def reset_state_variables(self) -> None:
        self.spikes = 0


def stdp(work: PairStdp) -> Contender:
    network = Network(dt=work.dt, learning=True)
    source = Input(n=work.inputs, traces=True, traces_additive=True, tc_trace=work.tau, trace_scale=1.0)
    cells = LIFNodes(
        n=work.units, traces=True, traces_additive=True, tc_trace=work.tau, trace_scale=1.0, thresh=1.0, rest=0.0,
        reset=0.0, refrac=0, tc_decay=work.tau_mem,
    )  # fmt: skip
    start = torch.from_numpy(work.start.T.astype(np.float32)).contiguous()
    wires = Connection(
        source, cells, w=start.clone(), wmin=0.0, wmax=work.w_max, update_rule=PostPre,
        nu=(work.A_minus, work.A_plus),
    )  # fmt: skip
    network.add_layer(source, name="input")
    network.add_layer(cells, name="output")
    network.add_connection(wires, source="input", target="output")
    counted = Counted(cells)
    network.add_monitor(counted, name="counted")
    drawn = np.random.default_rng(14).random((work.steps, 1, work.inputs)) < work.rate * work.dt / 1000.0
    spikes = torch.from_numpy(drawn)

    def run() -> float:
        network.reset_state_variables()
        wires.w.data.copy_(start)
        network.run({"input": spikes}, time=work.steps * work.dt)
        return float(wires.w.mean())

    def read(weight: float) -> dict[str, float]:
        return {"rate": work.mean_rate(counted.spikes), "weight": weight}

    return without_gradient("BindsNET PostPre", run, read)
