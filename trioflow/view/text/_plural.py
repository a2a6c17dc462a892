"""Numbers with their nouns, and lists that name some of their items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_LISTED_NAMES: Final = 10
"""The maximum number of names in a list. Further names are only counted, e.g. "and 3 more"."""


def plural(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 job" or "3 jobs"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def join_names(names: Sequence[str], max_names: int = MAX_LISTED_NAMES) -> str:
    """Return the first `max_names` names, separated by commas, and the number of the others, e.g. " and 3 more"."""
    return ", ".join(names[:max_names]) + (f" and {len(names) - max_names} more" if len(names) > max_names else "")


def listed_lines(items: Sequence[str], max_items: int = MAX_LISTED_NAMES) -> list[str]:
    """Return the first `max_items` items, and a line with the number of the others, e.g. "and 3 more"."""
    more = [f"and {len(items) - max_items} more"] if len(items) > max_items else []
    return [*items[:max_items], *more]
