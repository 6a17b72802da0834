"""The LIF layer in JAX: one product, then `lax.scan`, compiled together; beside it a product in each step.

XLA takes as many threads as there are processors it may run on, so it is bound to as many as the work has threads.
"""

from __future__ import annotations

import os

if hasattr(os, "sched_setaffinity"):  # before JAX is loaded
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ.get("OMP_NUM_THREADS", "1"))])

import jax
import jax.numpy as jnp

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.layers import Layer


def fired(leak: float, v: jax.Array, arriving: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new potential, and the spikes."""
    v = leak * v + arriving
    spikes = (v >= 1.0).astype(v.dtype)
    return v * (1.0 - spikes), spikes


def scanned(name: str, work: Layer, before: bool) -> Contender:
    x, weight, start = jnp.asarray(work.x), jnp.asarray(work.weight.T), jnp.zeros((work.batch, work.units))
    leak = work.leak

    @jax.jit
    def spikes(x: jax.Array) -> jax.Array:
        if before:
            return jax.lax.scan(lambda v, arriving: fired(leak, v, arriving), start, x @ weight)[1]
        return jax.lax.scan(lambda v, arriving: fired(leak, v, arriving @ weight), start, x)[1]

    return in_process(name, lambda: spikes(x).block_until_ready(), work.read)


def layer(work: Layer) -> Contender:
    return scanned("JAX product and scan", work, before=True)


def layer_steps(work: Layer) -> Contender:
    return scanned("JAX scan of products", work, before=False)
