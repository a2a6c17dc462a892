"""What a monitor asks of a run and its jobs: of a live one by the door of the engine, of a told one the job itself.

The types are those of live jobs. A told one has all that is read here and in this folder, under the same names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..._core.door import reading
from ..._core.door.reading import AnyJob, BaseScheduler, ResourceView, RunView
from ._told import ToldJob, ToldScheduler

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return the run of a scheduler that is under way; None if it is not running."""
    told: Any = scheduler
    if not isinstance(told, ToldScheduler):
        return reading.current_run(scheduler)
    run: Any = told.run
    return run  # type: ignore[no-any-return]


def time_of_day(scheduler: BaseScheduler) -> float:
    """Return the time of day at which happens what is shown: that of the latest event, if it is told afterwards."""
    told: Any = scheduler
    return told.time_of_day() if isinstance(told, ToldScheduler) else time.time()


def expected_durations(scheduler: BaseScheduler) -> dict[AnyJob, float]:
    """Return how many seconds the members are expected to take, as far as that is known."""
    told: Any = scheduler
    if not isinstance(told, ToldScheduler):
        return reading.expected_durations(scheduler)
    known: Any = {job: job.expected_duration for job in told if job.expected_duration is not None}
    return known  # type: ignore[no-any-return]


def nested_in(scheduler: BaseScheduler) -> list[BaseScheduler]:
    """Return the members that are schedulers."""
    told: Any = scheduler
    if not isinstance(told, ToldScheduler):
        return reading.nested_in(scheduler)
    nested: Any = [job for job in told if job.is_told_scheduler]
    return nested  # type: ignore[no-any-return]


def waits_for(scheduler: BaseScheduler, job: AnyJob) -> list[AnyJob]:
    """Return the members that must settle before `job` may start."""
    told: Any = job
    if not isinstance(told, ToldJob):
        return reading.waits_for(scheduler, job)
    found: Any = told.waits_for
    return found  # type: ignore[no-any-return]


def in_order(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the members, each after those that it waits for."""
    told: Any = scheduler
    if not isinstance(told, ToldScheduler):
        return reading.in_order(scheduler)
    return reading.topological_order(list(scheduler), lambda job: waits_for(scheduler, job))


def is_scheduler(job: AnyJob) -> TypeIs[BaseScheduler]:
    """Return whether a job is a scheduler."""
    told: Any = job
    return told.is_told_scheduler if isinstance(told, ToldJob) else reading.is_scheduler(job)


def is_service(job: AnyJob) -> bool:
    """Return whether a job says when it is ready."""
    told: Any = job
    return told.service if isinstance(told, ToldJob) else reading.is_service(job)


def is_ready(job: AnyJob) -> bool:
    """Return whether a job is a service that is ready, and still runs."""
    told: Any = job
    return told.ready if isinstance(told, ToldJob) else reading.is_ready(job)


def failed_through_member(job: AnyJob) -> bool:
    """Return whether a job that FAILED is a scheduler that failed because of one of its own jobs."""
    told: Any = job
    return told.through_member if isinstance(told, ToldJob) else reading.failed_through_member(job)


def throttled(job: AnyJob) -> bool:
    """Return whether attempts of it did not count, because it was throttled."""
    told: Any = job
    return bool(told.throttled if isinstance(told, ToldJob) else reading.throttled(job))


def status_of(job: AnyJob) -> str:
    """Return what a running job says of itself."""
    told: Any = job
    return told.status if isinstance(told, ToldJob) else reading.status_of(job)


def waiting_for(job: AnyJob) -> str:
    """Return what a SCHEDULED job waits for."""
    told: Any = job
    return told.waiting_for if isinstance(told, ToldJob) else reading.waiting_for(job)


def held(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return when it ran, but waited for room on the machine."""
    told: Any = job
    return () if isinstance(told, ToldJob) else reading.held(job)


def needs_of(job: AnyJob) -> Mapping[str, Any]:
    """Return what a job needs of pools: a number, or of a rate perhaps a dict by key."""
    told: Any = job
    return {} if isinstance(told, ToldJob) else job.needs or {}


def resources_in(scheduler: BaseScheduler) -> list[ResourceView]:
    """Return the resources of the scheduler's own pool."""
    told: Any = scheduler
    pool = None if isinstance(told, ToldScheduler) else scheduler.pool
    return [] if pool is None else reading.resources_of(pool)


def is_longest_first(scheduler: BaseScheduler) -> bool:
    """Return whether its members start in the order of their longest chains."""
    told: Any = scheduler
    return not isinstance(told, ToldScheduler) and scheduler.policy in ("auto", "critical-path")


def outwards(job: AnyJob) -> Iterator[BaseScheduler]:
    """Yield the schedulers that a job is in, the innermost first."""
    around: Any = job.scheduler
    while around is not None:
        yield around
        around = around.scheduler


def is_inside(job: AnyJob, scheduler: AnyJob) -> bool:
    """Return whether `job` is in `scheduler`, at any depth."""
    return any(around is scheduler for around in outwards(job))
