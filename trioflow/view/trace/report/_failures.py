"""The failures in a report, grouped by kind, with the jobs that they kept from running, and the details of commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from ...._core.base._states import STOP_REASON_TEXTS, JobState, StopReason
from ...._core.base._text_forms import duration_text, fit, size_text
from ...._core.job._labels import printable
from ...text._failure_text import FAILURE_ORDER, FailureText, group_failures
from ...text._verdict import failure_words
from .._spans import CommandRecord, Span, or_infinity
from .._trace_record import TraceRecord

MAX_FAILURE_GROUPS: Final = 200
MAX_UNFOLDED_GROUPS: Final = 3
UNFINISHED_STATES: Final = JobState.IDLE, JobState.SCHEDULED, JobState.CANCELLED
"""The states of jobs that may not have finished because the run ended early."""
DRAINED_REMARK: Final = ": no more jobs were started, and running jobs were allowed to finish"


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """A group of failures that differ only in their messages."""

    spans: list[Span]
    blocked: list[Span]
    """The jobs that these failures kept from running."""
    cancelled: list[Span]
    """The running jobs that were cancelled because of these failures."""
    failure: FailureText
    """The first failure."""
    is_on_critical_path: bool


def failure_groups(record: TraceRecord) -> list[FailureGroup]:
    """Return the groups of failures: critical first, tolerated last, then those that stopped the most jobs."""
    spans = [span for span in record.counted_spans if span.number in record.failures]  # not of earlier attempts
    stopped_jobs = find_stopped_jobs(record)
    groups = group_failures(
        (span, span.critical, record.failures[span.number].number, record.failures[span.number].kind) for span in spans
    )
    made = [_make_group(record, group, stopped_jobs) for group in groups]
    made.sort(key=lambda group: (FAILURE_ORDER.index(group.spans[0].critical), -len(group.blocked + group.cancelled)))
    return made


def _make_group(record: TraceRecord, spans: list[Span], stopped_jobs: dict[int, list[Span]]) -> FailureGroup:
    stopped = [stopped for span in spans for stopped in stopped_jobs.get(span.number, ())]
    return FailureGroup(
        spans,
        [span for span in stopped if span.started_at is None],
        [span for span in stopped if span.started_at is not None],
        record.failures[spans[0].number],
        bool(record.critical_path_numbers & {span.number for span in spans}),
    )


def not_run(record: TraceRecord) -> dict[str, list[Span]]:
    """Return the jobs that were BLOCKED, or in a group that was, by a reason that is no failure in the report."""
    found: dict[str, list[Span]] = {}
    for span in record.counted_spans:
        blocked = record.find_blocked(span).state is JobState.BLOCKED
        root = record.spans[_root_failure_number(record, record.find_blocked(span))]
        if blocked and root.state is not JobState.FAILED and root.number not in record.failures:
            words = root.exception_text if root.state is JobState.BLOCKED else failure_words(root, root.name)
            found.setdefault(words, []).append(span)
    return found


class EarlyEnd(NamedTuple):
    """Why a run ended early, and which jobs it cancelled or never started."""

    reason: str
    cancelled: list[Span]
    unstarted_count: int


def early_ends(record: TraceRecord) -> Iterator[EarlyEnd]:
    """Yield the runs that ended early, except those that a critical failure ended, which is shown elsewhere."""
    jobs = [span for span in record.counted_spans if not (span.forever or record.is_group(span.number))]
    for run in record.root_runs:
        if run.stop_reason not in (None, StopReason.COMPLETED, StopReason.FAILED, StopReason.CRITICAL):
            yield EarlyEnd(
                STOP_REASON_TEXTS[run.stop_reason] + DRAINED_REMARK * (run.stop_reason is StopReason.DRAINED),
                [span for span in jobs if span.state is JobState.CANCELLED and span.started_at is not None]
                * (run.stop_reason is not StopReason.DRAINED),  # which cancels nothing that runs
                sum(span.state in UNFINISHED_STATES and span.started_at is None for span in jobs),
            )


def find_stopped_jobs(record: TraceRecord) -> dict[int, list[Span]]:
    """Return the jobs that each failure cancelled or kept from running, by the span number of the failure.

    These are the BLOCKED jobs, and the jobs in nested schedulers that were BLOCKED. If the failure stopped a run, the
    jobs in it that had not settled by then are included, too; others were cancelled by the user or by a timeout. For V
    jobs and E requirements, this takes O(V + E) time.
    """
    first_failures: dict[int, int] = {}  # the first failure in each nested scheduler
    failures = record.failures.keys() - record.numbers_in_first
    for number in sorted(failures, key=lambda number: (record.spans[number].finished_at or 0.0, number)):
        for enclosing in record.enclosing_spans(record.spans[number]):
            if enclosing.number in first_failures:  # and so are those around it
                break
            first_failures[enclosing.number] = number
    blocked_spans: dict[int | None, Span | None] = {None: None}  # of each job: the innermost one around it, or its own
    stops: dict[int | None, tuple[int, float] | None] = {None: None}  # for each job: the failure that stopped its run
    passed_on = {run.culprit_number for run in record.runs if run.stop_reason is StopReason.CRITICAL}
    for run in record.runs:  # enclosing runs come first
        stop = stops[run.parent]
        if run.stop_reason is StopReason.CRITICAL and (stop is None or run.parent not in passed_on):
            culprit = record.find_culprit(run)
            stop = culprit and (_root_failure_number(record, culprit), culprit.finished_at or 0.0)
        for span in map(record.spans.__getitem__, run.member_numbers):
            blocked_spans[span.number] = span if span.state is JobState.BLOCKED else blocked_spans[run.parent]
            stops[span.number] = stop
    stopped_spans: dict[int, list[Span]] = {}
    for span in record.counted_spans:
        if span.forever or record.is_group(span.number):
            continue
        blocked_span = blocked_spans[span.number]
        failure_number = None if blocked_span is None else _root_failure_number(record, blocked_span)
        if failure_number is None and span.state in UNFINISHED_STATES and (stop := stops[span.number]) is not None:
            failure_number = stop[0] if or_infinity(span.finished_at) >= stop[1] else None
        if failure_number is not None and failure_number not in failures:
            failure_number = first_failures.get(failure_number)
        if failure_number is not None and failure_number != span.number:
            stopped_spans.setdefault(failure_number, []).append(span)
    return stopped_spans


def _root_failure_number(record: TraceRecord, span: Span) -> int:
    """Return the number of the span of the failure that blocked a job; for a job in a `First`, that of the `First`."""
    root = record.find_root_failure(span)
    while root.parent is not None and root.number in record.numbers_in_first:
        root = record.spans[root.parent]
    return root.number


# ---- commands: command lines, exit codes, resource use, ends of outputs, and output files

MAX_LINE_LENGTH: Final = 2000
"""The maximum number of characters in a command line. A longer one is cut off."""
MAX_OUTPUT_CHARACTERS: Final = 1_000_000
"""The maximum number of characters of command output in one report. Failed commands come first."""
OUTPUT_NAMES: Final = {"stdout": "standard output", "stderr": "standard error"}
MAX_OUTPUT_BYTES: Final = 1000
"""The maximum number of bytes of one output that are shown."""


def exit_text(returncode: int) -> str:
    """Return an exit code as text. If it is negative, return the name of the signal that ended the process."""
    if returncode >= 0:
        return str(returncode)
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def command_details(record: TraceRecord, folder: Path | None) -> dict[int, dict[str, Any]]:
    """Return the details of each command, keyed by its span number. The texts are not yet escaped for HTML.

    Args:
        record: the record of the runs.
        folder: the directory of the report. Links to files in this directory are relative, so that they survive a move
            of the whole directory. None if a server has the files.

    """
    remaining_characters = MAX_OUTPUT_CHARACTERS
    details: dict[int, dict[str, Any]] = {}
    for number in sorted(record.commands, key=lambda number: number not in record.failures):
        command = record.commands[number]
        outputs = list(command_outputs(command))
        output_size = sum(len(text) for _, text in outputs)
        remaining_characters -= output_size
        details[number] = {
            "command": fit(printable(command.line), MAX_LINE_LENGTH),
            "facts": " · ".join(command_fact_texts(command)),
            "outputs": outputs if remaining_characters >= 0 else [],
            "note": "The end of its output is omitted: the report would be too large."
            * (remaining_characters < 0 < output_size),
            "files": list(file_links(command, folder)),
        }
    return details


def command_fact_texts(command: CommandRecord) -> Iterator[str]:
    yield f"{'exit code' if command.returncode >= 0 else 'ended by'} {exit_text(command.returncode)}"
    yield f"elapsed {duration_text(command.elapsed)}"
    yield f"user {duration_text(command.user_time)}"
    yield f"system {duration_text(command.system_time)}"
    if command.max_rss is not None:
        yield f"max memory {size_text(command.max_rss)}"


def command_outputs(command: CommandRecord) -> Iterator[tuple[str, str]]:
    for output in command.outputs:
        end = output.text.encode(errors="backslashreplace")[-MAX_OUTPUT_BYTES:].decode(errors="ignore")
        if end.strip():
            yield f"end of its {OUTPUT_NAMES[output.stream]}", printable_lines(end)


def printable_lines(text: str) -> str:
    return "\n".join(printable(line.expandtabs()) for line in text.rstrip("\n").split("\n"))


def file_links(command: CommandRecord, folder: Path | None) -> Iterator[tuple[str, str, str]]:
    """Yield the stream, the URL and the path of each file with output of a command."""
    for stream, path in command.files:
        url = f"file?path={quote(path, errors='surrogatepass')}" if folder is None else _file_url(Path(path), folder)
        yield stream, url, printable(path)


def _file_url(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        return path.as_uri()
    uri, folder_uri = path.as_uri(), folder.as_uri().rstrip("/") + "/"
    return "./" + uri.removeprefix(folder_uri)
