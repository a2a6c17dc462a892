"""`Events`: an instrument that writes the events of a run as lines of JSON, for other programs."""

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
    end_of,
    expected_durations,
    failed_through_member,
    file_path,
    is_droppable,
    is_scheduler,
    is_service,
    nested_schedulers,
    runs_commands,
    shown,
    status_of,
    throttled,
    waiting,
    waits_for,
    warn,
)
from ..text import _exception_text, _verdict
from ._nonblocking_writer import NonBlockingWriter

if TYPE_CHECKING:
    from ._format import Event

LONGEST_TEXT: Final = 1000
"""Characters kept of an exception; the debrief has all of it."""
MAX_LOOKS: Final = 200
"""Number of jobs polled each time for changes that have no event."""


@dataclass(slots=True)
class _Told:
    """A job that may change without an event: its path, and the facts written last."""

    path: str
    last: Any


@final
class Events(Instrument):
    """Writes the events of a run as they happen, one JSON object per line, for programs that collect or show them.

    Each line has the version of the format (`v`), the time of day (`time`, seconds since 1970), the seconds since the
    outermost run began (`at`), the job's path (`path`), the event (`event`), and what belongs to it: its state, the
    number of its attempt, its exception as text, what it was granted, what it waits for. A run begins with a line for
    each job and what it requires. docs/looking/events.md has a table of the events, and `events.schema.json` beside
    this module is a JSON Schema. `trioflow monitor FILE` shows a run from its lines.

    The run never waits for a reader. Lines are whole. They are written within a twentieth of a second; up to 1 MiB of
    them wait for a slow reader in memory, then lines are dropped, and the next one says how many. At the end of the
    run, the last lines are written before it returns, unless no reader takes any for two seconds. A reader that ends,
    or a full disk, ends the lines, not the run. What `redact=True` hides is in no line.

    Args:
        file: a path, whose file the first run begins anew and further runs of the same object append to; a FIFO, whose
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
            raise TypeError(f"Events({shown(file)}): give a path, or a file that is open for writing")
        from . import _format

        self._format: Final = _format
        self._encode: Final = _format.encode
        self._put: Callable[[bytes], None] = _nowhere
        self._target: Final = (
            os.path.abspath(file_path(file, "file", "Events()")) if isinstance(file, (str, os.PathLike)) else file
        )
        self._had_run = False
        self._lines = 0  # the lines that hooks have written in this run, including dropped ones
        self._root: BaseScheduler | None = None  # like what follows, there while a run is under way
        self._outlet: NonBlockingWriter | None = None
        self._clock = time.monotonic
        self._began = self._offset = 0.0
        self._names: Final[dict[BaseScheduler, PathCache]] = {}
        self._paths: Final[dict[AnyJob, str]] = {}
        self._members: Final[dict[BaseScheduler, int]] = {}  # how many of its jobs have been written
        self._waiting: Final[dict[AnyJob, _Told]] = {}  # SCHEDULED jobs; only hooks add and remove
        self._running: Final[dict[AnyJob, _Told]] = {}  # the same

    def __repr__(self) -> str:
        """Show the target of the lines."""
        return f"<Events to {self._target!r}>"

    # ---- hooks

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Write that a run begins; for the outermost run, write all jobs too."""
        if self._root is not None and current_run(self._root) is None:
            self._leave()  # it crashed before `after_run`
        if self._root is None:
            self._begin(scheduler)
        elif scheduler not in self._names:
            raise RuntimeError(
                f"{self!r} follows one run at a time: give {scheduler.label!r} an Events() of its own"
            )  # this run logs that and drops the instrument; the other run keeps it
        run = current_run(scheduler)
        assert run is not None
        is_root = scheduler is self._root
        self._line(
            self._format.RunStarted(
                *self._now(self._scheduler_path(scheduler)),
                scheduler.label,
                len(scheduler),
                window=run.window,
                adaptive=run.has_adaptive_window,
                pid=os.getpid() if is_root else None,
                host=socket.gethostname() if is_root else None,
            )
        )
        if is_root or self._members[scheduler] != len(scheduler):
            self._tell_jobs(scheduler)

    def _begin(self, root: BaseScheduler) -> None:
        run = current_run(root)
        assert run is not None
        self._clock = run.clock
        self._began = run.clock()
        self._offset = time.time() - self._began
        self._names[root] = PathCache(root)
        self._outlet = NonBlockingWriter(self._target, warn, self._dropped, self._changed, anew=not self._had_run)
        self._put = self._outlet.put
        self._root, self._had_run, self._lines = root, True, 0

    def _tell_jobs(self, outermost: BaseScheduler) -> None:
        todo = [outermost]
        while todo:
            scheduler = todo.pop()
            expected = expected_durations(scheduler)
            for job in scheduler:
                self._tell_job(scheduler, job, expected.get(job))
            self._members[scheduler] = len(scheduler)
            todo += nested_schedulers(scheduler)

    def _tell_job(self, scheduler: BaseScheduler, job: AnyJob, expected: float | None) -> None:
        names, paths = self._names[scheduler], self._paths
        path = paths[job] = names.of(job)
        if is_scheduler(job) and job not in self._names:
            self._names[job] = names.nested(job)
        now = self._clock()
        self._line(
            self._format.JobAdded(
                1,
                now + self._offset,
                now - self._began,
                path,
                job.label,
                type(job).__name__,
                "" if scheduler is self._root else paths[scheduler],
                [paths.get(requirement) or names.of(requirement) for requirement in waits_for(scheduler, job)],
                is_scheduler(job),
                is_service(job),
                job.forever,
                job.is_critical(),
                expected,
                job.retry if isinstance(job.retry, int) else 0,
            )
        )

    def job_added(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write that a job was added."""
        self._tell_job(scheduler, job, job.expected_duration)
        self._members[scheduler] += 1
        if is_scheduler(job):
            self._tell_jobs(job)

    def job_scheduled(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write that a job is ready to start."""
        path, now = self._paths[job], self._clock()
        self._waiting[job] = _Told(path, None)
        self._running.pop(job, None)
        self._line(self._format.JobScheduled(1, now + self._offset, now - self._began, path, len(throttled(job))))

    def job_started(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write that a job starts."""
        path = self._paths[job]
        self._waiting.pop(job, None)
        self._running[job] = _Told(path, (None, ""))
        at = job.started_at
        assert at is not None
        self._line(self._format.JobStarted(1, at + self._offset, at - self._began, path, dict(job.granted)))

    def job_attempt(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write that a further attempt begins."""
        if job.attempts > 1:
            self._line(self._format.JobAttempt(*self._now(self._paths[job]), job.attempts))

    def job_ready(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write that a service is ready."""
        self._line(self._format.JobReady(*self._now(self._paths[job])))

    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Write the outcome of a job."""
        self._waiting.pop(job, None)
        self._running.pop(job, None)
        state, started, at, is_all = end_of(job)
        if at is None:
            at = self._clock()
        event = self._format.JobFinished(1, at + self._offset, at - self._began, self._paths[job], state.value)
        if not is_all:
            command: Any = job if runs_commands(job) and started is not None else None
            result = None if command is None else command.last_result
            event.attempts = max(1, job.attempts)
            event.exception = _text(job.raised_exception())
            event.returncode = None if result is None else result.returncode
            event.timed_out = job.timed_out
            event.restored = job.restored
            event.through_member = failed_through_member(job)
        self._line(event)
        if is_droppable(scheduler, job):
            self._names[scheduler].forget(job)
            self._forget(job)

    def _forget(self, job: AnyJob) -> None:
        """Drop the paths of a settled job and of all jobs in it, which no later event needs."""
        todo = [job]
        while todo:
            dropped = todo.pop()
            self._paths.pop(dropped, None)
            if is_scheduler(dropped):
                self._names.pop(dropped, None)
                self._members.pop(dropped, None)
                todo += dropped

    def incident(
        self, scheduler: BaseScheduler, job: AnyJob | None, message: str, exception: BaseException | None
    ) -> None:
        """Write an incident that belongs to no job's outcome."""
        path = self._scheduler_path(scheduler) if job is None else self._paths[job]
        self._line(self._format.IncidentEvent(*self._now(path), message, _text(exception)))

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Write how a run ended; for the outermost run, flush the remaining lines."""
        reason, culprit = scheduler.stop_reason, scheduler.culprit
        event = self._format.RunEnded(
            *self._now(self._scheduler_path(scheduler)),
            None if reason is None else reason.value,
            None if culprit is None else self._paths[culprit],
        )
        if scheduler is not self._root:
            self._line(event)
            return
        event.lines = self._lines
        if scheduler.keep_jobs:
            tally = _verdict.Tally.for_scheduler(scheduler)
            event.jobs, event.failures = tally.by_state(), tally.failures
        self._leave(self._encode(event))

    # ---- lines

    def _now(self, path: str) -> tuple[Literal[1], float, float, str]:
        now = self._clock()
        return 1, now + self._offset, now - self._began, path

    def _line(self, event: Event) -> None:
        self._lines += 1
        self._put(self._encode(event))

    def _scheduler_path(self, scheduler: BaseScheduler) -> str:
        return "" if scheduler is self._root else self._paths[scheduler]

    def _dropped(self, number: int) -> bytes:
        return self._format.encode(self._format.LinesDropped(*self._now(""), number))

    def _changed(self) -> Iterator[bytes]:
        """Yield lines about jobs that have changed without an event; called outside the thread of the hooks."""
        # A copy: `list` of the items may let the collector run, and with it the other thread.
        for job, said in islice(self._waiting.copy().items(), MAX_LOOKS):
            if (wait := waiting(job)) and wait.text and wait != said.last and job in self._waiting:
                said.last = wait
                line = self._format.JobWaiting(*self._now(said.path), wait.text, wait.cause.value, wait.resource)
                yield self._format.encode(line)
        for job, said in islice(self._running.copy().items(), MAX_LOOKS):
            if (says := (job.fraction_done, status_of(job))) != said.last and job in self._running:
                said.last = says
                yield self._format.encode(self._format.JobProgress(*self._now(said.path), *says))

    def _leave(self, last: bytes = b"") -> None:
        """Write the last line, and reset for the next run."""
        outlet, self._outlet, self._root = self._outlet, None, None
        for kept in (self._names, self._paths, self._members, self._waiting, self._running):
            kept.clear()
        if outlet is not None:
            outlet.close(last)


def _text(error: BaseException | None) -> str | None:
    """Return the type and the message of an exception."""
    return None if error is None else _exception_text.one_line(error, LONGEST_TEXT)


def _nowhere(line: bytes) -> None:
    """Discard a line that comes while no run is under way."""
