"""Durations, sizes, counts and lists as text, in the same form in logs, errors, listings, pictures and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._amounts import Amount


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


MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def duration_text(seconds: float, *, in_column: bool = False) -> str:
    """Return a duration as text: "318 ms", "1.25 s", "12 min 30 s", "3 h 05 min", "2 d 04 h".

    Args:
        seconds: the duration.
        in_column: whether the text is for a column. If so, the number in a duration below a minute has one decimal,
            even if that is 0, but none from 100 on: "1.3 s", "9.0 s", "318 ms". If not, it has up to three significant
            digits, without trailing zeros.

    """
    if seconds < 0:
        return "-" + duration_text(-seconds, in_column=in_column)
    if seconds < 59.95:  # from here on rounding gives 60 s, which is a minute
        form = _one_decimal if in_column else _three_digits
        for unit, name in UNITS[:-1]:
            if seconds >= unit * 0.9995:
                return f"{form(seconds / unit)} {name}"
        return "0 s" if seconds < 1e-9 else f"{form(seconds * 1e9)} ns"
    if round(seconds) < HOUR:
        return _two_unit_text(round(seconds), MINUTE, "min", 1.0, "s")
    if round(seconds / MINUTE) * MINUTE < DAY:
        return _two_unit_text(round(seconds / MINUTE) * MINUTE, HOUR, "h", MINUTE, "min")
    return _two_unit_text(round(seconds / HOUR) * HOUR, DAY, "d", HOUR, "h")


def _one_decimal(number: float) -> str:
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def _three_digits(number: float) -> str:
    """Return a number from 1 to 1000 with three digits, without trailing zeros."""
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _two_unit_text(seconds: float, unit: float, name: str, smaller_unit: float, smaller_name: str) -> str:
    """Return a duration in two units, such as "3 h 05 min", or in the larger one if the rest is 0."""
    whole, rest = divmod(round(seconds), unit)
    first = f"{int(whole)} {name}"
    return f"{first} {int(rest // smaller_unit):02d} {smaller_name}" if rest else first


def size_text(number: Amount) -> str:
    """Return a number of bytes as text with a binary unit.

    Example:
        >>> size_text(1536), size_text(4 << 30)
        ('1.5 KiB', '4 GiB')

    """
    power = max(0, min(5, (int(number).bit_length() - 1) // 10))
    return f"{float(number) / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"


def percent_text(fraction: float) -> str:
    """Return a fraction as text in percent; only a fraction of 1 is "100%"."""
    return "100%" if fraction >= 1 else f"{min(99, round(100 * fraction))}%"
