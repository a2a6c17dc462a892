"""`Follower`: reads the events of a run from a file, and shows the run on a monitor."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ..._core.api.views import JobState, StopReason, Waiting
from ..monitor._model import RunModel
from ..monitor._monitor import Monitor
from ..monitor._records import JobRecord, RunSource, SchedulerRecord
from . import _format

POLL_INTERVAL: Final = 0.1
"""Seconds between two polls for new lines. Python has no portable function that waits until a file grows."""
READ_SIZE: Final = 1 << 16
UNCOUNTED_EVENTS: Final = frozenset({"job_waiting", "job_progress", "lines_dropped"})
"""The names of the events that `RunEnded.lines` does not count."""
MAX_TIME: Final = 253_402_300_000.0
"""The last time that is shown, in seconds since 1970: the year 9999 ends a day later. A foreign file may have any."""


class BadEvents(Exception):
    """A line of the file cannot be read. The message has the number of the line."""


class UnsupportedEventVersion(BadEvents):
    """An event in the file has a version of the format that is not supported. The message names the version."""


def read_lines(descriptor: int) -> Iterator[bytes | None]:
    """Yield the complete lines of a file or a pipe. Yield None whenever a file has no further complete line yet.

    For a pipe, the iterator stops when all writers have closed the pipe. For a file, it never stops.
    """
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    partial: list[bytes] = []  # the pieces of the last line, which are joined once
    while True:
        chunk = os.read(descriptor, READ_SIZE)
        if chunk:
            first, *others = chunk.split(b"\n")
            partial.append(first)
            if others:
                yield b"".join(partial)
                yield from others[:-1]
                partial = others[-1:]
        elif is_file:
            yield None
        else:
            return


class FollowedJob(NamedTuple):
    """A job whose events are read from a file: only its path and its label are known."""

    path: str
    label: str


class Follower(RunSource):
    """A reader that replays the events of a run, line by line, and answers the queries of the monitor that shows it.

    Args:
        monitor: the monitor that shows the run.

    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor: Final = monitor
        self._model: RunModel | None = None  # None unless the monitor shows a run in progress
        self._root: SchedulerRecord | None = None
        self._jobs_by_path: Final[dict[str, JobRecord]] = {}
        self._required_paths_by_job: Final[dict[JobRecord, list[str]]] = {}
        self._is_live = False  # whether the run is in progress, and all lines written so far have been read
        self._latest_event_at = 0.0  # in seconds since the run began
        self._wall_clock_offset = 0.0  # the time of day at which the run began, in seconds since 1970
        self._pid_and_host: tuple[int | None, str | None] = None, None
        self.has_ended = False
        self.known_event_count = 0
        self.missing_line_count = 0
        """The number of lines that are missing from the file, according to the count in its last line."""
        self._line_number = 0
        self._received_line_count = 0  # the number of lines of this run that `RunEnded.lines` counts

    # ---- the interface

    def replay_line(self, line: bytes) -> None:
        """Replay the next line. Ignore the line if it is not a known event.

        Raises:
            BadEvents: the line is not UTF-8, or is nested too deeply.
            UnsupportedEventVersion: the event has an unsupported version.

        """
        self._line_number += 1
        try:
            self._replay_line(line)
        except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
            what = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise BadEvents(f"line {self._line_number} cannot be read: {what}") from None

    def _replay_line(self, line: bytes) -> None:
        try:
            event = _format.decode(line)
        except msgspec.DecodeError:  # includes its subclass ValidationError
            self._count_unknown_event(line)
            return
        self.known_event_count += 1
        is_start = isinstance(event, _format.RunStarted) and not event.path
        if self.has_ended and not is_start:  # the file was edited: nothing can follow the end of a run but another one
            return
        self._latest_event_at = event.at if is_start else max(self._latest_event_at, event.at)
        self._wall_clock_offset = event.time - event.at
        self._received_line_count = 0 if is_start else self._received_line_count
        is_end = isinstance(event, _format.RunEnded) and not event.path
        self._received_line_count += not is_end and event.__struct_config__.tag not in UNCOUNTED_EVENTS
        if self._root is None and not is_start:  # the `run_started` line is missing
            self._root = SchedulerRecord(FollowedJob("", "run"), None)
        if not isinstance(event, (_format.RunStarted, _format.JobAdded)) or (
            event.path and isinstance(event, _format.RunStarted)
        ):
            self._start_monitor()
        replay = getattr(self, f"_replay_{event.__struct_config__.tag}", None)
        if replay is not None:  # monitors do not show incidents, nor how many lines were dropped
            replay(event)

    def start_live_clock(self) -> None:
        """Let the displayed clock advance. Call this after all lines written so far have been read."""
        self._start_monitor()
        self._is_live = not self.has_ended

    def is_abandoned(self) -> bool:
        """Return whether the run's process exited before the run ended.

        Return False if this is unknown: on Windows, or if the process is on another machine.
        """
        pid, host = self._pid_and_host
        if self.has_ended or pid is None or host != socket.gethostname():
            return False
        if sys.platform == "win32":  # on Windows, os.kill(pid, 0) would terminate the process
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
            self._model.run_ended(self.clock())
            self._model = None

    def _count_unknown_event(self, line: bytes) -> None:
        """Count a line that is no known event, if it is an event.

        Raises:
            UnsupportedEventVersion: the event has an unsupported version.

        """
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        if "event" not in fields:
            return
        self._received_line_count += fields["event"] not in UNCOUNTED_EVENTS
        if fields.get("v") != 1:
            raise UnsupportedEventVersion(
                f"its events have version {fields.get('v')!r}, but this trioflow reads version 1"
            )

    def _start_monitor(self) -> None:
        """Start the monitor if a run is in progress and the monitor does not show it yet."""
        if self._root is not None and self._model is None and not self.has_ended:
            self._model = self._monitor._show_run(self._root, self)

    def _find_job(self, path: str) -> JobRecord:
        """Return the record of the job with this path. If its `job_added` event was dropped, create a placeholder."""
        job = self._jobs_by_path.get(path)
        if job is None:
            assert self._root is not None
            job = self._jobs_by_path[path] = JobRecord(FollowedJob(path, path), self._root)
            self._add_job(self._root, job)
        return job

    def _add_job(self, scheduler: SchedulerRecord, job: JobRecord) -> None:
        scheduler.add_member(job)
        if self._model is not None:
            self._model.job_added(job)

    def _find_scheduler(self, path: str) -> SchedulerRecord | None:
        scheduler = self._jobs_by_path.get(path) if path else self._root
        return scheduler if isinstance(scheduler, SchedulerRecord) else None

    # ---- queries by the monitor

    @property
    def root_slot_count(self) -> int | None:  # type: ignore[override]
        """The number of slots of the outermost scheduler; None if there is no limit, or if the number is unknown."""
        return None if self._root is None else self._root.slot_count

    def clock(self) -> float:
        """Return the seconds since the run began, counted until now if the run is live, or until the latest event."""
        return (
            max(self._latest_event_at, time.time() - self._wall_clock_offset)
            if self._is_live
            else self._latest_event_at
        )

    def wall_clock_time(self) -> float:
        return min(max(0.0, self._wall_clock_offset + self.clock()), MAX_TIME)

    def required_members(self, job: JobRecord) -> list[JobRecord]:
        """Return the jobs that must settle before `job` may start."""
        return [
            self._jobs_by_path[path] for path in self._required_paths_by_job.get(job, ()) if path in self._jobs_by_path
        ]

    # ---- the events, by their names

    def _replay_run_started(self, event: _format.RunStarted) -> None:
        """Begin a new outermost run without any records, or begin the run of a nested scheduler."""
        if not event.path:
            self._jobs_by_path.clear()
            self._required_paths_by_job.clear()
            self._root = SchedulerRecord(FollowedJob("", event.label), None)
            self._root.slot_count = event.window
            self._pid_and_host = event.pid, event.host
            self._model, self._is_live, self.has_ended, self.began_at = None, False, False, 0.0
            return
        nested = self._find_job(event.path)
        if isinstance(nested, SchedulerRecord) and self._model is not None:
            nested.slot_count = event.window
            if not nested.counts.are_all_jobs_waiting:
                for job in nested.iterate_jobs():
                    job.reset_run_fields()
                self._model.nested_run_started(nested)

    def _replay_job_added(self, event: _format.JobAdded) -> None:
        """Add a job to its scheduler. If the scheduler already has the job, update its record."""
        scheduler = self._find_scheduler(event.inside)
        if scheduler is None:
            return
        job = self._jobs_by_path.get(event.path)
        is_new = job is None
        if job is None:
            record_class = SchedulerRecord if event.scheduler else JobRecord
            identity = FollowedJob(event.path, event.label)
            job = self._jobs_by_path[event.path] = record_class(identity, scheduler, event.forever)
        job.forever, job.is_critical, job.is_service = event.forever, event.critical, event.service
        job.expected_duration, job.retry, job.takes_slot = event.expected, event.retry, event.takes_slot
        job.is_first = event.first
        self._required_paths_by_job[job] = event.requires
        if is_new:
            self._add_job(scheduler, job)

    def _replay_job_scheduled(self, event: _format.JobScheduled) -> None:
        self._current_model().job_scheduled(self._find_job(event.path))

    def _replay_job_waiting(self, event: _format.JobWaiting) -> None:
        self._find_job(event.path).current_wait = Waiting(event.cause, event.resource, event.waiting_for)

    def _replay_job_started(self, event: _format.JobStarted) -> None:
        self._current_model().job_started(self._find_job(event.path), event.at)

    def _replay_job_attempt(self, event: _format.JobAttempt) -> None:
        self._current_model().job_retried(self._find_job(event.path), event.attempt)

    def _replay_job_progress(self, event: _format.JobProgress) -> None:
        job = self._find_job(event.path)
        if job.state is JobState.RUNNING:
            job.fraction_done, job.status = event.fraction, event.status

    def _replay_job_ready(self, event: _format.JobReady) -> None:
        self._current_model().job_ready(self._find_job(event.path))

    def _replay_job_finished(self, event: _format.JobFinished) -> None:
        job = self._find_job(event.path)
        outcome = event.outcome()
        job.take_outcome(
            outcome if job.started_at is not None else outcome._replace(attempts=0), event.error(), event.failure_kind
        )
        self._current_model().job_finished(job, event.state, event.at)

    def _replay_run_ended(self, event: _format.RunEnded) -> None:
        """Record the end of a run. If it was the outermost run, close the monitor."""
        scheduler = self._find_scheduler(event.path)
        if scheduler is None:
            return
        scheduler.stop_reason = StopReason.INTERRUPTED if event.reason is None else event.reason
        culprit = None if event.culprit is None else self._jobs_by_path.get(event.culprit)
        # The run of a nested scheduler has ended before, so its own culprit is known.
        scheduler.culprit = culprit.culprit or culprit if isinstance(culprit, SchedulerRecord) else culprit
        if scheduler is self._root:
            self.has_ended = True
            self.missing_line_count = max(0, (event.lines or 0) - self._received_line_count)
            self.began_at = 0.0 if event.seconds is None else event.at - event.seconds
            if self._model is not None and event.jobs is not None:
                self._model.replace_counts(event.jobs)
            self.close()

    def _current_model(self) -> RunModel:
        assert self._model is not None
        return self._model
