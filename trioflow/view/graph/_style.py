"""The style of jobs in pictures, for both dot and Mermaid: the colours of states, and the words in a box.

A picture may be printed in grey, so no colour is the only sign of a fact: states have their symbols from the listing,
critical jobs `!` and a thick border, forever jobs a dashed one.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from ..._core.api.views import AnyJob, BaseScheduler, JobState, duration_text, is_scheduler, printable
from .._state_styles import CRITICAL, INK, STATE_STYLES, Colours
from . import _simplify

Direction = Literal["TB", "LR"]
"""The direction of a graph: top to bottom, or left to right."""

PATH: Final = "#111418"
"""The colour of lines on the critical path, as in a timeline."""


class Caption(NamedTuple):
    """The words in a box."""

    label: str
    remarks: list[str]


def state(jobs: list[AnyJob]) -> JobState:
    """Return the state that the box for these jobs shows."""
    return _simplify.shown_state(jobs)


def caption(jobs: list[AnyJob], is_frame: bool = False) -> Caption:
    """Return the words in the box for a job or a bundle; those of a frame leave out its members."""
    job = jobs[0]
    label = printable(_simplify.common_label(jobs) if len(jobs) > 1 else job.label)
    remarks = [_number(jobs), _simplify.state_counts(jobs)] if len(jobs) > 1 else []
    if is_scheduler(job):
        failures = sum(failures_inside(one) for one in jobs if is_scheduler(one))
        remarks += ["" if is_frame else _size(job), f"{failures} failed" if failures else ""]
    if job.run_if != "settled":
        remarks.append(f"if {job.run_if}")
    remarks.append(_took(jobs))
    critical = CRITICAL.symbol if job.is_critical() else ""
    return Caption(f"{critical}{STATE_STYLES[state(jobs)].box_symbol} {label}".lstrip(), list(filter(None, remarks)))


def _number(jobs: list[AnyJob]) -> str:
    """Return the number of jobs in a bundle, and whether they are a chain."""
    is_chain = jobs[0] in jobs[1].required
    return f"× {len(jobs)}{', one after the other' * is_chain}"


def _took(jobs: list[AnyJob]) -> str:
    """Return the duration of a job in the last run, or the range of a bundle's durations."""
    times = [job.elapsed for job in jobs if job.elapsed is not None and not job.forever]
    shown = dict.fromkeys(duration_text(seconds) for seconds in (min(times), max(times))) if times else {}
    return " to ".join(shown)


def colours(jobs: list[AnyJob]) -> Colours:
    """Return the colours of the box for these jobs; if some of them failed, it is pale, with a red border."""
    found, failed = STATE_STYLES[state(jobs)].light, STATE_STYLES[JobState.FAILED].light
    if all(job.state is JobState.FAILED for job in jobs) or not any(map(_has_failure, jobs)):
        return found
    return found._replace(fill=failed.frame, line=failed.fill, text=INK)


def _has_failure(job: AnyJob) -> bool:
    return job.state is JobState.FAILED or (is_scheduler(job) and failures_inside(job) > 0)


def failures_inside(scheduler: BaseScheduler) -> int:
    """Return the number of failed jobs in a scheduler, at any depth; the scheduler itself may have succeeded."""
    return sum(job.state is JobState.FAILED and not is_scheduler(job) for job in scheduler.iterate_jobs())


def _size(scheduler: BaseScheduler) -> str:
    number = sum(1 for _ in scheduler.iterate_jobs())
    return f"{number} job{'s' * (number != 1)}"
