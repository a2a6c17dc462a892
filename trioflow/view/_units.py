"""Times for people: durations, exact or in few columns, and the ticks of a time axis."""

from __future__ import annotations

import math
from typing import Final

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
STEPS: Final = (
    *(mantissa * 10.0**power for power in range(-9, 0) for mantissa in (1, 2, 5)),
    *(SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 6, 12)),
    *(DAY * number for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
"""Distances between two ticks, in seconds: the numbers that people count in."""
COMPACT_COLUMNS: Final = 6
"""The most that `compact` takes, up to 99 days."""
UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def duration(seconds: float) -> str:
    """Return a time as people say it, with at most three digits: "1.25 s", "12 min 30 s", "3 h 05 min", "2 d 04 h"."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 59.95:  # what would round to 60 is a minute
        return _below_a_minute(seconds)
    if round(seconds) < HOUR:
        return _pair(round(seconds), MINUTE, "min", SECOND, "s")
    if round(seconds / MINUTE) * MINUTE < DAY:
        return _pair(round(seconds / MINUTE) * MINUTE, HOUR, "h", MINUTE, "min")
    return _pair(round(seconds / HOUR) * HOUR, DAY, "d", HOUR, "h")


def _below_a_minute(seconds: float) -> str:
    for unit, name in UNITS[:-1]:
        if seconds >= unit * 0.9995:
            return f"{_figures(seconds / unit)} {name}"
    return "0 s" if seconds < 1e-9 else f"{_figures(seconds * 1e9)} ns"


def _figures(number: float) -> str:
    """Return a number from 1 to 1000 with three digits, without trailing zeros."""
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _pair(seconds: float, unit: float, name: str, below: float, name_below: str) -> str:
    whole, rest = divmod(round(seconds), unit)
    first = f"{int(whole)} {name}"
    return f"{first} {int(rest // below):02d} {name_below}" if rest else first


def ticks(end: float, most: int) -> list[tuple[float, str]]:
    """Return the ticks of an axis from 0 to `end` seconds, with their texts: the first, and at most `most` others."""
    if end <= 0:
        return [(0.0, "0 s")]
    step = next((step for step in STEPS if end / step <= most), STEPS[-1] * math.ceil(end / STEPS[-1] / most))
    number = int(end / step * (1 + 1e-12))
    return [(step * place, _tick_text(step * place, step, step * number)) for place in range(number + 1)]


def _tick_text(at: float, step: float, last: float) -> str:
    """Return the text of a tick, as exact as the steps require; below a minute all ticks have the same unit."""
    if at == 0:
        return "0"
    if step >= DAY:
        return f"{round(at / DAY)} d"
    if at >= MINUTE:
        return _clock(at, step)
    unit, name = next(((unit, name) for unit, name in UNITS if last >= unit * 0.9999999), UNITS[-1])
    places = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return f"{at / unit:.{places}f} {name}"


def _clock(at: float, step: float) -> str:
    """Return days, hours and minutes and what is left, down to the unit of the steps."""
    days, rest = divmod(at + step * 1e-6, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, seconds = divmod(rest, MINUTE)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    shown = [f"{int(number)} {name}" for number, name in parts if number]
    if step < SECOND:
        shown.append(f"{seconds:.{-math.floor(math.log10(step) + 1e-9)}f} s")
    elif int(seconds):
        shown.append(f"{int(seconds)} s")
    return " ".join(shown)


# ---- in few columns


def compact(seconds: float) -> str:
    """Return how long something took, in two digits: `340ms`, `3.2s`, `42s`, `4m05s`, `2h03m`, `3d04h`."""
    if round(seconds, 3) < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    return f"{seconds:.1f}s" if round(seconds, 1) < 10 else running(round(seconds))


def running(seconds: float) -> str:
    """Return how long something has run: as `compact`, but in whole seconds, which do not flicker."""
    whole = max(0, math.floor(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return _two(whole, MINUTE, "m", SECOND, "s")
    return _two(whole, HOUR, "h", MINUTE, "m") if whole < DAY else _two(whole, DAY, "d", HOUR, "h")


def _two(whole: int, unit: float, name: str, below: float, name_below: str) -> str:
    return f"{int(whole // unit)}{name}{int(whole % unit // below):02}{name_below}"


def estimate(seconds: float) -> str:
    """Return an estimate of a time, rounded up to 5 s, from 2 minutes on to 30 s, and from 10 minutes on to minutes."""
    step = 5 if seconds < 2 * MINUTE else 30 if seconds < 10 * MINUTE else MINUTE
    return running(max(5, math.ceil(seconds / step) * step))
