"""What all tests share: one thread, so that sums have one order and two workers fit two cores."""

import torch

torch.set_num_threads(1)
