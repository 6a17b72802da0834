"""The works in plain torch, SciPy, snnTorch and Norse, written as a user of each would, with the same dynamics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.layers import Layer, RandomReservoir, ThreeFactor

try:
    import snntorch
except ImportError:
    snntorch = None
try:
    import norse.torch as norse
except ImportError:
    norse = None
try:
    import scipy.sparse as sparse
except ImportError:
    sparse = None


def without_gradient(name: str, run: Callable[[], Any], read: Callable[[Any], Any]) -> Contender:
    def quiet() -> Any:
        with torch.no_grad():
            return run()

    return in_process(name, quiet, read)


# ---- layers ---------------------------------------------------------------------------------------------------------


def layer(work: Layer) -> Iterator[Contender | str]:
    """Contenders, or the name of a peer that is not installed."""
    x, weight, leak = torch.from_numpy(work.x), torch.from_numpy(work.weight).T.contiguous(), work.leak

    def step_by_step() -> Tensor:
        v, spikes = torch.zeros(work.batch, work.units), []
        for t in range(work.steps):
            v = leak * v + x[t] @ weight
            spike = (v >= 1.0).to(v.dtype)
            v = v * (1.0 - spike)
            spikes.append(spike)
        return torch.stack(spikes)

    def batched() -> Tensor:
        current = (x.reshape(-1, work.inputs) @ weight).view(work.steps, work.batch, work.units)
        v, spikes = torch.zeros(work.batch, work.units), torch.empty_like(current)
        for arriving, spike in zip(current.unbind(0), spikes.unbind(0), strict=True):
            v.mul_(leak).add_(arriving)
            torch.ge(v, 1.0, out=spike)
            v.addcmul_(v, spike, value=-1.0)
        return spikes

    yield without_gradient("torch, a product per step", step_by_step, work.read)
    yield without_gradient("torch, one product, in place", batched, work.read)
    yield snntorch_layer(work, x) if snntorch else "snnTorch"
    if norse is None:
        yield "Norse"
    else:
        yield from norse_layers(work, x)


def snntorch_layer(work: Layer, x: Tensor) -> Contender:
    """Leaky with reset to zero in the step of the spike."""
    linear = torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight)
    cell = snntorch.Leaky(beta=work.leak, threshold=1.0, reset_mechanism="zero", reset_delay=False)

    def run() -> Tensor:
        mem, spikes = cell.init_leaky(), []
        for current in linear(x):
            spike, mem = cell(current, mem)
            spikes.append(spike)
        return torch.stack(spikes)

    return without_gradient("snnTorch Leaky", run, work.read)


def norse_layers(work: Layer, x: Tensor) -> Iterator[Contender]:
    """LIFBox: v <- v + dt tau^-1 (i - v), so that weights are divided by 1 - leak."""
    linear = torch.nn.Linear(work.inputs, work.units, bias=False)
    linear.weight.data = torch.from_numpy(work.weight) / (1.0 - work.leak)
    settings = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(1000.0 * (1.0 - work.leak)), v_th=torch.tensor(1.0))
    cell = norse.LIFBoxCell(settings, dt=0.001)

    def run() -> Tensor:
        state, spikes = None, []
        for current in linear(x):
            spike, state = cell(current, state)
            spikes.append(spike)
        return torch.stack(spikes)

    yield without_gradient("Norse LIFBoxCell", run, work.read)


# ---- three-factor learning ------------------------------------------------------------------------------------------


def three_factor(work: ThreeFactor) -> Iterator[Contender | str]:
    x, reward = torch.from_numpy(work.x), torch.from_numpy(work.reward)
    leak, fade, keep = (work.factor(tau) for tau in (work.tau_mem, work.tau_trace, work.tau_eligibility))
    start = torch.from_numpy(work.weight)

    def forward(current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The new potential and psi."""
        v = leak * v + current
        psi = 1.0 / (1.0 + work.slope * (v - 1.0).abs()) ** 2
        return v * (v < 1.0), psi

    def outer_products() -> Tensor:
        w = start.clone()
        for sample, m in zip(x, reward, strict=True):
            v, trace = torch.zeros(work.batch, work.units), torch.zeros(work.batch, work.inputs)
            e = torch.zeros(work.batch, work.units, work.inputs)
            for spikes in sample:
                v, psi = forward(spikes @ w.T, v)
                trace = fade * trace + spikes
                e = keep * e + psi[:, :, None] * trace[:, None, :]
            w = w + work.lr * (m[:, None, None] * e).mean(0)
        return w

    def in_place() -> Tensor:
        w, e = start.clone(), torch.zeros(work.batch, work.units, work.inputs)
        for sample, m in zip(x, reward, strict=True):
            v, trace = torch.zeros(work.batch, work.units), torch.zeros(work.batch, work.inputs)
            e.zero_()
            for spikes in sample:
                v, psi = forward(spikes @ w.T, v)
                trace.mul_(fade).add_(spikes)
                e.baddbmm_(psi[:, :, None], trace[:, None, :], beta=keep)
            w.add_(torch.tensordot(m, e, 1), alpha=work.lr / work.batch)
        return w

    def factorised() -> Tensor:
        w, left = start.clone(), keep ** torch.arange(work.steps - 1, -1, -1.0)
        for sample, m in zip(x, reward, strict=True):
            current = (sample.reshape(-1, work.inputs) @ w.T).view(work.steps, work.batch, work.units)
            v, trace = torch.zeros(work.batch, work.units), torch.zeros(work.batch, work.inputs)
            psis, traces = torch.empty_like(current), torch.empty_like(sample)
            for t in range(work.steps):
                v, psis[t] = forward(current[t], v)
                trace = torch.add(sample[t], trace, alpha=fade)
                traces[t] = trace
            psis *= left[:, None, None] * m[:, None]
            w.addmm_(psis.view(-1, work.units).T, traces.view(-1, work.inputs), alpha=work.lr / work.batch)
        return w

    yield without_gradient("torch, outer products", outer_products, work.read)
    yield without_gradient("torch, outer products in place", in_place, work.read)
    yield without_gradient("torch, factorised", factorised, work.read)


# ---- reservoir ------------------------------------------------------------------------------------------------------


def reservoir(work: RandomReservoir) -> Iterator[Contender | str]:
    post, pre, values = work.edges
    pointer = np.concatenate(([0], np.cumsum(np.bincount(post, minlength=work.units))))
    arriving, leak = torch.from_numpy(work.input), work.leak
    compressed = torch.sparse_csr_tensor(
        torch.from_numpy(pointer.astype(np.int32)), torch.from_numpy(pre.astype(np.int32)), torch.from_numpy(values),
        (work.units, work.units),
    )  # fmt: skip
    dense = compressed.to_dense()

    def with_torch(matrix: Tensor) -> Callable[[], Tensor]:
        def run() -> Tensor:
            v = torch.zeros(work.units)
            for _ in range(work.steps):
                v = leak * v + (1.0 - leak) * (torch.mv(matrix, torch.tanh(v)) + arriving)
            return torch.tanh(v)

        return run

    def read(rate: Any) -> dict[str, Any]:
        return {"rate": np.asarray(rate, float)}

    yield without_gradient("torch CSR", with_torch(compressed), read)
    yield without_gradient("torch dense", with_torch(dense), read)
    if sparse is None:
        yield "SciPy"
        return
    matrix = sparse.csr_matrix((values, pre, pointer), shape=(work.units, work.units))

    def with_scipy() -> Any:
        v = np.zeros(work.units, np.float32)
        for _ in range(work.steps):
            v = np.float32(leak) * v + np.float32(1.0 - leak) * (matrix @ np.tanh(v) + work.input)
        return np.tanh(v)

    yield in_process("SciPy CSR", with_scipy, read)
