"""`Events`: an instrument that writes the events of a run as JSON lines, for other programs.

Decided in docs/decisions: 31-events.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final, Literal, final

from ..._core.base._logger import warn
from ..._core.base._text_forms import short_repr
from ..._core.job._job import AnyJob, is_scheduler, takes_slot
from ..._core.job._job_options import file_path
from ..._core.job._labels import PathCache
from ..._core.run._instruments import Instrument
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.scheduler._members import collect_dropped, iterate_schedulers
from ..._core.words import _explain, _job_queries, _run_view
from ..._core.words._outcome import outcome
from ..._hints import import_extra
from ..text import _failure_text, _verdict
from ._nonblocking_writer import NonBlockingWriter, PolledLine

if TYPE_CHECKING:
    from ._format import Event

MAX_POLLED_JOBS: Final = 200
"""The maximum number of waiting jobs, and also of running jobs, that each poll checks for changes."""
MAX_DROPPED: Final = 1000
"""The maximum number of dropped jobs that wait to be forgotten, which few do unless the hooks are no longer called."""

CommonFields = tuple[Literal[3], float, float, str]


@dataclass(slots=True)
class _PolledJob:
    """A job that is polled for changes that no hook reports."""

    path: str
    last_written_values: Any
    """The values in the latest event of the job: its `Waiting`, or its progress and status."""


@final
class Events(Instrument):
    """An instrument that writes the events of a run as they happen, each as a line of JSON, for other programs.

    Use it when another program follows the run, or reads it afterwards.

    Each line has the version of the format (`v`), the time of day (`time`, seconds since 1970), the seconds since the
    outermost run began (`at`), the job's path (`path`), the name of the event (`event`), and its details. For example,
    the details are the job's state, the number of the attempt, the exception as text, the resources granted to the job,
    or the reason why it waits. A run begins with a line for each job and its requirements. docs/looking/events.md has a
    table of the events, and `events.schema.json` beside this module is a JSON Schema.

    The run never waits for a reader. Complete lines are written within a twentieth of a second. Up to 1 MiB of lines
    are buffered for a slow reader. Further lines are dropped, and the next line says how many. The run returns when its
    last lines have been written. It gives up if the reader accepts nothing for two seconds, or not all of them within
    ten seconds. If the reader exits or the disk is full, no more lines are written, and the run goes on. No line
    contains anything that `redact=True` hides.

    Args:
        file: a path, or an open file. The first run with this object replaces the file at the path, and further runs
            append to it. The path may be a FIFO's, even if the FIFO has no reader yet.

    Attributes:
        is_written: whether the latest run has ended, and no error kept its lines from being written. A reader that
            exits, or that is too slow, is not an error.

    Raises:
        ModuleNotFoundError: msgspec is not installed. `pip install 'trioflow[events]'` installs it.
        TypeError: `file` is neither a path nor a file.

    Example:
        >>> import io, json
        >>> async def work(): ...
        >>> lines = io.StringIO()
        >>> Scheduler(Job(work, label="work"), instruments=[Events(lines)]).run()
        True
        >>> [json.loads(line)["event"] for line in lines.getvalue().splitlines()]
        ['run_started', 'job_added', 'job_scheduled', 'job_started', 'job_settled', 'run_ended']

    """

    def __init__(self, file: str | os.PathLike[str] | IO[str] | IO[bytes], /) -> None:
        import_extra("msgspec", "Events()", "events")
        target: Any = file
        if isinstance(file, (str, os.PathLike)):
            target = os.path.abspath(file_path(file, "file", "Events()"))
        elif not callable(getattr(file, "write", None)):
            raise TypeError(
                f"Events({short_repr(file)}): give a path, or a file that is open for writing"
            )
        from . import _format

        self._format: Final = _format
        self._target: Final = target
        self.is_written: bool = False
        self._had_earlier_run = False
        # The number of lines that hooks have written in this run, including dropped lines.
        self._line_count = 0
        # The fields below belong to the current run: `_begin_outermost_run` and `_finish_run` reset them.
        self._root: BaseScheduler | None = None
        self._writer: NonBlockingWriter | None = None
        self._clock = time.monotonic
        self._run_started_at = self._wall_clock_offset = 0.0
        self._path_caches: Final[dict[BaseScheduler, PathCache]] = {}
        # The dropped jobs whose paths are not forgotten yet.
        self._dropped_jobs: Final = deque[AnyJob](maxlen=MAX_DROPPED)
        # The number of `JobAdded` events written.
        self._written_job_counts: Final[dict[BaseScheduler, int]] = {}
        # The SCHEDULED jobs and the RUNNING jobs. Only hooks change these dicts.
        self._waiting_jobs: Final[dict[AnyJob, _PolledJob]] = {}
        self._running_jobs: Final[dict[AnyJob, _PolledJob]] = {}

    def __repr__(self) -> str:
        """Show the target: the file, or its path."""
        return f"<Events to {self._target!r}>"

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Write a `RunStarted` event, and a `JobAdded` event for each job of the outermost run.

        For a nested run, write `JobAdded` events only if the number of jobs has changed since they were written.
        """
        if self._root is not None and _run_view.current_run(self._root) is None:
            # The previous run crashed before it called `after_run`.
            self._finish_run()
        if self._root is None:
            self._begin_outermost_run(scheduler)
        elif scheduler not in self._path_caches:
            # The engine logs this error, and removes the instrument from the second run only.
            raise RuntimeError(
                f"{self!r} follows one run at a time: give {scheduler.label!r} its own Events()"
            )
        run = _run_view.current_run(scheduler)
        assert run is not None
        collect_dropped(scheduler, self._dropped_jobs)
        is_root = scheduler is self._root
        event = self._format.RunStarted(
            *self._common_fields(self._scheduler_path(scheduler)),
            scheduler.label,
            len(scheduler),
            window=run.window,
            adaptive=run.has_adaptive_window,
        )
        if is_root:
            event.pid = os.getpid()
            event.host = socket.gethostname()
        self._write_event(event)
        if is_root or self._written_job_counts[scheduler] != len(scheduler):
            self._write_added_jobs(scheduler)

    def _begin_outermost_run(self, root: BaseScheduler) -> None:
        """Open the file, and record the start time, for a new outermost run. If this fails, discard its lines."""
        run = _run_view.current_run(root)
        assert run is not None
        self._clock = run.clock
        self._run_started_at = run.clock()
        self._wall_clock_offset = time.time() - self._run_started_at
        self._path_caches[root] = PathCache(root)
        self._root = root
        self._line_count = 0
        self.is_written = False
        try:
            self._writer = NonBlockingWriter(
                self._target,
                warn,
                self._encode_dropped_count,
                self._poll_jobs,
                truncate=not self._had_earlier_run,
            )
        except OSError as error:
            warn(
                f"events cannot be written to {self._target!r}: {error.strerror or error}"
            )
        else:
            self._had_earlier_run = True

    def _write_added_jobs(self, top_scheduler: BaseScheduler) -> None:
        """Write a `JobAdded` event for each job of a scheduler, and of the schedulers nested in it."""
        for scheduler in iterate_schedulers(top_scheduler):
            durations = _job_queries.expected_durations(scheduler)
            for job in scheduler:
                self._write_added_job(scheduler, job, durations.get(job))
            self._written_job_counts[scheduler] = len(scheduler)

    def _write_added_job(
        self, scheduler: BaseScheduler, job: AnyJob, expected_duration: float | None
    ) -> None:
        path_cache = self._path_caches[scheduler]
        path = path_cache.path_of(job)
        if is_scheduler(job) and job not in self._path_caches:
            self._path_caches[job] = path_cache.nested(job)
        # Without those that have settled and that the scheduler has dropped.
        required = filter(
            scheduler.__contains__, _job_queries.all_requirements(scheduler, job)
        )
        required_paths = list(map(path_cache.path_of, required))
        self._write_event(
            self._format.JobAdded(
                *self._common_fields(path),
                job.label,
                type(job).__name__,
                self._scheduler_path(scheduler),
                required_paths,
                is_scheduler(job),
                _job_queries.is_service(job),
                job.forever,
                _job_queries.criticality(job),
                expected_duration,
                0 if job.retry is None else job.retry.times or 0,
                takes_slot(job),
                is_scheduler(job) and _job_queries.is_one_job(job),
            )
        )

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobAdded` event."""
        durations = _job_queries.expected_durations(scheduler, [job])
        self._write_added_job(scheduler, job, durations.get(job))
        self._written_job_counts[scheduler] += 1
        if is_scheduler(job):
            self._write_added_jobs(job)

    def job_scheduled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobScheduled` event."""
        path = self._path_caches[scheduler].path_of(job)
        self._waiting_jobs[job] = _PolledJob(path, None)
        self._running_jobs.pop(job, None)
        throttled = len(_job_queries.throttled_attempts(job))
        event = self._format.JobScheduled(*self._common_fields(path), throttled)
        self._write_event(event)

    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobStarted` event."""
        path = self._path_caches[scheduler].path_of(job)
        self._waiting_jobs.pop(job, None)
        self._running_jobs[job] = _PolledJob(path, (None, ""))
        granted = {
            name: "(redacted)" if job.redact and isinstance(need, str) else need
            for name, need in job.granted.items()
        }
        fields = self._common_fields(path, _job_queries.latest_start(job))
        self._write_event(self._format.JobStarted(*fields, granted))

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobRetried` event for each attempt after the first."""
        if job.attempts > 1:
            event = self._format.JobRetried(
                *self._job_fields(scheduler, job), job.attempts
            )
            for failed in _job_queries.failed_attempts(job)[-1:]:
                if failed.number == job.attempts - 1:
                    event.failed_at = failed.ended - self._run_started_at
                    event.exception = failed.error
            self._write_event(event)

    def service_ready(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `ServiceReady` event for a service."""
        self._write_event(self._format.ServiceReady(*self._job_fields(scheduler, job)))

    def job_settled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobSettled` event, which reports the outcome of a job."""
        self._waiting_jobs.pop(job, None)
        self._running_jobs.pop(job, None)
        state, started_at, finished_at, has_no_further_facts = _job_queries.end_facts(
            job
        )
        event = self._format.JobSettled(
            *self._job_fields(scheduler, job, finished_at), state
        )
        if not has_no_further_facts:
            facts = outcome(job)
            event.attempts = max(1, facts.attempts)
            event.timed_out = facts.timed_out
            event.moved_on = facts.moved_on
            event.restored = facts.restoration is not None
            event.restored_at = facts.restored_at
            event.through_member = facts.failed_through_member
            failure = facts.failure
            if failure is not None:
                event.exception = _exception_line(failure.exception)
                event.failure_kind = _failure_text.kind_text(job, failure)
            if started_at is not None and _job_queries.runs_commands(job):
                command: Any = job
                event.returncode = getattr(command.last_result, "returncode", None)
        self._write_event(event)
        # No later event needs the paths of these, and of the jobs nested in them.
        while self._dropped_jobs:
            dropped = self._dropped_jobs.popleft()
            path_cache = self._path_caches.get(dropped.scheduler)  # type: ignore[arg-type]
            if path_cache is not None:
                path_cache.forget(dropped)
            if is_scheduler(dropped):
                for nested in iterate_schedulers(dropped):
                    self._path_caches.pop(nested, None)
                    self._written_job_counts.pop(nested, None)

    def job_reopened(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write a `JobReopened` event, unless the run of the events is a nested run, and has ended."""
        self._waiting_jobs.pop(job, None)
        if self._root is not None:
            event = self._format.JobReopened(*self._job_fields(scheduler, job))
            self._write_event(event)

    def incident(
        self,
        scheduler: BaseScheduler,
        job: AnyJob | None,
        message: str,
        exception: BaseException | None,
    ) -> None:
        """Write an `IncidentEvent`, which reports e.g. an error that is not the outcome of a job."""
        # The job may be in a nested scheduler that never ran, and that the run of `scheduler` has shut down.
        path = self._scheduler_path(scheduler)
        if job is not None and job.scheduler is not None:
            path = self._path_caches[job.scheduler].path_of(job)
        event = self._format.IncidentEvent(
            *self._common_fields(path), message, _exception_line(exception)
        )
        self._write_event(event)

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Write a `RunEnded` event. For the outermost run, also flush the remaining lines."""
        culprit = scheduler.culprit
        event = self._format.RunEnded(
            *self._common_fields(self._scheduler_path(scheduler)),
            scheduler.stop_reason,
        )
        if culprit is not None:
            event.culprit = self._path_caches[scheduler].path_of(culprit)
        if scheduler is not self._root:
            self._write_event(event)
            return
        event.lines = self._line_count
        event.seconds = _verdict.run_seconds(scheduler)
        tally = _verdict.Tally.for_scheduler(scheduler)
        event.jobs = tally.counts_by_state()
        event.failures = tally.failure_count
        self._finish_run(self._format.encode(event))

    # ---- lines

    def _common_fields(self, path: str, at: float | None = None) -> CommonFields:
        """Return the first fields of an event: `v`, `time`, `at` and `path`. By default, it happens now."""
        if at is None:
            at = self._clock()
        return 3, at + self._wall_clock_offset, at - self._run_started_at, path

    def _job_fields(
        self, scheduler: BaseScheduler, job: AnyJob, at: float | None = None
    ) -> CommonFields:
        return self._common_fields(self._path_caches[scheduler].path_of(job), at)

    def _write_event(self, event: Event) -> None:
        self._line_count += 1
        # There is no writer if the file could not be opened.
        if self._writer is not None:
            self._writer.write_line(self._format.encode(event))

    def _scheduler_path(self, scheduler: BaseScheduler) -> str:
        enclosing = scheduler.scheduler
        if scheduler is self._root or enclosing is None:
            return ""
        return self._path_caches[enclosing].path_of(scheduler)

    def _encode_dropped_count(self, number: int) -> bytes:
        event = self._format.LinesDropped(*self._common_fields(""), number)
        return self._format.encode(event)

    def _poll_jobs(self) -> Iterator[PolledLine]:
        """Yield a line for each change of a job that no hook reports. The writer's thread calls this method."""
        # Hooks may change these dicts at any time. `dict.copy` is atomic. `list(d.items())` is not: the garbage
        # collector may interrupt it and switch to the thread of the hooks.
        for job, polled in islice(self._waiting_jobs.copy().items(), MAX_POLLED_JOBS):
            wait = _explain.waiting(job)
            if wait is None or not wait.text:
                continue
            is_so = partial(_is_known, self._waiting_jobs, job, polled)
            if wait != polled.last_written_values and is_so():
                polled.last_written_values = wait
                event = self._format.JobWaiting(
                    *self._common_fields(polled.path),
                    wait.text,
                    wait.cause,
                    wait.resource,
                )
                yield is_so, self._format.encode(event)
        for job, polled in islice(self._running_jobs.copy().items(), MAX_POLLED_JOBS):
            progress = _job_queries.fraction_done(job), _explain.get_status_text(job)
            is_so = partial(_is_known, self._running_jobs, job, polled)
            if progress != polled.last_written_values and is_so():
                polled.last_written_values = progress
                told = self._format.JobProgress(
                    *self._common_fields(polled.path), *progress
                )
                yield is_so, self._format.encode(told)

    def _finish_run(self, last_line: bytes = b"") -> None:
        """Write the last line of a run, and reset this object for the next run."""
        writer = self._writer
        self._writer = None
        self._root = None
        for known in (
            self._path_caches,
            self._written_job_counts,
            self._waiting_jobs,
            self._running_jobs,
        ):
            known.clear()
        self._dropped_jobs.clear()
        if writer is not None:
            writer.close(last_line)
            self.is_written = writer.error is None


def _is_known(known: dict[AnyJob, _PolledJob], job: AnyJob, polled: _PolledJob) -> bool:
    return known.get(job) is polled


def _exception_line(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return _failure_text.one_line_text(error, 1000)
