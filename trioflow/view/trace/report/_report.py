"""The report of a trace as a self-contained HTML page: verdict, failures, graph, timeline, and a table of all jobs.

The template of the page, its style sheet and its script are files in this directory. Labels, messages and outputs of
jobs cannot inject code, because they are escaped in the page, and passed as JSON to the script, which inserts them by
`textContent` only. The content security policy of the page forbids loading anything.
"""

from __future__ import annotations

import datetime
import json
import platform
import string
from collections import Counter
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ...._core.api.views import (
    JobState,
    duration_text,
    durations_in_column,
    explicit_label,
    printable,
    shorten,
    size_text,
    without_middle,
)
from ..._state_styles import STATE_COUNT_ORDER, STATE_STYLES
from ...graph import _dark_scheme
from ...text import _verdict
from .._critical_path_parts import CriticalPathPart, critical_path_parts
from .._span_builder import TraceRecord
from .._spans import RunSpan, Span
from ..timeline import _timeline
from ..timeline._tooltips import wait_lines
from . import _failures, _sections
from ._html_text import display_name, escape, name_html

MAX_FOREVER_JOBS: Final = 100
"""The maximum number of forever jobs that are listed."""
TIMELINE_WIDTH: Final = 1200
LINK_TO_KINDS: Final = '<a href="#kinds">Kinds of jobs</a> '


def report_html(record: TraceRecord, folder: Path) -> str:
    """Return the HTML page of a report that will be written to `folder`."""
    root_runs = record.root_runs
    name = ", ".join(dict.fromkeys(_run_title(record, run) for run in root_runs)) or "nothing has run"
    commands = _failures.command_details(record, folder)
    kinds_html = _sections.kinds_section(record)
    return string.Template(_read_resource("report.html")).substitute(
        title=escape(shorten(name)),
        style=_read_resource("report.css"),
        graph_style=_dark_scheme.dark_scheme_css(),
        verdict_style=_verdict_style_and_words(record)[0],
        head=_header_html(record, shorten(name)),
        states=_state_counts_html(record) if root_runs else "",
        failures=_failures.failures_section(record, commands),
        path=_critical_path_section(record),
        slots=_sections.slots_sentence(record),
        graph="\n".join(
            _sections.graph_section(scheduler, record.critical_path_jobs)
            for scheduler in dict.fromkeys(run.scheduler for run in root_runs)
        ),
        words=_sections.glossary_html(record),
        about=_sections.run_facts_html(root_runs),
        timeline=_timeline.timeline_svg(record, TIMELINE_WIDTH, has_title=False),
        kinds=kinds_html,
        links=LINK_TO_KINDS * bool(kinds_html),
        forever=_forever_jobs_html(record),
        data=_table_json(record, commands),
        script=_read_resource("report.js"),
    )


def _run_title(record: TraceRecord, run: RunSpan) -> str:
    """Return the label of a run's scheduler, or a title such as "A run of 3 jobs" if it has only a default label."""
    if explicit_label(run.scheduler) is not None:
        return run.label
    number = sum(1 for _ in record.leaf_spans)
    return f"A run of {number} job{'s' * (number != 1)}"


def _read_resource(name: str) -> str:
    return (resources.files("trioflow.view.trace.report") / name).read_text(encoding="utf-8")


def _forever_jobs_html(record: TraceRecord) -> str:
    """Return a folded list of the forever jobs that ended normally, as HTML."""
    spans = [span for span in record.leaf_spans if _is_listed_separately(span)]
    if not spans:
        return ""
    items = [
        f"<li><b>{name_html(span)}</b> {escape(_lifetime_text(record, span))}</li>" for span in spans[:MAX_FOREVER_JOBS]
    ]
    if len(spans) > MAX_FOREVER_JOBS:
        items.append(f"<li>and {len(spans) - MAX_FOREVER_JOBS} more</li>")
    title = f"{len(spans)} forever job{'s' * (len(spans) > 1)}"
    return (
        f'<details id="forever" class="card fold forever"><summary>{title}</summary><p class="note">'
        f"A forever job (forever=True) runs beside the others, and the run ends it when these have settled.</p>"
        f"<ul>{''.join(items)}</ul></details>"
    )


def _lifetime_text(record: TraceRecord, span: Span) -> str:
    if span.started_at is None:
        return f"{span.kind}, never started"
    start = f"{span.kind}, started at {duration_text(span.started_at - record.start_time)}"
    ready_text = "" if span.ready_at is None else f", ready at {duration_text(span.ready_at - record.start_time)}"
    return (
        start + ready_text + (", still running" if span.elapsed is None else f", ran for {duration_text(span.elapsed)}")
    )


# ---- the head: the verdict, the counts by state, and the critical path

MAX_CRITICAL_PATH_LINES: Final = 6
"""The maximum number of parts of the critical path that have their own line."""
MAX_NAME_LENGTH: Final = 32
"""The maximum number of characters in a name. A longer name loses its middle, because similar names often differ at
their ends."""
MIN_SHARE: Final = 0.005
"""A part of the critical path that takes less than this share of the time has no line of its own."""
GOOD_VERDICT, BAD_VERDICT, OPEN_VERDICT = "good", "bad", "open"
"""The CSS classes of verdicts. A verdict is open while the run is in progress and no job has failed."""


def _verdict_style_and_words(record: TraceRecord) -> tuple[str, str]:
    """Return the CSS class and the words of the verdict on all outermost runs."""
    verdicts = dict.fromkeys(_run_verdict(record, run) for run in record.root_runs)
    styles = {style for style, _ in verdicts}
    style = next((style for style in (BAD_VERDICT, OPEN_VERDICT, GOOD_VERDICT) if style in styles), OPEN_VERDICT)
    return style, "; ".join(words for _, words in verdicts)


def _run_verdict(record: TraceRecord, run: RunSpan) -> tuple[str, str]:
    reason = None if run.finished_at is None else run.stop_reason
    verdict = record.verdict(run, reason)
    style = (
        GOOD_VERDICT
        if verdict.is_good
        else OPEN_VERDICT
        if reason is None and not record.tally.failed_or_blocked_count
        else BAD_VERDICT
    )
    return style, printable(verdict.sentence)


def _header_html(record: TraceRecord, name: str) -> str:
    """Return the top of the page as HTML: the run's name with a symbol, the verdict, the date and the host."""
    if not record.root_runs:
        return f"<h1><bdi>{escape(name)}</bdi></h1>"
    style, words = _verdict_style_and_words(record)
    state_styles = {
        GOOD_VERDICT: STATE_STYLES[JobState.SUCCEEDED],
        BAD_VERDICT: STATE_STYLES[JobState.FAILED],
        OPEN_VERDICT: STATE_STYLES[JobState.RUNNING],
    }
    start_time = datetime.datetime.fromtimestamp(record.start_time + record.wall_offset).astimezone()
    facts = [f"<bdi>{escape(words)}</bdi>", start_time.isoformat(" ", "seconds")]
    facts += [f"on {escape(platform.node())}"] * bool(platform.node())
    return (
        f'<h1 class="{style}"><span class="symbol">{state_styles[style].symbol}</span> <bdi>{escape(name)}</bdi></h1>'
        f'<p class="verdict">{" · ".join(facts)}</p>'
    )


def _is_listed_separately(span: Span) -> bool:
    """Return whether this is a forever job that ended normally. Such jobs are listed separately and not counted."""
    return _verdict.tally_key(span.state, span.forever) == _verdict.FOREVER_KEY


def _state_counts_html(record: TraceRecord) -> str:
    """Return, as HTML, a bar with the share of each state, and the number of jobs in each state."""
    counts = Counter(span.state for span in record.counted_spans if not _is_listed_separately(span))
    shown_states = [state for state in STATE_COUNT_ORDER if counts[state]]
    parts = "".join(
        f'<span class="part {state.value}" style="flex-grow:{counts[state]}"></span>' for state in shown_states
    )
    return f'<div class="states" aria-hidden="true">{parts}</div><p class="note">{escape(record.tally.describe())}</p>'


def _critical_path_section(record: TraceRecord) -> str:
    """Return the parts of the critical path with their shares of the time, as HTML."""
    parts = critical_path_parts(record)
    total_seconds = record.end_time - record.start_time
    if not parts or not total_seconds:
        return '<p class="note">Nothing took any time.</p>'
    shown_parts = [part for part in parts[:MAX_CRITICAL_PATH_LINES] if part.seconds >= MIN_SHARE * total_seconds]
    hidden_parts = parts[len(shown_parts) :]
    hidden_jobs = [part for part in hidden_parts if not part.is_wait]
    # If only one job would be hidden, show it, because the line "1 more" would take as much room.
    if len(hidden_jobs) == 1 and hidden_jobs[0].seconds >= MIN_SHARE * total_seconds:
        shown_parts, hidden_parts = [*shown_parts, *hidden_jobs], [part for part in hidden_parts if part.is_wait]
    max_seconds = max(part.seconds for part in parts)
    rows = [_critical_path_part_html(record, part, max_seconds, total_seconds) for part in shown_parts]
    hidden_seconds = sum(part.seconds for part in hidden_parts)
    if hidden_seconds >= MIN_SHARE * total_seconds:
        job_count = sum(part.count for part in hidden_parts if not part.is_wait)
        name = f"{job_count} more" if job_count else "other waits"
        rows.append(_critical_path_row_html(name, "more", hidden_seconds, max_seconds, total_seconds))
    return f'<ol class="path">{"".join(rows)}</ol>'


def _critical_path_part_html(
    record: TraceRecord, part: CriticalPathPart, max_seconds: float, total_seconds: float
) -> str:
    count_text = f" × {part.count}" * (part.count > 1)
    if part.is_wait:
        wait_name = f"waited for {escape(part.name)}{count_text}"
        return _critical_path_row_html(wait_name, "wait", part.seconds, max_seconds, total_seconds)
    short_name = without_middle(part.name, MAX_NAME_LENGTH)
    tooltip = f' title="{escape(part.name)}"' * (short_name != part.name)
    name = f"<bdi{tooltip}>{escape(short_name)}</bdi>"
    if part.count == 1:
        path = quote(printable(shorten(record.spans[part.span_number].path)), safe="")
        name = f'<a href="#job={path}">{name}</a>'
    return _critical_path_row_html(name + count_text, "work", part.seconds, max_seconds, total_seconds)


def _critical_path_row_html(name: str, style: str, seconds: float, max_seconds: float, total_seconds: float) -> str:
    width = 100 * min(1.0, seconds / max_seconds)
    share = 100 * seconds / total_seconds
    return (
        f'<li><span class="name">{name}</span><span class="room"><span class="bar {style}" style="width:{width:.1f}%">'
        f'</span></span><span class="number">{duration_text(seconds, in_column=True)}</span>'
        f'<span class="number">{share:.0f}\N{NO-BREAK SPACE}%</span></li>'
    )


# ---- table


def _table_json(record: TraceRecord, commands: dict[int, dict[str, Any]]) -> str:
    """Return the data of the table of jobs as JSON that is safe inside an HTML page."""
    ranks = [
        0 if span.number in record.scheduler_numbers else 2 if _is_listed_separately(span) else 1
        for span in record.spans
    ]
    states = Counter(span.state for span, rank in zip(record.spans, ranks, strict=True) if rank == 1)
    starts = [None if span.started_at is None else span.started_at - record.start_time for span in record.spans]
    columns = starts, [span.waited for span in record.spans], [span.elapsed for span in record.spans]
    units, texts = zip(*map(durations_in_column, columns), strict=True)
    table: dict[str, Any] = {
        "units": units,
        "required": {span.number: span.required for span in record.spans if span.required},
        "waits": {span.number: [*map(printable, wait_lines(record, span))] for span in record.spans if span.waits},
        "states": [[state.value, states[state]] for state in JobState if states[state]],
        "rows": list(map(partial(_table_row, record), record.spans, ranks, zip(*texts, strict=True))),
        "commands": commands,
    }
    return json.dumps(table, separators=(",", ":")).replace("<", "\\u003c")


def _table_row(record: TraceRecord, span: Span, rank: int, texts: tuple[str, ...]) -> list[Any]:
    """Return the cells of a row in the order that the script expects. A number is a pair of its value and its text.

    Args:
        record: the record of the runs.
        span: the span of the row.
        rank: 0 for a nested scheduler, which is not counted. 2 for a forever job that ended normally, which is listed
            separately. 1 for any other job.
        texts: the texts of the start, the wait and the duration.

    """
    start = None if span.started_at is None else span.started_at - record.start_time
    seconds = (start, span.waited, span.elapsed)
    times = [None if value is None else [round(value, 9), text] for value, text in zip(seconds, texts, strict=True)]
    path, kind, exception = map(printable, (display_name(span), span.kind, span.exception_text))
    tags = {
        "critical path": span.number in record.critical_path_numbers,
        "critical": span.critical,
        "forever": span.forever,
        "timed out": span.timed_out,
        "restored": span.restored,
    }
    shown_tags = [tag for tag, applies in tags.items() if applies]
    row = [path, kind, span.state.value, *times, len(span.attempts) or None, span.lane, exception, shown_tags, rank]
    return row + list(_command_cells(span)) if record.commands else row


def _command_cells(span: Span) -> Iterator[list[Any] | None]:
    returncode, memory = span.returncode, span.max_rss
    yield None if returncode is None else [returncode, _failures.exit_text(returncode)]
    cpu_seconds = None if span.user_time is None or span.system_time is None else span.user_time + span.system_time
    yield None if cpu_seconds is None else [round(cpu_seconds, 6), duration_text(cpu_seconds)]
    yield None if memory is None else [memory, size_text(memory)]
