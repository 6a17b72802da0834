"""The end of a phase for one weight: what its kernel needs to form the change, and to make it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neurosim.backends.cpu import outer
from neurosim.backends.cpu.formed import Rows
from neurosim.backends.cpu.plasticity import Synaptic
from neurosim.backends.cpu.program import run_shares, shares_of
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.writer import Kernel
from neurosim.types import Tensor

MATRIX_PRODUCT = 2**22  # multiplications from which a product of dense rows is torch's
FEW = 0.2  # part of the inputs that are not zero, up to which visiting those only is quicker


@dataclass
class Kept:
    """The rows of one place: the kernel that keeps them and this run's tensor `[R, K, B, N]`."""

    kernel: Kernel
    units: int
    rows: Tensor


@dataclass
class Summand:
    """One term of one part: its rows, and F `[R, K, B, P]` with the kernel that goes through them backwards."""

    post: Kept | None
    pre: Kept | None
    filtered: outer.Filter | None
    backwards: outer.Backwards
    gain: Any  # None, a number, a tensor like the weight, or a function of it
    f: Tensor

    def rows(self) -> Rows:
        """What a state carries on."""
        post, pre = (None if end is None else end.rows for end in (self.post, self.pre))
        trace = None if self.filtered is None else (self.filtered.fade, *self.filtered.scales)
        return Rows(post, pre, trace, self.gain)


class Product:
    """Calls the kernel `outer.Gathered` of one part.

    It adds up in `targets`: the change g, and s<k> of a term that meets a gain. Where nobody needs them whole, each
    share has one row of them, which stays in the first cache.
    """

    def __init__(self, dtype: str, synaptic: Synaptic, summands: list[Summand], updates: bool, elsewhere: bool):
        self.synaptic, self.summands = synaptic, summands
        self.kernel = outer.Gathered(dtype, synaptic, [one.pre is not None for one in summands], updates, elsewhere)
        self.weight = torch.from_numpy(synaptic.weight)
        self.table = table([self.kernel.made])
        self.single: dict[str, Tensor] = {}  # as large as the weight, of which one row per share is ever touched

    def _parts(self) -> Any:
        return shares_of(1, self.synaptic.size[3], self.synaptic.weight.size, True)

    def __call__(self, steps: int, start: Tensor | None, made: bool, count: int, earlier: int) -> Tensor:
        """The new weight, if the change is `made`; else the change. It begins with `start`, which is written to."""
        kernel, weight = self.kernel, self.weight
        targets = {} if start is None else {"g": start}
        keeps = [self._inputs(k, targets) for k in range(len(self.summands))]
        result = torch.empty_like(weight)
        for name in kernel.targets:
            self._target(name, targets.get(name), None if made or name != "g" else result)
        mean = self.synaptic.rule.accumulate == "mean"
        kernel.set(K=steps, due=made, earlier=earlier, steps=count if mean else 1, out_at=result.data_ptr())
        run_shares(self.table, 0, 1, [(0, self.synaptic.size[0], j0, j1) for *_, j0, j1 in self._parts()])
        del keeps  # the kernel knows addresses only
        return result if made else targets.get("g", result)

    def _inputs(self, k: int, targets: dict[str, Tensor]) -> Any:
        """Tell the kernel where the inputs of a term are listed, or form its product here."""
        one, kernel = self.summands[k], self.kernel
        replicas, _, posts, pres = self.synaptic.size
        if one.pre is None:
            total = one.f.sum((1, 2))
            kernel.set(**{f"rows{k}": total.data_ptr()})
            return total
        rows = one.pre.rows.view(replicas, -1, pres)
        large = self.synaptic.kind == "dense" and pres > 1 and rows.numel() * posts >= MATRIX_PRODUCT
        most = int(FEW * rows.numel()) if large else rows.numel()
        *lists, few, begin_at, where_at, given_at = outer.listing(rows.numpy(), most)
        if not few:
            name = f"s{k}" if kernel.gains[k] else "g"
            product = torch.bmm(rows.transpose(1, 2), one.f.view(replicas, -1, posts))
            targets[name] = targets[name] + product if name in targets else product
        kernel.set(**{
            f"begin{k}": begin_at, f"where{k}": where_at, f"given{k}": given_at, f"rows{k}": one.f.data_ptr(),
        })  # fmt: skip
        return lists

    def _target(self, name: str, given: Tensor | None, result: Tensor | None) -> None:
        """Where a target lies: in an array that holds something already, in the result, or in a row of each share."""
        _, _, posts, pres = self.synaptic.size
        sparse = self.synaptic.kind == "sparse"
        array = result if given is None else given
        if array is None:
            if name not in self.single:
                self.single[name] = torch.empty_like(self.weight)
            array = self.single[name]
        whole = given is not None or result is not None
        row, step = (0, 0) if sparse else (pres * posts, posts)
        self.kernel.set(**{
            f"{name}_at": array.data_ptr(), f"{name}_r": row, f"{name}_j": step if whole else 0,
            f"{name}_b": 0 if whole else step, f"{name}_fresh": given is None,
        })  # fmt: skip
