"""Philox4x32-10 in Triton, with the same bits as `neurosim.random`."""

from __future__ import annotations

import math

from neurosim.random import MASK, MULTIPLIERS, ROUNDS, WEYL

PHILOX = f"""\
@jit
def words(element, step, sample, replica, k0, k1):
    c0, c1, c2, c3 = element, step, sample, replica
    for _ in tl.static_range({ROUNDS}):
        first, second = c0 * {MULTIPLIERS[0]}, c2 * {MULTIPLIERS[1]}
        c0 = ((second >> 32) & {MASK}) ^ c1 ^ k0
        c1 = second & {MASK}
        c2 = ((first >> 32) & {MASK}) ^ c3 ^ k1
        c3 = first & {MASK}
        k0, k1 = (k0 + {WEYL[0]}) & {MASK}, (k1 + {WEYL[1]}) & {MASK}
    return c0, c1, c2, c3


@jit
def uniform(element, step, sample, replica, k0, k1, REAL: tl.constexpr):
    high, low, _, _ = words(element, step, sample, replica, k0, k1)
    if REAL == tl.float32:
        return (high >> 8).to(REAL) * {2.0**-24!r}
    else:
        return ((high << 21) | (low >> 11)).to(REAL) * tl.full((1,), {2.0**-53!r}, tl.float64)


@jit
def normal(element, step, sample, replica, k0, k1, REAL: tl.constexpr):
    w0, w1, w2, w3 = words(element, step, sample, replica, k0, k1)
    fine = tl.full((1,), {2.0**-53!r}, tl.float64)
    radius = (((w0 << 21) | (w1 >> 11)).to(tl.float64) + 1.0) * fine
    angle = ((w2 << 21) | (w3 >> 11)).to(tl.float64) * fine
    turn = tl.full((1,), {2.0 * math.pi!r}, tl.float64)
    return (tl.sqrt(-2.0 * tl.log(radius)) * tl.cos(turn * angle)).to(REAL)
"""
