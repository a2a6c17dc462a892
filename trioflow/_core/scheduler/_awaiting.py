"""`await job`, `as_settled()` and `room()`: wait until jobs have settled.

If a job awaits another, this is recorded, so that views can show the wait. A cycle of waits is rejected. The waiting
job keeps its slot, its token and its resources, and the awaited job may lack one of these. Or the awaited job is a
forever job, which lasts as long as its run, and the run waits for the waiting job. Such waits are not rejected, because
the awaited job may get its slot or resources from other jobs, or return by itself. But after a while, these waits are
reported.

A job whose body runs a scheduler awaits that run, and is treated alike.

Decided in docs/decisions: 22-awaiting.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast, final

from .. import backend as _backend
from ..base import _logger
from ..base._states import CANCELLED, CHECKING
from ..job import _ancestors, _errors
from ..job._job import AbstractJob, AnyJob, RunExtras
from ..run._current import current_worker_var, enclosing_workers
from ..words import _explain

if TYPE_CHECKING:
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler

J = TypeVar("J", bound=AnyJob)


async def wait_settled(
    scheduler: BaseScheduler, job: AnyJob, takes_failure: bool
) -> None:
    """Wait until a member has settled. With `takes_failure`, its failure does not count, but belongs to the caller.

    Raises:
        JobNotDone: no run will reach the job.
        RuntimeError: the job would settle only after the waiting job.
        RuntimeError: the scheduler runs in another thread.

    """
    if (run := scheduler._run_around()) is not None:
        run.steering.check_thread(run, f"await of {job.label!r}")
    waiter = waiting_job()
    try:
        with _recorded_wait(waiter, job):
            while not job._has_settled():
                if scheduler._will_not_reach(job):
                    reason = scheduler.explain(job)
                    raise _errors.JobNotDone(f"{reason}; no run will reach it")
                await _wait_for_change(waiter, job, takes_failure)
    except BaseException:
        if scheduler._run is not None and type(job._outcome) is _errors.Failure:
            scheduler._run.failures.give_back(job, job._outcome)
        raise
    if job._state is CANCELLED:
        # The waiting job may have been cancelled by the same scope.
        await _backend.current_backend().checkpoint()
        if not job._state.is_settled:
            # It is tried again.
            await wait_settled(scheduler, job, takes_failure)


async def wait_ended(scheduler: BaseScheduler, run: Run) -> None:
    """Wait until the run in progress of an outermost scheduler has ended.

    Raises:
        RuntimeError: the call comes from a job of the run.

    """
    scheduler._was_awaited = True
    waiter = waiting_job()
    with _recorded_wait(waiter, scheduler):
        while scheduler._run is run:
            await _wait_for_change(waiter, scheduler, takes_failure=False)


@contextlib.contextmanager
def _recorded_wait(waiter: AnyJob | None, job: AnyJob) -> Generator[None]:
    """Record that `waiter`, if any, awaits `job` during the block, or reject a cycle of waits."""
    if waiter is None:
        yield
        return
    _explain.reject_wait_cycle(waiter, job)
    extras = waiter._ensure_extras()
    extras.awaited_jobs += (job,)
    try:
        yield
    finally:
        remaining = list(extras.awaited_jobs)
        remaining.remove(job)
        extras.awaited_jobs = tuple(remaining)


def waiting_job() -> AnyJob | None:
    """Return the job whose body, or a task of whose body, calls this function, or None if there is no such job."""
    worker = current_worker_var.get(None)
    if worker is None or worker.job is None:
        return None
    if worker.run.backend.isolation.is_caller_inside(worker):
        return worker.job
    return None


async def _wait_for_change(
    waiter: AnyJob | None, job: AnyJob, takes_failure: bool
) -> None:
    """Wait until the state of a job changes, or the state of an enclosing scheduler that is not running yet."""
    backend = _backend.current_backend()
    # The job itself, if it is an outermost scheduler.
    outermost = _ancestors.outermost_scheduler(cast("BaseScheduler", job))
    event = backend.create_event()
    set_event = setter_of(event, backend, outermost)

    def listener(_: object) -> None:
        if takes_failure and type(job._outcome) is _errors.Failure:
            job._outcome.is_taken = True
        set_event()

    watched_jobs = [job]
    for enclosing in _ancestors.enclosing_schedulers(job):
        if enclosing._run is None or enclosing._run.phase is CHECKING:
            watched_jobs.append(enclosing)
    for watched in watched_jobs:
        watched._ensure_extras().add_listener(listener)
    try:
        wait_text = f"{job.label!r} is awaited"
        await _report_missing_run(event, backend, outermost, wait_text)
        await wait_or_report(event, waiter, [job], "awaits")
        if not event.is_set():
            # On trio, another wait would take a turn, in which the job may run again.
            await event.wait()
    finally:
        for watched in watched_jobs:
            listeners = (watched._extras or RunExtras).listeners
            if listeners and listener in listeners:
                listeners.remove(listener)


async def _report_missing_run(
    event: _backend.TaskEvent,
    backend: _backend.Backend,
    outermost: BaseScheduler,
    wait_text: str,
) -> None:
    """Wait for a second if no run has begun. Then say that the wait needs one, unless it has begun meanwhile."""
    if outermost._run is not None:
        return
    with backend.create_scope(backend.clock()() + _explain.FIRST_POLL_SECONDS):
        await event.wait()
    if not (event.is_set() or outermost.is_running()):
        text = f"{wait_text}, and the run of {outermost.label!r} has not begun"
        _logger.warn(f"{text}: await its co_run(), for instance in a task beside")


def setter_of(
    event: _backend.TaskEvent, backend: _backend.Backend, outermost: BaseScheduler
) -> Callable[[], None]:
    """Return what sets an event of the calling task: from any thread, unless a run in this one is there already."""
    run = outermost._run
    if run is not None and run.thread_id == threading.get_ident():
        return event.set
    return partial(backend.threadsafe_caller(), event.set)


def watch_of(
    waiter: AnyJob | None, jobs: Collection[AnyJob], verb: str
) -> _explain.WaitWatch | None:
    """Return the watch of a wait of a job, or None if no run goes on while it waits."""
    if waiter is None or waiter._worker is None:
        return None
    return _explain.WaitWatch(waiter._worker.run, waiter, jobs, verb)


async def wait_or_report(
    event: _backend.TaskEvent,
    waiter: AnyJob | None,
    jobs: Collection[AnyJob],
    verb: str,
) -> bool:
    """Wait until `event` is set. If all `jobs` settle only after `waiter`, as things are, report this and return early.

    Args:
        event: set when any of the jobs has settled.
        waiter: the waiting job, or None to return at once.
        jobs: the jobs that it waits for, which may change.
        verb: the words that link the waiting job to these.

    Returns:
        Whether the wait was reported.

    """
    if (watch := watch_of(waiter, jobs, verb)) is None:
        return False
    while not event.is_set() and watch.due_at() < math.inf:
        with _backend.current_backend().create_scope(watch.due_at()):
            await event.wait()
        if not event.is_set():
            watch.act()
    return watch.due_at() == math.inf


@final
class SettledJobs(Generic[J]):
    """An async iterator over jobs of a scheduler as they settle. See `BaseScheduler.as_settled`."""

    wait_verb = _explain.ITERATES

    def __init__(
        self, scheduler: BaseScheduler, jobs: Collection[J] | None = None
    ) -> None:
        """Collect the settled jobs, and begin to watch the others. None means all jobs, even jobs to be added."""
        self._scheduler = scheduler
        # None means all jobs.
        self._chosen: frozenset[J] | None = None
        # The job that iterates and its enclosing schedulers, which cannot settle before the iteration ends.
        self._iterating_jobs = {worker.job for worker in enclosing_workers()}
        self._waiter = waiting_job()
        # Whether it was reported that the iteration cannot go on.
        self._is_reported = False
        # Whether it was looked for a run, which a wait needs.
        self._is_run_missed = False
        self._listener = _weak_listener(self)
        # The jobs that the iteration waits for.
        self._unsettled_jobs: set[J] = set()
        self._change_event: _backend.TaskEvent | None = None
        self._set_event: Callable[[], None] | None = None
        self._has_run_ended = scheduler._will_not_reach()
        watched: Collection[Any]
        if jobs is not None:
            self._chosen = frozenset(jobs)
            watched = jobs
        else:
            watched = list(scheduler)
            run = scheduler._run
            if run is not None and run.journal_writer is not None:
                watched = [*run.journal_writer.restored_by_add, *watched]
        # The first of a dict that shrank is found slowly.
        self._settled_jobs: OrderedDict[J, None] = OrderedDict()
        for job in sorted(
            watched, key=lambda job: job.finished_at if job.is_settled() else math.inf
        ):
            self.watch(job)
        if scheduler._settled_iterators is None:
            scheduler._settled_iterators = weakref.WeakSet()
        scheduler._settled_iterators.add(self)

    def watch(self, job: J) -> None:
        """Watch a job until it settles. The iteration waits for it, unless it is a forever job or the iterating job."""
        if job.is_settled() and not self._scheduler._will_reset(job):
            # A job that is added to a running scheduler may be BLOCKED or SKIPPED at once.
            self._on_settled(job)
            return
        if not (
            job.forever
            or job in self._iterating_jobs
            or self._scheduler._will_not_reach(job)
        ):
            self._unsettled_jobs.add(job)
        job._ensure_extras().add_listener(self._listener)

    def watch_new(self, jobs: Iterable[Any]) -> None:
        """Watch jobs that were added, or that are tried again and will settle anew: it yields that end, not this."""
        for job in jobs:
            if self._chosen is None or job in self._chosen:
                self._settled_jobs.pop(job, None)
                self.watch(job)

    def end_iteration(self) -> None:
        """End the iteration because the run has ended. It does not include jobs that settle in a later run."""
        self._has_run_ended = True
        self._wake()

    def _on_settled(self, job: J) -> None:
        if job.is_settled():
            self._unsettled_jobs.discard(job)
            self._settled_jobs[job] = None
        else:
            # The run drains or stops, and starts it only to clean up. It may still be cancelled.
            if self._scheduler._will_not_reach(job):
                self._unsettled_jobs.discard(job)
            job._ensure_extras().add_listener(self._listener)
        self._wake()

    def _wake(self) -> None:
        if self._set_event is not None:
            self._set_event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> J:
        """Return the next job that has settled. This is a checkpoint."""
        backend = _backend.current_backend()
        # Each call is a checkpoint. Where nothing can be yielded yet, the wait below is.
        if self._settled_jobs or self._is_exhausted():
            await backend.checkpoint()
        while True:
            # First, because a run in another thread may change all that follows.
            outermost = _ancestors.outermost_scheduler(self._scheduler)
            event = self._change_event
            if event is None or event.is_set():
                self._change_event = event = backend.create_event()
                self._set_event = setter_of(event, backend, outermost)
            while self._settled_jobs:
                job = self._settled_jobs.popitem(last=False)[0]
                if job.is_settled():
                    return job
                # It was put back for another attempt of its scheduler, and comes when it ends.
                self.watch(job)
            if self._is_exhausted():
                raise StopAsyncIteration
            if not self._is_run_missed:
                self._is_run_missed = True
                wait_text = "as_settled() waits for jobs"
                await _report_missing_run(event, backend, outermost, wait_text)
            if not self._is_reported:
                self._is_reported = await wait_or_report(
                    event, self._waiter, self._unsettled_jobs, self.wait_verb
                )
            if not event.is_set():
                await event.wait()

    def _is_exhausted(self) -> bool:
        """Return whether no further jobs are awaited, because the run has ended or all awaited jobs have settled."""
        return (
            self._has_run_ended
            or self._unsettled_jobs <= self._askers()
            or self._scheduler._will_not_reach()
        )

    def awaited_by(self, job: AbstractJob[Any]) -> tuple[AbstractJob[Any], ...]:
        """Return the jobs that the iteration waits for, if `job` iterates and is not done with what it got."""
        if self._waiter is not job or self._settled_jobs:
            return ()
        return tuple(self._unsettled_jobs - self._askers())

    def _askers(self) -> set[Any]:
        """Return the jobs that iterate over all jobs, if this iterator does, too: none may wait for the others."""
        askers = set[Any]()
        if self._chosen is None:
            for iterator in self._scheduler._settled_iterators or ():
                if iterator._chosen is None:
                    askers.update(iterator._iterating_jobs)
        return askers


class _Turn:
    """The place of a task that waits for room."""

    def __init__(self, job: AnyJob | None) -> None:
        self.job: Final = job
        # What wakes the task, or None while it does not wait.
        self.event: _backend.TaskEvent | None = None


@final
class Room:
    """The jobs of a run that have not settled, and the tasks that wait until these are few. See `BaseScheduler.room`.

    It is there from the first `room()` of a run to the end of the run. It watches each job once, and only the first of
    the tasks is woken, so that the next looks when that one has added its job, or was cancelled.
    """

    wait_verb = _explain.WAITS_FOR_ROOM

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler: Final = scheduler
        # The jobs that count.
        self._unsettled_jobs: Final[set[AnyJob]] = set()
        # The members that have waited for room, or in which a job has, until they settle: these count never.
        self._iterating_jobs: Final[set[Any]] = set()
        # It iterates over no job, so it is none of the iterators that wait for all others.
        self._chosen: Final = frozenset[Any]()
        self._turns: Final[deque[_Turn]] = deque()
        self._listener: Final = self._on_settled
        self.watch_new(scheduler)

    def watch_new(self, jobs: Iterable[AnyJob]) -> None:
        """Watch jobs that were added, or that are tried again."""
        for job in jobs:
            if job._has_settled() or job.forever or job in self._iterating_jobs:
                continue
            if job not in self._unsettled_jobs:
                self._unsettled_jobs.add(job)
                job._ensure_extras().add_listener(self._listener)

    def end_iteration(self) -> None:
        """Wake all tasks, because the run has ended."""
        for turn in self._turns:
            if turn.event is not None:
                turn.event.set()

    async def wait(self, limit: int) -> None:
        """Wait until fewer than `limit` jobs have not settled, and the tasks that came before have gone on.

        Raises:
            JobNotDone: the run takes no more jobs.

        """
        backend = _backend.current_backend()
        for worker in enclosing_workers():
            job = worker.job
            if job is not None and job._scheduler is self._scheduler:
                self._unsettled_jobs.discard(job)
                if job not in self._iterating_jobs:
                    self._iterating_jobs.add(job)
                    job._ensure_extras().add_listener(self._listener)
        turn = _Turn(waiting_job())
        self._turns.append(turn)
        try:
            while self._turns[0] is not turn or len(self._unsettled_jobs) >= limit:
                self._check_run()
                turn.event = event = backend.create_event()
                await wait_or_report(
                    event, turn.job, self._unsettled_jobs, self.wait_verb
                )
                if not event.is_set():
                    await event.wait()
            self._check_run()
        finally:
            self._turns.remove(turn)
            self._wake()

    def awaited_by(self, job: AnyJob) -> tuple[AnyJob, ...]:
        """Return the jobs that a job waits for, if it waits for room."""
        if not any(turn.job is job for turn in list(self._turns)):
            return ()
        return tuple(self._unsettled_jobs)

    def _on_settled(self, job: AnyJob) -> None:
        # It may be IDLE: the run drains, and will not start it.
        self._unsettled_jobs.discard(job)
        self._iterating_jobs.discard(job)
        self._wake()

    def _wake(self) -> None:
        if self._turns and self._turns[0].event is not None:
            self._turns[0].event.set()

    def _check_run(self) -> None:
        run = self._scheduler._run
        if run is None or run.phase._is_ending:
            raise _errors.JobNotDone(
                f"room() of {self._scheduler.label!r}: its run is ending, and takes no more jobs"
            )


def _weak_listener(iterator: SettledJobs[Any]) -> Callable[[AnyJob], None]:
    """Return a listener that notifies the iterator of a settled job, but does not keep the iterator alive."""
    on_settled = weakref.WeakMethod(iterator._on_settled)

    def listener(job: AnyJob) -> None:
        if (call := on_settled()) is not None:
            call(job)

    return listener
