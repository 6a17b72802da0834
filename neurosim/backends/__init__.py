"""Backends: `compile` turns a description into a simulator."""

from __future__ import annotations

from typing import Any

import torch

from neurosim.backends.plan import make_plan
from neurosim.backends.reference import Reference
from neurosim.backends.simulator import Simulator, State
from neurosim.network import Network
from neurosim.types import DTYPES, ConfigurationError, choice

BACKENDS = {
    "cpu": "numba: the time loop compiled, for networks small and large; no GPU needed",
    "triton": "a GPU: populations, traces and rules as Triton kernels, all steps at once where nothing comes back",
    "reference": "torch, any device, differentiable: the specification",
}


def compile(
    network: Network,
    dt: float,
    *,
    replicas: int | None = None,
    seed: int = 0,
    backend: str = "reference",
    dtype: str = "float32",
    device: str = "cpu",
) -> Simulator:
    """Turn a network into a simulator with time step `dt` (ms).

    `replicas=R` simulates R copies that differ in what is drawn (weights, wiring, noise): arrays get one more axis,
    `[T, R, B, N]`; `None` hides that axis. `seed` fixes everything drawn. Raises ConfigurationError for what cannot be:
    an unknown backend, dtype or device, a delay that is no multiple of dt, a zero-delay cycle, a rule that reads what
    is not there.
    """
    choice(backend, tuple(BACKENDS), "backend")
    choice(dtype, tuple(DTYPES), "dtype")
    plan = make_plan(network, dt, seed, 1 if replicas is None else replicas)
    check_device(device)
    if backend == "cpu":
        if device != "cpu":
            raise ConfigurationError(f"device is {device!r}; backend 'cpu' runs on the cpu, 'reference' on any device")
        from neurosim.backends.cpu import Cpu

        return Cpu(plan, dtype, device, hide_replicas=replicas is None)
    if backend == "triton":
        made: Simulator = _triton(device)(plan, dtype, device, hide_replicas=replicas is None)
        return made
    return Reference(plan, dtype, device, hide_replicas=replicas is None)


def _triton(device: str) -> Any:
    """The Triton backend; a sentence where the package or the GPU is missing."""
    try:
        from neurosim.backends.triton import Triton, check
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ConfigurationError(
            "backend 'triton' needs the package triton, which is not installed; pip install \"neurosim[gpu]\" brings it"
        ) from error
    check(device)
    return Triton


def check_device(device: str) -> str:
    """`device` if torch can use it here; ConfigurationError otherwise."""
    if device == "cpu":
        return device
    if device.partition(":")[0] != "cuda":
        raise ConfigurationError(f"device is {device!r}; allowed: cpu, cuda, cuda:<index>")
    index = device.partition(":")[2] or "0"
    if not torch.cuda.is_available() or not index.isdigit() or int(index) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device is {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices here; "
            "device=cpu works everywhere"
        )
    return device


__all__ = ["BACKENDS", "Simulator", "State", "compile"]
