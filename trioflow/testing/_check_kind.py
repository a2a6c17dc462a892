"""`check_kind`, which checks that jobs of a kind do what trioflow and its users expect of every job."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging.handlers
import tempfile
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

import anyio

from .._core.api import AbstractJob, Job, JobState, JobTimeout, Pool, StopReason
from .._core.api.kinds import loop_running, short_repr
from .._core.api.views import inputs_of
from .._scheduler import Scheduler
from ..abc import BackendName
from ..journal._journal import Journal
from ..view.ci._junit import JUnit
from ..view.ci._summary import Summary
from ..view.events._events import Events
from ..view.trace._trace import Trace

if TYPE_CHECKING:

    class JobMaker(Protocol):
        """A function that makes a new job with these options."""

        def __call__(self, **options: Any) -> AbstractJob[Any]: ...


MAX_WARNINGS: Final = 10_000
LIMIT: Final = 60.0
"""The number of seconds after which a run has failed that should have ended."""
SHORT_TIMEOUT: Final = 0.05


def check_kind(
    make_job: JobMaker,
    *,
    make_long_job: JobMaker | None = None,
    make_failing_job: JobMaker | None = None,
    restores: bool = True,
) -> None:
    """Check that the jobs of a kind do what is expected of every job, on trio and on asyncio.

    This runs such jobs alone, in windows, in pools, nested, as inputs and with a journal; it cancels them, lets them
    time out, and retries them; and it passes them to the views. It takes a few seconds of real time, and needs the
    extra `journal`. Call it from a test.

    Args:
        make_job: returns a new job that soon succeeds. It must pass on its keyword arguments to the job, as options.
        make_long_job: returns a new job that works for one second or more, for cancellations and timeouts. Work that
            cannot be interrupted should take little more.
        make_failing_job: returns a new job that soon fails each time that it is called, for failures and retries.
        restores: whether a journal can store the result of `make_job()`, and restores an equal job.

    Raises:
        AssertionError: a job does something else. The text says what was expected, and on which backend.
        RuntimeError: an event loop is running in this thread.

    Example:
        >>> from trioflow.testing import check_kind
        >>> class Answering(AbstractJob):
        ...     async def co_run(self):
        ...         return 42
        >>> check_kind(Answering, restores=False)

    """
    if loop_running():
        raise RuntimeError("check_kind() starts event loops of its own: call it from a plain function")
    for backend in get_args(BackendName):
        checks = KindChecks(backend, make_job, make_long_job, make_failing_job)
        with captured_warnings():  # of jobs that are meant to fail
            checks.check_successes()
            if restores:
                checks.check_journal()
            if make_long_job is not None:
                checks.check_interruptions(make_long_job)
            if make_failing_job is not None:
                checks.check_failures(make_failing_job)


@contextmanager
def captured_warnings() -> Generator[list[logging.LogRecord]]:
    """Collect the warnings and errors that the engine logs, which are not shown."""
    logger, collector = logging.getLogger("trioflow"), logging.handlers.BufferingHandler(MAX_WARNINGS)
    collector.setLevel(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield collector.buffer
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated


class KindChecks:
    def __init__(
        self,
        backend: BackendName,
        make_job: JobMaker,
        make_long_job: JobMaker | None,
        make_failing_job: JobMaker | None,
    ) -> None:
        self._backend: Final[BackendName] = backend
        self._make_job: Final = make_job
        self._all_makers: Final = [maker for maker in (make_job, make_long_job, make_failing_job) if maker is not None]

    # ---- successes

    def check_successes(self) -> None:
        options: dict[str, Any] = {"label": "checked", "timeout": 3600, "priority": 1, "critical": True}
        for maker in self._all_makers:
            job = maker(**options)
            for name, value in options.items():
                self._expect(getattr(job, name) == value, f"option {name}={value!r} was not passed on to", job)
            self._check_idle(maker())
        with captured_warnings() as records:
            self._check_success()
        texts = [record.getMessage() for record in records]
        self._expect(not texts, f"the run of a job that succeeds logs {texts}, of", self._make_job())
        self._check_window()

    def _check_idle(self, job: AbstractJob[Any]) -> None:
        scheduler = Scheduler(job)
        self._expect(job.state is JobState.IDLE, "a new job must be IDLE, but is not:", job)
        self._look_at(scheduler)
        scheduler.close()

    def _check_success(self) -> None:
        job = self._make_job()
        reader = Job(_pass_on, job)
        scheduler = Scheduler(job, reader)
        result: Any = None
        for number in range(2):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder)
                trace, events = Trace(), io.StringIO()
                views = [trace, Events(events), JUnit(path / "junit.xml"), Summary(path / "summary.md")]
                self._run(scheduler, instruments=views)
            self._expect(job.state is JobState.SUCCEEDED, "a job of `make_job` must succeed, but did not:", job)
            self._expect(reader.state is JobState.SUCCEEDED, "another job cannot use the result of", job)
            if number:
                self._expect(type(job.result()) is type(result), "a second run has a result of another type, of", job)
            result = job.result()
            is_passed = reader.result() in (result, job)  # a scheduler is passed as it is
            self._expect(is_passed, "the argument of another job is not the result of", job)
            started, finished = job.started_at, job.finished_at
            in_order = started is not None and finished is not None and started <= finished
            self._expect(in_order and job.attempts == 1, "times or attempts are wrong, of", job)
            states = [span.state for span in trace.spans if span.label == job.label]
            self._expect(states == [JobState.SUCCEEDED], "the trace has not one span that succeeded, of", job)
            self._expect(bool(events.getvalue()), "there are no events, of", job)
            self._look_at(scheduler)
        scheduler.close()

    def _check_window(self) -> None:
        jobs = [self._make_job(needs={"unit": 1}) for _ in range(3)]
        if any(job.forever for job in jobs):
            return
        pool = Pool(unit=2)
        self._run(Scheduler(Scheduler(*jobs, jobs_window=1), pool=pool))
        for job in jobs:
            self._expect(job.is_succeeded(), "in a nested scheduler and a pool, this failed:", job)
        times = [(job.started_at or 0.0, job.finished_at or 0.0) for job in jobs]
        in_turn = all(first[1] <= second[0] for first, second in itertools.pairwise(times))
        self._expect(in_turn, "in a window of one slot, jobs must run one after another, but did not:", jobs[0])
        self._expect(pool.free == pool.total, "something of the pool was not given back after", jobs[0])

    # ---- interruptions

    def check_interruptions(self, make_long_job: JobMaker) -> None:
        for how in ("job.cancel()", "scheduler.cancel()", "a cancel scope around the run"):
            self._check_cancellation(make_long_job, how)
        job = make_long_job(timeout=SHORT_TIMEOUT)
        self._check_end(job, "a timeout must make a job FAILED with a JobTimeout, but not", JobState.FAILED)
        self._expect(isinstance(job.raised_exception(), JobTimeout) and job.timed_out, "no JobTimeout from", job)
        job = make_long_job(timeout=SHORT_TIMEOUT, on_timeout="move_on")
        self._check_end(job, "on_timeout='move_on' must make a job SUCCEEDED, but not", JobState.SUCCEEDED)
        self._expect(
            job.result() is None and job.timed_out, "after on_timeout='move_on', the result is not None, of", job
        )
        job = make_long_job()
        scheduler = Scheduler(job, timeout=SHORT_TIMEOUT)
        self._run(scheduler)
        self._expect(scheduler.stop_reason is StopReason.TIMEOUT, "no timeout of the scheduler ended", job)
        self._expect(job.state in (JobState.CANCELLED, JobState.IDLE), "a timeout of the scheduler did not cancel", job)

    def _check_end(self, job: AbstractJob[Any], text: str, state: JobState) -> None:
        """Check that a job ends in a state, with the next job waiting for its slot."""
        job.needs = {"unit": 1}
        following = Job(_pass_on, 1, needs={"unit": 1})
        pool = Pool(unit=1)
        scheduler = Scheduler(job, following, jobs_window=1, pool=pool)
        self._run(scheduler)
        self._expect(job.state is state, text, job)
        self._expect(following.is_succeeded(), "the next job did not get the slot and the needs of", job)
        self._expect(pool.free == pool.total, "something of the pool was not given back after", job)
        self._look_at(scheduler)

    def _check_cancellation(self, make_long_job: JobMaker, how: str) -> None:
        job = make_long_job()
        scheduler = Scheduler(job)

        async def cancel(scope: anyio.CancelScope) -> None:
            while not job.is_running():  # noqa: ASYNC110 - the kind may not have an event
                await anyio.sleep(SHORT_TIMEOUT / 10)
            await anyio.sleep(SHORT_TIMEOUT)
            if how == "job.cancel()":
                job.cancel()
            elif how == "scheduler.cancel()":
                scheduler.cancel()
            else:
                scope.cancel()

        self._run(scheduler, cancel)
        self._expect(job.state is JobState.CANCELLED, f"{how} must make a running job CANCELLED, but not", job)
        self._look_at(scheduler)

    # ---- failures

    def check_failures(self, make_failing_job: JobMaker) -> None:
        job = make_failing_job()
        reader, follower = Job(_pass_on, job), Job(_pass_on, 1, required=[job], run_if="succeeded")
        scheduler = Scheduler(job, reader, follower)
        self._run(scheduler)
        self._expect(job.state is JobState.FAILED, "a job of `make_failing_job` must fail, but did not:", job)
        try:
            job.result()
        except Exception as error:
            self._expect(error is job.raised_exception(), "`result()` raises another exception than that of", job)
        else:
            self._fail("`result()` does not raise the exception of", job)
        needs_success = [follower, reader] if job in inputs_of(reader) else [follower]
        blocked = all(other.state is JobState.BLOCKED for other in needs_success)
        self._expect(blocked, "jobs were not BLOCKED that need the success of", job)
        self._look_at(scheduler)
        job = make_failing_job(retry=2)
        if job.forever:
            self._run(Scheduler(job, Job(_pass_on, job)))
        else:
            self._check_end(job, "a job that fails at each attempt must be FAILED, but not", JobState.FAILED)
        self._expect(job.attempts == 3, f"with retry=2, there were {job.attempts} attempts, not 3, of", job)
        job = make_failing_job(critical=True)
        scheduler = Scheduler(job, Job(anyio.sleep, LIMIT))
        self._run(scheduler)
        self._expect(scheduler.stop_reason is StopReason.CRITICAL, "the run was not stopped by the failure of", job)

    # ---- journals

    def check_journal(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            results: list[Any] = []
            for number in range(2):
                job = self._make_job(label="checked")
                if job.forever:
                    return
                journal = Journal(Path(folder) / "run.db")
                self._run(Scheduler(job), journal=journal)
                results.append(job.result())
                if number:
                    self._expect(
                        bool(job.restored) and type(results[0]) is type(results[1]),
                        "a journal did not restore a job that had succeeded, with its result:",
                        job,
                    )

    # ---- tools

    def _run(
        self,
        scheduler: Scheduler,
        meanwhile: Callable[[anyio.CancelScope], Coroutine[Any, Any, None]] | None = None,
        **options: Any,
    ) -> None:
        left_tasks: list[str] = []

        async def main() -> None:
            with anyio.move_on_after(LIMIT) as limit, anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    if meanwhile is not None:
                        group.start_soon(meanwhile, scope)
                    await scheduler.co_run(**options)
            self._expect(not limit.cancelled_caught, f"a run did not end within {LIMIT:g} s:", next(iter(scheduler)))
            if self._backend == "asyncio":
                others = asyncio.all_tasks() - {asyncio.current_task()}
                left_tasks.extend(task.get_name() for task in others if not task.done())

        anyio.run(main, backend=self._backend)
        self._expect(not left_tasks, f"tasks are left ({', '.join(left_tasks)}) of", next(iter(scheduler)))

    def _look_at(self, scheduler: Scheduler) -> None:
        """Call the views that need no run."""
        job = next(iter(scheduler))
        label = job.label
        self._expect(bool(label), "the label is empty, of", job)
        label_text = label.splitlines()[0][:20]
        scheduler.debrief(io.StringIO(), listing=True)
        listing = scheduler.listing(details=True)
        self._expect(label_text[:10] in listing, "the listing does not show", job)
        self._expect(bool(scheduler.mermaid()), "there is no picture of", job)
        scheduler.explain(job)

    def _expect(self, holds: bool, text: str, job: AbstractJob[Any]) -> None:
        if not holds:
            self._fail(text, job)

    def _fail(self, text: str, job: AbstractJob[Any]) -> None:
        error = job.raised_exception() if job.is_settled() else None
        state = f"{job.state.name}, {type(error).__name__}: {error}" if error is not None else job.state.name
        raise AssertionError(f"{text} {short_repr(job.label)} ({state}), on {self._backend}") from error


async def _pass_on(value: Any) -> Any:
    return value
