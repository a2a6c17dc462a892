"""Times and sizes as text: one form in logs, errors, listings, pictures and reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._amounts import Amount

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def duration_text(seconds: float, *, in_column: bool = False) -> str:
    """Return a time as text with at most three digits: "1.25 s", "12 min 30 s", "3 h 05 min", "2 d 04 h".

    Args:
        seconds: the time.
        in_column: whether the text is for a column: then a time below 100 of its unit always has one decimal,
            even a 0: "1.3 s", "9.0 s", "318 ms".

    """
    if seconds < 0:
        return "-" + duration_text(-seconds, in_column=in_column)
    if seconds < 59.95:  # else rounding gives 60: a minute
        return _below_a_minute(seconds, _one_decimal if in_column else _three_digits)
    if round(seconds) < HOUR:
        return _two_units(round(seconds), MINUTE, "min", 1.0, "s")
    if round(seconds / MINUTE) * MINUTE < DAY:
        return _two_units(round(seconds / MINUTE) * MINUTE, HOUR, "h", MINUTE, "min")
    return _two_units(round(seconds / HOUR) * HOUR, DAY, "d", HOUR, "h")


def durations_in_column(seconds: Iterable[float | None]) -> tuple[str, list[str]]:
    """Return times for one column of a table: the unit, for the head, and each time without it.

    The longest time decides the unit: "s", "ms", "µs" or "ns" below 100 s; else "min:s" or "h:min:s". All times have
    the same number of decimals; None becomes an empty text.

    Example:
        >>> durations_in_column([0.0104, 12.5, None])
        ('s', ['0.01', '12.50', ''])

    """
    times = [*seconds]
    longest = max([0.0, *(abs(time) for time in times if time is not None)])
    if longest >= 99.995:
        unit, shown = ("min:s", _minutes) if longest < HOUR - 0.05 else ("h:min:s", _hours)
        return unit, ["" if time is None else "-" * (time < 0) + shown(abs(time)) for time in times]
    size, unit = next((scale for scale in UNITS if longest >= scale[0] * 0.9995), UNITS[0])
    places = 3 if longest / size < 9.9995 else 2 if longest / size < 99.995 else 1
    return unit, ["" if time is None else f"{time / size:.{places}f}" for time in times]


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes}:{rest / 10:04.1f}"


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _below_a_minute(seconds: float, figures: Callable[[float], str]) -> str:
    for unit, name in UNITS[:-1]:
        if seconds >= unit * 0.9995:
            return f"{figures(seconds / unit)} {name}"
    return "0 s" if seconds < 1e-9 else f"{figures(seconds * 1e9)} ns"


def _one_decimal(number: float) -> str:
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def _three_digits(number: float) -> str:
    """Return a number from 1 to 1000 with three digits, without trailing zeros."""
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _two_units(seconds: float, unit: float, name: str, below: float, name_below: str) -> str:
    whole, rest = divmod(round(seconds), unit)
    first = f"{int(whole)} {name}"
    return f"{first} {int(rest // below):02d} {name_below}" if rest else first


def size_text(number: Amount) -> str:
    """Return a number of bytes as text.

    Example:
        >>> size_text(1536), size_text(4 << 30)
        ('1.5 KiB', '4 GiB')

    """
    power = max(0, min(5, (int(number).bit_length() - 1) // 10))
    return f"{float(number) / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"
