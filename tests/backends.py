"""The same network on two backends, and what it means that they agree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from neurosim.backends import compile

DT = 0.5


def device_of(backend):
    """Where a backend runs here: Triton on the GPU, or interpreted."""
    return "cuda" if backend == "triton" and os.environ.get("TRITON_INTERPRET") == "0" else "cpu"


def both(network, phases, probes, *, batch=1, replicas=None, dtype="float64", seed=3, backend="cpu"):
    """Final states and recordings of the reference and of another backend."""
    results = []
    for name in ("reference", backend):
        place = {"backend": name, "dtype": dtype, "device": device_of(name)}
        simulator = compile(network, DT, seed=seed, replicas=replicas, **place)
        state, recording = simulator.run(simulator.init(batch), phases, probes)
        results.append((simulator, state, recording))
    return results


def leaves(tree, path=""):
    """Every tensor of a state by its path; tensors without entries stand for rest, in either backend."""
    if isinstance(tree, torch.Tensor):
        yield path, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from leaves(value, f"{path}/{name}")
    elif isinstance(tree, tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}/{index}")
    else:
        yield path, torch.as_tensor(float(tree))


def agree(results, tolerance):
    """States and recordings of two backends are the same, entry by entry."""
    (_, expected, wanted), (_, found, got) = results
    assert found.clock == expected.clock
    other = dict(leaves((found.activity, found.learned)))
    for path, value in leaves((expected.activity, expected.learned)):
        assert path in other, path
        if value.numel() == 0 or other[path].numel() == 0:
            continue
        other[path] = other[path].cpu()
        assert other[path].shape == value.shape, path
        torch.testing.assert_close(
            other[path].double(),
            value.double(),
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, path=path: f"{path}: {text}",
        )
    for key in wanted:
        np.testing.assert_allclose(got[key], wanted[key], rtol=tolerance, atol=tolerance, err_msg=key)
        np.testing.assert_array_equal(got.step[key], wanted.step[key])


@dataclass(frozen=True)
class Turned:
    """A change of the weights in the opposite order: nothing that a kernel has a word for."""

    pointwise: ClassVar[bool] = False
    memory: ClassVar[tuple[str, ...]] = ()

    def update(self, change, weight, layout):
        return torch.flip(change, (-1,))
