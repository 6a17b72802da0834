"""Eligibilities that are formed when somebody reads them: until then a state carries the rows they are made of.

A phase that forms its change by one product needs no eligibility, `[B, N_post, N_pre]`; the state that it leaves has
one all the same, for a phase that goes on from there, for a checkpoint, for the other backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from neurosim.backends.synapse import Operation, SparseOperation
from neurosim.types import Tensor


class Rows(NamedTuple):
    """One term in every step of a phase: `post [R, K, B, P]` and `pre [R, K, B, Q]`, None for the constant 1.

    `trace` (fade, scale of the first row, scale of the others): `pre` is what a trace filters.
    """

    post: Tensor | None
    pre: Tensor | None
    trace: tuple[float, float, float] | None
    gain: Any  # None, a number or a tensor like the weight

    def pres(self) -> Tensor | None:
        """The pre factor in every step."""
        if self.pre is None or self.trace is None:
            return self.pre
        fade, first, other = self.trace
        rows = self.pre.unbind(1)
        found = [first * rows[0]]
        for row in rows[1:]:
            found.append(fade * found[-1] + other * row)
        return torch.stack(found, 1)


def form(
    operation: Operation,
    size: tuple[int, int, int, int, int],
    terms: list[Rows],
    decay: float,
    start: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """e <- d^K e + sum_k d^(K-1-k) sum_terms post(k) pre(k) gain, shaped as in `synapse.py`; `size` R, K, B, P, Q."""
    replicas, steps, batch, posts, pres = size
    left = (decay ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)).to(dtype)[:, None, None]
    one = torch.ones((), dtype=dtype)
    total: Any = 0.0 if start is None else decay**steps * start
    for term in terms:
        post = one if term.post is None else term.post
        pre = term.pres()
        rows = (left * post).expand(replicas, steps, batch, posts)
        product = _product(operation, rows, (one if pre is None else pre).expand(replicas, steps, batch, pres))
        gain = operation.spread(term.gain) if isinstance(term.gain, Tensor) else term.gain
        total = total + (product if gain is None else product * gain)
    result: Tensor = total
    return result


def _product(operation: Operation, post: Tensor, pre: Tensor) -> Tensor:
    """Sum over the steps of post x pre."""
    if not isinstance(operation, SparseOperation):  # dense, or a bias: one matrix product for all steps
        return torch.matmul(post.permute(0, 2, 3, 1), pre.permute(0, 2, 1, 3))
    pairs = zip(post.unbind(1), pre.unbind(1), strict=True)
    products = (operation.post(q) * operation.pre(lambda delay, x=x: x) for q, x in pairs)  # type: ignore[misc]
    return sum(products, start=torch.zeros((), dtype=post.dtype))


class Formed(Mapping[str, tuple[Tensor, ...]]):
    """The eligibilities of a projection by part ("weight", "bias"), each formed at its first use."""

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]]):
        self._parts, self._makers = tuple(makers), dict(makers)
        self._found: dict[str, tuple[Tensor, ...]] = {}

    def __getitem__(self, part: str) -> tuple[Tensor, ...]:
        if part in self._makers:
            self._found[part] = (self._makers[part](),)
            del self._makers[part]  # and with it the rows
        return self._found[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
