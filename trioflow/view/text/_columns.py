"""Texts for the columns and lists of reports: durations of one unit, and lists that are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..._core.base._text_forms import MAX_LISTED_NAMES, UNITS

HOUR: Final = 3600.0


def listed_lines(items: Sequence[str], max_items: int = MAX_LISTED_NAMES) -> list[str]:
    """Return the first `max_items` items, and a line with the number of the others, e.g. "and 3 more"."""
    more = [f"and {len(items) - max_items} more"] if len(items) > max_items else []
    return [*items[:max_items], *more]


def durations_in_column(seconds: Iterable[float | None]) -> tuple[str, list[str]]:
    """Return the texts of durations for one column of a table: their common unit, and the texts without it.

    The longest duration decides the unit: "s", "ms", "µs" or "ns" below 100 s, otherwise "min:s" or "h:min:s". All
    texts have the same number of decimals. The text of None is empty.

    Example:
        >>> durations_in_column([0.0104, 12.5, None])
        ('s', ['0.01', '12.50', ''])

    """
    times = [*seconds]
    longest = max([0.0, *(abs(time) for time in times if time is not None)])
    if longest >= 99.995:
        unit, form = ("min:s", _minutes_text) if longest < HOUR - 0.05 else ("h:min:s", _hours_text)
        return unit, ["" if time is None else "-" * (time < 0) + form(abs(time)) for time in times]
    size, unit = next((scale for scale in UNITS if longest >= scale[0] * 0.9995), UNITS[0])
    decimals = 3 if longest / size < 9.9995 else 2 if longest / size < 99.995 else 1
    return unit, ["" if time is None else f"{time / size:.{decimals}f}" for time in times]


def _minutes_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes}:{rest / 10:04.1f}"


def _hours_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
