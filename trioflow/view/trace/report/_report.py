"""The report of a trace as a self-contained HTML page: verdict, failures, graph, timeline, and a table of all jobs.

The template of the page, its style sheet and its script are files in this directory. Texts of a scenario cannot inject
code: they are escaped in the page, and passed to the script as JSON, which inserts them by `textContent` only. The
content security policy of the page forbids it to load anything.
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
    given_label,
    printable,
    shorten,
    size_text,
    without_middle,
)
from ..._state_styles import COUNTING_ORDER, STATE_STYLES
from ...graph import _render
from ...text import _verdict
from .._shares import PathPart, path_parts
from .._span_builder import TraceRecord
from .._spans import RunSpan, Span
from ..timeline import _timeline
from ..timeline._bars import wait_lines
from . import _failures, _sections
from ._names import display_name, escape, name_html

MAX_NAMES: Final = 100
"""The number of forever jobs that are listed."""
TIMELINE_WIDTH: Final = 1200
LINK_TO_KINDS: Final = '<a href="#kinds">Kinds of jobs</a> '
LINK_TO_WHAT_IF: Final = '<a href="#what-if">What if</a>'


def report_html(record: TraceRecord, folder: Path) -> str:
    """Return the page for a report that will be written to `folder`."""
    roots = record.roots
    name = ", ".join(dict.fromkeys(_title(record, run) for run in roots)) or "nothing has run"
    commands = _failures.command_details(record, folder)
    kinds, what_if = _sections.kinds_section(record), _sections.what_if_section(record)
    return string.Template(_read_resource("report.html")).substitute(
        title=escape(shorten(name)),
        style=_read_resource("report.css"),
        style_of_the_graph=_render.dark_scheme_css(),
        style_of_the_verdict=_verdict_style_and_words(record)[0],
        head=_head(record, shorten(name)),
        states=_state_counts(record) if roots else "",
        failures=_failures.failures_section(record, commands),
        path=_path_section(record),
        slots=_sections.slots_sentence(record),
        graph="\n".join(
            _sections.graph_section(scheduler, record.critical_jobs)
            for scheduler in dict.fromkeys(run.scheduler for run in roots)
        ),
        words=_sections.glossary(record, bool(what_if)),
        about=_sections.run_facts(roots),
        timeline=_timeline.timeline_svg(record, TIMELINE_WIDTH, has_title=False),
        kinds=kinds,
        what_if=what_if,
        links=LINK_TO_KINDS * bool(kinds) + LINK_TO_WHAT_IF * bool(what_if),
        forever=_forever_jobs(record),
        data=_table_data(record, commands),
        script=_read_resource("report.js"),
    )


def _title(record: TraceRecord, run: RunSpan) -> str:
    """Return the label of a run's scheduler, or a title if the user gave it none."""
    if given_label(run.scheduler) is not None:
        return run.label
    number = sum(1 for _ in record.leaves)
    return f"A run of {number} job{'s' * (number != 1)}"


def _read_resource(name: str) -> str:
    return (resources.files("trioflow.view.trace.report") / name).read_text(encoding="utf-8")


def _forever_jobs(record: TraceRecord) -> str:
    """Return the list of forever jobs without trouble as HTML, folded because few readers need it."""
    spans = [span for span in record.leaves if _is_listed_apart(span)]
    if not spans:
        return ""
    items = [f"<li><b>{name_html(span)}</b> {escape(_lifetime(record, span))}</li>" for span in spans[:MAX_NAMES]]
    if len(spans) > MAX_NAMES:
        items.append(f"<li>and {len(spans) - MAX_NAMES} more</li>")
    title = f"{len(spans)} forever job{'s' * (len(spans) > 1)}"
    return (
        f'<details id="forever" class="card fold forever"><summary>{title}</summary><p class="note">'
        f"A forever job (forever=True) runs beside the others, and the run ends it when these have settled.</p>"
        f"<ul>{''.join(items)}</ul></details>"
    )


def _lifetime(record: TraceRecord, span: Span) -> str:
    if span.started_at is None:
        return f"{span.kind}, never started"
    began = f"{span.kind}, started at {duration_text(span.started_at - record.began)}"
    ready = "" if span.ready_at is None else f", ready at {duration_text(span.ready_at - record.began)}"
    return began + ready + (", still runs" if span.elapsed is None else f", ran for {duration_text(span.elapsed)}")


# ---- the head: the verdict, the counts by state, and the critical path

MAX_PARTS: Final = 6
"""The number of parts of the critical path that have a line of their own."""
MAX_NAME_LENGTH: Final = 32
"""The number of characters above which a name loses its middle: similar names often differ at their ends."""
MIN_SHARE: Final = 0.005
"""The share of the time below which a part of the critical path has no line."""
GOOD, BAD, OPEN = "good", "bad", "open"


def _verdict_style_and_words(record: TraceRecord) -> tuple[str, str]:
    """Return the CSS class and the words of the verdict on all outermost runs."""
    verdicts = dict.fromkeys(_verdict_on(record, run) for run in record.roots)
    styles = {style for style, _ in verdicts}
    style = next((style for style in (BAD, OPEN, GOOD) if style in styles), OPEN)
    return style, "; ".join(words for _, words in verdicts)


def _verdict_on(record: TraceRecord, run: RunSpan) -> tuple[str, str]:
    reason = None if run.finished_at is None else run.reason
    verdict = record.verdict(run, reason)
    style = GOOD if verdict.is_good else OPEN if reason is None and not record.tally.failed else BAD
    return style, printable(verdict.words)


def _head(record: TraceRecord, name: str) -> str:
    """Return the head of the page as HTML: the name of the run with a symbol, the verdict, the date and the host."""
    if not record.roots:
        return f"<h1><bdi>{escape(name)}</bdi></h1>"
    style, words = _verdict_style_and_words(record)
    looks = {
        GOOD: STATE_STYLES[JobState.SUCCEEDED],
        BAD: STATE_STYLES[JobState.FAILED],
        OPEN: STATE_STYLES[JobState.RUNNING],
    }
    began = datetime.datetime.fromtimestamp(record.began + record.wall_offset).astimezone()
    facts = [f"<bdi>{escape(words)}</bdi>", began.isoformat(" ", "seconds")]
    facts += [f"on {escape(platform.node())}"] * bool(platform.node())
    return (
        f'<h1 class="{style}"><span class="symbol">{looks[style].symbol}</span> <bdi>{escape(name)}</bdi></h1>'
        f'<p class="verdict">{" · ".join(facts)}</p>'
    )


def _is_listed_apart(span: Span) -> bool:
    """Return whether this is a forever job without trouble: these are listed apart, and the counts exclude them."""
    return _verdict.counted_state(span.state, span.forever) == _verdict.FOREVER


def _state_counts(record: TraceRecord) -> str:
    """Return a bar with the share of each state, and the counts, as HTML."""
    counts = Counter(span.state for span in record.leaves if not _is_listed_apart(span))
    order = [state for state in COUNTING_ORDER if counts[state]]
    parts = "".join(f'<span class="part {state.value}" style="flex-grow:{counts[state]}"></span>' for state in order)
    return f'<div class="states" aria-hidden="true">{parts}</div><p class="note">{escape(record.tally.in_words())}</p>'


def _path_section(record: TraceRecord) -> str:
    """Return the parts of the critical path with their shares of the time, as HTML."""
    parts = path_parts(record)
    whole = record.now - record.began
    if not parts or not whole:
        return '<p class="note">Nothing took any time.</p>'
    shown = [part for part in parts[:MAX_PARTS] if part.seconds >= MIN_SHARE * whole]
    rest = parts[len(shown) :]
    jobs = [part for part in rest if not part.is_wait]
    if len(jobs) == 1 and jobs[0].seconds >= MIN_SHARE * whole:  # "1 more" would take as much room
        shown, rest = [*shown, *jobs], [part for part in rest if part.is_wait]
    longest = max(part.seconds for part in parts)
    lines = [_path_line(record, part, longest, whole) for part in shown]
    seconds = sum(part.seconds for part in rest)
    if seconds >= MIN_SHARE * whole:
        number = sum(part.count for part in rest if not part.is_wait)
        lines.append(_path_row(f"{number} more" if number else "other waits", "more", seconds, longest, whole))
    return f'<ol class="path">{"".join(lines)}</ol>'


def _path_line(record: TraceRecord, part: PathPart, longest: float, whole: float) -> str:
    number = f" × {part.count}" * (part.count > 1)
    if part.is_wait:
        return _path_row(f"waited for {escape(part.name)}{number}", "wait", part.seconds, longest, whole)
    short = without_middle(part.name, MAX_NAME_LENGTH)
    tip = f' title="{escape(part.name)}"' * (short != part.name)
    name = f"<bdi{tip}>{escape(short)}</bdi>"
    if part.count == 1:
        address = quote(printable(shorten(record.spans[part.span].path)), safe="")
        name = f'<a href="#job={address}">{name}</a>'
    return _path_row(name + number, "work", part.seconds, longest, whole)


def _path_row(name: str, style: str, seconds: float, longest: float, whole: float) -> str:
    width = 100 * min(1.0, seconds / longest)
    share = 100 * seconds / whole
    return (
        f'<li><span class="name">{name}</span><span class="room"><span class="bar {style}" style="width:{width:.1f}%">'
        f'</span></span><span class="number">{duration_text(seconds, in_column=True)}</span>'
        f'<span class="number">{share:.0f}\N{NO-BREAK SPACE}%</span></li>'
    )


# ---- table


def _table_data(record: TraceRecord, commands: dict[int, dict[str, Any]]) -> str:
    """Return the data of the table as JSON that is safe inside an HTML page."""
    ranks = [0 if span.number in record.nested else 2 if _is_listed_apart(span) else 1 for span in record.spans]
    states = Counter(span.state for span, rank in zip(record.spans, ranks, strict=True) if rank == 1)
    began = [None if span.started_at is None else span.started_at - record.began for span in record.spans]
    columns = began, [span.waited for span in record.spans], [span.elapsed for span in record.spans]
    units, texts = zip(*map(durations_in_column, columns), strict=True)
    data: dict[str, Any] = {
        "units": units,
        "required": {span.number: span.required for span in record.spans if span.required},
        "waits": {span.number: [*map(printable, wait_lines(record, span))] for span in record.spans if span.waits},
        "states": [[state.value, states[state]] for state in JobState if states[state]],
        "rows": list(map(partial(_table_row, record), record.spans, ranks, zip(*texts, strict=True))),
        "commands": commands,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _table_row(record: TraceRecord, span: Span, rank: int, texts: tuple[str, ...]) -> list[Any]:
    """Return the cells of a row in the order that the script expects, numbers as pairs of value and text.

    Args:
        record: the record of the runs.
        span: the span of the row.
        rank: 0 for a nested scheduler, which is not counted; 2 for a forever job without trouble, which is listed
            apart; 1 for any other job.
        texts: the texts of the start, the wait and the duration.

    """
    start = None if span.started_at is None else span.started_at - record.began
    seconds = (start, span.waited, span.elapsed)
    times = [None if value is None else [round(value, 9), text] for value, text in zip(seconds, texts, strict=True)]
    path, kind, exception = map(printable, (display_name(span), span.kind, span.exception_text))
    tags = {
        "critical path": span.number in record.on_path,
        "critical": span.critical,
        "forever": span.forever,
        "timed out": span.timed_out,
        "restored": span.restored,
    }
    shown = [tag for tag, applies in tags.items() if applies]
    row = [path, kind, span.state.value, *times, len(span.attempts) or None, span.lane, exception, shown, rank]
    return row + list(_command_cells(span)) if record.commands else row


def _command_cells(span: Span) -> Iterator[list[Any] | None]:
    code, memory = span.returncode, span.max_rss
    yield None if code is None else [code, _failures.exit_text(code)]
    cpu = None if span.user_time is None or span.system_time is None else span.user_time + span.system_time
    yield None if cpu is None else [round(cpu, 6), duration_text(cpu)]
    yield None if memory is None else [memory, size_text(memory)]
