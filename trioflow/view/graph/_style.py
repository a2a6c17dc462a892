"""How jobs look in pictures: the colours of states, and the words in a box. For both dot and Mermaid.

A picture may be printed in grey, so whatever a colour says, something else says too: states have their signs from the
listing, critical jobs `!` and a thick border, forever jobs a dashed one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..._core.door.reading import AnyJob, BaseScheduler, JobState, is_scheduler, printable
from .._states import CRITICAL, LOOKS
from . import _simplify

Direction = Literal["TB", "LR"]
"""Top to bottom, or left to right."""


class Caption(NamedTuple):
    """The words in a box."""

    label: str
    remarks: list[str]


def state(jobs: list[AnyJob]) -> JobState:
    """Return the state that the box for these jobs shows."""
    return _simplify.shown_state(jobs)


def caption(jobs: list[AnyJob]) -> Caption:
    """Return the words in the box for one job, or for several that are alike."""
    job = jobs[0]
    label = printable(_simplify.common_label(jobs) if len(jobs) > 1 else job.label)
    remarks = [f"× {len(jobs)}", _simplify.state_counts(jobs)] if len(jobs) > 1 else []
    if is_scheduler(job):
        remarks += [_size(job), f"{failures} failed" if (failures := failures_inside(job)) else ""]
    if job.run_if != "settled":
        remarks.append(f"if {job.run_if}")
    critical = CRITICAL.sign if job.is_critical() else ""
    return Caption(f"{critical}{LOOKS[state(jobs)].box_sign} {label}".lstrip(), list(filter(None, remarks)))


def failures_inside(scheduler: BaseScheduler) -> int:
    """Return how many jobs in it, at any depth, have failed; the scheduler itself may have succeeded."""
    return sum(job.state is JobState.FAILED and not is_scheduler(job) for job in scheduler.iterate_jobs())


def _size(scheduler: BaseScheduler) -> str:
    number = sum(1 for _ in scheduler.iterate_jobs())
    return f"{number} job{'s' * (number != 1)}"
