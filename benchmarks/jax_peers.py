"""The LIF layer in JAX: one product, then `lax.scan`, compiled together; beside it a product in each step. The gradient
is that of JAX through both, with the step's derivative put in.

XLA takes as many threads as there are processors it may run on, so it is bound to as many as the work has threads.
"""

from __future__ import annotations

import os

if hasattr(os, "sched_setaffinity"):  # before JAX is loaded
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(os.environ.get("OMP_NUM_THREADS", "1"))])

from functools import partial

import jax
import jax.numpy as jnp

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.gradients import LayerGradient
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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def step(slope: float, x: jax.Array) -> jax.Array:
    """A step with the derivative of the fast sigmoid."""
    return (x >= 0.0).astype(x.dtype)


def step_forward(slope: float, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return step(slope, x), x


def step_backward(slope: float, x: jax.Array, later: jax.Array) -> tuple[jax.Array]:
    return (later / (1.0 + slope * jnp.abs(x)) ** 2,)


step.defvjp(step_forward, step_backward)


def gradient(work: LayerGradient) -> Contender:
    x, target, start = jnp.asarray(work.x), jnp.asarray(work.target), jnp.zeros((work.batch, work.units))
    weight, leak, slope = jnp.asarray(work.weight), work.leak, work.slope

    def fired(v: jax.Array, arriving: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = leak * v + arriving
        spikes = step(slope, v - 1.0)
        return v * (1.0 - jax.lax.stop_gradient(spikes)), spikes

    def loss(weight: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        spikes = jax.lax.scan(fired, start, x @ weight.T)[1]
        return 0.5 * ((spikes.mean(0) - target) ** 2).sum(-1).mean(), spikes

    found = jax.jit(jax.grad(loss, has_aux=True))

    def run() -> tuple[jax.Array, jax.Array]:
        slope_of_loss, spikes = jax.block_until_ready(found(weight, x))
        return spikes, slope_of_loss

    return in_process("JAX product and scan", run, work.read)
