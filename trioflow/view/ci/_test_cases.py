"""A finished run as test cases (`CiRun`), and the base class of the instruments for CI systems (`CiReport`)."""

from __future__ import annotations

import linecache
import os
import traceback
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Final

from ..._core.api import RequirementFailed
from ..._core.api.views import PACKAGE_PREFIX, BaseScheduler, JobState, StopReason, file_path, headline, warn
from .._state_styles import STATE_STYLES
from ..graph import _render
from ..text import _debrief, _exception_text, _verdict
from ..trace._event_recorder import EventRecorder, read_output_tail
from ..trace._span_builder import TraceRecord, build_record
from ..trace._spans import Span, or_infinity

MAX_OUTPUT_BYTES: Final = 1 << 16
"""The maximum number of bytes kept from the end of each output of a failed command. CI systems reject large files."""
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
        text = _exception_text.format_traceback(failure.exception, failure.traceback)
        message = _exception_text.safe_message(failure.exception)
        _, newline, last_line = message.rstrip().rpartition("\n")
        quotes_output = newline and any(output.rstrip().endswith(last_line) for _, output in self.command_outputs(span))
        return text.replace(message, headline(message)) if quotes_output else text

    def command_outputs(self, span: Span) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each captured output of a failed command.

        Yield nothing for jobs that run no command, and for jobs with `redact=True`.
        """
        job: Any = self._record.jobs[span.number]
        if span.number not in self._record.commands or job.redact:  # the output may quote secret arguments
            return
        for name, stream in (("output", "stdout"), ("standard error", "stderr")):
            output_end, skipped_bytes = read_output_tail(job.last_result, stream, MAX_OUTPUT_BYTES)
            text = (output_end or b"").decode(errors="backslashreplace")
            if text.strip():
                yield name, f"[{skipped_bytes} earlier bytes are omitted]\n{text}" if skipped_bytes else text

    def failure_groups(self) -> list[list[Span]]:
        """Return the failed jobs in groups of similar failures. Groups of critical jobs come first."""
        failures = self._record.failures
        return _debrief.group_failures((span, span.critical, failures[span.number]) for span in self.failures)

    def mermaid_graph(self) -> str:
        """Return the graph as a Mermaid flowchart, or an empty string if it would be slow to draw or unreadable."""
        if len(self.cases) > MAX_GRAPH_JOBS:
            return ""
        return _render.readable_mermaid(self._record.root_runs[0].scheduler, self._record.critical_path_jobs)

    def failing_line(self, span: Span) -> str:
        """Return the file, number and text of the line where the user's code failed; an empty string if unknown."""
        location = self.failing_location(span)
        if location is None:
            return ""
        return f"{location[0]}:{location[1]}: {linecache.getline(*location).strip()}".rstrip(": ")

    def failing_location(self, span: Span) -> tuple[str, int] | None:
        """Return the file and the line number where the user's code failed.

        This is the innermost frame whose file is in the working directory and belongs to no installed package. Return
        None if there is none.
        """
        working_directory = os.path.join(os.getcwd(), "")
        frames = traceback.extract_tb(self._record.failures[span.number].traceback)
        for frame in reversed(frames):
            filename = os.path.abspath(frame.filename)
            is_library = "site-packages" in filename or filename.startswith(PACKAGE_PREFIX)
            if filename.startswith(working_directory) and not is_library:
                return filename.removeprefix(working_directory), frame.lineno or 1
        return None


def exception_headline(span: Span) -> str:
    """Return a job's exception on one line, without quoted output; an empty string if there is no exception."""
    return "" if span.exception is None else _exception_text.first_line_text(span.exception, 300)


def unfinished_reason(span: Span) -> str:
    """Return why a job did not run to its end.

    Return an empty string if the job succeeded or failed, or if it is a forever job that ended with the run.
    """
    if _verdict.tally_key(span.state, span.forever) == _verdict.FOREVER_KEY:
        return ""
    words, error = STATE_STYLES[span.state].unfinished_reason, span.exception
    if span.state is JobState.BLOCKED and isinstance(error, RequirementFailed):
        return f"{words}, because {_verdict.root_failure_text(error.requirement)}"
    return words
