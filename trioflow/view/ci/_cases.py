"""What became of each job of a run, as a case of a test suite: noted when it settles, as it may be dropped then."""

from __future__ import annotations

import os
import time
import traceback
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from ..._core.api import RequirementFailed
from ..._core.api.views import (
    AnyJob,
    BaseScheduler,
    Instrument,
    JobState,
    StopReason,
    current_run,
    failed_through_member,
    failure_of,
    file_path,
    headline,
    is_scheduler,
    outwards,
    paths_of,
    runs_commands,
    warn,
)
from ..text import _counts, _short_values, _user_traceback
from ..text._verdict import Verdict, culprit_of, verdict

MOST_OUTPUT: Final = 1 << 16
"""Bytes at the end of each output of a failed command that are kept; CI systems refuse files of many MB."""


@dataclass(frozen=True, slots=True)
class Case:
    """One job that is not a scheduler, or a scheduler that failed by itself."""

    path: str
    name: str
    suite: str
    """The labels of the schedulers that it is in, from the outermost one."""
    state: JobState
    forever: bool
    seconds: float
    restored: bool = False
    error: BaseException | None = None
    trace: str = ""
    is_scheduler: bool = False
    place: tuple[str, int] | None = None
    """The file of the user, and the line, where it failed."""
    stdout: str = ""
    stderr: str = ""

    @property
    def counted(self) -> JobState | str:
        """Its state, or "background"; see `_counts`."""
        return _counts.state_of(self.state, self.forever)

    @property
    def said(self) -> str:
        """The exception in a line, without what it quotes of an output."""
        return "" if self.error is None else _short_values.headline_of(self.error, 300)

    def outputs(self) -> Iterator[tuple[str, str]]:
        """Yield what it has written, each with its name."""
        for name, text in (("output", self.stdout), ("standard error", self.stderr)):
            if text.strip():
                yield name, text

    @property
    def why_not(self) -> str:
        """Why it has not run, or not to its end; "" if it has."""
        if self.state is JobState.BLOCKED:
            error = self.error
            return (
                f"not run, because {error.requirement.label!r} did not succeed"
                if isinstance(error, RequirementFailed)
                else "not run"
            )
        if self.counted == _counts.BACKGROUND:
            return ""
        return {
            JobState.SKIPPED: "it did not have to run",
            JobState.CANCELLED: "cancelled",
            JobState.IDLE: "never started: the run ended before",
            JobState.SCHEDULED: "never started: the run ended before",
        }.get(self.state, "")


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    label: str
    verdict: Verdict
    tally: _counts.Tally
    cases: tuple[Case, ...]
    began: float
    """The time of day."""
    seconds: float

    def failures(self) -> list[Case]:
        """Return those that failed, in the order in which they settled."""
        return [case for case in self.cases if case.state is JobState.FAILED]


class CiReport(Instrument):
    """Notes what becomes of the jobs of a run, and writes a file when the outermost run has ended.

    A file that cannot be written is told in the log, and the run goes on; `is_written` tells it, too.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final[str] = os.path.abspath(file_path(path, "path", f"{type(self).__name__}()"))
        self.is_written: bool = False
        self._root: BaseScheduler | None = None
        self._cases: Final[dict[AnyJob, Case]] = {}
        self._clock = time.monotonic
        self._began = self._clock_began = 0.0

    def __repr__(self) -> str:
        """Show the path."""
        return f"<{type(self).__name__} to {self.path!r}>"

    @abstractmethod
    def _write(self, report: Report) -> None:
        """Write the file."""

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Begin with the outermost run."""
        if self._root is None or current_run(self._root) is None:
            run = current_run(scheduler)
            assert run is not None
            self._root = scheduler
            self._cases.clear()
            self.is_written = False
            self._clock = run.clock
            self._began, self._clock_began = time.time(), run.clock()

    def job_finished(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Note how a job ended."""
        if is_scheduler(job) and (job.state is not JobState.FAILED or failed_through_member(job)):
            return
        path, suite = ("", "") if scheduler.keep_jobs else (job.path, self._suite(job))
        self._cases[job] = _case(job, path, suite)

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Write the file."""
        if scheduler is not self._root:
            return
        try:
            self._write(self._report(scheduler, self._clock() - self._clock_began))
            self.is_written = True
        except OSError as error:
            warn(f"{self!r} cannot be written", error)
        finally:
            self._root = None
            self._cases.clear()

    def _suite(self, job: AnyJob) -> str:
        return "/".join(reversed([one.label for one in outwards(job)]))

    def _report(self, root: BaseScheduler, seconds: float) -> Report:
        paths = paths_of(root)
        for job in root.iterate_jobs():
            if job not in self._cases and not is_scheduler(job):
                self._cases[job] = _case(job, "", "")
        cases: list[Case] = []
        for job, case in self._cases.items():
            if not case.path:
                case = replace(case, path=paths.get(job, job.label), suite=self._suite(job))
            cases.append(case)
        failures = sum(case.state is JobState.FAILED for case in cases)
        tally = _counts.Tally((case for case in cases if not case.is_scheduler), failures)
        found = verdict(root.stop_reason or StopReason.INTERRUPTED, tally, seconds, culprit_of(root))
        return Report(root.label, found, tally, tuple(cases), self._began, seconds)


def _case(job: AnyJob, path: str, suite: str) -> Case:
    started, finished = job.started_at, job.finished_at
    seconds = finished - started if started is not None and finished is not None else 0.0
    failure = failure_of(job)
    if failure is None or job.state is not JobState.FAILED:
        return Case(path, job.label, suite, job.state, job.forever, seconds, job.restored, job.raised_exception())
    trace = _user_traceback.formatted(failure.exception, failure.traceback)
    command: Any = job if runs_commands(job) and not job.redact else None  # output may quote what is secret
    result = None if command is None else command.last_result
    output, error = _end(result, "stdout"), _end(result, "stderr")
    return Case(
        path, job.label, suite, job.state, job.forever, seconds, False, failure.exception,
        _without_output(trace, _short_values.message(failure.exception), output, error),
        is_scheduler(job), _place(failure.traceback), output, error,
    )  # fmt: skip


def _without_output(trace: str, message: str, *outputs: str) -> str:
    """Return a traceback without the end of an output that its exception quotes, if that output is told by itself."""
    last = message.rstrip().rpartition("\n")
    is_told = last[1] and any(text.rstrip().endswith(last[2]) for text in outputs)
    return trace.replace(message, headline(message)) if is_told else trace


def _place(frames: Any) -> tuple[str, int] | None:
    """Return where the user's code failed: the innermost frame below the directory that this program runs in."""
    here = os.path.join(os.getcwd(), "")
    found = [(os.path.abspath(one.filename), one.lineno or 1) for one in traceback.extract_tb(frames)]
    for name, line in reversed(found):
        if name.startswith(here) and "site-packages" not in name and not name.startswith(_user_traceback.OURS):
            return name.removeprefix(here), line
    return None


def _end(result: Any, stream: str) -> str:
    """Return the end of an output, with a word of what was cut, if it was captured."""
    try:
        file = result.open(stream)
    except (AttributeError, ValueError):  # there was no process, or it was not captured
        return ""
    with file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST_OUTPUT))
        text: str = file.read().decode(errors="backslashreplace")
    return f"[{size - MOST_OUTPUT} bytes before this are left out]\n{text}" if size > MOST_OUTPUT else text
