"""The end of what each job has printed, for pages, where the standard streams are those of a monitor."""

from __future__ import annotations

import threading
import weakref
from typing import Final

from .._core.job._job import AnyJob

MAX_LENGTH: Final = 4000
MAX_JOBS: Final = 10_000
"""The number of jobs whose ends are kept: the jobs that have printed last."""
_ends: Final[weakref.WeakKeyDictionary[AnyJob, tuple[int, str]]] = weakref.WeakKeyDictionary()
"""The attempt of a job that has printed last, and the end of what the job has printed."""
_lock: Final = threading.RLock()  # reentrant, because a signal handler may print while its thread holds the lock


def keep_end(job: AnyJob | None, text: str) -> None:
    """Keep the end of what a job prints; a line stands between two attempts. Any thread may call this."""
    if job is None or not text or job.redact:
        return
    attempt = job.attempts
    with _lock:
        last_attempt, end = _ends.pop(job, (attempt, ""))
        if attempt != last_attempt:
            end = f"{end.rstrip()}\n---- attempt {attempt}\n"
        _ends[job] = attempt, (end + text)[-MAX_LENGTH:]
        if len(_ends) > MAX_JOBS:
            del _ends[next(iter(_ends))]


def end_of_prints(job: AnyJob) -> str:
    """Return the end of what a job has printed; "" if no monitor has seen it, or for a job with `redact=True`."""
    with _lock:
        return _ends.get(job, (0, ""))[1]
