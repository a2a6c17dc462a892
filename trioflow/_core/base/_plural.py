"""Numbers with their nouns, and lists that name some of their items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_LISTED_NAMES: Final = 10


def plural(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> plural(1, "job"), plural(3, "job")
        ('1 job', '3 jobs')

    """
    return f"{number} {noun}{'s' * (number != 1)}"


def join_names(names: Sequence[str], max_names: int = MAX_LISTED_NAMES, total: int | None = None) -> str:
    """Return the first `max_names` names, separated by commas, and the number of the others.

    Args:
        names: the names.
        max_names: the maximum number of names to show.
        total: the number of all names, if `names` has only the first ones.

    Example:
        >>> join_names(["a", "b", "c"], 2), join_names(["a"], 2)
        ('a, b and 1 more', 'a')

    """
    total = len(names) if total is None else total
    return ", ".join(names[:max_names]) + (f" and {total - max_names} more" if total > max_names else "")


def listed_lines(items: Sequence[str], max_items: int = MAX_LISTED_NAMES) -> list[str]:
    """Return the first `max_items` items, and a line with the number of the others, e.g. "and 3 more"."""
    more = [f"and {len(items) - max_items} more"] if len(items) > max_items else []
    return [*items[:max_items], *more]
