"""`Follower`: shows a run on a monitor from its file of events."""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ..._core.api.views import JobState, StopReason, WaitCause, Waiting
from ..monitor._model import Model
from ..monitor._monitor import Monitor
from ..monitor._records import JobRecord, SchedulerRecord, Source
from . import _format as f

POLL_INTERVAL: Final = 0.1
"""Seconds between two polls for new lines: Python has no portable notification that a file has grown."""
READ_SIZE: Final = 1 << 16


class BadEvents(Exception):
    """The events have an unsupported version; the text names it."""


def read_lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield the lines of a file or a pipe, and None each time a file has no further whole line yet.

    The iterator ends at the end of a pipe; for a file, it never ends.
    """
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    partial = b""
    while True:
        piece = os.read(descriptor, READ_SIZE)
        if piece:
            *whole, partial = (partial + piece).split(b"\n")
            yield from whole
        elif is_file:
            yield None
        else:
            return


class JobIdentity(NamedTuple):
    """The path and the label of a job whose events are read from a file."""

    path: str
    label: str


class Follower(Source):
    """A source of a monitor that replays the events of a run, line by line.

    Args:
        monitor: the monitor that shows the run.

    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor: Final = monitor
        self._model: Model | None = None  # present while the run is shown
        self._root: SchedulerRecord | None = None
        self._jobs: Final[dict[str, JobRecord]] = {}
        self._requires: Final[dict[JobRecord, list[str]]] = {}
        self._is_live = False  # whether all lines so far have been read, and the run goes on
        self._latest = 0.0  # the time of the latest event
        self._offset = 0.0
        self._process: tuple[int | None, str | None] = None, None  # id and host
        self.ended = False
        self.known_events = 0
        """The number of lines that are known events."""
        self.missing_lines = 0
        """The number of lines that the file lacks, compared with the count in its last line."""
        self._lines = 0  # the number of lines of this run, counted as in `RunEnded.lines`

    # ---- the interface

    def feed(self, line: bytes) -> None:
        """Replay the next line; skip it if it is not a known event.

        Raises:
            BadEvents: the event has another version.

        """
        try:
            event = f.decode(line)
        except msgspec.DecodeError:  # the base class of ValidationError
            self._check_version(line)
            return
        self.known_events += 1
        starts = isinstance(event, f.RunStarted) and not event.path
        self._latest = event.at if starts else max(self._latest, event.at)
        self._offset = event.time - event.at
        self._lines = 0 if starts else self._lines
        ends = isinstance(event, f.RunEnded) and not event.path
        self._lines += not (ends or isinstance(event, (f.JobWaiting, f.JobProgress, f.LinesDropped)))
        if self._root is None and not starts:  # the first line is missing
            self._root = SchedulerRecord(JobIdentity("", "run"), None)
        if not isinstance(event, (f.RunStarted, f.JobAdded)) or (event.path and isinstance(event, f.RunStarted)):
            self._start_monitor()
        HANDLERS[type(event)](self, event)

    def catch_up(self) -> None:
        """Show the run, and let its clock advance: all lines so far have been read."""
        self._start_monitor()
        self._is_live = not self.ended

    def is_abandoned(self) -> bool:
        """Return whether the run has not ended, although its process on this machine has."""
        pid, host = self._process
        if self.ended or pid is None or host != socket.gethostname():
            return False
        if sys.platform == "win32":  # os.kill(pid, 0) would end it
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def close(self) -> None:
        """Draw the last picture, and release the terminal."""
        self._is_live = False
        if self._model is not None:
            self._model.end()
            self._model = None

    def _check_version(self, line: bytes) -> None:
        """Raise `BadEvents` if a line is an event of another version."""
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        if "event" in fields and fields.get("v") != 1:
            raise BadEvents(f"its events have version {fields.get('v')!r}, and this trioflow reads version 1")

    def _start_monitor(self) -> None:
        """Start the monitor once all jobs have been read."""
        if self._root is not None and self._model is None and not self.ended:
            self._model = self._monitor._watch(self._root, self)

    def _find_job(self, path: str) -> JobRecord:
        """Return a job by its path; create a placeholder if the `job_added` event was dropped."""
        job = self._jobs.get(path)
        if job is None:
            assert self._root is not None
            job = self._jobs[path] = JobRecord(JobIdentity(path, path), self._root)
            self._add_job(self._root, job)
        return job

    def _add_job(self, outer: SchedulerRecord, job: JobRecord) -> None:
        outer.add(job)
        if self._model is not None:
            self._model.add(job)

    def _find_scheduler(self, path: str) -> SchedulerRecord | None:
        scheduler = self._jobs.get(path) if path else self._root
        return scheduler if isinstance(scheduler, SchedulerRecord) else None

    # ---- queries by the monitor

    @property
    def window(self) -> int | None:  # type: ignore[override]
        """The number of slots of the outermost scheduler."""
        return None if self._root is None else self._root.window

    def clock(self) -> float:
        """Return the current time on the clock of a run in progress, otherwise the time of its latest event."""
        return max(self._latest, time.time() - self._offset) if self._is_live else self._latest

    def time_of_day(self) -> float:
        """Return the time of day that corresponds to `clock`."""
        return self._offset + self.clock()

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the jobs of its scheduler that must settle before a job may start."""
        return [self._jobs[path] for path in self._requires.get(job, ()) if path in self._jobs]

    # ---- the events

    def run_started(self, event: f.RunStarted) -> None:
        """Begin a run."""
        if not event.path:
            self._jobs.clear()
            self._requires.clear()
            self._root = SchedulerRecord(JobIdentity("", event.label), None)
            self._root.window = event.window
            self._process = event.pid, event.host
            self._model, self._is_live, self.ended = None, False, False
            return
        nested = self._find_job(event.path)
        if isinstance(nested, SchedulerRecord) and self._model is not None:
            nested.window = event.window
            if not self._model.tallies[nested].is_fresh:
                for job in nested.iterate_jobs():
                    job.forget_run()
                self._model.begin_nested(nested)

    def job_added(self, event: f.JobAdded) -> None:
        """Add a job to its scheduler."""
        outer = self._find_scheduler(event.inside)
        if outer is None:
            return
        job = self._jobs.get(event.path)
        is_new = job is None
        if job is None:
            kind = SchedulerRecord if event.scheduler else JobRecord
            job = self._jobs[event.path] = kind(JobIdentity(event.path, event.label), outer)
        job.forever, job.critical, job.is_service = event.forever, event.critical, event.service
        job.expected_duration, job.retry = event.expected, event.retry
        self._requires[job] = event.requires
        if is_new:
            self._add_job(outer, job)

    def job_scheduled(self, event: f.JobScheduled) -> None:
        """Mark a job as scheduled."""
        self._current_model().schedule(self._find_job(event.path))

    def job_waiting(self, event: f.JobWaiting) -> None:
        """Record what a job waits for."""
        self._find_job(event.path).waiting = Waiting(WaitCause(event.cause), event.resource, event.waiting_for)

    def job_started(self, event: f.JobStarted) -> None:
        """Mark a job as running."""
        self._current_model().start(self._find_job(event.path), event.at)

    def job_attempt(self, event: f.JobAttempt) -> None:
        """Record the number of the attempt."""
        self._current_model().start_attempt(self._find_job(event.path), event.attempt)

    def job_progress(self, event: f.JobProgress) -> None:
        """Record the progress of a job, unless it has settled by now."""
        job = self._find_job(event.path)
        if job.state is JobState.RUNNING:
            job.fraction_done, job.status = event.fraction, event.status

    def job_ready(self, event: f.JobReady) -> None:
        """Mark a service as ready."""
        self._current_model().mark_ready(self._find_job(event.path))

    def job_finished(self, event: f.JobFinished) -> None:
        """Record the outcome of a job."""
        job = self._find_job(event.path)
        job.attempts = event.attempts if job.started_at is not None else 0
        job.timed_out, job.restored, job.through_member = event.timed_out, event.restored, event.through_member
        job.error = None if event.exception is None else placeholder_exception(event.exception)
        self._current_model().finish(job, JobState(event.state), event.at)

    def run_ended(self, event: f.RunEnded) -> None:
        """End a run."""
        scheduler = self._find_scheduler(event.path)
        if scheduler is None:
            return
        scheduler.stop_reason = StopReason.INTERRUPTED if event.reason is None else StopReason(event.reason)
        scheduler.culprit = None if event.culprit is None else self._jobs.get(event.culprit)
        if scheduler is self._root:
            self.ended = True
            self.missing_lines = max(0, (event.lines or 0) - self._lines)
            if self._model is not None and event.jobs is not None:
                self._model.replace_counts(event.jobs, event.failures)
            self.close()

    def skip(self, event: f.Event) -> None:
        """Ignore an event that monitors do not show."""

    def _current_model(self) -> Model:
        assert self._model is not None
        return self._model


HANDLERS: Final[dict[type[f.Event], Callable[[Follower, Any], None]]] = {
    f.RunStarted: Follower.run_started,
    f.JobAdded: Follower.job_added,
    f.JobScheduled: Follower.job_scheduled,
    f.JobWaiting: Follower.job_waiting,
    f.JobStarted: Follower.job_started,
    f.JobAttempt: Follower.job_attempt,
    f.JobProgress: Follower.job_progress,
    f.JobReady: Follower.job_ready,
    f.JobFinished: Follower.job_finished,
    f.RunEnded: Follower.run_ended,
    f.IncidentEvent: Follower.skip,
    f.LinesDropped: Follower.skip,
}


def placeholder_exception(text: str) -> BaseException:
    """Return an exception that views print as the given text, like the original."""
    name, _, message = text.partition(": ")
    if not re.fullmatch(r"\w+", name):
        name, message = "Exception", text
    kind: Any = type(name, (Exception,), {})
    return kind(*([message] if message else []))  # type: ignore[no-any-return]
