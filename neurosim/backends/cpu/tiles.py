"""Parts of a population: what fits into a core's cache, is one thread's own, and keeps its own list of spikes.

Where the parts lie depends on numbers of units only, so that any number of threads gives the same bits.
"""

from __future__ import annotations

from functools import cache

SIZE = 4096  # units of a part, about: 100,000 CUBA neurons take 190 us a step, with 2,048 204 (more looks at lists)
MOST = 32  # parts: each costs every neuron that sends a pointer, and every spike a look at it
ALIGNED = 64  # units: no two parts share a line of the cache
LANES = 64  # threads at most
SHARED = 2048  # units of a network from which threads may share it: to meet costs 0.25 us a step, 2,048 neurons 1.6
PAIR = 256  # units of a population from which it has two parts, in a network that threads may share


@cache
def bounds(units: int, shared: bool = False) -> tuple[int, ...]:
    """Where the parts of a population begin, and its end; an even number, so that two threads have the same to do."""
    least = 2 if shared and units >= PAIR else 1
    parts = max(least, min(MOST, 2 * round(units / (2 * SIZE))))
    return *(units * part // parts // ALIGNED * ALIGNED for part in range(parts)), units
