"""Mean and confidence interval over replicas."""

from __future__ import annotations

import math

import numpy as np

from neurosim.types import Array

FEWEST = 3  # values that an interval is given for


def student_quantile(freedom: int, level: float = 0.95) -> float:
    """Half width, in standard errors, of the two-sided interval of `level` with `freedom` degrees of freedom.

    Solves A(t | freedom) = level by bisection, where A is the closed form of Student's distribution for whole degrees
    of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1e4
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def mean_and_interval(values: Array, axis: int = 0, level: float = 0.95) -> tuple[Array, Array]:
    """Mean along `axis` and the half width of its t interval: t * sd / sqrt(n), sd with n - 1.

    NaN below three values: with two, t is 12.7 and the interval says nothing. It is symmetric and not cut to what is
    possible, so that close to 100 % its end may lie beyond.
    """
    values = np.asarray(values, dtype=float)
    count = values.shape[axis]
    mean = values.mean(axis)
    if count < FEWEST:
        return mean, np.full_like(mean, np.nan)
    return mean, student_quantile(count - 1, level) * values.std(axis, ddof=1) / math.sqrt(count)


def _inside(t: float, freedom: int) -> float:
    """Probability that |T| < t."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
