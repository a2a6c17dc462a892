"""The end of each job's output, for pages and reports, where the standard streams are a monitor's streams."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Final

from .._core.base._states import JobState
from .._core.job._job import AnyJob

MAX_LENGTH: Final = 4000
MAX_JOBS: Final = 10_000
"""The number of jobs whose ends are kept: the last that have begun to print, and those that have failed longer."""
MAX_SPARED: Final = 64
"""How many ends of failed jobs are passed over, and count as the newest, before the oldest end is dropped."""
_ends: Final[weakref.WeakKeyDictionary[AnyJob, list[Any]]] = weakref.WeakKeyDictionary()
"""The last attempt of a job that has printed, and its output, up to twice the end that is shown."""
# Reentrant, because a signal handler may print while its thread holds the lock.
_lock: Final = threading.RLock()


def keep_end(job: AnyJob | None, text: str) -> None:
    """Keep the end of a job's output, with a line between two attempts. Any thread may call this."""
    if job is None or not text:
        return
    with _lock:
        kept = _ends.get(job)
        attempt = (job.attempts, job.started_at)
        if kept is None or kept[0] != attempt:
            if job.redact:
                return
            # What was printed before a first attempt is of another run.
            line = ""
            if kept is not None and job.attempts > 1:
                line = f"{kept[1].rstrip()}\n---- attempt {job.attempts}\n"
            kept = _ends[job] = [attempt, line]
            if len(_ends) > MAX_JOBS:
                _drop_oldest()
        kept[1] += text
        if len(kept[1]) > 2 * MAX_LENGTH:
            # Not at each print.
            kept[1] = kept[1][-MAX_LENGTH:]


def _drop_oldest() -> None:
    """Forget the output of the job that began to print first, but rather of one that has not failed."""
    for _ in range(MAX_SPARED):
        oldest = next(iter(_ends))
        end = _ends.pop(oldest)
        if oldest.state is not JobState.FAILED:
            return
        _ends[oldest] = end
    del _ends[next(iter(_ends))]


def end_of_prints(job: AnyJob, started_at: float | None) -> str:
    """Return the end of a job's output since a start, or "" if no monitor has seen it, or it has `redact=True`.

    Any thread may call this.
    """
    with _lock:
        kept = _ends.get(job)
    if kept is None:
        return ""
    (_, start), text = kept
    if start is None or start != started_at:
        return ""
    return str(text)[-MAX_LENGTH:]
