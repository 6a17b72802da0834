"""Pair STDP in BindsNET (PostPre, additive traces), its spikes drawn before the clock starts, as its users do; and its
three-factor rule (MSTDPET), set as near as it goes to the three-factor work.

BindsNET imports torchvision, for its data sets only, and its newest version wants a newer torch than the others: where
no torchvision fits, an empty module takes its place in this process.
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

from bindsnet.learning import MSTDPET, PostPre  # noqa: E402
from bindsnet.network import Network  # noqa: E402
from bindsnet.network.nodes import Input, LIFNodes  # noqa: E402
from bindsnet.network.topology import Connection  # noqa: E402
from torch_peers import without_gradient  # noqa: E402

from neurosim.benchmark import Contender  # noqa: E402
from neurosim.benchmark.layers import ThreeFactor  # noqa: E402
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
    """In these cells a spike arrives after the leak, in the work before it: hence the threshold."""
    network, leak = Network(dt=work.dt, learning=True), float(np.exp(-work.dt / work.tau_mem))
    source = Input(n=work.inputs, traces=True, traces_additive=True, tc_trace=work.tau, trace_scale=1.0)
    cells = LIFNodes(
        n=work.units, traces=True, traces_additive=True, tc_trace=work.tau, trace_scale=1.0, rest=0.0, reset=0.0,
        refrac=0, tc_decay=work.tau_mem, thresh=1.0 / leak,
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


def three_factor(work: ThreeFactor) -> Contender:
    """The trace of the pre spikes times post spikes (the work has the surrogate slope there) into an eligibility, and
    the reward in the last step of a sample. The rule divides the eligibility by its time constant.
    """
    network = Network(dt=work.dt, learning=True, batch_size=work.batch)
    source = Input(n=work.inputs)
    cells = LIFNodes(n=work.units, thresh=1.0, rest=0.0, reset=0.0, refrac=0, tc_decay=work.tau_mem)
    start = torch.from_numpy(work.weight.T).contiguous()
    wires = Connection(
        source, cells, w=start.clone(), update_rule=MSTDPET, nu=work.lr * work.tau_eligibility, reduction=torch.mean,
        tc_plus=work.tau_trace, tc_e_trace=work.tau_eligibility, zero_lag=True,
    )  # fmt: skip
    network.add_layer(source, name="input")
    network.add_layer(cells, name="output")
    network.add_connection(wires, source="input", target="output")
    x, reward = torch.from_numpy(work.x).bool(), torch.from_numpy(work.reward)[:, :, None, None]
    common = {"one_step": True, "a_plus": 1.0, "a_minus": 0.0}

    def run() -> torch.Tensor:
        wires.w.data.copy_(start)
        for sample, m in zip(x, reward, strict=True):
            network.reset_state_variables()
            for name in ("p_plus", "p_minus", "eligibility", "eligibility_trace"):  # made in the rule's first step
                if hasattr(wires.update_rule, name):
                    getattr(wires.update_rule, name).zero_()
            network.run({"input": sample[:-1]}, time=(work.steps - 1) * work.dt, reward=0.0, **common)
            network.run({"input": sample[-1:]}, time=work.dt, reward=m, **common)
        return wires.w.T

    return without_gradient("BindsNET MSTDPET", run, work.read)
