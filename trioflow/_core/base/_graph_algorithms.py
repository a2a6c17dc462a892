"""Pure functions on a graph of jobs that is not running: order, cycles, reachability.

A graph is any iterable of nodes, with a function from a node to its neighbours. No function here is recursive, and each
is O(V + E).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

Node = TypeVar("Node", bound=Hashable)

BETWEEN_PAUSES: Final = 1000
"""The number of nodes to process between two pauses: about 1 ms of work."""


def in_chunks(nodes: Collection[Node]) -> Iterable[tuple[list[Node], bool]]:
    """Yield the nodes in lists to process without a pause, each with whether a pause is due after it."""
    return _chunks(nodes) if len(nodes) >= BETWEEN_PAUSES else ((list(nodes), False),)


def _chunks(nodes: Iterable[Node]) -> Iterator[tuple[list[Node], bool]]:
    rest = iter(nodes)
    while chunk := list(itertools.islice(rest, BETWEEN_PAUSES)):
        yield chunk, len(chunk) == BETWEEN_PAUSES


def backlinks(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> dict[Node, list[Node]]:
    """Map each node to the nodes that require it; requirements outside `nodes` are left out. O(V + E)."""
    links: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in links:
        for requirement in requirements(node):
            if requirement in links:
                links[requirement].append(node)
    return links


def topological_order(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Return the nodes so that each comes after all that it requires; ties keep the order of `nodes`.

    Nodes that are on a cycle, or that require one, are left out. Kahn 1962, O(V + E).
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


def longest_paths(
    order: list[Node], requirements: Callable[[Node], Iterable[Node]], lengths: Mapping[Node, float], usual: float
) -> dict[Node, float]:
    """Return the length of the longest path from each node to a node that no other requires, both ends included.

    Args:
        order: the nodes in topological order.
        requirements: what a node requires, among these.
        lengths: the length of each node, 0 or more.
        usual: the length of nodes that `lengths` does not have.

    """
    paths: dict[Node, float] = {}
    for _ in find_longest_paths(order, requirements, lengths, usual, paths):
        pass
    return paths


def find_longest_paths(
    order: list[Node],
    requirements: Callable[[Node], Iterable[Node]],
    lengths: Mapping[Node, float],
    usual: float,
    paths: dict[Node, float],
) -> Iterator[None]:
    """Fill `paths` with the result of `longest_paths`; yield where a pause is due. O(V + E)."""
    behind: dict[Node, float] = {}
    for chunk, pause_is_due in in_chunks(order[::-1]):
        for node in chunk:
            paths[node] = path = behind.pop(node, 0.0) + lengths.get(node, usual)
            for requirement in requirements(node):
                if path > behind.get(requirement, 0.0):
                    behind[requirement] = path
        if pause_is_due:
            yield


def find_cycle(nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]) -> list[Node] | None:
    """Return the nodes of one cycle, or None; each requires the one before it, and the first requires the last.

    The cost is O(V + E). Each node that Kahn's algorithm leaves out has a requirement that is left out too. So a walk
    along these requirements must come back to a node that it has met before.
    """
    everything = list(nodes)
    ordered: list[Node] = topological_order(everything, requirements)
    left = set(everything).difference(ordered)
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
    """Return `starts` and all nodes reachable from them, as an ordered set. Breadth first, O(V + E)."""
    seen = dict.fromkeys(starts)
    todo = deque(seen)
    while todo:
        for neighbour in neighbours(todo.popleft()):
            if neighbour not in seen:
                seen[neighbour] = None
                todo.append(neighbour)
    return seen


def is_reached_from_both(
    ends: Iterable[Node],
    forwards: Callable[[Node], Iterable[Node]],
    starts: Iterable[Node],
    backwards: Callable[[Node], Iterable[Node]],
) -> bool:
    """Return whether a node that is reached forwards from `ends` is also reached backwards from `starts`.

    The search alternates between both sides and ends when the smaller is exhausted. `backwards` is the inverse of
    `forwards`.
    """
    ahead, behind = dict.fromkeys(ends), dict.fromkeys(starts)
    sides = deque([(ahead, behind, deque(ahead), forwards), (behind, ahead, deque(behind), backwards)])
    if not ahead.keys().isdisjoint(behind):
        return True
    while True:
        seen, others, todo, neighbours = sides[0]
        if not todo:
            return False
        for neighbour in neighbours(todo.popleft()):
            if neighbour in others:
                return True
            if neighbour not in seen:
                seen[neighbour] = None
                todo.append(neighbour)
        sides.rotate()
