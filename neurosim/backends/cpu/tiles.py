"""Parts of a population: what fits into a core's cache, is one thread's own, and keeps its own list of spikes.

Where the parts lie depends on the number of units only, so that any number of threads gives the same bits.
"""

from __future__ import annotations

from functools import cache

SIZE = 4096  # units of a part, about: 100,000 CUBA neurons take 190 us a step, with 2,048 204 (more looks at lists)
MOST = 32  # parts: each costs every neuron that sends a pointer, and every spike a look at it
ALIGNED = 64  # units: no two parts share a line of the cache
LANES = 64  # threads at most


@cache
def bounds(units: int) -> tuple[int, ...]:
    """Where the parts of a population begin, and its end; an even number, so that two threads have the same to do."""
    parts = max(1, min(MOST, 2 * round(units / (2 * SIZE))))
    return *(units * part // parts // ALIGNED * ALIGNED for part in range(parts)), units
