"""The families of jobs that do similar work, as labels tell, their names, and the levels where pictures fold them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from .._core.base._graph_algorithms import topological_order
from .._core.base._text_forms import fit

Node = TypeVar("Node")

WORD_PATTERN: Final = re.compile(r"[^\W_]+(?:[.,:][^\W_]+)*")
NUMBER_PATTERN: Final = re.compile(r"\d+(?:[.,:]\d+)*")


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
    return WORD_PATTERN.sub(
        lambda word: "*" if NUMBER_PATTERN.fullmatch(word[0]) else word[0], label
    )


def fit_name(
    name: str,
    width: float,
    measure: Callable[[str], float] = len,
    ellipsis: str = "…",
) -> str:
    """Shorten a name to a width, but not its numbers: many names differ in nothing else.

    Args:
        name: the name.
        width: the maximum width.
        measure: as for `fit`.
        ellipsis: as for `fit`. It replaces the middle of each part between two numbers.

    Example:
        >>> [fit_name(f"group number {n} with a long name", 18) for n in (7, 27)]
        ['grou…er 7 wit…name', 'grou…er 27 wit…ame']

    """
    texts = NUMBER_PATTERN.split(name)
    numbers = [*NUMBER_PATTERN.findall(name), ""]
    room = width - measure("".join(numbers))
    if room < width / 2:
        return fit(name, width, "ends", measure, ellipsis)
    # The shortest first: what they leave of their shares is for the others.
    shortest_first = sorted(range(len(texts)), key=lambda index: measure(texts[index]))
    for place, index in enumerate(shortest_first):
        share = room / (len(texts) - place)
        texts[index] = fit(texts[index], share, "ends", measure, ellipsis)
        room -= measure(texts[index])
    return "".join(itertools.chain(*zip(texts, numbers, strict=True)))


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
