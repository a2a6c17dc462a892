"""The families of jobs that do similar work, as their labels tell, and the levels on which pictures fold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from .._core.base._graph_algorithms import topological_order

Node = TypeVar("Node")

WORD_PATTERN: Final = re.compile(r"[^\W_]+(?:[.,:][^\W_]+)*")
NUMBER_PATTERN: Final = re.compile(r"\A\d+(?:[.,:]\d+)*\Z")


def family_from_label(label: str, is_user_chosen: bool) -> str:
    """Derive the family of a job from its label, so that jobs with similar work have the same family.

    If the user chose the label, the family is the label with a star in place of each separate number. Otherwise it is
    the name of the function or the program.

    Args:
        label: the label.
        is_user_chosen: whether the user chose the label. Otherwise, it is the default label.

    Example:
        >>> family_from_label("page 7 for x86", True), family_from_label("python3.11 tests", True)
        ('page * for x86', 'python3.11 tests')
        >>> family_from_label("fetch('a')", False)
        'fetch'

    """
    if not is_user_chosen:
        return label.partition("(")[0].split(" ")[0] or label
    return WORD_PATTERN.sub(lambda word: NUMBER_PATTERN.sub("*", word[0]), label)


def levels_in_groups(
    parents: Mapping[Node, Node | None], required: Callable[[Node], Iterable[Node]]
) -> dict[Node, int]:
    """Map each job and group to its level among those beside it: there is no path between two on one level.

    Boxes for jobs of one level each form no cycle. For V nodes, E requirements and D levels of groups: O(V + E * D).

    Args:
        parents: the group around each job and group, or one that is not in this mapping. Enclosing groups come first.
        required: returns the requirements of a job or group. Those that are not in `parents` do not count.

    Example:
        >>> levels_in_groups({"a": None, "g": None, "b": "g"}, {"a": [], "g": [], "b": ["a"]}.__getitem__)
        {'a': 1, 'b': 1, 'g': 2}

    """
    paths: dict[Node | None, tuple[Node, ...]] = {}
    for node, parent in parents.items():
        paths[node] = (*paths.get(parent, ()), node)
    before: dict[Node, set[Node]] = {node: set() for node in parents}
    for node in parents:
        for tail in required(node):
            for earlier, later in zip(paths.get(tail, ()), paths[node], strict=False):
                if earlier != later:
                    before[later].add(earlier)
                    break
    levels: dict[Node, int] = {}
    for node in topological_order(parents, before.__getitem__):
        levels[node] = 1 + max(map(levels.__getitem__, before[node]), default=0)
    return levels
