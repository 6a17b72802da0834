"""Steps under a CUDA graph: what a group does in the steps of a chunk is recorded once and then replayed.

A step of a recurrent network is some ten launches of a few microseconds each, and Python takes longer to ask for them
than a GPU to run them. A recording is good for chunks of the same length with the same addresses; everything else that
changes from chunk to chunk (states, spikes, the clock) lies in tensors that stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from neurosim.backends.triton.schedule import Group

MOST = 4  # recordings that are kept of a group


def record(run: Callable[[], None]) -> Any:
    """A CUDA graph of what `run` launches; nothing is carried out yet."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


class Graphs:
    """The recordings of one group. `record` makes one: it has a method `replay`."""

    def __init__(self, device: torch.device, record: Callable[[Callable[[], None]], Any] = record):
        self.active, self.record = device.type == "cuda", record
        self.found: dict[tuple[int, ...], Any] = {}

    def run(self, group: Group, count: int) -> None:
        """All `count` steps of a chunk."""
        pointers = None if group.whole or not self.active else group.pointers()
        if pointers is None:
            group.run(count)
            return
        key = count, *pointers
        if key not in self.found:  # the first time compiles kernels, which a recording must not
            group.run(count)
            self.found = dict([*self.found.items(), (key, None)][-MOST:])
            return
        if self.found[key] is None:
            self.found[key] = self.record(lambda: group.run(count))
        self.found[key].replay()
