"""The end of a phase for one weight: what its kernels need to form the change, and to make it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from neurosim.backends.cpu import outer
from neurosim.backends.cpu.formed import Rows
from neurosim.backends.cpu.inputs import Inputs, Total
from neurosim.backends.cpu.program import run_shares, shares_of
from neurosim.backends.cpu.rooms import room
from neurosim.backends.cpu.schedule import table
from neurosim.backends.cpu.synaptic import Synaptic
from neurosim.backends.cpu.writer import Kernel
from neurosim.types import Array, Tensor

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
    """One term of one part: its rows, F `[R, K, B, P]` with the kernel that goes through them backwards, and what
    brings its inputs in order.
    """

    post: Kept | None
    pre: Kept | None
    filtered: outer.Filter | None
    backwards: outer.Backwards
    inputs: Inputs | Total
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
        self.dtype, self.synaptic, self.summands, self.updates = dtype, synaptic, summands, updates
        self.elsewhere = elsewhere  # do kernels read the weight where a state holds it?
        self.kernel = self._gathered(("out",) if elsewhere else ("w", "out"))
        self.weight = torch.from_numpy(synaptic.weight)
        self.table = table([self.kernel.made])
        self.single: dict[str, Tensor] = {}  # as large as the weight, of which one row per share is ever touched
        self._in_place: outer.Gathered | None = None
        self._known: dict[Any, dict[str, int]] = {}  # what each kernel was told last

    def _gathered(self, written: tuple[str, ...]) -> outer.Gathered:
        inputs = [one.pre is not None for one in self.summands]
        return outer.Gathered(self.dtype, self.synaptic, inputs, self.updates, written)

    @property
    def in_place(self) -> outer.Gathered:
        """The kernel that changes the weight where it lies."""
        if self._in_place is None:
            self._in_place = self._gathered(("w",))
        return self._in_place

    @property
    def dense(self) -> bool:
        """Had a term more inputs that are not zero than are worth a list?"""
        return any(one.inputs.too_many for one in self.summands if isinstance(one.inputs, Inputs))

    def begin(self, kernel: outer.Gathered, steps: int) -> None:
        """Make ready to list the rows of `steps` steps for a kernel."""
        replicas, _, posts, pres = self.synaptic.size
        for k, one in enumerate(self.summands):
            f_at = one.f.data_ptr()
            if isinstance(one.inputs, Total):
                one.inputs.set(K=one.f.numel() // (replicas * posts), rows_at=f_at)
                self._set(kernel, k, {"K": steps, f"rows{k}": one.inputs.total.ctypes.data})
                continue
            assert one.pre is not None
            rows = one.pre.rows.numel() // (replicas * pres)
            count = rows * pres
            large = self.synaptic.kind == "dense" and pres > 1 and count * replicas * posts >= MATRIX_PRODUCT
            lists = one.inputs.begin(one.pre.rows, rows, int(FEW * count) if large else count)
            self._set(kernel, k, {"K": steps, f"rows{k}": f_at, **{f"{name}{k}": at for name, at in lists.items()}})

    def _set(self, kernel: outer.Gathered, what: Any, values: dict[str, int]) -> None:
        """Sizes and addresses, most of which are those of the last time."""
        if self._known.get((kernel, what)) != values:
            self._known[kernel, what] = values
            kernel.set(**values)

    def __call__(self, clock: int, start: Tensor | None, made: bool, count: int, earlier: int) -> Tensor:
        """The new weight, if the change is `made`; else the change, in the layout in which a state has them where the
        weight lies there, else in that of the kernels. It begins with `start`, which is written to.

        The inputs have been listed; `clock` is the phase's last step.
        """
        kernel, weight = self.kernel, self.weight
        targets = {} if start is None else {"g": start}
        for name, product in self._dense_products():
            targets[name] = targets[name] + product if name in targets else product
        array = room(tuple(weight.shape), self.synaptic.weight.dtype)
        result = torch.from_numpy(array.swapaxes(-1, -2) if self.elsewhere else array)
        for name in kernel.targets:
            self._target(kernel, name, targets.get(name), None if made or name != "g" else result)
        mean = self.synaptic.rule.accumulate == "mean"
        kernel.set(due=made, earlier=earlier, steps=count if mean else 1, out_at=result.data_ptr())
        kernel.made.begin(clock, 1)
        parts = shares_of(1, self.synaptic.size[3], self.synaptic.weight.size, True)
        run_shares(self.table, clock, clock + 1, [(0, self.synaptic.size[0], j0, j1) for *_, j0, j1 in parts])
        if made or "g" not in targets:
            return result
        return targets["g"].transpose(-1, -2) if self.elsewhere else targets["g"]

    def begin_series(self, steps: int, weight: Array, count: int, earlier: int, change: Array | None) -> None:
        """Batches follow each other, and `weight` is changed in place after each (by another kernel, from `change`)."""
        kernel = self.in_place
        self.begin(kernel, steps)
        for name in kernel.targets:
            elsewhere = name == "g" and not self.updates and change is not None
            self._target(kernel, name, None, torch.from_numpy(change) if elsewhere else None)
        mean = self.synaptic.rule.accumulate == "mean"
        kernel.set(whole=1, due=1, earlier=earlier, steps=count if mean else 1, w_at=weight.ctypes.data)

    def _dense_products(self) -> Iterator[tuple[str, Tensor]]:
        """The products of terms that have too many inputs for lists (which are then empty), by target."""
        replicas, _, posts, pres = self.synaptic.size
        for k, one in enumerate(self.summands):
            if not isinstance(one.inputs, Inputs) or not one.inputs.too_many:
                continue
            assert one.pre is not None
            rows = one.pre.rows.view(replicas, -1, pres)
            product = torch.bmm(rows.transpose(1, 2), one.f.view(replicas, -1, posts))
            one.inputs.pointer[...] = 0
            yield f"s{k}" if self.kernel.gains[k] else "g", product

    def _target(self, kernel: outer.Gathered, name: str, given: Tensor | None, result: Tensor | None) -> None:
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
        self._set(kernel, name, {
            f"{name}_at": array.data_ptr(), f"{name}_r": row, f"{name}_j": step if whole else 0,
            f"{name}_b": 0 if whole else step, f"{name}_fresh": given is None,
        })  # fmt: skip


def inputs(dtype: str, synaptic: Synaptic, pre: Kept | None) -> Inputs | Total:
    """What brings the inputs of a term in order."""
    replicas, _, posts, pres = synaptic.size
    return Total(dtype, replicas, posts) if pre is None else Inputs(dtype, replicas, pres)
