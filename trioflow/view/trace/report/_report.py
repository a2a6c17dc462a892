"""A trace as an HTML page that needs nothing else: graph, timeline, a table of all jobs, and the failures.

The page, its style sheet and its script are files beside this one. Whatever comes from a scenario is only ever text: it
is escaped in the page, and given as JSON to the script, which inserts it only by `textContent`. The page's own policy
forbids it to load anything.
"""

from __future__ import annotations

import html as escapes
import json
import string
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final

from ...._core.api.views import (
    HOW_RUNS_END,
    JobState,
    StopReason,
    duration_text,
    durations_in_column,
    given_label,
    printable,
    shortened,
    size_text,
)
from ...graph import _render
from ...text import _debrief, _exception_text, _verdict
from .._record import TraceRecord
from .._spans import RunSpan, Span
from .._table import wall
from ..timeline import _timeline
from ..timeline._bars import waits_in_words
from . import _commands, _graph, _sections, _what_if

MOST_FAILURES: Final = 200
"""Groups of equal failures."""
MOST_NAMES: Final = 100
"""Jobs of one group that are named, and background jobs."""
MOST_INCIDENTS: Final = 5
TIMELINE_WIDTH: Final = 1200
LINK_TO_WHAT_IF: Final = '<a href="#what-if">What if</a>'


def html(record: TraceRecord, folder: Path) -> str:
    """Return the whole page, which will be in `folder`."""
    roots = record.roots
    name = ", ".join(dict.fromkeys(_title(record, run) for run in roots)) or "nothing has run"
    failures = _failed(record)
    commands = _commands.details(record, folder)
    what_if = _what_if.section(record)
    return string.Template(_part("report.html")).substitute(
        title=_text(shortened(name)),
        style=_part("report.css"),
        style_of_the_graph=_render.rules(),
        sentence=_sentence(record, roots),
        summary=_summary(record, roots),
        graph="\n".join(
            _graph.section(one, record.critical_jobs) for one in dict.fromkeys(run.scheduler for run in roots)
        ),
        words=_sections.words(record, bool(what_if)),
        about=_sections.about(roots),
        about_timeline=_about_timeline(record),
        timeline=_timeline.svg(record, TIMELINE_WIDTH),
        time_spent=_sections.time_spent(record),
        what_if=what_if,
        link_to_what_if=LINK_TO_WHAT_IF if what_if else "",
        failure_count=str(len(failures)),
        failures=_failures(record, failures, commands),
        background=_background(record),
        data=_data(record, commands),
        script=_part("report.js"),
    )


def _title(record: TraceRecord, run: RunSpan) -> str:
    """Return the label of a scheduler; without one, what a reader who knows no schedulers can make something of."""
    if given_label(run.scheduler) is not None:
        return run.label
    number = sum(1 for _ in record.leaves)
    return f"A run of {number} job{'s' * (number != 1)}"


def _part(name: str) -> str:
    return (resources.files("trioflow.view.trace.report") / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return escapes.escape(printable(text))


def _lines(text: str) -> str:
    return escapes.escape("\n".join(printable(line.expandtabs()) for line in text.rstrip("\n").split("\n")))


# ---- summary


def _summary(record: TraceRecord, roots: list[RunSpan]) -> str:
    verdicts = dict.fromkeys(_verdict_on(record, run) for run in roots)
    facts = [f'<span class="badge {css}">{_text(text)}</span>' for css, text in verdicts]
    failed = len(_failed(record))
    if failed and any(css == "open" for css, _ in verdicts):
        facts.append(f'<span class="badge bad">{failed} failed</span>')
    facts += [f"<span>{fact}</span>" for fact in _facts(record, roots)]
    return "\n".join(facts)


def _sentence(record: TraceRecord, roots: list[RunSpan]) -> str:
    """Return how the run went, for readers who know nothing of stop reasons, as HTML."""
    if not roots:
        return "Nothing has run."
    run = roots[-1]
    tally = record.tally
    jobs = f"{tally.failed} of {tally.jobs} job{'s' * (tally.jobs != 1)} failed" if tally.failed else "no job failed"
    if run.finished_at is None or run.reason is None:
        return f"The run was still under way when this report was written; so far {jobs}."
    culprit = f" of {_culprit(record, run)}" if run.culprit is not None else ""
    more = DRAINED if run.reason is StopReason.DRAINED else ""
    return f"The run {HOW_RUNS_END[run.reason]}{culprit}{more}; {jobs}."


DRAINED: Final = ": no more jobs were to start, and those that ran went on to their end"


def _culprit(record: TraceRecord, run: RunSpan) -> str:
    span = record.culprit(run)
    return "" if span is None else f"<b>{_name(span)}</b>"


def _verdict_on(record: TraceRecord, run: RunSpan) -> tuple[str, str]:
    """Return the style and the words for how a run ended: those of all views."""
    if run.finished_at is None or run.reason is None:
        return "open", "still running"
    said = _verdict.verdict(run.reason, record.tally, None)
    return ("good" if said.is_good else "bad"), said.words


def _facts(record: TraceRecord, roots: list[RunSpan]) -> Iterator[str]:
    """Yield what else is known of the whole run, as HTML."""
    if not roots:
        return
    is_over = all(run.finished_at is not None for run in roots)
    yield f"{'took' if is_over else 'for'} {duration_text(record.now - record.began)}{'' if is_over else ' so far'}"
    yield f"began {wall(record, record.began).replace('T', ' ').partition('.')[0].rstrip('Z')} UTC"
    yield record.tally.in_words()
    counted = "; a nested scheduler counts as one" if len(record.runs) > len(roots) else ""
    for run in roots:
        if run.culprit is not None:
            yield f"culprit: {_culprit(record, run)}"
        if run.window_sizes:
            sizes = [size for _, size in run.window_sizes]
            yield f"{min(sizes)} to {max(sizes)} jobs at once, {sizes[-1]} in the end (adaptive window{counted})"
        elif run.window is not None:
            yield f"at most {run.window} job{'s' * (run.window != 1)} at once (window {run.window}{counted})"
    if record.incidents:
        messages = "; ".join(mark.message.partition("\n")[0] for mark in record.incidents[:MOST_INCIDENTS])
        yield f"incidents: {len(record.incidents)} (<bdi>{_text(messages)}</bdi>)"


def _about_timeline(record: TraceRecord) -> str:
    path = " A thick border marks the critical path: the jobs that decided when the run ended." if record.chain else ""
    return (
        "Each bar is a job, from its start to its end; jobs in one row follow each other."
        f"{path} Point at a bar for its details."
    )


# ---- failures


def _failed(record: TraceRecord) -> list[Span]:
    """Return the jobs that failed by themselves."""
    return [record.spans[number] for number in record.failures]


def _failures(record: TraceRecord, spans: list[Span], commands: dict[int, dict[str, Any]]) -> str:
    """Return a piece for each group of equal failures, as in `debrief`."""
    if not spans:
        return '<p class="note">No job failed.</p>'
    shown = _debrief.grouped((span, span.critical, record.failures[span.number]) for span in spans)[:MOST_FAILURES]
    rest = len(spans) - sum(map(len, shown))
    more = f'<p class="note">{rest} more are in the table.</p>' if rest else ""
    return "\n".join(_group(record, group, commands, len(shown) <= 5) for group in shown) + more


def _group(record: TraceRecord, spans: list[Span], commands: dict[int, dict[str, Any]], is_open: bool) -> str:
    """Return what is told of failures that are equal but for their messages: one traceback, that of the first."""
    first = spans[0]
    critical = '<span class="badge bad">critical</span> ' * first.critical
    title = _name(first) if len(spans) == 1 else f"{len(spans)} failures of one kind"
    names = ""
    if len(spans) > 1:
        items = [_member(span) for span in spans[:MOST_NAMES]]
        if len(spans) > MOST_NAMES:
            items.append(f"<li>and {len(spans) - MOST_NAMES} more, which are in the table</li>")
        names = f"<ul>{''.join(items)}</ul><p>The first of them:</p>"
    failure = record.failures[first.number]
    trace = _exception_text.formatted(failure.exception, failure.traceback)
    command = _command(commands[first.number]) if first.number in commands else ""
    return (
        f'<details class="failure" data-first="{first.number}"{" open" * is_open}><summary>{critical}<b>{title}</b> '
        f"{_exception(first)}</summary>{names}{command}<pre>{_lines(trace)}</pre></details>"
    )


def _member(span: Span) -> str:
    return f'<li><a href="#detail" data-number="{span.number}">{_name(span)}</a> {_exception(span)}</li>'


def _exception(span: Span) -> str:
    return f"<bdi>{_text(span.exception_text)}</bdi>"


def _command(details: dict[str, Any]) -> str:
    links = [
        f'{stream}: <a href="{escapes.escape(address)}">{_text(path)}</a>' for stream, address, path in details["files"]
    ]
    facts = " · ".join([_text(details["facts"]), *links])
    outputs = [f"<p>{_text(title)}:</p><pre>{_lines(text)}</pre>" for title, text in details["outputs"]]
    return f'<p><code>{_text(details["command"])}</code></p><p class="note">{facts}</p>{"".join(outputs)}'


def _name(span: Span) -> str:
    """Return the name of a job as HTML, isolated from what stands beside it, in case it runs from right to left."""
    return f"<bdi>{_text(_shown_name(span))}</bdi>"


def _shown_name(span: Span) -> str:
    return (shortened(span.path) if span.path.strip() else "(empty label)") + f" (run {span.run})" * (span.run > 1)


def _is_background(span: Span) -> bool:
    return span.forever and span.state not in _verdict.TROUBLE


def _background(record: TraceRecord) -> str:
    """Return the forever jobs, folded: they have done what they were for, and few readers want to see them."""
    spans = [span for span in record.leaves if _is_background(span)]
    if not spans:
        return ""
    items = [f"<li><b>{_name(span)}</b> {_text(_life(record, span))}</li>" for span in spans[:MOST_NAMES]]
    if len(spans) > MOST_NAMES:
        items.append(f"<li>and {len(spans) - MOST_NAMES} more</li>")
    title = f"{len(spans)} background job{'s' * (len(spans) > 1)}"
    return (
        f'<details id="background" class="card fold background"><summary>{title}</summary><p class="note">'
        f"A background job (forever=True) runs beside the others, and the run ends it when these have settled.</p>"
        f"<ul>{''.join(items)}</ul></details>"
    )


def _life(record: TraceRecord, span: Span) -> str:
    if span.started_at is None:
        return f"{span.kind}, never started"
    began = f"{span.kind}, started at {duration_text(span.started_at - record.began)}"
    ready = "" if span.ready_at is None else f", ready at {duration_text(span.ready_at - record.began)}"
    return began + ready + (", still runs" if span.elapsed is None else f", ran for {duration_text(span.elapsed)}")


# ---- table


def _data(record: TraceRecord, commands: dict[int, dict[str, Any]]) -> str:
    """Return the data of the table for the script, as JSON that can stand in a page."""
    marked = {link.number for link in record.chain}
    leaves = {span.number for span in record.leaves}
    places = [0 if span.number not in leaves else 2 if _is_background(span) else 1 for span in record.spans]
    states = Counter(span.state for span, place in zip(record.spans, places, strict=True) if place == 1)
    began = [None if span.started_at is None else span.started_at - record.began for span in record.spans]
    columns = began, [span.waited for span in record.spans], [span.elapsed for span in record.spans]
    units, texts = zip(*map(durations_in_column, columns), strict=True)
    data: dict[str, Any] = {
        "units": units,
        "required": {span.number: span.required for span in record.spans if span.required},
        "waits": {span.number: [*map(printable, waits_in_words(record, span))] for span in record.spans if span.waits},
        "states": [[state.value, states[state]] for state in JobState if states[state]],
        "rows": [
            _row(record, span, span.number in marked, place, times)
            for span, place, *times in zip(record.spans, places, *texts, strict=True)
        ],
        "commands": commands,
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _row(record: TraceRecord, span: Span, marked: bool, place: int, texts: list[str]) -> list[Any]:
    """Return what the columns of the table show, in the order of the script; times as number and text.

    The place is 0 for a nested scheduler, which is not counted, 1 for a job, 2 for a background job, which is folded.
    """
    start = None if span.started_at is None else span.started_at - record.began
    seconds = (start, span.waited, span.elapsed)
    times = [None if one is None else [round(one, 9), text] for one, text in zip(seconds, texts, strict=True)]
    path, kind, exception = map(printable, (_shown_name(span), span.kind, span.exception_text))
    signs = {
        "critical path": marked,
        "critical": span.critical,
        "background": span.forever,
        "timed out": span.timed_out,
        "restored": span.restored,
    }
    shown = [sign for sign, has in signs.items() if has]
    row = [path, kind, span.state.value, *times, len(span.attempts) or None, span.lane, exception, shown, place]
    return row + list(_usage(span)) if record.commands else row


def _usage(span: Span) -> Iterator[list[Any] | None]:
    code, memory = span.returncode, span.max_rss
    yield None if code is None else [code, _commands.ending(code)]
    cpu = None if span.user_time is None or span.system_time is None else span.user_time + span.system_time
    yield None if cpu is None else [round(cpu, 6), duration_text(cpu)]
    yield None if memory is None else [memory, size_text(memory)]
