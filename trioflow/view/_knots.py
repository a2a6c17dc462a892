"""Knots: the largest sets of jobs that all wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from .._core import _graph

Node = TypeVar("Node")


def knots(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> Iterator[list[Node]]:
    """Yield the strongly connected components of more than one node. Kosaraju 1978, iterative, O(V + E).

    Args:
        nodes: the graph.
        requirements: from a node to its neighbours, all of them in `nodes`; none is its own.

    """
    followers = _graph.backlinks(nodes, requirements)
    finished = _finished(followers, requirements)
    met: set[Node] = set()
    for root in reversed(finished):
        if root in met:
            continue
        met.add(root)
        knot = [root]
        for node in knot:  # grows meanwhile
            new = [follower for follower in followers[node] if follower not in met]
            met.update(new)
            knot += dict.fromkeys(new)
        if len(knot) > 1:
            yield knot


def _finished(nodes: Iterable[Node], neighbours: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Return the nodes in the order in which a walk depth first has done with them."""
    finished: list[Node] = []
    met: set[Node] = set()
    for start in nodes:
        if start in met:
            continue
        met.add(start)
        stack = [(start, iter(neighbours(start)))]
        while stack:
            _, left = stack[-1]
            new = next((other for other in left if other not in met), None)
            if new is None:
                finished.append(stack.pop()[0])
            else:
                met.add(new)
                stack.append((new, iter(neighbours(new))))
    return finished
