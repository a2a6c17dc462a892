"""`Events`: an instrument that writes the events of a run as JSON lines, for other programs."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final, Literal, final

from ..._core.api.journals import PathCache
from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    Instrument,
    current_run,
    end_facts,
    expected_durations,
    failed_through_member,
    file_path,
    is_droppable,
    is_scheduler,
    is_service,
    nested_schedulers,
    runs_commands,
    short_repr,
    status_of,
    throttled_intervals,
    waiting,
    waits_for,
    warn,
)
from ..text import _exception_text, _verdict
from ._nonblocking_writer import NonBlockingWriter

if TYPE_CHECKING:
    from ._format import Event

MAX_EXCEPTION_TEXT: Final = 1000
"""The number of characters kept of an exception's text; the debrief has all of it."""
MAX_POLLED: Final = 200
"""The number of waiting jobs, and of running jobs, that each poll checks for changes without an event."""


@dataclass(slots=True)
class _PolledJob:
    """A job polled for changes that have no event: its path, and the values written last."""

    path: str
    last: Any


@final
class Events(Instrument):
    """An instrument that writes the events of a run as they happen, one JSON object per line, for other programs.

    Each line has the version of the format (`v`), the time of day (`time`, seconds since 1970), the seconds since the
    outermost run began (`at`), the job's path (`path`), the name of the event (`event`), and its details: for example
    the job's state, the number of the attempt, the exception as text, what the job was granted or what it waits for.
    A run begins with a line for each job and its requirements. docs/looking/events.md has a table of the events, and
    `events.schema.json` beside this module is a JSON Schema. `trioflow monitor FILE` shows a run from its events.

    The run never waits for a reader. Lines are written whole, within a twentieth of a second. Up to 1 MiB of them are
    buffered for a slow reader; further lines are dropped, and the next line has their number. The run returns when its
    last lines are written, or when the reader has taken none for two seconds. If the reader ends or the disk is full,
    no more lines are written, and the run goes on. No line has anything that `redact=True` hides.

    Args:
        file: a path; the first run with this object replaces the file, further runs append to it. Or a FIFO, whose
            reader may come later; or an open file.

    Raises:
        ModuleNotFoundError: msgspec is missing: `pip install 'trioflow[events]'`.
        TypeError: `file` is neither a path nor a file.

    Example:
        >>> import io, json
        >>> async def work(): ...
        >>> lines = io.StringIO()
        >>> Scheduler(Job(work, label="work"), instruments=[Events(lines)]).run()
        True
        >>> [json.loads(line)["event"] for line in lines.getvalue().splitlines()]
        ['run_started', 'job_added', 'job_scheduled', 'job_started', 'job_finished', 'run_ended']

    """

    def __init__(self, file: str | os.PathLike[str] | IO[str] | IO[bytes], /) -> None:
        if importlib.util.find_spec("msgspec") is None:
            raise ModuleNotFoundError(
                "Events() needs msgspec, which is not installed: pip install 'trioflow[events]'", name="msgspec"
            )
        if not isinstance(file, (str, os.PathLike)) and not callable(getattr(file, "write", None)):
            raise TypeError(f"Events({short_repr(file)}): give a path, or a file that is open for writing")
        from . import _format

        self._format: Final = _format
        self._encode: Final = _format.encode
        self._put: Callable[[bytes], None] = _discard
        self._target: Final = (
            os.path.abspath(file_path(file, "file", "Events()")) if isinstance(file, (str, os.PathLike)) else file
        )
        self._has_run = False
        self._lines = 0  # the lines that hooks have written in this run, including dropped ones
        # The fields below belong to the current run; `_finish` resets them.
        self._root: BaseScheduler | None = None
        self._writer: NonBlockingWriter | None = None
        self._clock = time.monotonic
        self._began = self._wall_offset = 0.0
        self._names: Final[dict[BaseScheduler, PathCache]] = {}
        self._paths: Final[dict[AnyJob, str]] = {}
        self._written_jobs: Final[dict[BaseScheduler, int]] = {}  # how many of its jobs have been written
        self._waiting: Final[dict[AnyJob, _PolledJob]] = {}  # SCHEDULED jobs; only hooks add and remove
        self._running: Final[dict[AnyJob, _PolledJob]] = {}  # RUNNING jobs; only hooks add and remove

    def __repr__(self) -> str:
        """Show the file or its path."""
        return f"<Events to {self._target!r}>"

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Write a `RunStarted` event; for the outermost run, also a `JobAdded` event for each job."""
        if self._root is not None and current_run(self._root) is None:
            self._finish()  # the previous run crashed before `after_run`
        if self._root is None:
            self._begin(scheduler)
        elif scheduler not in self._names:
            raise RuntimeError(
                f"{self!r} follows one run at a time: give {scheduler.label!r} an Events() of its own"
            )  # the engine logs this error and removes the instrument from this run; the other run keeps it
        run = current_run(scheduler)
        assert run is not None
        is_root = scheduler is self._root
        self._write_event(
            self._format.RunStarted(
                *self._header(self._scheduler_path(scheduler)),
                scheduler.label,
                len(scheduler),
                window=run.window,
                adaptive=run.has_adaptive_window,
                pid=os.getpid() if is_root else None,
                host=socket.gethostname() if is_root else None,
            )
        )
        if is_root or self._written_jobs[scheduler] != len(scheduler):
            self._write_jobs(scheduler)

    def _begin(self, root: BaseScheduler) -> None:
        """Reset the state, and open the file, for a new outermost run."""
        run = current_run(root)
        assert run is not None
        self._clock = run.clock
        self._began = run.clock()
        self._wall_offset = time.time() - self._began
        self._names[root] = PathCache(root)
        self._writer = NonBlockingWriter(
            self._target, warn, self._encode_dropped, self._poll_jobs, truncate=not self._has_run
        )
        self._put = self._writer.put
        self._root, self._has_run, self._lines = root, True, 0

    def _write_jobs(self, outermost: BaseScheduler) -> None:
        """Write the jobs of a scheduler and of those nested in it."""
        todo = [outermost]
        while todo:
            scheduler = todo.pop()
            expected = expected_durations(scheduler)
            for job in scheduler:
                self._write_job(scheduler, job, expected.get(job))
            self._written_jobs[scheduler] = len(scheduler)
            todo += nested_schedulers(scheduler)

    def _write_job(self, scheduler: BaseScheduler, job: AnyJob, expected: float | None) -> None:
        names, paths = self._names[scheduler], self._paths
        path = paths[job] = names.path_of(job)
        if is_scheduler(job) and job not in self._names:
            self._names[job] = names.nested(job)
        now = self._clock()
        self._write_event(
            self._format.JobAdded(
                1,
                now + self._wall_offset,
                now - self._began,
                path,
                job.label,
                type(job).__name__,
                "" if scheduler is self._root else paths[scheduler],
                [paths.get(requirement) or names.path_of(requirement) for requirement in waits_for(scheduler, job)],
                is_scheduler(job),
                is_service(job),
                job.forever,
                job.is_critical(),
                expected,
                job.retry if isinstance(job.retry, int) else 0,
            )
        )

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobAdded` event."""
        self._write_job(scheduler, job, job.expected_duration)
        self._written_jobs[scheduler] += 1
        if is_scheduler(job):
            self._write_jobs(job)

    def job_scheduled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobScheduled` event."""
        path, now = self._paths[job], self._clock()
        self._waiting[job] = _PolledJob(path, None)
        self._running.pop(job, None)
        self._write_event(
            self._format.JobScheduled(
                1, now + self._wall_offset, now - self._began, path, len(throttled_intervals(job))
            )
        )

    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobStarted` event."""
        path = self._paths[job]
        self._waiting.pop(job, None)
        self._running[job] = _PolledJob(path, (None, ""))
        at = job.started_at
        assert at is not None
        self._write_event(self._format.JobStarted(1, at + self._wall_offset, at - self._began, path, dict(job.granted)))

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobAttempt` event for a further attempt; the first one has none."""
        if job.attempts > 1:
            self._write_event(self._format.JobAttempt(*self._header(self._paths[job]), job.attempts))

    def job_ready(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobReady` event for a service."""
        self._write_event(self._format.JobReady(*self._header(self._paths[job])))

    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write the outcome of a job."""
        self._waiting.pop(job, None)
        self._running.pop(job, None)
        state, started, at, is_all = end_facts(job)
        if at is None:
            at = self._clock()
        event = self._format.JobFinished(1, at + self._wall_offset, at - self._began, self._paths[job], state.value)
        if not is_all:
            command: Any = job if runs_commands(job) and started is not None else None
            result = None if command is None else command.last_result
            event.attempts = max(1, job.attempts)
            event.exception = _exception_line(job.raised_exception())
            event.returncode = None if result is None else result.returncode
            event.timed_out = job.timed_out
            event.restored = job.restored
            event.through_member = failed_through_member(job)
        self._write_event(event)
        if is_droppable(scheduler, job):
            self._names[scheduler].forget(job)
            self._forget(job)

    def _forget(self, job: AnyJob) -> None:
        """Drop the paths of a settled job and of all jobs nested in it: no later event needs them."""
        todo = [job]
        while todo:
            dropped = todo.pop()
            self._paths.pop(dropped, None)
            if is_scheduler(dropped):
                self._names.pop(dropped, None)
                self._written_jobs.pop(dropped, None)
                todo += dropped

    def incident(
        self, scheduler: BaseScheduler, job: AnyJob | None, message: str, exception: BaseException | None
    ) -> None:
        """Write an incident that is not the outcome of a job."""
        path = self._scheduler_path(scheduler) if job is None else self._paths[job]
        self._write_event(self._format.IncidentEvent(*self._header(path), message, _exception_line(exception)))

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Write the end of a run; for the outermost run, flush the remaining lines."""
        reason, culprit = scheduler.stop_reason, scheduler.culprit
        event = self._format.RunEnded(
            *self._header(self._scheduler_path(scheduler)),
            None if reason is None else reason.value,
            None if culprit is None else self._paths[culprit],
        )
        if scheduler is not self._root:
            self._write_event(event)
            return
        event.lines = self._lines
        if scheduler.keep_jobs:
            tally = _verdict.Tally.for_scheduler(scheduler)
            event.jobs, event.failures = tally.by_state(), tally.failures
        self._finish(self._encode(event))

    # ---- lines

    def _header(self, path: str) -> tuple[Literal[1], float, float, str]:
        """Return the fields that every event begins with, as of now."""
        now = self._clock()
        return 1, now + self._wall_offset, now - self._began, path

    def _write_event(self, event: Event) -> None:
        self._lines += 1
        self._put(self._encode(event))

    def _scheduler_path(self, scheduler: BaseScheduler) -> str:
        return "" if scheduler is self._root else self._paths[scheduler]

    def _encode_dropped(self, number: int) -> bytes:
        return self._encode(self._format.LinesDropped(*self._header(""), number))

    def _poll_jobs(self) -> Iterator[bytes]:
        """Yield lines about jobs that have changed without an event; the writer's thread calls this."""
        # `copy` is atomic; `list(items())` may run the garbage collector, and so let the thread of the hooks go on.
        for job, polled in islice(self._waiting.copy().items(), MAX_POLLED):
            if (wait := waiting(job)) and wait.text and wait != polled.last and job in self._waiting:
                polled.last = wait
                event = self._format.JobWaiting(*self._header(polled.path), wait.text, wait.cause.value, wait.resource)
                yield self._encode(event)
        for job, polled in islice(self._running.copy().items(), MAX_POLLED):
            if (progress := (job.fraction_done, status_of(job))) != polled.last and job in self._running:
                polled.last = progress
                yield self._encode(self._format.JobProgress(*self._header(polled.path), *progress))

    def _finish(self, last: bytes = b"") -> None:
        """Write the last line of a run, and reset for the next one."""
        writer, self._writer, self._root = self._writer, None, None
        for state in (self._names, self._paths, self._written_jobs, self._waiting, self._running):
            state.clear()
        if writer is not None:
            writer.close(last)


def _exception_line(error: BaseException | None) -> str | None:
    """Return the type and the message of an exception on one line."""
    return None if error is None else _exception_text.one_line(error, MAX_EXCEPTION_TEXT)


def _discard(line: bytes) -> None:
    """Discard a line: no run is in progress."""
