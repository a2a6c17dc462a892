"""`await job`: wait until a job has settled.

If one job awaits another, this is recorded, so that views can show the wait. A cycle of waits is rejected. The waiting
job keeps its slot, its token and its resources, and the awaited job may lack one of these. Such a wait is not rejected,
because the awaited job may get what it lacks from other jobs, but after a while the wait is reported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from .. import backend as _backend
from ..base._states import JobState
from ..base._waits import WaitCause
from ..job import _errors
from ..job._ancestors import enclosing_schedulers
from ..job._job import AbstractJob, is_scheduler
from ..run._current import current_worker_var
from . import _explain

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler

FIRST_POLL_SECONDS: Final = 1.0
"""The number of seconds until a wait is first checked for a deadlock. The interval doubles after each check."""


async def wait_settled(scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
    """Wait until a member has settled.

    Raises:
        JobNotDone: no run will reach the job.
        RuntimeError: the job would settle only after the waiting job.
        RuntimeError: the scheduler runs in another thread.

    """
    if scheduler._run is not None:
        scheduler._run.check_thread(f"await of {job.label!r}")
    waiter = waiting_job()
    with contextlib.nullcontext() if waiter is None else _recorded_wait(waiter, job):
        while not job._state.is_settled:
            if scheduler._will_not_reach(job):
                raise _errors.JobNotDone(f"{job.label!r} is {job._state.value}: no run will reach it")
            await _wait_for_change(waiter, job)
    if job._state is JobState.CANCELLED:
        await _backend.current_backend().checkpoint()  # the waiting job may have been cancelled by the same scope


@contextlib.contextmanager
def _recorded_wait(waiter: AbstractJob[Any], job: AbstractJob[Any]) -> Generator[None]:
    """Record that `waiter` awaits `job` during the block, or reject a cycle of waits."""
    reject_wait_cycle(waiter, job)
    extras = waiter._ensure_extras()
    extras.awaited_jobs += (job,)
    try:
        yield
    finally:
        remaining = list(extras.awaited_jobs)
        remaining.remove(job)
        extras.awaited_jobs = tuple(remaining)


def waiting_job() -> AbstractJob[Any] | None:
    """Return the job whose body, or a task of whose body, calls this function; None if there is no such job."""
    worker = current_worker_var.get(None)
    is_inside = worker is not None and worker.job is not None and worker.run.backend.isolation.is_caller_inside(worker)
    return worker.job if worker is not None and is_inside else None


async def _wait_for_change(waiter: AbstractJob[Any] | None, job: AbstractJob[Any]) -> None:
    """Wait until the state of a job changes, or that of an enclosing scheduler that is not running yet."""
    backend = _backend.current_backend()
    event = backend.create_event()

    def listener(_: object) -> None:
        event.set()

    watched_jobs = [job, *(enclosing for enclosing in enclosing_schedulers(job) if enclosing._run is None)]
    for watched in watched_jobs:
        watched._ensure_extras().add_listener(listener)
    try:
        if waiter is not None and waiter._worker is not None and job._state is not JobState.RUNNING:
            await _poll_for_deadlock(event, waiter, job)
        await event.wait()
    finally:
        for watched in watched_jobs:
            listeners = None if watched._extras is None else watched._extras.listeners
            if listeners and listener in listeners:
                listeners.remove(listener)


async def _poll_for_deadlock(event: _backend.TaskEvent, waiter: AbstractJob[Any], job: AbstractJob[Any]) -> None:
    """Wait until `event` is set or `job` is RUNNING.

    If `job` lacks something that `waiter` holds, report this and return early.
    """
    run, seconds = waiter._worker.run, FIRST_POLL_SECONDS  # type: ignore[union-attr]
    while not (event.is_set() or job._state is JobState.RUNNING):
        with run.backend.create_scope(run.clock() + seconds):
            await event.wait()
        if not event.is_set() and lacks_held_resource(job, waiter):
            explanation = job._scheduler.explain(job) if job._scheduler is not None else ""
            run.report(
                waiter,
                f"{waiter.label!r} awaits {job.label!r}, but holds what {job.label!r} needs: {explanation}",
            )
            return
        seconds *= 2


def lacks_held_resource(job: AbstractJob[Any], waiter: AbstractJob[Any]) -> bool:
    """Return whether `job` waits for a slot, a token or a resource that `waiter` or one of its schedulers holds."""
    wait, scheduler = _explain.waiting(job), job._scheduler
    if wait is None or scheduler is None or scheduler._run is None or waiter._worker is None:
        return False
    holders, workers = {waiter, *enclosing_schedulers(waiter)}, scheduler._run.workers
    if wait.cause is WaitCause.SLOT:
        return any(worker.has_slot and worker.job in holders for worker in workers.alive)
    if wait.cause is WaitCause.TOKEN:
        return workers.tokens is not None and workers.tokens.limiter in (
            waiter._worker.token_limiter,
            waiter._own_limiter,
        )
    return any(wait.resource in holder.granted for holder in holders)


# ---- cycles


def reject_wait_cycle(waiter: AbstractJob[Any], job: AbstractJob[Any], verb: str = "awaits") -> None:
    """Reject a wait for a job that settles only after the waiting job.

    This takes time in proportion to the number of jobs that `job` waits for and their requirements.

    Args:
        waiter: the job that is about to wait.
        job: the job for which `waiter` would wait.
        verb: the words between the labels of the two jobs in the error message.

    Raises:
        RuntimeError: the wait would never end; the error shows the cycle.

    """
    settling_later = {waiter, *enclosing_schedulers(waiter)}  # they settle only after the wait
    came_from: dict[AbstractJob[Any], tuple[AbstractJob[Any], str]] = {job: (waiter, verb)}
    todo = [job]
    while todo:
        needed_by = todo.pop()
        if needed_by in settling_later:
            raise RuntimeError(f"{waiter.label!r} waits for itself: {_cycle_text(waiter, needed_by, came_from)}")
        for needed_verb, needed in _jobs_that_settle_before(needed_by):
            if needed not in came_from:
                came_from[needed] = needed_by, needed_verb
                todo.append(needed)


def _jobs_that_settle_before(job: AbstractJob[Any]) -> Iterator[tuple[str, AbstractJob[Any]]]:
    """Yield each job that must settle before `job`, paired with the words that link `job` to it in messages."""
    if job._state is JobState.RUNNING:
        for awaited in _awaited_by(job):
            yield "awaits", awaited
        for member in job._members.jobs if is_scheduler(job) else ():
            if not member._forever and (is_scheduler(member) or _awaited_by(member)):
                yield "waits for its job", member
    elif not job._state.is_settled:
        for requirement in _explain.open_requirements(job):
            yield "requires", requirement
        for enclosing in enclosing_schedulers(job):
            if enclosing._run is not None:
                break
            for requirement in _explain.open_requirements(enclosing):
                yield f"is in {enclosing.label!r}, which requires", requirement


def _awaited_by(job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
    return job._extras.awaited_jobs if job._extras is not None else ()


def _cycle_text(
    waiter: AbstractJob[Any], last: AbstractJob[Any], came_from: dict[AbstractJob[Any], tuple[AbstractJob[Any], str]]
) -> str:
    """Return a text that shows the cycle of waits from `waiter` to `last`, which is `waiter` or contains it."""
    end_text = "" if last is waiter else f", which contains {waiter.label!r}"
    steps: list[str] = []
    job = last
    while job is not waiter or not steps:
        previous_job, verb = came_from[job]
        steps.append(f"{verb} {job.label!r}")
        job = previous_job
    return f"{waiter.label!r} {', which '.join(reversed(steps))}{end_text}"
