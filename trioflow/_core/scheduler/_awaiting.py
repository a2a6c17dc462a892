"""`await job`: wait until a job has settled.

If one job awaits another, this is recorded, so that views can show the wait. A cycle of waits is rejected. The waiting
job keeps its slot, its token and its resources, and the awaited job may lack one of these; or the awaited job is a
forever job, which lasts as long as its run, which waits for the waiting job. Such waits are not rejected, because the
awaited job may get what it lacks from other jobs, or return by itself, but after a while they are reported.

A job whose body runs a scheduler awaits that run, and is treated alike.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Generator
from typing import TYPE_CHECKING, Any

from .. import backend as _backend
from ..base._states import JobState
from ..job import _errors
from ..job._ancestors import enclosing_schedulers, outermost_scheduler
from ..job._job import AbstractJob, is_scheduler
from ..job._outcome import Failure
from ..parts._settled_calls import SettledCalls
from ..run._current import current_worker_var
from ..words import _wait_paths

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler


async def wait_settled(scheduler: BaseScheduler, job: AbstractJob[Any], takes_failure: bool) -> None:
    """Wait until a member has settled; with `takes_failure`, its failure does not count, but belongs to the caller.

    Raises:
        JobNotDone: no run will reach the job.
        RuntimeError: the job would settle only after the waiting job.
        RuntimeError: the scheduler runs in another thread.

    """
    if scheduler._run is not None:
        scheduler._run.check_thread(f"await of {job.label!r}")
    waiter = caller_in(scheduler)
    try:
        with contextlib.nullcontext() if waiter is None else _recorded_wait(waiter, job):
            while not job._state.is_settled:
                if scheduler._will_not_reach(job):
                    raise _errors.JobNotDone(f"{job.label!r} is {job._state.value}: no run will reach it")
                await _wait_for_change(waiter, job, takes_failure)
    except BaseException:
        if scheduler._run is not None and isinstance(job._outcome, Failure):
            scheduler._run.give_back_failure(job, job._outcome)
        raise
    if job._state is JobState.CANCELLED:
        await _backend.current_backend().checkpoint()  # the waiting job may have been cancelled by the same scope


@contextlib.contextmanager
def _recorded_wait(waiter: AbstractJob[Any], job: AbstractJob[Any]) -> Generator[None]:
    """Record that `waiter` awaits `job` during the block, or reject a cycle of waits."""
    _wait_paths.reject_wait_cycle(waiter, job)
    extras = waiter._ensure_extras()
    extras.awaited_jobs += (job,)
    try:
        yield
    finally:
        remaining = list(extras.awaited_jobs)
        remaining.remove(job)
        extras.awaited_jobs = tuple(remaining)


def caller_in(scheduler: BaseScheduler) -> AbstractJob[Any] | None:
    """Return the outermost scheduler if its `on_settled` calls this function; otherwise, the `waiting_job`.

    If a nested scheduler does so, this is the waiting job.
    """
    outermost = outermost_scheduler(scheduler)
    run = outermost._run
    calls = None if run is None else run.part(SettledCalls)
    is_call = run is not None and calls is not None and calls.task is run.backend.current_task()
    return outermost if is_call else waiting_job()


def waiting_job() -> AbstractJob[Any] | None:
    """Return the job whose body, or a task of whose body, calls this function; None if there is no such job."""
    worker = current_worker_var.get(None)
    is_inside = worker is not None and worker.job is not None and worker.run.backend.isolation.is_caller_inside(worker)
    return worker.job if worker is not None and is_inside else None


async def _wait_for_change(waiter: AbstractJob[Any] | None, job: AbstractJob[Any], takes_failure: bool) -> None:
    """Wait until the state of a job changes, or that of an enclosing scheduler that is not running yet."""
    backend = _backend.current_backend()
    event = backend.create_event()

    def listener(_: object) -> None:
        if takes_failure and isinstance(job._outcome, Failure):
            job._outcome.is_taken = True
        event.set()

    watched_jobs = [job, *(enclosing for enclosing in enclosing_schedulers(job) if enclosing._run is None)]
    for watched in watched_jobs:
        watched._ensure_extras().add_listener(listener)
    try:
        await wait_or_report(event, waiter, [job], "awaits")
        await event.wait()
    finally:
        for watched in watched_jobs:
            listeners = None if watched._extras is None else watched._extras.listeners
            if listeners and listener in listeners:
                listeners.remove(listener)


def watch_of(
    waiter: AbstractJob[Any] | None, jobs: Collection[AbstractJob[Any]], verb: str
) -> _wait_paths.WaitWatch | None:
    """Return the watch of a wait, of a job or an outermost scheduler; None if no run goes on while it waits."""
    worker = None if waiter is None else waiter._worker
    run = worker.run if worker is not None else waiter._run if waiter is not None and is_scheduler(waiter) else None
    return None if waiter is None or run is None else _wait_paths.WaitWatch(run, waiter, jobs, verb)


async def wait_or_report(
    event: _backend.TaskEvent, waiter: AbstractJob[Any] | None, jobs: Collection[AbstractJob[Any]], verb: str
) -> bool:
    """Wait until `event` is set. If all `jobs` settle only after `waiter`, as things are, report this and return early.

    Args:
        event: set when one of the jobs has settled.
        waiter: the waiting job, or the scheduler whose `on_settled` waits; if it is None, return at once.
        jobs: the jobs for which it waits, which may change.
        verb: the words that link the waiting job to these.

    Returns:
        Whether the wait was reported.

    """
    watch = watch_of(waiter, jobs, verb)
    if watch is None:
        return False
    while not event.is_set() and watch.due_at() < math.inf:
        with _backend.current_backend().create_scope(watch.due_at()):
            await event.wait()
        if not event.is_set():
            watch.turn()
    return watch.due_at() == math.inf


def watch_of_body(scheduler: BaseScheduler) -> _wait_paths.WaitWatch | None:
    """Return the watch of a wait for a run of `scheduler`, if the body of a job is about to start it."""
    return watch_of(waiting_job(), [scheduler], _wait_paths.RUNS)
