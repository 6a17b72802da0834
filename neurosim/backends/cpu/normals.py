"""Normal numbers outside a program: those that perturb weights, drawn once per phase."""

from __future__ import annotations

import numpy as np
import torch

from neurosim.backends.cpu.kernels import SAMPLES, noise
from neurosim.backends.cpu.program import Program
from neurosim.backends.cpu.writer import Buffer
from neurosim.random import Stream
from neurosim.types import Tensor


class Normals:
    """The numbers `[R, count]` of a stream at a step, in float64: 5 ns each, where torch's operations take 100."""

    def __init__(self, replicas: int):
        self.replicas = replicas
        self._made: dict[tuple[tuple[int, int], int], tuple[Program, Buffer]] = {}
        self._samples = np.zeros((replicas, 1, 1), np.int64)

    def __call__(self, stream: Stream, step: int, count: int) -> Tensor:
        """Elements 0 to `count` of sample 0."""
        key = stream.key, count
        if key not in self._made:
            out, program = Buffer(np.zeros((1, self.replicas, 1, count))), Program()
            program.add(noise("float64", "normal", stream.key, (1, count), SAMPLES, out, (0, count)))
            self._made[key] = program, out
        program, out = self._made[key]
        program.feed({SAMPLES: self._samples}, 1)
        program.begin(step, 1)
        program.run(step, 1, [(0, self.replicas, 0, 1)], step + 1, 1)
        return torch.from_numpy(out.array[0, :, 0].copy())
