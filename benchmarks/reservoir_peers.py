"""The reservoir in ReservoirPy, which leaks behind tanh: s <- l s + (1 - l) tanh(W s + x_t b).

With x_t = 1 - l^t this is the work, which leaks before tanh, written for another variable: v = W s + x_t b is 0 at the
start and follows v <- l v + (1 - l) (W tanh(v) + b).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from reservoirpy.nodes import Reservoir
from torch_peers import compressed, read_rate

from neurosim.benchmark import Contender, in_process
from neurosim.benchmark.layers import RandomReservoir


def reservoir(work: RandomReservoir) -> Contender:
    matrix, given = compressed(work), work.input[:, None]
    node = Reservoir(
        work.units, lr=np.float32(1.0 - work.leak), W=matrix, Win=given, bias=0.0, activation="tanh", dtype=np.float32
    )
    x = (1.0 - work.leak ** np.arange(work.steps + 1)).astype(np.float32)[:, None]
    node.initialize(x[:1])

    def run() -> Any:
        node.reset()
        return node.run(x[:-1])[-1]

    return in_process("ReservoirPy", run, lambda s: read_rate(np.tanh(matrix @ s + given[:, 0] * x[-1])))
