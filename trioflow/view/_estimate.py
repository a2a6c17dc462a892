"""How long the rest of a run takes: one estimate for monitors, pages and progress bars."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

MIN_ENDED: Final = 3
"""The number of jobs that must have ended before there is an estimate."""


def remaining_seconds(
    ended: int, ended_seconds: float, running: Collection[float], left: int, elapsed: float, slots: float = math.inf
) -> float | None:
    """Return about how long the jobs take that have not ended, each as long as the mean; None if that is unknown.

    They go on at the pace so far, with at least as many at once as are running, and at most as many as there are slots.

    Args:
        ended: the number of jobs that have ended in this run.
        ended_seconds: the sum of the seconds that these have taken.
        running: the seconds that each of the running jobs has taken so far.
        left: the number of jobs that have not ended, with those that run.
        elapsed: the seconds since the run began, without its pauses.
        slots: the number of jobs that may run at once.

    """
    done = ended_seconds + sum(running)
    if ended < MIN_ENDED or done <= 0 or elapsed <= 0:
        return None
    mean = ended_seconds / ended
    mean += sum(seconds for seconds in running if seconds > mean) / ended  # those to come may be as long
    work = mean * left - sum(min(mean, seconds) for seconds in running)
    return max(0.0, work) / min(max(done / elapsed, len(running)), slots)
