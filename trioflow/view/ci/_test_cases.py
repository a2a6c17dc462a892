"""A finished run as test cases (`CiRun`), and the base class of the instruments for CI systems (`CiReport`)."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Final

from ..._core.api.views import BaseScheduler, JobState, StopReason, file_path, headline, warn
from .._state_styles import STATE_STYLES, recorded_state
from ..text import _exception_text, _verdict
from ..text._failure_text import MAX_HEADLINE_LENGTH, group_failures
from ..trace._event_recorder import EventRecorder
from ..trace._log_reader import build_record
from ..trace._record import TraceRecord
from ..trace._spans import Span, or_infinity

OUTPUT_NAMES: Final = {"stdout": "output", "stderr": "standard error"}
MAX_GRAPH_JOBS: Final = 2000
"""The maximum number of jobs in a summary with a graph. Drawing the graph takes 0.1 s per thousand jobs."""


class CiReport(EventRecorder):
    """The base class of instruments that write a file at the end of the outermost run.

    If the file cannot be written, a warning is logged, and `is_written` is False. The run is not affected.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path: Final[str] = os.path.abspath(file_path(path, "path", f"{type(self).__name__}()"))
        self.is_written: bool = False

    def __repr__(self) -> str:
        """Return the class name and the path of the file."""
        return f"<{type(self).__name__} to {self.path!r}>"

    @abstractmethod
    def _write(self, run: CiRun) -> None:
        """Write the report of a run to `path`."""

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Record the start of a run. At the outermost run, this starts a new record."""
        super().before_run(scheduler)
        self.is_written = False

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of a run. If it was the outermost run, write the file."""
        super().after_run(scheduler)
        if self._running_schedulers:
            return
        try:
            self._write(CiRun(build_record(self._log)))
            self.is_written = True
        except OSError as error:
            name = type(self).__name__
            warn(f"{name} cannot be written to {self.path!r}: {error.strerror or error}")
        finally:
            self._log.clear()


class CiRun:
    """A finished run as test cases.

    There is a case for each job, and for each nested scheduler that was blocked or failed without a failed job.
    """

    def __init__(self, record: TraceRecord) -> None:
        root_run = record.root_runs[0]
        self._record: Final = record
        self.label: Final = root_run.label
        self.host: Final = record.host.name
        self.tally: Final = record.tally
        self.start_time: Final = record.start_time + record.wall_offset  # in seconds since the epoch
        self.seconds: Final = record.end_time - record.start_time
        self.verdict: Final = record.verdict(root_run, root_run.stop_reason or StopReason.INTERRUPTED)
        self.cases: Final = sorted(record.counted_spans, key=lambda span: or_infinity(span.finished_at))
        self.failures: Final = [span for span in self.cases if span.state is JobState.FAILED]

    def suite_name(self, span: Span) -> str:
        """Return the labels of a job's enclosing schedulers, the outermost first, joined by slashes."""
        return "/".join([self.label, *(outer.label for outer in reversed(self._record.enclosing_spans(span)))])

    def format_traceback(self, span: Span) -> str:
        """Return the traceback of a failed job. A message that ends with captured output is shortened."""
        failure = self._record.failures[span.number]
        _, newline, last_line = failure.message.rstrip().rpartition("\n")
        if newline and any(output.rstrip().endswith(last_line) for _, output in self.command_outputs(span)):
            return failure.traceback.replace(failure.message, headline(failure.message))
        return failure.traceback

    def command_outputs(self, span: Span) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each captured output of a failed command.

        Yield nothing for jobs that run no command, and for jobs with `redact=True`.
        """
        command = self._record.commands.get(span.number)
        for output in () if command is None else command.outputs:
            if output.text.strip():
                skipped = f"[{output.skipped_bytes} earlier bytes are omitted]\n" * (output.skipped_bytes > 0)
                yield OUTPUT_NAMES[output.stream], skipped + output.text

    def type_of_failure(self, span: Span) -> str:
        """Return the qualified name of the type of a failed job's exception."""
        return self._record.failures[span.number].type_name

    def failure_groups(self) -> list[list[Span]]:
        """Return the failed jobs in groups of similar failures. Groups of critical jobs come first."""
        failures = self._record.failures
        return group_failures(
            (span, span.critical, failures[span.number].number, failures[span.number].kind) for span in self.failures
        )

    def mermaid_graph(self) -> str:
        """Return the graph as a Mermaid flowchart, or an empty string if it would be slow to draw or unreadable."""
        return "" if len(self.cases) > MAX_GRAPH_JOBS else self._record.graphs[0].mermaid

    def failing_line(self, span: Span) -> str:
        """Return the file, number and text of the line where the user's code failed; an empty string if unknown."""
        location = self._record.failures[span.number].location
        if location is None:
            return ""
        return f"{_short_file(location.file)}:{location.line}: {location.text}".rstrip(": ")

    def failing_location(self, span: Span) -> tuple[str, int] | None:
        """Return the file, relative to the working directory, and the line number where the user's code failed.

        Return None if it is unknown, or if the file is elsewhere.
        """
        location = self._record.failures[span.number].location
        if location is None or os.path.isabs(file := _short_file(location.file)):
            return None
        return file, location.line

    def unfinished_reason(self, span: Span) -> str:
        """Return why a job did not run to its end.

        Return an empty string if the job succeeded or failed, or if it is a forever job that ended with the run.
        """
        if _verdict.tally_key(span.state, span.forever) == _verdict.FOREVER_KEY:
            return ""
        words = STATE_STYLES[recorded_state(span)].unfinished_reason
        root = self._record.find_root_failure(span)
        return f"{words}, because {_verdict.failure_words(root)}" if root not in (None, span) else words


def _short_file(file: str) -> str:
    """Return a path relative to the working directory, if it is in it."""
    return os.path.abspath(file).removeprefix(os.path.join(os.getcwd(), ""))


def exception_headline(span: Span) -> str:
    """Return a job's exception on one line, without quoted output; an empty string if there is no exception."""
    return "" if span.exception is None else _exception_text.first_line_text(span.exception, MAX_HEADLINE_LENGTH)
