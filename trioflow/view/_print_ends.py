"""The end of what each job has printed, for who looks at it, as far as it passes through a monitor."""

from __future__ import annotations

import weakref
from typing import Final

from .._core.job._job import AnyJob

MAX_LENGTH: Final = 4000
_ends: Final[weakref.WeakKeyDictionary[AnyJob, str]] = weakref.WeakKeyDictionary()


def keep_end(job: AnyJob | None, lines: list[str]) -> None:
    """Keep the end of the lines that a job has printed, in all of its attempts. Any thread may call this."""
    if job is not None and lines and not job.redact:
        _ends[job] = (_ends.get(job, "") + "\n".join(lines) + "\n")[-MAX_LENGTH:]


def end_of_prints(job: AnyJob) -> str:
    """Return the end of what a job has printed; "" if no monitor has seen it, or for a job with `redact=True`."""
    return _ends.get(job, "")
