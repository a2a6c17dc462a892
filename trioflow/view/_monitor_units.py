"""Durations as people say them, in few columns."""

from __future__ import annotations

import math
from typing import Final

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

COLUMNS: Final = 6
"""What `duration` takes at most, up to 99 days."""


def duration(seconds: float) -> str:
    """Return a time that is over: two figures that matter, `340ms`, `3.2s`, `42s`, `4m05s`, `2h03m`, `3d04h`."""
    if round(seconds, 3) < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    return f"{seconds:.1f}s" if round(seconds, 1) < 10 else running(round(seconds))


def running(seconds: float) -> str:
    """Return a time that goes on: as `duration`, but in whole seconds that are over, lest figures flicker."""
    whole = max(0, math.floor(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"


def estimate(seconds: float) -> str:
    """Return a time to come, no more exact than an estimate is: steps of 5 s, then 30 s, then minutes."""
    step = 5 if seconds < 2 * MINUTE else 30 if seconds < 10 * MINUTE else MINUTE
    return running(max(5, math.ceil(seconds / step) * step))
