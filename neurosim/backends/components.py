"""What can be reached from each other, together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

Node = TypeVar("Node")


def components(edges: Mapping[Node, Collection[Node]]) -> list[tuple[Node, ...]]:
    """Strongly connected components of a graph, each behind all that its edges lead to (Tarjan 1972). No recursion."""
    order: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    unfinished: set[Node] = set()
    result: list[tuple[Node, ...]] = []
    for root in edges:
        work = [(root, iter(edges[root]))] if root not in order else []
        while work:
            node, following = work[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                stack.append(node)
                unfinished.add(node)
            waiting = next((other for other in following if other not in order), None)
            if waiting is not None:
                work.append((waiting, iter(edges[waiting])))
                continue
            low[node] = min([low[node], *(low[other] for other in edges[node] if other in unfinished)])
            work.pop()
            if low[node] == order[node]:
                cut = stack.index(node)
                result.append(tuple(stack[cut:]))
                unfinished -= set(stack[cut:])
                del stack[cut:]
    return result
