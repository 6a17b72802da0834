"""The works in plain torch and SciPy, written as a user of each would, with the same dynamics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.layers import Layer, RandomReservoir, ThreeFactor


def without_gradient(name: str, run: Callable[[], Any], read: Callable[[Any], Any]) -> Contender:
    def quiet() -> Any:
        with torch.no_grad():
            return run()

    return in_process(name, quiet, read)


# ---- layers ---------------------------------------------------------------------------------------------------------


def layer_steps(work: Layer) -> Contender:
    x, weight, leak = torch.from_numpy(work.x), torch.from_numpy(work.weight).T.contiguous(), work.leak

    def run() -> Tensor:
        v, spikes = torch.zeros(work.batch, work.units), []
        for t in range(work.steps):
            v = leak * v + x[t] @ weight
            spike = (v >= 1.0).to(v.dtype)
            v = v * (1.0 - spike)
            spikes.append(spike)
        return torch.stack(spikes)

    return without_gradient("torch, a product per step", run, work.read)


def layer_batched(work: Layer) -> Contender:
    x, weight, leak = torch.from_numpy(work.x), torch.from_numpy(work.weight).T.contiguous(), work.leak

    def run() -> Tensor:
        current = (x.reshape(-1, work.inputs) @ weight).view(work.steps, work.batch, work.units)
        v, spikes = torch.zeros(work.batch, work.units), torch.empty_like(current)
        for arriving, spike in zip(current.unbind(0), spikes.unbind(0), strict=True):
            v.mul_(leak).add_(arriving)
            torch.ge(v, 1.0, out=spike)
            v.addcmul_(v, spike, value=-1.0)
        return spikes

    return without_gradient("torch, one product, in place", run, work.read)


# ---- three-factor learning ------------------------------------------------------------------------------------------


def three_factor(work: ThreeFactor) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]:
    """Inputs, rewards, weights, and what makes the new potential and psi."""
    leak = work.factor(work.tau_mem)

    def forward(current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = leak * v + current
        psi = 1.0 / (1.0 + work.slope * (v - 1.0).abs()) ** 2
        return v * (v < 1.0), psi

    return torch.from_numpy(work.x), torch.from_numpy(work.reward), torch.from_numpy(work.weight), forward


def outer_products(work: ThreeFactor) -> Contender:
    x, reward, start, forward = three_factor(work)
    fade, keep = work.factor(work.tau_trace), work.factor(work.tau_eligibility)

    def run() -> Tensor:
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

    return without_gradient("torch, outer products", run, work.read)


def outer_products_in_place(work: ThreeFactor) -> Contender:
    x, reward, start, forward = three_factor(work)
    fade, keep = work.factor(work.tau_trace), work.factor(work.tau_eligibility)

    def run() -> Tensor:
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

    return without_gradient("torch, outer products in place", run, work.read)


def factorised(work: ThreeFactor) -> Contender:
    x, reward, start, forward = three_factor(work)
    fade = work.factor(work.tau_trace)
    left = work.factor(work.tau_eligibility) ** torch.arange(work.steps - 1, -1, -1.0)

    def run() -> Tensor:
        w = start.clone()
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

    return without_gradient("torch, factorised", run, work.read)


# ---- reservoir ------------------------------------------------------------------------------------------------------


def read_rate(rate: Any) -> dict[str, Any]:
    return {"rate": np.asarray(rate, float)}


def compressed(work: RandomReservoir) -> sparse.csr_matrix:
    post, pre, values = work.edges
    pointer = np.concatenate(([0], np.cumsum(np.bincount(post, minlength=work.units))))
    shape = work.units, work.units
    return sparse.csr_matrix((values, pre.astype(np.int32), pointer.astype(np.int32)), shape=shape)


def in_torch(name: str, work: RandomReservoir, matrix: Tensor) -> Contender:
    arriving, leak = torch.from_numpy(work.input), work.leak

    def run() -> Tensor:
        v = torch.zeros(work.units)
        for _ in range(work.steps):
            v = leak * v + (1.0 - leak) * (torch.mv(matrix, torch.tanh(v)) + arriving)
        return torch.tanh(v)

    return without_gradient(name, run, read_rate)


def torch_csr(work: RandomReservoir) -> Contender:
    matrix = compressed(work)
    parts = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return in_torch("torch CSR", work, torch.sparse_csr_tensor(*parts, matrix.shape))


def torch_dense(work: RandomReservoir) -> Contender:
    return in_torch("torch dense", work, torch.from_numpy(compressed(work).toarray()))


def scipy_csr(work: RandomReservoir) -> Contender:
    matrix, leak = compressed(work), np.float32(work.leak)

    def run() -> Any:
        v = np.zeros(work.units, np.float32)
        for _ in range(work.steps):
            v = leak * v + (np.float32(1.0) - leak) * (matrix @ np.tanh(v) + work.input)
        return np.tanh(v)

    return in_process("SciPy CSR", run, read_rate)
