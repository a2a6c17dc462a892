"""`CiRun`: a finished run as test cases, one per job; and `CiReport`, the base class of the instruments for CI."""

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
from ..trace._event_recorder import Recorder, read_output_end
from ..trace._span_builder import TraceRecord, build_record
from ..trace._spans import Span, or_infinity

MAX_OUTPUT: Final = 1 << 16
"""The number of bytes kept from the end of each output of a failed command; CI systems reject files of many MB."""
MAX_DRAWN: Final = 2000
"""The number of jobs above which a summary has no graph; drawing takes 0.1 s per thousand jobs."""


class CiReport(Recorder):
    """Base class of instruments that write a file at the end of the outermost run.

    If the file cannot be written, a warning is logged, and `is_written` is False; the run is not affected.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path: Final[str] = os.path.abspath(file_path(path, "path", f"{type(self).__name__}()"))
        self.is_written: bool = False

    def __repr__(self) -> str:
        """Show the path."""
        return f"<{type(self).__name__} to {self.path!r}>"

    @abstractmethod
    def _write(self, run: CiRun) -> None:
        """Write the report of a run to `path`."""

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Start recording at the outermost run."""
        super().before_run(scheduler)
        self.is_written = False

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Write the file at the end of the outermost run."""
        super().after_run(scheduler)
        if self._running:
            return
        try:
            self._write(CiRun(build_record(self._log)))
            self.is_written = True
        except OSError as error:
            warn(f"{self!r} cannot be written", error)
        finally:
            self._log.clear()


class CiRun:
    """A finished run and its test cases: its jobs, and the nested schedulers that failed by themselves."""

    def __init__(self, record: TraceRecord) -> None:
        root = record.roots[0]
        self._record: Final = record
        self.label: Final = root.label
        self.tally: Final = record.tally
        self.began: Final = record.began + record.wall_offset  # the time of day
        self.seconds: Final = record.now - record.began
        self.verdict: Final = record.verdict(root, root.reason or StopReason.INTERRUPTED)
        self.cases: Final = sorted(record.counted_spans, key=lambda span: or_infinity(span.finished_at))
        self.failures: Final = [span for span in self.cases if span.state is JobState.FAILED]

    def suite(self, span: Span) -> str:
        """Return the labels of a job's enclosing schedulers, the outermost first, joined by slashes."""
        return "/".join([self.label, *(outer.label for outer in reversed(self._record.enclosing_spans(span)))])

    def traceback(self, span: Span) -> str:
        """Return the traceback of a failed job, without output that `outputs` yields."""
        failure = self._record.failures[span.number]
        text = _exception_text.format_traceback(failure.exception, failure.traceback)
        message = _exception_text.safe_message(failure.exception)
        last = message.rstrip().rpartition("\n")
        is_quoted = last[1] and any(output.rstrip().endswith(last[2]) for _, output in self.outputs(span))
        return text.replace(message, headline(message)) if is_quoted else text

    def outputs(self, span: Span) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each captured output of a failed command."""
        job: Any = self._record.jobs[span.number]
        if span.number not in self._record.commands or job.redact:  # the output may quote secret arguments
            return
        for name, stream in (("output", "stdout"), ("standard error", "stderr")):
            end, before = read_output_end(job.last_result, stream, MAX_OUTPUT)
            text = (end or b"").decode(errors="backslashreplace")
            if text.strip():
                yield name, f"[{before} bytes before this are left out]\n{text}" if before else text

    def failure_groups(self) -> list[list[Span]]:
        """Return lists of failed jobs with equal failures, critical ones first."""
        failures = self._record.failures
        return _debrief.group_failures((span, span.critical, failures[span.number]) for span in self.failures)

    def graph(self) -> str:
        """Return the graph as a Mermaid flowchart; "" if it has too many jobs to be readable."""
        if len(self.cases) > MAX_DRAWN:
            return ""
        return _render.readable_mermaid(self._record.roots[0].scheduler, self._record.critical_jobs)

    def failing_line(self, span: Span) -> str:
        """Return file, number and text of the user's line that failed; "" if the traceback has no frame of theirs."""
        place = self.place(span)
        if place is None:
            return ""
        return f"{place[0]}:{place[1]}: {linecache.getline(*place).strip()}".rstrip(": ")

    def place(self, span: Span) -> tuple[str, int] | None:
        """Return file and line of the innermost frame in the working directory, where the user's code failed."""
        here = os.path.join(os.getcwd(), "")
        frames = traceback.extract_tb(self._record.failures[span.number].traceback)
        for name, line in reversed([(os.path.abspath(frame.filename), frame.lineno or 1) for frame in frames]):
            if name.startswith(here) and "site-packages" not in name and not name.startswith(PACKAGE_PREFIX):
                return name.removeprefix(here), line
        return None


def exception_headline(span: Span) -> str:
    """Return a job's exception on one line, without quoted output; "" if there is none."""
    return "" if span.exception is None else _exception_text.first_line(span.exception, 300)


def unfinished_reason(span: Span) -> str:
    """Return the reason why a job did not run to its end; "" if it did, or is a forever job that ended with the run."""
    if _verdict.counted_state(span.state, span.forever) == _verdict.FOREVER:
        return ""
    words, error = STATE_STYLES[span.state].unfinished, span.exception
    if span.state is JobState.BLOCKED and isinstance(error, RequirementFailed):
        return f"{words}, because {_verdict.root_failure_words(error.requirement)}"
    return words
