"""The failures in a report, grouped by kind, with the jobs that they kept from running; and details of commands."""

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
from ._names import display_name, escape, escape_lines, name_html

MAX_FAILURES: Final = 200
"""The number of groups of failures that are shown."""
MAX_OPEN: Final = 3
"""The number of groups shown unfolded."""
MAX_NAMES: Final = 100
"""The number of failed jobs that are listed for each group."""
MAX_BLOCKED: Final = 3
"""The number of names in the summary of a group: of its failed jobs, and of those that they kept from running."""
MAX_NAME_LENGTH: Final = 48
"""The number of characters above which a name in a summary loses its middle."""
MAX_INCIDENTS: Final = 5
UNFINISHED: Final = JobState.IDLE, JobState.SCHEDULED, JobState.CANCELLED
DRAINED_REMARK: Final = ": no more jobs were to start, and those that ran went on to their end"


def failures_section(record: TraceRecord, commands: dict[int, dict[str, Any]]) -> str:
    """Return the section on failures, early ends of runs, and incidents as HTML.

    Args:
        record: the record of the runs.
        commands: the details of each command, as returned by `command_details`.

    """
    spans = [record.spans[number] for number in record.failures]
    blocked = stopped_by_failures(record)
    groups = _debrief.group_failures((span, span.critical, record.failures[span.number]) for span in spans)
    groups.sort(key=lambda group: (not group[0].critical, -sum(len(blocked.get(span.number, ())) for span in group)))
    shown = [_Group(record, group, blocked, commands).html() for group in groups[:MAX_FAILURES]]
    others = len(spans) - sum(map(len, groups[:MAX_FAILURES]))
    if others:
        shown.append(f'<p class="note">{others} more are in the table.</p>')
    if len(shown) > MAX_OPEN + 1:
        more = "".join(shown[MAX_OPEN:])
        number = len(groups) - MAX_OPEN
        shown[MAX_OPEN:] = [
            f'<details class="others"><summary>{number} other kinds of failures</summary>{more}</details>'
        ]
    shown += filter(None, (_early_end(record, run) for run in record.roots))
    shown += _incidents(record)
    return "\n".join(shown) or '<p class="note">No job failed.</p>'


def _early_end(record: TraceRecord, run: RunSpan) -> str:
    """Return the reason why a run ended early, unless that was a critical failure, and the jobs that were cancelled."""
    if run.reason in (None, StopReason.COMPLETED, StopReason.CRITICAL):
        return ""
    jobs = [span for span in record.counted_spans if not span.forever]
    cancelled = [name_html(span) for span in jobs if span.state is JobState.CANCELLED and span.started_at is not None]
    never_started = sum(span.state in UNFINISHED and span.started_at is None for span in jobs)
    sentences = [f"The run {STOP_REASON_TEXTS[run.reason]}{DRAINED_REMARK * (run.reason is StopReason.DRAINED)}."]
    sentences += [f"Running then: {_verdict.join_names(cancelled)}."] * bool(cancelled)
    sentences += [f"{never_started} job{'s' * (never_started != 1)} never started."] * bool(never_started)
    return f"<p>{' '.join(sentences)}</p>"


def _incidents(record: TraceRecord) -> Iterator[str]:
    if record.incidents:
        messages = "; ".join(mark.message.partition("\n")[0] for mark in record.incidents[:MAX_INCIDENTS])
        yield f"<p>Incidents: {len(record.incidents)} (<bdi>{escape(messages)}</bdi>)</p>"


class _Group:
    """A group of failures that differ only in their messages."""

    def __init__(
        self,
        record: TraceRecord,
        spans: list[Span],
        blocked: dict[int, list[Span]],
        commands: dict[int, dict[str, Any]],
    ) -> None:
        self._record: Final = record
        self._spans: Final = spans
        self._first: Final = spans[0]
        self._failure: Final = record.failures[spans[0].number]
        stopped = [other for span in spans for other in blocked.get(span.number, ())]
        self._blocked: Final = [span for span in stopped if span.started_at is None]
        self._cancelled: Final = [span for span in stopped if span.started_at is not None]
        self._command: Final = commands.get(spans[0].number)

    def html(self) -> str:
        """Return the group as HTML: its jobs, where it was raised, its consequences, and the folded traceback."""
        first, number = self._first, len(self._spans)
        title = _job_link(first) if number == 1 else f"{number} jobs"
        critical = ' <span class="badge bad">critical</span>' * first.critical
        frame = _exception_text.innermost_user_frame(self._failure.exception, self._failure.traceback)
        line = "" if frame is None or not frame.line else f'<pre class="line">{escape_lines(frame.line)}</pre>'
        trace = escape_lines(_exception_text.format_traceback(self._failure.exception, self._failure.traceback))
        summary = "traceback" if number == 1 else "traceback of the first"
        return (
            f'<article class="failure"><p><b class="state-failed">{title}</b>{critical} {_exception_html(first)}</p>'
            f'<p class="note">{" · ".join(self._facts(frame))}</p>{line}'
            f"{self._names()}{_command_html(self._command)}"
            f"<details><summary>{summary}</summary><pre>{trace}</pre></details></article>"
        )

    def _facts(self, frame: Any) -> Iterator[str]:
        if frame is not None:
            yield f"{escape(Path(frame.filename).name)}:{frame.lineno} in {escape(frame.name)}"
        if len(self._spans) == 1 and self._first.elapsed is not None:
            yield f"after {duration_text(self._first.elapsed)}"
        for words, spans in (("kept {} from running", self._blocked), ("cancelled {} that ran", self._cancelled)):
            if number := len(spans):
                names = _verdict.join_names([_short_name(span) for span in spans], MAX_BLOCKED)
                count = f"{number} job{'s' * (number != 1)}"
                yield f"<b>{words.format(count)}</b>: {names}"
        if not self._blocked and not self._cancelled:
            yield "kept no job from running"
        if self._record.on_path & {span.number for span in self._spans}:
            yield "on the critical path"

    def _names(self) -> str:
        if len(self._spans) == 1:
            return ""
        items = [f"<li>{_job_link(span)} {_exception_html(span)}</li>" for span in self._spans[:MAX_NAMES]]
        if len(self._spans) > MAX_NAMES:
            items.append(f"<li>and {len(self._spans) - MAX_NAMES} more, which are in the table</li>")
        names = _verdict.join_names([f"<bdi>{escape(_shorten(span.label))}</bdi>" for span in self._spans], MAX_BLOCKED)
        return f"<details><summary>{names}</summary><ul>{''.join(items)}</ul></details>"


def _job_link(span: Span) -> str:
    return f'<a href="#detail" data-number="{span.number}">{name_html(span)}</a>'


def _short_name(span: Span) -> str:
    return f"<bdi>{escape(_shorten(display_name(span)))}</bdi>"


def _shorten(name: str) -> str:
    return without_middle(name, MAX_NAME_LENGTH)


def _exception_html(span: Span) -> str:
    return f"<bdi>{escape(span.exception_text)}</bdi>"


def _command_html(details: dict[str, Any] | None) -> str:
    if details is None:
        return ""
    links = [
        f'{stream}: <a href="{escapes.escape(address)}">{escape(path)}</a>'
        for stream, address, path in details["files"]
    ]
    facts = " · ".join([escape(details["facts"]), *links])
    outputs = [f"<p>{escape(title)}:</p><pre>{escape_lines(text)}</pre>" for title, text in details["outputs"]]
    return f'<p><code>{escape(details["command"])}</code></p><p class="note">{facts}</p>{"".join(outputs)}'


def stopped_by_failures(record: TraceRecord) -> dict[int, list[Span]]:
    """Return for each failure, by span number, the jobs that it kept from running or cancelled. O(V + E).

    These are BLOCKED jobs, the jobs in nested schedulers that were BLOCKED, and, for the failure that stopped the run,
    the jobs that had not settled then.
    """
    numbers = {job: span.number for span, job in zip(record.spans, record.jobs, strict=True)}
    first_failures: dict[int, int] = {}  # for each nested scheduler, the first failure in it
    for number in sorted(record.failures, key=lambda number: (record.spans[number].finished_at or 0.0, number)):
        for enclosing in record.enclosing_spans(record.spans[number]):
            first_failures.setdefault(enclosing.number, number)
    stopped: dict[int, list[Span]] = {}
    culprits = [record.culprit(run) for run in record.roots if run.culprit is not None]
    culprit = next((_root_failure(record, span, numbers) for span in culprits if span is not None), None)
    for span in record.counted_spans:
        if span.forever:
            continue
        levels = [span, *record.enclosing_spans(span)]
        blocked = next((level for level in levels if level.state is JobState.BLOCKED), None)
        cause = None if blocked is None else _root_failure(record, blocked, numbers)
        if cause is None and span.state in UNFINISHED:
            cause = culprit
        if cause is not None and cause not in record.failures:
            cause = first_failures.get(cause)
        if cause is not None and cause != span.number:
            stopped.setdefault(cause, []).append(span)
    return stopped


def _root_failure(record: TraceRecord, span: Span, numbers: dict[AnyJob, int]) -> int | None:
    """Return the number of the job whose failure, directly or through others, blocked a job; None if unknown.

    For a job that is not BLOCKED, this is its own number.
    """
    for _ in record.spans:
        if not isinstance(span.exception, RequirementFailed):
            break
        number = numbers.get(span.exception.requirement)
        if number is None:
            return None
        span = record.spans[number]
    return span.number


# ---- commands: command lines, exit codes, resource use, ends of outputs, and output files

MAX_LINE_LENGTH: Final = 2000
"""The number of characters above which a command line is cut."""
MAX_OUTPUT: Final = 1_000_000
"""The number of characters of command output in one report; those of failed commands have priority."""
PATH_TYPES: Final[Any] = (str, bytes, os.PathLike)


def exit_text(returncode: int) -> str:
    """Return an exit code as text, or the name of the signal if it is negative."""
    if returncode >= 0:
        return str(returncode)
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def command_details(record: TraceRecord, folder: Path) -> dict[int, dict[str, Any]]:
    """Return the details of each command by the number of its span, as text that is not escaped.

    Args:
        record: the record of the runs.
        folder: the directory of the report. Links to files below it are relative, so that they survive a move of the
            whole directory.

    """
    remaining = MAX_OUTPUT
    details: dict[int, dict[str, Any]] = {}
    for number in sorted(record.commands, key=lambda number: number not in record.failures):
        job, command = record.commands[number]
        outputs = list(_command_outputs(command)) if not job.redact else []
        size = sum(len(text) for _, text in outputs)
        remaining -= size
        details[number] = {
            "command": _clip(printable(command_line_of(job))),
            "facts": " · ".join(_command_facts(command)),
            "outputs": outputs if remaining >= 0 else [],
            "note": "The end of its output is left out here: the report would be too large." * (remaining < 0 < size),
            "files": list(_command_files(job, folder)),
        }
    return details


def _clip(line: str) -> str:
    return line if len(line) <= MAX_LINE_LENGTH else line[:MAX_LINE_LENGTH] + "…"


def _command_facts(command: CommandEnd) -> Iterator[str]:
    yield f"{'exit code' if command.returncode >= 0 else 'ended by'} {exit_text(command.returncode)}"
    yield f"elapsed {duration_text(command.elapsed)}"
    yield f"user {duration_text(command.user_time)}"
    yield f"system {duration_text(command.system_time)}"
    if command.max_rss is not None:
        yield f"max memory {size_text(command.max_rss)}"


def _command_outputs(command: CommandEnd) -> Iterator[tuple[str, str]]:
    for name, end in (("standard output", command.stdout), ("standard error", command.stderr)):
        if end and end.strip():
            text = end.decode("utf-8", errors="backslashreplace").rstrip("\n")
            yield f"end of its {name}", "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


def _command_files(job: Any, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the name of the stream, the URL and the path of each output file."""
    for stream in ("stdout", "stderr"):
        file: Any = getattr(getattr(job, "_options", None), stream, None)  # a user's kind may lack the attribute
        if isinstance(file, PATH_TYPES) and not job.redact:
            path = Path(os.fsdecode(file)).absolute()
            yield stream, _url(path, folder.absolute()), printable(os.fsdecode(file))


def _url(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        return path.as_uri()
    uri, base = path.as_uri(), folder.as_uri().rstrip("/") + "/"
    return "./" + uri.removeprefix(base)
