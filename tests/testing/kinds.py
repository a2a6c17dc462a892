"""`check_kind`, which checks that jobs of a kind do what trioflow and its users expect of every job."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import itertools
import logging.handlers
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
import anyio
from trioflow._core.admission._pools import Pool
from trioflow._core.base._states import JobState, StopReason
from trioflow._core.base._text_forms import short_repr
from trioflow._core.job._errors import JobNotDone, JobTimeout
from trioflow._core.job._function import Job, ref
from trioflow._core.job._job import AbstractJob, takes_slot
from trioflow._core.job._kind import JobKind
from trioflow._core.job._retry import Retry
from trioflow._core.words._job_queries import inputs_of
from trioflow._scheduler import First, Scheduler
from trioflow.abc import BackendName, incidents_of
from trioflow.jobs.posix._guard_script import list_pids, read_environment
from trioflow.journal._journal import Journal
from trioflow.view import listing
from trioflow.view._junit import JUnit
from trioflow.view.events._events import Events
from trioflow.view.trace._trace import Trace

GRACE: Final = 0.2
"""The number of seconds in which what a run has used may go away, such as the idle threads of anyio."""
MAX_RUNS: Final = 6
"""How often a scheduler runs until a run leaves nothing behind."""
MARK_VARIABLE: Final = "TRIOFLOW_CHECKED"


class Leftovers:
    """The threads, processes and open files that were not there before. Processes are found by a mark in their
    environment, and open files by their descriptors, where the system has `/proc`."""

    def __init__(self, mark: Mark) -> None:
        self._mark: Final = mark
        self._before: Final = self._look()

    def find(self) -> set[str]:
        """Return what is left when `GRACE` is over."""
        deadline = time.monotonic() + GRACE
        while left := self._look() - self._before:
            if time.monotonic() > deadline:
                return left
            gc.collect()  # closes files that only a reference cycle holds
            time.sleep(GRACE / 20)
        return left

    def _look(self) -> set[str]:
        threads = {
            f"the thread {t.name!r} ({t.native_id})"
            for t in threading.enumerate()
            if not _is_idle(t)
        }
        processes = {
            f"the process {pid} ({_command_line(pid)})" for pid in self._mark.find()
        }
        return threads | processes | _open_files()


class Mark:
    """A text in the environment of processes, by which they are found among those that there were not before."""

    def __init__(self) -> None:
        self.text: Final = uuid.uuid4().hex
        self._before: Final = (
            list_pids()
        )  # to read the environments of all takes longer than the run of a job

    def find(self) -> list[str]:
        found: list[str] = []
        scanned = self._before
        while (
            new := list_pids() - scanned
        ):  # again, because a daemon forks, and ends, while it is looked for
            found += [
                pid
                for pid in new
                if self.text.encode() in (read_environment(pid) or b"")
            ]
            scanned = scanned | new
        return found


@contextlib.contextmanager
def marked_environment() -> Generator[Mark]:
    """Mark the processes that are started meanwhile, and yield the mark."""
    mark = Mark()
    os.environ[MARK_VARIABLE] = mark.text
    try:
        yield mark
    finally:
        del os.environ[MARK_VARIABLE]


def _is_idle(thread: threading.Thread) -> bool:
    return thread.name.startswith(
        "Trio thread "
    )  # trio keeps it for ten seconds, and renames it while it works


def _command_line(pid: str) -> str:
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_text(errors="replace")
            .replace("\0", " ")
            .strip()
        )
    return ""


def _open_files() -> set[str]:
    found: set[str] = set()
    for path in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(
            OSError
        ):  # that of this very directory is closed by now
            found.add(f"the open file {path.name} ({path.readlink()})")
    return found


if TYPE_CHECKING:

    class JobMaker(Protocol):
        def __call__(self, **options: Any) -> AbstractJob[Any]: ...


MAX_WARNINGS: Final = 10_000
LIMIT: Final = 60.0
"""The number of seconds after which a run has failed that should have ended."""
SHORT_TIMEOUT: Final = 0.05


def check_kind(
    backend: BackendName,
    make_job: JobMaker,
    make_long_job: JobMaker,
    make_failing_job: JobMaker,
    restores: bool = True,
) -> None:
    """Check that the jobs of a kind do what is expected of every job.

    This runs such jobs alone, several at once, in windows, in pools, nested, as inputs, with a journal, and again; it
    cancels them, lets them time out, retries them, and runs them forever; it looks for tasks, threads, processes and
    open files that are left behind; and it passes the jobs to the views.

    Args:
        backend: where the jobs run.
        make_job: returns a new job that soon succeeds.
        make_long_job: returns a new job that works for long. Work that cannot be interrupted should take some 0.3 s.
        make_failing_job: returns a new job that soon fails each time that it is called.
        restores: whether a journal can store the result of `make_job()`, and restores an equal job, with an equal one.

    """
    with (
        marked_environment() as mark,
        captured_warnings(),
    ):  # of jobs that are meant to fail
        checks = KindChecks(backend, make_job, mark)
        for maker in (make_job, make_long_job, make_failing_job):
            checks.check_options(maker)
        checks.check_success()
        checks.check_outside_run()
        if restores:
            checks.check_journal()
        checks.check_interruptions(make_long_job)
        checks.check_failures(make_failing_job)


@contextlib.contextmanager
def captured_warnings() -> Generator[list[logging.LogRecord]]:
    """Collect the warnings and errors that the engine logs, which are not shown."""
    logger, collector = (
        logging.getLogger("trioflow"),
        logging.handlers.BufferingHandler(MAX_WARNINGS),
    )
    collector.setLevel(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield collector.buffer
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated


class KindChecks:
    """The checks of a kind on one backend. Each has a name, with which its error begins."""

    def __init__(self, backend: BackendName, make_job: JobMaker, mark: Mark) -> None:
        self._backend: Final[BackendName] = backend
        self._make_job: Final = make_job
        self._mark: Final = mark  # of the processes that are started

    def check_options(self, make_job: JobMaker) -> None:
        """Check that options are passed on, and that a new job can be shown."""
        options: dict[str, Any] = {
            "label": "checked", "timeout": 3600, "priority": 1, "critical": True, "keep_result": False, "log": False,
        }  # fmt: skip
        job = make_job(**options)
        for name, value in options.items():
            self._require(
                "options", job, f"the option {name}", getattr(job, name), value
            )
        job = make_job()
        self._require("a new job", job, "the state", job.state, JobState.IDLE)
        with contextlib.closing(Scheduler(job)) as scheduler:
            self._look_at(scheduler)

    # ---- successes

    def check_success(self) -> None:
        """Check two runs of one job, with views, and then those of several."""
        job = self._make_job()
        reader = _reader_of(job)
        scheduler = Scheduler(job, reader)
        latest: Any = None
        left: list[set[str]] = []
        for check in ("success", "a second run"):
            with (
                tempfile.TemporaryDirectory() as folder,
                captured_warnings() as records,
            ):
                path = Path(folder)
                trace, events = Trace(), io.StringIO()
                views = [trace, Events(events), JUnit(path / "junit.xml")]
                left.append(self._run(check, scheduler, instruments=views))
            self._require_success(check, job, reader)
            # What has come from outside, such as an answer, is told always.
            told = [
                incident.message
                for incident in incidents_of(scheduler)
                if incident.is_steering
            ]
            self._require(
                check,
                job,
                "what is logged",
                [record.getMessage() for record in records],
                told,
            )
            self._require(check, job, "the number of attempts", job.attempts, 1)
            states = [span.state for span in trace.spans if span.label == job.label]
            self._require(
                check,
                job,
                "the states of its spans in the trace",
                states,
                [JobState.SUCCEEDED],
            )
            self._require(
                check, job, "whether there are events", bool(events.getvalue()), True
            )
            self._look_at(scheduler)
            last_result = job.last_result if isinstance(job, JobKind) else None
            is_old = last_result is not None and last_result is latest
            self._require(
                check,
                job,
                "whether last_result is that of the first run",
                is_old,
                False,
            )
            latest = last_result
        self._require_nothing_left("success", job, scheduler, left)
        self._check_several(job)

    def _check_several(self, rerun_job: AbstractJob[Any]) -> None:
        """Check several jobs at once, in a window, and without `keep_result`; compare their results with another's."""
        jobs = [self._make_job() for _ in range(3)]
        readers = [_reader_of(job) for job in jobs]
        dropped = self._make_job(keep_result=False)
        in_turn = [
            self._make_job(needs={"unit": 1}) for _ in range(2) if takes_slot(dropped)
        ]
        late = (
            []
            if dropped.forever
            else [Job(_cancel, ref(job), required=job) for job in jobs]
        )
        pool = Pool(unit=2)
        dropped_reader = _reader_of(dropped)
        self._run(
            "several at once",
            Scheduler(
                Scheduler(*in_turn, jobs_window=1),
                *jobs,
                *readers,
                *late,
                dropped,
                dropped_reader,
                pool=pool,
            ),
        )
        for job, reader in zip(jobs, readers, strict=True):
            self._require_success("several at once", job, reader)
            error = _error_of(job.cancel)
            self._require(
                "a late cancel()",
                job,
                "what cancel() raises after the run",
                error,
                RuntimeError,
            )
        for other in late:
            raised = other.raised_exception()
            self._require(
                "a late cancel()",
                jobs[0],
                "what cancel() raises when it has settled",
                raised,
                None,
            )
        if all(_is_equal(job.result(), jobs[0].result()) for job in jobs):
            self._require_result("a second run", rerun_job, jobs[0].result())
        for job in in_turn:
            self._require(
                "jobs_window=1", job, "the state", job.state, JobState.SUCCEEDED
            )
        with_slots = [
            one
            for job in in_turn
            for one in (job if isinstance(job, Iterable) else [job])
        ]  # not schedulers
        times = [(job.started_at or 0.0, job.finished_at or 0.0) for job in with_slots]
        alone = all(
            first[1] <= second[0] for first, second in itertools.pairwise(times)
        )
        self._require(
            "jobs_window=1", rerun_job, "whether only one runs at a time", alone, True
        )
        self._require(
            "needs", rerun_job, "what the pool has after the run", pool.free, pool.total
        )
        self._require(
            "keep_result=False", dropped, "the state", dropped.state, JobState.SUCCEEDED
        )
        if dropped in inputs_of(dropped_reader):
            self._require(
                "keep_result=False",
                dropped,
                "what result() raises",
                _error_of(dropped.result),
                JobNotDone,
            )

    def check_outside_run(self) -> None:
        job = self._make_job()
        error: BaseException | None = None

        async def main() -> None:
            nonlocal error
            with anyio.fail_after(LIMIT):
                try:
                    await job.co_run()
                except Exception as raised:
                    error = raised

        anyio.run(main, backend=self._backend)
        if error is not None:
            self._require(
                "outside a run", job, "what co_run() raises", type(error), RuntimeError
            )

    def check_journal(self) -> None:
        jobs = [self._make_job(label="checked") for _ in range(2)]
        if jobs[0].forever:
            return
        with tempfile.TemporaryDirectory() as folder:
            for number, job in enumerate(jobs):
                self._run(
                    "a journal",
                    Scheduler(job),
                    journal=Journal(Path(folder) / "run.db"),
                )
                self._require(
                    "a journal", job, "the state", job.state, JobState.SUCCEEDED
                )
                self._require(
                    "a journal",
                    job,
                    "whether it was restored",
                    job.restored,
                    bool(number),
                )
        self._require_result("a journal", jobs[1], jobs[0].result())

    # ---- interruptions

    def check_interruptions(self, make_long_job: JobMaker) -> None:
        cases = [Interruption(how, make_long_job) for how in Interruption.ENDS]
        scheduler = Scheduler(
            *(Scheduler(case.scheduler, Job(case.cancel)) for case in cases)
        )
        left = [self._run("interruptions", scheduler) for _ in range(2)]
        for case in cases:
            job, how = case.job, case.how
            self._require(how, job, "the state", job.state, case.state)
            if case.state is JobState.FAILED:
                self._require(
                    how, job, "its exception", type(job.raised_exception()), JobTimeout
                )
            if case.state is JobState.SUCCEEDED:
                self._require(how, job, "the result", job.result(), None)
            self._require(
                how,
                job,
                "timed_out",
                job.timed_out,
                case.state is not JobState.CANCELLED,
            )
            if job.retry is not None:
                self._require(how, job, "the number of attempts", job.attempts, 2)
            if "scheduler" not in how:
                next_state = case.following.state
                self._require(
                    how,
                    job,
                    "the state of the next job in its slot",
                    next_state,
                    JobState.SUCCEEDED,
                )
            self._require(
                how,
                job,
                "what the pool has after the run",
                case.pool.free,
                case.pool.total,
            )
        self._look_at(scheduler)
        self._require_nothing_left("interruptions", cases[0].job, scheduler, left)
        self._check_cancel_scope(make_long_job())

    def _check_cancel_scope(self, job: AbstractJob[Any]) -> None:
        check = "a cancel scope around the run"

        async def cancel(scope: anyio.CancelScope) -> None:
            await _until_running(job)
            scope.cancel()

        self._run(check, Scheduler(job), cancel)
        self._require(check, job, "the state", job.state, JobState.CANCELLED)

    # ---- failures

    def check_failures(self, make_failing_job: JobMaker) -> None:
        failing, again, critical = (
            make_failing_job(),
            make_failing_job(retry=2),
            make_failing_job(critical=True),
        )
        reader, follower = (
            _reader_of(failing),
            Job(_pass_on, 1, required=failing, run_if="succeeded"),
        )
        stopped = Scheduler(critical, Job(critical.wait_settled))
        scheduler = Scheduler(
            failing,
            reader,
            follower,
            Scheduler(again, Job(again.wait_settled)),
            stopped,
        )
        self._run("a failure", scheduler)
        self._require("a failure", failing, "the state", failing.state, JobState.FAILED)
        self._require("a failure", failing, "the attempts", failing.attempts, 1)
        try:
            failing.result()
        except Exception as error:
            is_same = error is failing.raised_exception()
            self._require(
                "a failure",
                failing,
                "whether result() raises the job's exception",
                is_same,
                True,
            )
        blocked = [follower, reader] if failing in inputs_of(reader) else [follower]
        for job in blocked:
            what = "the state of a job that needs its success"
            self._require("a failure", failing, what, job.state, JobState.BLOCKED)
        self._look_at(scheduler)
        self._require("retry", again, "the state", again.state, JobState.FAILED)
        self._require(
            "retry", again, "the number of attempts with retry=2", again.attempts, 3
        )
        self._require(
            "critical",
            critical,
            "why the run stopped",
            stopped.stop_reason,
            StopReason.CRITICAL,
        )

    # ---- tools

    def _run(
        self,
        check: str,
        scheduler: Scheduler,
        meanwhile: Callable[[anyio.CancelScope], Coroutine[Any, Any, None]]
        | None = None,
        **options: Any,
    ) -> set[str]:
        """Run a scheduler; return what threads, processes and open files are left."""
        job = next(scheduler.iterate_jobs(nested=True))
        left_tasks: list[str] = []

        async def main() -> None:
            with anyio.move_on_after(LIMIT) as limit, anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    if meanwhile is not None:
                        group.start_soon(meanwhile, scope)
                    await scheduler.co_run(**options)
            if limit.cancelled_caught:
                unsettled = [
                    other
                    for other in scheduler.iterate_jobs(nested=True)
                    if other.state is JobState.CANCELLED
                ]
                self._fail(
                    check, unsettled[0], f"the run did not end within {LIMIT:g} s"
                )
            if self._backend == "asyncio":
                others = asyncio.all_tasks() - {asyncio.current_task()}
                left_tasks.extend(task.get_name() for task in others if not task.done())

        leftovers = Leftovers(self._mark)
        anyio.run(main, backend=self._backend)
        self._require(check, job, "the tasks that are left", left_tasks, [])
        return leftovers.find()

    def _require_nothing_left(
        self,
        check: str,
        job: AbstractJob[Any],
        scheduler: Scheduler,
        left: list[set[str]],
    ) -> None:
        """Run the scheduler again until a run leaves nothing: a pool that lasts may grow in some."""
        while all(left):
            if len(left) == MAX_RUNS:
                self._fail(
                    check,
                    job,
                    f"each run leaves something behind, the last one {', '.join(sorted(left[-1]))}",
                )
            left.append(self._run(check, scheduler))

    def _look_at(self, scheduler: Scheduler) -> None:
        job = next(iter(scheduler))
        label = job.label
        self._require("views", job, "whether the label has text", bool(label), True)
        scheduler.debrief(io.StringIO(), listing=True)
        is_listed = label.splitlines()[0][:10] in listing(scheduler, details=True)
        self._require(
            "views", job, "whether the listing shows the label", is_listed, True
        )
        self._require(
            "views",
            job,
            "whether there is a picture",
            bool(scheduler.graph().source),
            True,
        )
        scheduler.explain(job)

    def _require(
        self,
        check: str,
        job: AbstractJob[Any],
        what: str,
        found: object,
        wanted: object,
    ) -> None:
        if found != wanted:
            self._fail(
                check, job, f"{what} must be {_text(wanted)}, but is {_text(found)}"
            )

    def _require_success(
        self, check: str, job: AbstractJob[Any], reader: Job[Any]
    ) -> None:
        self._require(check, job, "the state", job.state, JobState.SUCCEEDED)
        self._require(
            check,
            job,
            "the state of a job that uses the result",
            reader.state,
            JobState.SUCCEEDED,
        )
        is_passed = reader.result() is job or _is_equal(
            reader.result(), job.result()
        )  # a scheduler itself is passed
        self._require(
            check, job, "whether another job gets the result", is_passed, True
        )

    def _require_result(
        self, check: str, job: AbstractJob[Any], wanted: object
    ) -> None:
        if not _is_equal(job.result(), wanted):
            self._require(check, job, "the result", job.result(), wanted)

    def _fail(self, check: str, job: AbstractJob[Any], text: str) -> None:
        error = job.raised_exception() if job.is_settled() else None
        state = (
            f"{job.state.name}, {type(error).__name__}: {error}"
            if error is not None
            else job.state.name
        )
        raise AssertionError(
            f"{check}: {text}, for {short_repr(job.label)} ({state}) on {self._backend}"
        ) from error


class Interruption:
    """A long job that is ended in one way, and another job that waits for its slot and its needs."""

    ENDS: Final[dict[str, tuple[JobState, dict[str, Any]]]] = {
        "job.cancel()": (JobState.CANCELLED, {}),
        "scheduler.cancel()": (JobState.CANCELLED, {}),
        "the scheduler's timeout": (JobState.CANCELLED, {}),
        "forever=True": (JobState.CANCELLED, {"forever": True}),
        "timeout": (JobState.FAILED, {"timeout": SHORT_TIMEOUT}),
        "timeout with retry": (
            JobState.FAILED,
            {"timeout": SHORT_TIMEOUT, "retry": Retry(1, first=0, on=JobTimeout)},
        ),
        "on_timeout='move_on'": (
            JobState.SUCCEEDED,
            {"timeout": SHORT_TIMEOUT, "on_timeout": "move_on"},
        ),
    }
    """The final state of the job, and its options."""

    def __init__(self, how: str, make_long_job: JobMaker) -> None:
        self.how: Final = how
        self.state, options = self.ENDS[how]
        self.job: Final = make_long_job(**options)
        self.following: Final = Job(self._follow, needs={"unit": 1})
        if not self.job.forever:
            self.job.needs = {"unit": 1}
        self.pool: Final = Pool(unit=1)
        timeout = SHORT_TIMEOUT if how == "the scheduler's timeout" else None
        self.scheduler: Final = Scheduler(
            self.job, self.following, jobs_window=1, pool=self.pool, timeout=timeout
        )

    async def cancel(self) -> None:
        if self.how.endswith(".cancel()"):
            await _until_running(self.job)
            (self.job if self.how == "job.cancel()" else self.scheduler).cancel()

    async def _follow(self) -> None:
        if self.how == "forever=True":
            await _until_running(self.job)
        elif self.job.forever:
            await self.job.wait_settled()


async def _until_running(job: AbstractJob[Any]) -> None:
    """Wait until a job has been running for a moment."""
    while not job.is_running() and not job.is_settled():  # noqa: ASYNC110 - the kind may not have an event
        await anyio.sleep(SHORT_TIMEOUT / 10)
    await anyio.sleep(SHORT_TIMEOUT)


async def _pass_on(value: Any) -> Any:
    return value


def _reader_of(job: AbstractJob[Any]) -> Job[Any]:
    is_group = isinstance(job, Scheduler) and not isinstance(job, First)
    return Job(_pass_on, ref(job) if is_group else job)


async def _cancel(job: AbstractJob[Any]) -> None:
    job.cancel()


def _error_of(function: Callable[[], object]) -> type[BaseException] | None:
    try:
        function()
    except Exception as error:
        return type(error)
    return None


def _is_equal(first: Any, second: Any) -> bool:
    """Return whether two values are equal; those that have no equality of their own need only have the same type."""
    equality: Any = type(first).__eq__
    if type(first) is not type(second):
        return False
    return (
        equality is object.__eq__
        or repr(first) == repr(second)
        or bool(first == second)
    )


def _text(value: object) -> str:
    return (
        value.__name__
        if isinstance(value, type)
        else str(getattr(value, "name", "")) or short_repr(value)
    )
