"""The schedulers that enclose a job, from its own scheduler outwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AnyJob


def enclosing_schedulers(job: AnyJob) -> Iterator[BaseScheduler]:
    """Yield the schedulers that contain `job`, the innermost first."""
    enclosing = job._scheduler
    while enclosing is not None:
        yield enclosing
        enclosing = enclosing._scheduler


def ancestors_with_members(job: AnyJob) -> Iterator[tuple[BaseScheduler, AnyJob]]:
    """Yield each enclosing scheduler, the innermost first, with its member that is or contains `job`."""
    for enclosing in enclosing_schedulers(job):
        yield enclosing, job
        job = enclosing


def find_common_scheduler(
    job: AnyJob, other: AnyJob
) -> tuple[BaseScheduler, AnyJob, AnyJob] | None:
    """Return the innermost scheduler that contains two jobs, or None.

    Returns:
        The scheduler, its member that is or contains `job`, and its member that is or contains `other`.

    """
    members = dict(ancestors_with_members(job))
    for scheduler, member in ancestors_with_members(other):
        if scheduler in members:
            return scheduler, members[scheduler], member
    return None


def outermost_scheduler(scheduler: BaseScheduler) -> BaseScheduler:
    """Return the outermost scheduler that contains `scheduler`, or `scheduler` itself if it is in none."""
    for enclosing in enclosing_schedulers(scheduler):
        scheduler = enclosing
    return scheduler


def member_of_run(job: AnyJob) -> AnyJob:
    """Return the job, or the outermost nested scheduler around it that has no run: a member of one that has, if any."""
    for enclosing in enclosing_schedulers(job):
        if enclosing._scheduler is not None and enclosing._run is None:
            job = enclosing
    return job


def is_logged(job: AnyJob) -> bool:
    return job._options.log and all(
        enclosing._options.log for enclosing in enclosing_schedulers(job)
    )
