"""The ancestors of a job: the scheduler that it is in, and so on up to the outermost one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AbstractJob


def enclosing_schedulers(job: AbstractJob[Any]) -> Iterator[BaseScheduler]:
    """Yield the enclosing schedulers of a job, the innermost first."""
    around = job._scheduler
    while around is not None:
        yield around
        around = around._scheduler


def ancestors_with_members(job: AbstractJob[Any]) -> Iterator[tuple[BaseScheduler, AbstractJob[Any]]]:
    """Yield the enclosing schedulers, each with its member that is the job or contains it."""
    for around in enclosing_schedulers(job):
        yield around, job
        job = around


def find_common_scheduler(
    job: AbstractJob[Any], other: AbstractJob[Any]
) -> tuple[BaseScheduler, AbstractJob[Any], AbstractJob[Any]] | None:
    """Return the innermost scheduler that contains both jobs, and its members that are or contain them, or None."""
    first = dict(ancestors_with_members(job))
    return next(
        ((around, first[around], member) for around, member in ancestors_with_members(other) if around in first), None
    )


def outermost(scheduler: BaseScheduler) -> BaseScheduler:
    """Return the outermost scheduler around `scheduler`, or `scheduler` itself."""
    for around in enclosing_schedulers(scheduler):
        scheduler = around
    return scheduler


def is_inside(job: AbstractJob[Any], scheduler: AbstractJob[Any]) -> bool:
    """Return whether `job` is in `scheduler`, at any depth; no scheduler is inside itself."""
    return any(around is scheduler for around in enclosing_schedulers(job))
