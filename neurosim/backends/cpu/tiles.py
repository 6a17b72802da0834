"""Parts of a population: what fits into a core's cache, is one thread's own, and keeps its own list of spikes.

Nothing depends on where the parts lie but time: what a neuron receives is summed up in one order, and lists follow
each other.
"""

from __future__ import annotations

from functools import cache

SIZE = 16384  # units of a part at most: 100,000 CUBA neurons take 115 us a step, with 8,192 120, with 32,768 132
MOST = 32  # parts, but for one of each thread: each costs every neuron that sends a pointer, every spike a look
LEAST = 256  # units of a part that is made so that every thread has one
ALIGNED = 128  # units: no two parts share a pair of lines of the cache, which are fetched together
LANES = 64  # threads at most
SHARED = 8192  # units of a network from which threads share it: 4,000 CUBA neurons take 4.2 us on two, 3.3 on one


@cache
def bounds(units: int, lanes: int = 1) -> tuple[int, ...]:
    """Where the parts of a population begin, and its end; if possible as many for each of `lanes` threads."""
    parts = min(MOST, -(-units // SIZE))
    equal = lanes * -(-parts // lanes)
    parts = max(1, parts, min(equal, units // LEAST))
    edges = (round(units * part / parts / ALIGNED) * ALIGNED for part in range(parts))
    return *(min(edge, units) for edge in edges), units
