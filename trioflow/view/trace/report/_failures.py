"""The failures in a report, grouped by kind, with the jobs that they kept from running, and the details of commands."""

from __future__ import annotations

import html as escapes
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ...._core.api import RequirementFailed
from ...._core.api.views import (
    STOP_REASON_TEXTS,
    AnyJob,
    JobState,
    StopReason,
    command_line_of,
    duration_text,
    printable,
    size_text,
    without_middle,
)
from ...text import _debrief, _exception_text, _verdict
from .._event_recorder import CommandEnd
from .._span_builder import TraceRecord
from .._spans import RunSpan, Span
from ._html_text import display_name, escape, escape_lines, name_html

MAX_FAILURE_GROUPS: Final = 200
"""The maximum number of groups of failures that are shown."""
MAX_UNFOLDED_GROUPS: Final = 3
"""The number of groups that are shown unfolded."""
MAX_LISTED_JOBS: Final = 100
"""The maximum number of failed jobs that are listed for a group."""
MAX_SUMMARY_NAMES: Final = 3
"""The maximum number of failed jobs, and of jobs that they kept from running, that a group's summary names."""
MAX_NAME_LENGTH: Final = 48
"""The maximum number of characters in a name in a summary. A longer name loses its middle."""
MAX_INCIDENTS: Final = 5
"""The maximum number of incidents whose messages are shown."""
UNFINISHED_STATES: Final = JobState.IDLE, JobState.SCHEDULED, JobState.CANCELLED
"""The states of jobs that may not have finished because the run ended early."""
DRAINED_REMARK: Final = ": no more jobs were started, and running jobs were allowed to finish"
"""The explanation that is appended to the sentence about a drained run."""


def failures_section(record: TraceRecord, commands: dict[int, dict[str, Any]]) -> str:
    """Return the section on failures, incidents and runs that ended early, as HTML.

    Args:
        record: the record of the runs.
        commands: the details of each command, as returned by `command_details`.

    """
    spans = [record.spans[number] for number in record.failures]
    stopped_jobs = find_stopped_jobs(record)
    groups = _debrief.group_failures((span, span.critical, record.failures[span.number]) for span in spans)
    groups.sort(
        key=lambda group: (not group[0].critical, -sum(len(stopped_jobs.get(span.number, ())) for span in group))
    )
    blocks = [_FailureGroup(record, group, stopped_jobs, commands).to_html() for group in groups[:MAX_FAILURE_GROUPS]]
    unlisted_count = len(spans) - sum(map(len, groups[:MAX_FAILURE_GROUPS]))
    if unlisted_count:
        blocks.append(f'<p class="note">{unlisted_count} more are in the table.</p>')
    if len(blocks) > MAX_UNFOLDED_GROUPS + 1:
        folded_html = "".join(blocks[MAX_UNFOLDED_GROUPS:])
        folded_count = len(groups) - MAX_UNFOLDED_GROUPS
        blocks[MAX_UNFOLDED_GROUPS:] = [
            f'<details class="others"><summary>{folded_count} other kinds of failures</summary>{folded_html}</details>'
        ]
    blocks += filter(None, (_early_end_html(record, run) for run in record.root_runs))
    blocks += _incidents_html(record)
    return "\n".join(blocks) or '<p class="note">No job failed.</p>'


def _early_end_html(record: TraceRecord, run: RunSpan) -> str:
    """Return a paragraph on why a run ended early and which jobs it cancelled, as HTML.

    The result is an empty string if the run was completed or is in progress, or if a critical failure ended it, because
    such a failure is shown elsewhere.
    """
    if run.stop_reason in (None, StopReason.COMPLETED, StopReason.CRITICAL):
        return ""
    jobs = [span for span in record.counted_spans if not span.forever]
    cancelled_names = [
        name_html(span) for span in jobs if span.state is JobState.CANCELLED and span.started_at is not None
    ]
    unstarted_count = sum(span.state in UNFINISHED_STATES and span.started_at is None for span in jobs)
    sentences = [
        f"The run {STOP_REASON_TEXTS[run.stop_reason]}{DRAINED_REMARK * (run.stop_reason is StopReason.DRAINED)}."
    ]
    sentences += [f"Still running: {_verdict.join_names(cancelled_names)}."] * bool(cancelled_names)
    sentences += [f"{unstarted_count} job{'s' * (unstarted_count != 1)} never started."] * bool(unstarted_count)
    return f"<p>{' '.join(sentences)}</p>"


def _incidents_html(record: TraceRecord) -> Iterator[str]:
    if record.incidents:
        messages = "; ".join(mark.message.partition("\n")[0] for mark in record.incidents[:MAX_INCIDENTS])
        yield f"<p>Incidents: {len(record.incidents)} (<bdi>{escape(messages)}</bdi>)</p>"


class _FailureGroup:
    """A group of failures that differ only in their messages."""

    def __init__(
        self,
        record: TraceRecord,
        spans: list[Span],
        stopped_jobs: dict[int, list[Span]],
        commands: dict[int, dict[str, Any]],
    ) -> None:
        self._record: Final = record
        self._spans: Final = spans
        self._first_span: Final = spans[0]
        self._failure: Final = record.failures[spans[0].number]
        stopped_spans = [stopped for span in spans for stopped in stopped_jobs.get(span.number, ())]
        self._blocked_spans: Final = [span for span in stopped_spans if span.started_at is None]
        self._cancelled_spans: Final = [span for span in stopped_spans if span.started_at is not None]
        self._command_details: Final = commands.get(spans[0].number)

    def to_html(self) -> str:
        """Return the group as HTML: its jobs, the place of the failure, its consequences, and the folded traceback."""
        first_span, count = self._first_span, len(self._spans)
        title = _job_link(first_span) if count == 1 else f"{count} jobs"
        critical_badge = ' <span class="badge bad">critical</span>' * first_span.critical
        frame = _exception_text.innermost_user_frame(self._failure.exception, self._failure.traceback)
        line_html = "" if frame is None or not frame.line else f'<pre class="line">{escape_lines(frame.line)}</pre>'
        traceback = escape_lines(_exception_text.format_traceback(self._failure.exception, self._failure.traceback))
        summary = "traceback" if count == 1 else "traceback of the first"
        heading = f'<b class="state-failed">{title}</b>{critical_badge} {_exception_html(first_span)}'
        return (
            f'<article class="failure"><p>{heading}</p>'
            f'<p class="note">{" · ".join(self._facts_html(frame))}</p>{line_html}'
            f"{self._job_list_html()}{_command_html(self._command_details)}"
            f"<details><summary>{summary}</summary><pre>{traceback}</pre></details></article>"
        )

    def _facts_html(self, frame: Any) -> Iterator[str]:
        if frame is not None:
            yield f"{escape(Path(frame.filename).name)}:{frame.lineno} in {escape(frame.name)}"
        if len(self._spans) == 1 and self._first_span.elapsed is not None:
            yield f"after {duration_text(self._first_span.elapsed)}"
        for template, spans in (
            ("kept {} from running", self._blocked_spans),
            ("cancelled {} while running", self._cancelled_spans),
        ):
            if count := len(spans):
                names = _verdict.join_names([_short_name(span) for span in spans], MAX_SUMMARY_NAMES)
                count_text = f"{count} job{'s' * (count != 1)}"
                yield f"<b>{template.format(count_text)}</b>: {names}"
        if not self._blocked_spans and not self._cancelled_spans:
            yield "kept no job from running"
        if self._record.critical_path_numbers & {span.number for span in self._spans}:
            yield "on the critical path"

    def _job_list_html(self) -> str:
        if len(self._spans) == 1:
            return ""
        items = [f"<li>{_job_link(span)} {_exception_html(span)}</li>" for span in self._spans[:MAX_LISTED_JOBS]]
        if len(self._spans) > MAX_LISTED_JOBS:
            items.append(f"<li>and {len(self._spans) - MAX_LISTED_JOBS} more, which are in the table</li>")
        names = _verdict.join_names(
            [f"<bdi>{escape(_shorten_name(span.label))}</bdi>" for span in self._spans], MAX_SUMMARY_NAMES
        )
        return f"<details><summary>{names}</summary><ul>{''.join(items)}</ul></details>"


def _job_link(span: Span) -> str:
    return f'<a href="#detail" data-number="{span.number}">{name_html(span)}</a>'


def _short_name(span: Span) -> str:
    return f"<bdi>{escape(_shorten_name(display_name(span)))}</bdi>"


def _shorten_name(name: str) -> str:
    return without_middle(name, MAX_NAME_LENGTH)


def _exception_html(span: Span) -> str:
    return f"<bdi>{escape(span.exception_text)}</bdi>"


def _command_html(details: dict[str, Any] | None) -> str:
    if details is None:
        return ""
    links = [f'{stream}: <a href="{escapes.escape(url)}">{escape(path)}</a>' for stream, url, path in details["files"]]
    facts = " · ".join([escape(details["facts"]), *links])
    outputs = [f"<p>{escape(title)}:</p><pre>{escape_lines(text)}</pre>" for title, text in details["outputs"]]
    return f'<p><code>{escape(details["command"])}</code></p><p class="note">{facts}</p>{"".join(outputs)}'


def find_stopped_jobs(record: TraceRecord) -> dict[int, list[Span]]:
    """Return the jobs that each failure cancelled or kept from running, by the span number of the failure.

    These are the BLOCKED jobs, and the jobs in nested schedulers that were BLOCKED. If the failure stopped the run, the
    jobs that had not settled by then are included, too. For V jobs and E requirements, this takes O(V + E) time.
    """
    numbers_by_job = {job: span.number for span, job in zip(record.spans, record.jobs, strict=True)}
    first_failures: dict[int, int] = {}  # the first failure in each nested scheduler
    for number in sorted(record.failures, key=lambda number: (record.spans[number].finished_at or 0.0, number)):
        for enclosing in record.enclosing_spans(record.spans[number]):
            first_failures.setdefault(enclosing.number, number)
    stopped_spans: dict[int, list[Span]] = {}
    culprits = [record.find_culprit(run) for run in record.root_runs if run.culprit_number is not None]
    culprit_number = next(
        (_find_root_failure(record, span, numbers_by_job) for span in culprits if span is not None), None
    )
    for span in record.counted_spans:
        if span.forever:
            continue
        candidates = [span, *record.enclosing_spans(span)]
        blocked_span = next((candidate for candidate in candidates if candidate.state is JobState.BLOCKED), None)
        failure_number = None if blocked_span is None else _find_root_failure(record, blocked_span, numbers_by_job)
        if failure_number is None and span.state in UNFINISHED_STATES:
            failure_number = culprit_number
        if failure_number is not None and failure_number not in record.failures:
            failure_number = first_failures.get(failure_number)
        if failure_number is not None and failure_number != span.number:
            stopped_spans.setdefault(failure_number, []).append(span)
    return stopped_spans


def _find_root_failure(record: TraceRecord, span: Span, numbers_by_job: dict[AnyJob, int]) -> int | None:
    """Return the span number of the job whose failure blocked the job of `span`, directly or through other jobs.

    If the failed job is unknown, return None. If the job of `span` is not BLOCKED, return its own number.
    """
    for _ in record.spans:
        if span.state is not JobState.BLOCKED or not isinstance(span.exception, RequirementFailed):
            break
        number = numbers_by_job.get(span.exception.requirement)
        if number is None:
            return None
        span = record.spans[number]
    return span.number


# ---- commands: command lines, exit codes, resource use, ends of outputs, and output files

MAX_LINE_LENGTH: Final = 2000
"""The maximum number of characters in a command line. A longer one is cut off."""
MAX_OUTPUT_CHARACTERS: Final = 1_000_000
"""The maximum number of characters of command output in one report. Failed commands come first."""
PATH_TYPES: Final[Any] = (str, bytes, os.PathLike)
"""The types of the options `stdout` and `stderr` of a command if the output goes to a file."""


def exit_text(returncode: int) -> str:
    """Return an exit code as text. If it is negative, return the name of the signal that ended the process."""
    if returncode >= 0:
        return str(returncode)
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def command_details(record: TraceRecord, folder: Path) -> dict[int, dict[str, Any]]:
    """Return the details of each command, keyed by its span number. The texts are not yet escaped for HTML.

    Args:
        record: the record of the runs.
        folder: the directory of the report. Links to files in this directory are relative, so that they survive a move
            of the whole directory.

    """
    remaining_characters = MAX_OUTPUT_CHARACTERS
    details: dict[int, dict[str, Any]] = {}
    for number in sorted(record.commands, key=lambda number: number not in record.failures):
        job, command = record.commands[number]
        outputs = list(_command_outputs(command)) if not job.redact else []
        output_size = sum(len(text) for _, text in outputs)
        remaining_characters -= output_size
        details[number] = {
            "command": _clip_line(printable(command_line_of(job))),
            "facts": " · ".join(_command_fact_texts(command)),
            "outputs": outputs if remaining_characters >= 0 else [],
            "note": "The end of its output is omitted: the report would be too large."
            * (remaining_characters < 0 < output_size),
            "files": list(_command_files(job, folder)),
        }
    return details


def _clip_line(line: str) -> str:
    return line if len(line) <= MAX_LINE_LENGTH else line[:MAX_LINE_LENGTH] + "…"


def _command_fact_texts(command: CommandEnd) -> Iterator[str]:
    yield f"{'exit code' if command.returncode >= 0 else 'ended by'} {exit_text(command.returncode)}"
    yield f"elapsed {duration_text(command.elapsed)}"
    yield f"user {duration_text(command.user_time)}"
    yield f"system {duration_text(command.system_time)}"
    if command.max_rss is not None:
        yield f"max memory {size_text(command.max_rss)}"


def _command_outputs(command: CommandEnd) -> Iterator[tuple[str, str]]:
    for name, end in (("standard output", command.stdout_tail), ("standard error", command.stderr_tail)):
        if end and end.strip():
            text = end.decode("utf-8", errors="backslashreplace").rstrip("\n")
            yield f"end of its {name}", "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def _command_files(job: Any, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the stream's name, the URL and the path of each file to which a command wrote its output."""
    for stream in ("stdout", "stderr"):
        # A user-defined job class may have no `_options`.
        file: Any = getattr(getattr(job, "_options", None), stream, None)
        if isinstance(file, PATH_TYPES) and not job.redact:
            path = Path(os.fsdecode(file)).absolute()
            yield stream, _file_url(path, folder.absolute()), printable(os.fsdecode(file))


def _file_url(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        return path.as_uri()
    uri, folder_uri = path.as_uri(), folder.as_uri().rstrip("/") + "/"
    return "./" + uri.removeprefix(folder_uri)
