"""`debrief`: what became of a run, as text: the listing, the counts, why it stopped, and each failure's traceback."""

from __future__ import annotations

import collections
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from .._core._jobs import AbstractJob
from .._core._outcomes import Failure
from .._core._scheduler import BaseScheduler, Incident
from .._core._states import JobState
from . import _own_frames
from ._listing import Listing
from ._script import Script


def debrief(scheduler: BaseScheduler, script: Script, own_frames: bool = False) -> str:
    """Return what `Scheduler.debrief` prints. O(V + E), and the length of the tracebacks.

    With `own_frames`, the tracebacks of failures have only the frames of the user's own code.
    """
    listing = Listing(scheduler, script)
    sections = [
        listing.text(),
        "\n".join((_counts(listing), *_stop(scheduler, listing))),
        *(_incident(incident, listing, script) for incident in _incidents(scheduler, listing)),
        *(_failure(job, listing, script, own_frames) for job in _failed(listing)),
    ]
    return "\n\n".join(filter(None, sections))


def _counts(listing: Listing) -> str:
    count = collections.Counter(job.state for job in listing.jobs)
    states = ", ".join(f"{count[state]} {state.value}" for state in JobState if count[state])
    nested = sum(isinstance(job, BaseScheduler) for job in listing.jobs)
    which = f", {nested} of them schedulers" if nested else ""
    return f"jobs: {len(listing.jobs)}{which}" + (f" ({states})" if states else "")


def _stop(scheduler: BaseScheduler, listing: Listing) -> Iterator[str]:
    reason = scheduler.stop_reason
    yield f"stop reason: {reason.name if reason is not None else 'none, as no run has ended'}"
    culprits = [listing.name(job) + _reason_in_brackets(job) for job in _culprits(scheduler)]
    if culprits:
        yield f"culprit: {' -> '.join(culprits)}"


def _culprits(scheduler: BaseScheduler) -> Iterator[AbstractJob[Any]]:
    """Yield the job that stopped the run; if that is a scheduler, then the one that stopped it, and so on inwards."""
    culprit = scheduler.culprit
    while culprit is not None:
        yield culprit
        culprit = culprit.culprit if isinstance(culprit, BaseScheduler) else None


def _reason_in_brackets(job: AbstractJob[Any]) -> str:
    reason = job.stop_reason if isinstance(job, BaseScheduler) else None
    return f" ({reason.name})" if reason is not None else ""


def _incidents(scheduler: BaseScheduler, listing: Listing) -> Iterator[Incident]:
    for one in (scheduler, *listing.jobs):
        if isinstance(one, BaseScheduler):
            yield from one.incidents


def _incident(incident: Incident, listing: Listing, script: Script) -> str:
    job, message, exception = incident
    where = f"incident at {listing.name(job)}:" if job is not None else "incident:"
    trace = "" if exception is None else "\n" + _trace(exception, exception.__traceback__, script)
    return f"{where} {script.lines(message)}{trace}"


def _failed(listing: Listing) -> list[AbstractJob[Any]]:
    """Return the jobs that failed by themselves: critical ones first, then in the order in which they settled."""
    failed = [job for job in listing.jobs if job.state is JobState.FAILED and not _through_a_job(job)]
    return sorted(failed, key=lambda job: (not job.is_critical(), _outcome(job).number))


def _through_a_job(job: AbstractJob[Any]) -> bool:
    """Tell whether it is a scheduler that failed because one of its jobs did: that one is told of instead."""
    culprit = job.culprit if isinstance(job, BaseScheduler) else None
    return culprit is not None and culprit.raised_exception() is not None


def _failure(job: AbstractJob[Any], listing: Listing, script: Script, own_frames: bool) -> str:
    failure = _outcome(job)
    critical = "critical failure" if job.is_critical() else "failure"
    if own_frames:
        trace = script.lines(_own_frames.formatted(failure.exception, failure.traceback))
    else:
        trace = _trace(failure.exception, failure.traceback, script)
    return f"{critical} of {listing.name(job)}:\n{trace}"


def _outcome(job: AbstractJob[Any]) -> Failure:
    failure: Failure = job._outcome  # the traceback as it was: `result()` has made the exception's own grow
    return failure


def _trace(exception: BaseException, frames: TracebackType | None, script: Script) -> str:
    return script.lines("".join(traceback.format_exception(type(exception), exception, frames)))
