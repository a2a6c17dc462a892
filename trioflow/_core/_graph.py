"""Pure functions on a graph of jobs, with nothing running: order, cycles, closures, ends.

A graph is any iterable of nodes and a function from a node to its neighbours. All of it is iterative and O(V + E).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def backlinks(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> dict[Node, list[Node]]:
    """Return each node with the nodes that require it; requirements outside `nodes` are left out. O(V + E)."""
    found: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in found:
        for requirement in requirements(node):
            if requirement in found:
                found[requirement].append(node)
    return found


def topological_order(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Return the nodes so that each stands after all it requires; ties in the order given.

    The list is shorter than the nodes if and only if there is a cycle. Kahn 1962, O(V + E).
    """
    successors = backlinks(nodes, requirements)
    waiting = dict.fromkeys(successors, 0)
    for followers in successors.values():
        for follower in followers:
            waiting[follower] += 1
    ready = deque(node for node, count in waiting.items() if not count)
    order: list[Node] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for follower in successors[node]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return order


def find_cycle(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> list[Node] | None:
    """Return the nodes of one cycle, each requiring the one before it and the first the last, or None. O(V + E).

    Whatever Kahn's algorithm leaves over has a requirement that was left over too: following those must come
    back to a node that was met before.
    """
    everything = list(nodes)
    left: set[Node] = set(everything)
    ordered: list[Node] = topological_order(everything, requirements)
    left.difference_update(ordered)
    if not left:
        return None
    node = next(node for node in everything if node in left)
    met: dict[Node, None] = {}
    while node not in met:
        met[node] = None
        node = next(requirement for requirement in requirements(node) if requirement in left)
    path = list(met)
    return path[path.index(node) :][::-1]


def reachable(starts: Iterable[Node], neighbours: Callable[[Node], Iterable[Node]]) -> dict[Node, None]:
    """Return all that can be reached from `starts`, themselves included, as an ordered set. Breadth first, O(V + E)."""
    found = dict.fromkeys(starts)
    todo = deque(found)
    while todo:
        for neighbour in neighbours(todo.popleft()):
            if neighbour not in found:
                found[neighbour] = None
                todo.append(neighbour)
    return found
