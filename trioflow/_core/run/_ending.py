"""The end of a run, in steps that no cancellation interrupts.

1. No more jobs start. Running jobs are cancelled and unwind, except forever jobs.
2. After a critical failure or a timeout, the clean-up jobs run: the jobs with `run_if="failed"` whose requirements have
   all settled, at least one of them as failed. A clean-up job that requires another starts after it. Clean-up jobs wait
   neither for a slot nor for their needs, even if this exceeds the total of a resource. Their outcomes do not change
   the result of the run. Forever jobs, including services, keep running meanwhile.
3. Forever jobs that are not services are cancelled and unwind.
4. Services are cancelled and unwind, each before the services that it requires. After `shutdown_timeout` seconds,
   the remaining services are cancelled together.
5. The `co_shutdown` methods of all jobs are called concurrently, within `shutdown_timeout` seconds. At the end of the
   outermost run, the objects that jobs share are then closed, within another `shutdown_timeout` seconds.
6. Instruments are notified by `after_run`.

Decided in docs/decisions: 08-ending.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..admission._line import Line
from ..base._graph_algorithms import topological_order
from ..base._states import COMPLETED, STOPPING, CancelCause, JobState, StopReason
from ..job import _requirements
from ..job._ancestors import enclosing_schedulers
from ..job._errors import find_interruption, one_line_error
from ..job._job import AnyJob
from . import _steps
from ._attempts import BackoffTimer, drain_backoffs
from ._worker import Crew, Worker

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run

MAX_LEAVING_TURNS: Final = 3
"""Workers can leave within this many turns of the loop. Cancelled jobs on trio take two, unless they wait again. If all
workers leave in these turns, `_wind_up` may not be needed."""
MAX_TRIES: Final = 2
"""How often a step is taken that fails. See `take_step`."""


async def end(run: Run) -> None:
    """End a run. The docstring of the module lists the steps."""
    if run.ends.depth or run.ends.waiting:
        run.ends.recover()
    for part in run.parts:
        part.enter(STOPPING)
    if run.pending_shutdowns is None:
        run.pending_shutdowns = _jobs_with_shutdown(run.scheduler)
    run.guard(run.stop, COMPLETED)
    for worker in [each for each in run.crew.alive if each in run.time_slice.queue]:
        # It leaves.
        run.time_slice.call_up(worker)
    ends_forever_jobs = run.fate.reason is COMPLETED
    if ends_forever_jobs:
        # No clean-up job needs them, so they leave in these turns, too.
        forever = _forever_workers(run)
        if forever:
            _end_workers(run, forever)
    for _ in range(MAX_LEAVING_TURNS):
        leaving = [
            worker
            for worker in run.crew.alive
            if not worker.is_shielded or worker.cause is not None
        ]
        if not leaving:
            break
        is_unwinding = any(
            worker.job is not None and not worker.is_shielded for worker in leaving
        )
        if not await run.group.host.yield_in_ending(is_unwinding=is_unwinding):
            break
    has_more = run.crew.alive or run.shared or run.pending_shutdowns
    if has_more or (run.fate.cancel_reason is not COMPLETED and needs_clean_up(run)):
        wind_up = partial(_wind_up, run, not ends_forever_jobs)
        on_interrupt = partial(run.stop, StopReason.CANCELLED)
        await take_step(
            run, partial(run.group.host.run_uninterrupted, wind_up, on_interrupt)
        )
    if (
        run.counts.unsettled
        or run.counts.forever_unsettled
        or run.interruption is not None
    ):
        _steps.settle_leftovers(run)
    _give_final_fate(run)
    run.scheduler._store_outcome(run)
    run.notify("after_run")


def _give_final_fate(run: Run) -> None:
    """Give the words about a run that only the ends of all its jobs allow: forever jobs and services fail last."""
    fate = run.fate
    is_stopped_inside = fate.cancel_reason not in (COMPLETED, StopReason.CANCELLED)
    is_undecided = (
        run.counts.unsettled
        or run.counts.cancelled
        or run.scheduler._enough is not None
    )
    if run.outer_worker is not None and not (is_stopped_inside or is_undecided):
        # A drain has kept no job of this nested run from its end: it has completed. A `First` completes as it decides.
        fate.forget_drain()
        fate.give(COMPLETED)
    if run.failures.number and fate.reason is COMPLETED:
        # It cancels nobody: all jobs have ended.
        fate.stop(StopReason.FAILED, None)


async def _wind_up(run: Run, ends_forever_jobs: bool) -> None:
    end_forever_jobs = partial(_end_forever_jobs, cancels=ends_forever_jobs)
    for step in (
        _end_jobs,
        _clean_up,
        end_forever_jobs,
        _end_services,
        _shut_down_all,
        _close_shared,
    ):
        await take_step(run, partial(step, run))


async def take_step(run: Run, step: Callable[[], Awaitable[None]]) -> None:
    """Take a step of the ending. If it fails, end the run with the error, and take the step once more.

    The error is the engine's own, such as a lack of memory, which may be over. Or it is the KeyboardInterrupt that trio
    raises in the task that awaits the run. A step that is taken again continues.
    """
    for _ in range(MAX_TRIES):
        try:
            await step()
            break
        except BaseException as error:
            if run.backend.split_cancellations(error)[1] is None:
                # asyncio cancels all tasks of a loop at its end.
                raise
            run.interrupt(error)


async def _end_jobs(run: Run) -> None:
    await _wait_until_left(
        run, [worker for worker in run.crew.alive if not worker.is_shielded]
    )


async def _clean_up(run: Run) -> None:
    if needs_clean_up(run):
        await CleanUp(run).execute()


async def _shut_down_all(run: Run) -> None:
    await _shut_down(run, run.pending_shutdowns or {}, run.scheduler._shutdown_timeout)


async def _end_forever_jobs(run: Run, cancels: bool) -> None:
    """Cancel the forever jobs that are not services, unless `end` has done so, and wait until they have left."""
    if cancels:
        # Jobs that end in this instant settle first.
        await run.backend.yield_to_loop()
        _end_workers(run, _forever_workers(run))
    await _wait_until_left(
        run,
        _forever_workers(run),
        repeat_at=run.deadline_in(run.scheduler.shutdown_timeout),
    )


async def _end_services(run: Run) -> None:
    """Cancel the live services in waves, each service after all services that require it have ended.

    At the deadline, cancel all remaining services together. Ready services end as SUCCEEDED.
    """
    deadline = run.deadline_in(run.scheduler.shutdown_timeout)
    services = [worker for worker in run.crew.alive if _runs_service(worker)]
    for wave in _shutdown_waves(run, services):
        _end_workers(run, wave)
        await _wait_until_left(run, wave, deadline)
    _end_workers(run, services, repeatedly=True)
    await _wait_until_left(run, services)


def _end_workers(run: Run, workers: Iterable[Worker], repeatedly: bool = False) -> None:
    """Cancel the workers among these that have not left."""
    workers = [worker for worker in workers if worker in run.crew.alive]
    for worker in workers:
        worker.mark_cancelled(CancelCause.END_OF_RUN)
    if not repeatedly and run.crew.alive.keys() <= set(workers):
        # On trio, a single call for all costs a fifth of a call for each.
        run.group.cancel_shielded(workers)
    else:
        for worker in workers:
            # A run ends in its own time.
            run.group.cancel_worker(worker, repeatedly and worker.nested_run() is None)


def _shutdown_waves(run: Run, workers: list[Worker]) -> list[list[Worker]]:
    """Group the workers of services into waves, each service in a later wave than the services that require it."""
    if not workers:
        return []
    by_service = {worker.job: worker for worker in workers}
    # The maximum number of live services on a path to each job.
    levels: dict[AnyJob, int] = {}
    requirements = run.members.all_requirements
    for job in topological_order(run.members.jobs, requirements):
        depth = max(
            (levels[requirement] for requirement in requirements(job)), default=0
        )
        if job in by_service:
            depth += 1
        levels[job] = depth
    waves: dict[int, list[Worker]] = {}
    for service, worker in by_service.items():
        assert service is not None
        waves.setdefault(levels[service], []).append(worker)
    return [waves[level] for level in sorted(waves, reverse=True)]


async def _wait_until_left(
    run: Run,
    workers: Iterable[Worker],
    deadline: float = math.inf,
    repeat_at: float = math.inf,
) -> None:
    """Wait until these workers have left, or until the deadline.

    At the time `repeat_at`, cancel the remaining workers at each of their awaits.
    """
    alive = run.crew.alive
    remaining = deque(workers)
    while run.clock() < deadline:
        # Check only the first workers, because scanning all of them each time would take quadratic time.
        while remaining and remaining[0] not in alive:
            remaining.popleft()
        if not remaining:
            return
        await run.wait_for_change(min(repeat_at, deadline))
        if run.clock() >= repeat_at:
            repeat_at = math.inf
            _end_workers(run, remaining, repeatedly=True)


async def shut_down_nested(run: Run, nested: BaseScheduler) -> None:
    """Shut down the jobs of a nested scheduler that has not run, within its own `shutdown_timeout`."""
    await _shut_down(run, _jobs_with_shutdown(nested), nested.shutdown_timeout)


def _jobs_with_shutdown(scheduler: BaseScheduler) -> dict[AnyJob, None]:
    jobs = scheduler._members.jobs_with_shutdown
    if not jobs:
        return {}
    return {job: None for job in jobs if job._needs_shutdown()}


def _forever_workers(run: Run) -> list[Worker]:
    return [
        worker
        for worker in run.crew.alive
        if worker.is_shielded and not _runs_service(worker)
    ]


def _runs_service(worker: Worker) -> bool:
    return worker.job is not None and worker.job._is_service


async def _shut_down(
    run: Run, pending: dict[AnyJob, None], seconds: float | None
) -> None:
    """Call `co_shutdown` of all pending jobs concurrently. Report each call that did not end or that raised.

    Each job is removed from `pending` when its call begins.
    """
    unfinished: dict[AnyJob, None] = {}
    deadline = run.deadline_in(seconds)

    async def shut_down(job: AnyJob) -> None:
        del pending[job]
        unfinished[job] = None
        await _call_apart(run, job.co_shutdown, job, f"co_shutdown of {job.label!r}")
        del unfinished[job]

    try:
        if pending:
            await run.backend.run_concurrently(
                [partial(shut_down, job) for job in pending], deadline
            )
    finally:
        for job in unfinished:
            why = "was cancelled"
            if run.clock() >= deadline:
                why = f"did not end within shutdown_timeout={seconds} s"
            run.report(job, f"co_shutdown of {job.label!r} {why}")


async def _call_apart(
    run: Run,
    call: Callable[[], Awaitable[object]],
    job: AnyJob | None,
    what: str,
) -> None:
    """Await a function of the user, and report its exception. An interruption also leaves the run."""
    try:
        await run.backend.call_apart(call)
    except BaseException as error:
        _, failure = run.backend.split_cancellations(error)
        if failure is None:
            raise
        run.report(job, f"{what} raised {one_line_error(failure)}", failure)
        run.interruption = run.interruption or find_interruption(failure)


async def _close_shared(run: Run) -> None:
    """Close the objects that jobs share, the last first, within `shutdown_timeout`. Report exceptions and a timeout."""
    if not run.shared:
        return
    seconds = run.scheduler.shutdown_timeout
    close = [partial(_close_each, run)]
    if not await run.backend.run_concurrently(close, run.deadline_in(seconds)):
        text = f"a shared object of the jobs was not closed within shutdown_timeout={seconds} s"
        run.report(None, text)


async def _close_each(run: Run) -> None:
    # Calls all callbacks, even after the deadline.
    async with contextlib.AsyncExitStack() as stack:
        for resource in run.shared.values():
            if getattr(resource, "close", None) is not None:
                what = "closing a shared object of the jobs"
                stack.push_async_callback(_call_apart, run, resource.close, None, what)
        run.shared.clear()


def may_clean_up(run: Run, job: AnyJob) -> bool:
    """Return whether a critical failure or a timeout has stopped the run, and this is a clean-up job that is left."""
    is_left = (
        job._options.run_if == "failed"
        and not job._options.forever
        and job._state is JobState.IDLE
    )
    return is_left and run.fate.cancel_reason in (
        StopReason.CRITICAL,
        StopReason.TIMEOUT,
    )


def needs_clean_up(run: Run) -> bool:
    return any(may_clean_up(run, job) for job in run.scheduler)


def will_not_start(run: Run, job: AnyJob, member: AnyJob) -> bool:
    """Return whether a run that drains or stops without another attempt will not reach a job in a member any more."""
    levels = (run.scheduler, *enclosing_schedulers(run.scheduler))
    retries = [level._options.retry for level in levels]
    may_come = may_clean_up(run, member) or (
        run.fate.reason is not StopReason.DRAINED and any(retries)
    )
    return job._state is JobState.IDLE and not may_come


class CleanUp(Crew):
    """The clean-up phase of a run: a crew of its own, shielded from the end of the run, with a deadline."""

    is_clean_up = True

    def __init__(self, run: Run) -> None:
        super().__init__(run, Line(run, None, behind=run.line))
        self.deadline: Final = run.deadline_in(run.scheduler.cleanup_timeout)
        self.bounded_by = self
        self.group = run.backend.isolation.group_class(
            run.backend, self.deadline, run.context, run.group.variables
        )
        jobs = [job for job in run.scheduler if may_clean_up(run, job)]
        self._jobs: Final = {job: run.members.all_requirements(job) for job in jobs}

    async def execute(self) -> None:
        """Run the clean-up jobs, and return when they have settled."""
        run = self.run
        run.open_crew = self
        try:
            await self.group.run(self._wait_until_settled)
        finally:
            # Also if asyncio cancels all tasks of the loop.
            self.stop()
            run.open_crew = run.crew
            self.detach()

    async def _wait_until_settled(self) -> None:
        """Start the jobs, and wait for all of them. At the deadline, cancel the jobs that still run."""
        run = self.run
        self.start(self._jobs)
        stop_timer = None
        if self.deadline != math.inf:
            stop_timer = run.call_at(self.deadline, self.stop)
        with run.backend.create_scope() as scope:
            # At the deadline, only the jobs are cancelled.
            scope.shield = True
            try:
                while self.alive or self._backoff_until() < math.inf:
                    if not await run.wait_for_change(self._backoff_until()):
                        # asyncio cancels all tasks of the loop.
                        self.stop()
                    run.call_parts()
                    self.ensure_searcher()
            finally:
                if stop_timer is not None:
                    stop_timer()
        # A forever job that settles from now on starts no other.
        self.is_closed = True

    def _backoff_until(self) -> float:
        backoffs = self.run.part(BackoffTimer)
        if backoffs is None:
            return math.inf
        return backoffs.due_at()

    def stop(self, reason: StopReason = StopReason.TIMEOUT) -> None:
        """Cancel the jobs that run, and keep the others from starting."""
        self.is_closed = True
        for nested in self.cancel():
            nested.stop(StopReason.CANCELLED)
        _steps.settle_apart(self.run, [*self.line.drain(), *drain_backoffs(self.run)])
        self.run.wake()

    def start(self, jobs: Iterable[AnyJob]) -> None:
        """Start the clean-up jobs among these that wait for no others and may run. After the deadline, start none.

        Their requirements are looked at anew, because nothing is counted down while a run stops.
        """
        if self.is_closed or self.group.is_cancelled():
            return
        if self.run.clock() >= self.deadline:
            return
        for job in jobs:
            requirements = self._jobs.get(job)
            if requirements is None or any(each._holds_back() for each in requirements):
                continue
            verdict, _ = _requirements.decide(job)
            if verdict is JobState.SCHEDULED:
                _steps.schedule(self.run, (job,))
        self.ensure_searcher()
