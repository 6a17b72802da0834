"""What all tests share: one thread, so that sums have one order and two workers fit two cores; Triton's interpreter,
which has to be chosen before triton is imported (TRITON_INTERPRET=0 runs the kernels on a GPU).
"""

import os

import torch

os.environ.setdefault("TRITON_INTERPRET", "1")

torch.set_num_threads(1)
