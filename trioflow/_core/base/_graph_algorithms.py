"""Graph algorithms: topological order, longest paths, cycles, reachability.

A graph is any iterable of nodes, together with a function that maps a node to its neighbors. No function here is
recursive, and each runs in O(V + E).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

Node = TypeVar("Node", bound=Hashable)

CHUNK_SIZE: Final = 1000
"""The number of nodes to process between two pauses for other tasks, which takes about 1 ms."""


def chunks_with_pauses(nodes: Collection[Node]) -> Iterable[tuple[list[Node], bool]]:
    """Split nodes into lists to process without a pause, each paired with a flag: True if a pause is due after it.

    If there are no nodes, there is a single empty list: a run without jobs is linked, too, before it grows.
    """
    if len(nodes) >= CHUNK_SIZE:
        return _chunks(nodes)
    return ((list(nodes), False),)


def _chunks(nodes: Iterable[Node]) -> Iterator[tuple[list[Node], bool]]:
    remaining = iter(nodes)
    while chunk := list(itertools.islice(remaining, CHUNK_SIZE)):
        yield chunk, len(chunk) == CHUNK_SIZE


def backlinks(
    nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]
) -> dict[Node, list[Node]]:
    """Map each node to the nodes that require it. Requirements outside `nodes` are ignored. O(V + E)."""
    links: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in links:
        for requirement in requirements(node):
            if requirement in links:
                links[requirement].append(node)
    return links


def topological_order(
    nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]
) -> list[Node]:
    """Return the nodes so that each comes after its requirements, and otherwise in the order of `nodes`.

    Nodes on a cycle, and nodes that require them, directly or indirectly, are left out. Kahn 1962, O(V + E).
    """
    successors = backlinks(nodes, requirements)
    open_requirements = dict.fromkeys(successors, 0)
    for followers in successors.values():
        for follower in followers:
            open_requirements[follower] += 1
    ready = deque(node for node, count in open_requirements.items() if not count)
    order: list[Node] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        for follower in successors[node]:
            open_requirements[follower] -= 1
            if not open_requirements[follower]:
                ready.append(follower)
    return order


def longest_path_lengths(
    order: list[Node],
    requirements: Callable[[Node], Iterable[Node]],
    lengths: Mapping[Node, float],
    default: float,
) -> dict[Node, float]:
    """Map each node to the length of the longest path from it to a node that no other requires, including both nodes.

    Args:
        order: the nodes in topological order.
        requirements: returns the requirements of a node, all of which are in `order`.
        lengths: the lengths of nodes, 0 or more.
        default: the length of each node that is not in `lengths`.

    """
    paths: dict[Node, float] = {}
    for _ in fill_longest_path_lengths(order, requirements, lengths, default, paths):
        pass
    return paths


def fill_longest_path_lengths(
    order: list[Node],
    requirements: Callable[[Node], Iterable[Node]],
    lengths: Mapping[Node, float],
    default: float,
    paths: dict[Node, float],
) -> Iterator[None]:
    """Add the result of `longest_path_lengths` to `paths`. Yield when a pause is due. O(V + E)."""
    longest_after: dict[Node, float] = {}
    for chunk, pause_is_due in chunks_with_pauses(order[::-1]):
        for node in chunk:
            paths[node] = path = longest_after.pop(node, 0.0) + lengths.get(
                node, default
            )
            for requirement in requirements(node):
                if path > longest_after.get(requirement, 0.0):
                    longest_after[requirement] = path
        if pause_is_due:
            yield


def find_cycle(
    nodes: Iterable[Node], requirements: Callable[[Node], Iterable[Node]]
) -> list[Node] | None:
    """Return the nodes of a cycle, or None. Each node requires the next, and the last requires the first.

    The cost is O(V + E). Each node that `topological_order` leaves out has a requirement that is left out too. So a
    walk along these requirements must return to a node that it has visited before.
    """
    everything = list(nodes)
    ordered: list[Node] = topological_order(everything, requirements)
    unordered = set(everything).difference(ordered)
    if not unordered:
        return None
    node = next(node for node in everything if node in unordered)
    visited: dict[Node, None] = {}
    while node not in visited:
        visited[node] = None
        node = next(
            requirement
            for requirement in requirements(node)
            if requirement in unordered
        )
    path = list(visited)
    return path[path.index(node) :]


def reachable(
    starts: Iterable[Node], neighbors: Callable[[Node], Iterable[Node]]
) -> dict[Node, None]:
    """Return `starts` and all nodes reachable from them, breadth first, as the keys of a dict. O(V + E)."""
    seen = dict.fromkeys(starts)
    todo = deque(seen)
    while todo:
        for neighbor in neighbors(todo.popleft()):
            if neighbor not in seen:
                seen[neighbor] = None
                todo.append(neighbor)
    return seen


def has_path(
    sources: Iterable[Node],
    forwards: Callable[[Node], Iterable[Node]],
    targets: Iterable[Node],
    backwards: Callable[[Node], Iterable[Node]],
) -> bool:
    """Return whether a path leads from any of `sources` to any of `targets`.

    Two searches, forwards from `sources` and backwards from `targets`, take turns until they meet or either of them is
    exhausted. So the smaller search decides the cost. `backwards` must be the inverse of `forwards`.
    """
    ahead = dict.fromkeys(sources)
    behind = dict.fromkeys(targets)
    searches = deque(
        [
            (ahead, behind, deque(ahead), forwards),
            (behind, ahead, deque(behind), backwards),
        ]
    )
    if not ahead.keys().isdisjoint(behind):
        return True
    while True:
        seen, seen_by_other, todo, neighbors = searches[0]
        if not todo:
            return False
        for neighbor in neighbors(todo.popleft()):
            if neighbor in seen_by_other:
                return True
            if neighbor not in seen:
                seen[neighbor] = None
                todo.append(neighbor)
        searches.rotate()
