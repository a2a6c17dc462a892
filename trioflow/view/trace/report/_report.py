"""A trace as an HTML page that needs nothing else: graph, timeline, a table of all jobs, and the failures.

The page, its style sheet and its script are files beside this one. Whatever comes from a scenario is only ever text: it
is escaped in the page, and given as JSON to the script, which inserts it only by `textContent`. The page's own policy
forbids it to load anything.
"""

from __future__ import annotations

import html as escapes
import json
import string
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

from ...._core import Failure, JobState, StopReason, printable
from ..._units import duration
from ...graph import _layered
from ...graph._drawing import Close, Drawing
from ...text import _counts, _user_traceback
from .._record import Record
from .._spans import RunSpan, Span
from .._table import wall
from ..timeline import _timeline

BUNDLED: Final = 40
"""Jobs: from this many on, those that are alike are drawn as one box."""
LARGEST_GRAPH: Final = 300
"""Boxes. `dot` takes seconds for this many and minutes for a thousand, and nobody could read the picture."""
MOST_FAILURES: Final = 200
MOST_INCIDENTS: Final = 5
TIMELINE_WIDTH: Final = 1200


def html(record: Record) -> str:
    """Return the whole page."""
    roots = record.roots
    name = ", ".join(dict.fromkeys(run.label for run in roots)) or "nothing has run"
    failures = _failed(record)
    return string.Template(_part("report.html")).substitute(
        title=_text(name),
        style=_part("report.css"),
        summary=_summary(record, roots),
        graph="\n".join(map(_graph, dict.fromkeys(run.scheduler for run in roots))),
        timeline=_timeline.svg(record, TIMELINE_WIDTH),
        failure_count=str(len(failures)),
        failures=_failures(record, failures),
        data=_data(record),
        script=_part("report.js"),
    )


def _part(name: str) -> str:
    return (resources.files("trioflow.view.trace.report") / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return escapes.escape(printable(text))


def _lines(text: str) -> str:
    return escapes.escape("\n".join(printable(line.expandtabs()) for line in text.rstrip("\n").split("\n")))


# ---- summary


def _summary(record: Record, roots: list[RunSpan]) -> str:
    facts = [f'<span class="badge {css}">{_text(text)}</span>' for css, text in dict.fromkeys(map(_verdict, roots))]
    if failed := len(_failed(record)):
        facts.append(f'<span class="badge bad">{failed} failed</span>')
    facts += [f"<span>{_text(text)}</span>" for text in _facts(record, roots)]
    return "\n".join(facts)


def _verdict(run: RunSpan) -> tuple[str, str]:
    """Return the style and the words for why a run ended."""
    if run.finished_at is None or run.reason is None:
        return "open", "still running"
    return ("good" if run.reason is StopReason.COMPLETED else "bad"), f"stop reason: {run.reason.name}"


def _facts(record: Record, roots: list[RunSpan]) -> Iterator[str]:
    if not roots:
        return
    yield duration(record.now - record.began)
    yield f"began {wall(record, record.began).replace('T', ' ').partition('.')[0].rstrip('Z')} UTC"
    nested = {run.parent for run in record.runs}
    yield _counts.in_words((span.state, span.forever) for span in record.spans if span.number not in nested)
    for run in roots:
        if run.culprit is not None:
            yield f"culprit: {record.spans[_innermost(record, run.culprit)].path}"
        if run.window is not None:
            yield f"window {run.window}"
    if record.incidents:
        messages = "; ".join(mark.message.partition("\n")[0] for mark in record.incidents[:MOST_INCIDENTS])
        yield f"incidents: {len(record.incidents)} ({messages})"


def _innermost(record: Record, culprit: int) -> int:
    """Follow a culprit into nested schedulers."""
    inside = {run.parent: run.culprit for run in record.runs}
    while (further := inside.get(culprit)) is not None:
        culprit = further
    return culprit


# ---- graph


def _graph(scheduler: Any) -> str:
    """Return the graph of a scheduler as SVG, or why there is none."""
    jobs = sum(1 for _ in scheduler.iterate_jobs())
    bundle = jobs >= BUNDLED
    boxes = sum(not isinstance(item, Close) for item in Drawing(scheduler, bundle=bundle).items())
    if boxes > LARGEST_GRAPH:
        return _note(
            f"{jobs} jobs are too many for a graph that can be read here: see scheduler.graph() for parts of it."
        )
    try:
        drawn = scheduler.graph(bundle=bundle).pipe("svg").decode("utf-8")
    except (AttributeError, ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return _graph_without_dot(scheduler, bundle, error)
    return f'<div class="paper scroll">{drawn[drawn.index("<svg") :]}</div>'


def _graph_without_dot(scheduler: Any, bundle: bool, error: Exception) -> str:
    """Return the graph as grandalf lays it out, with nested schedulers as single boxes."""
    try:
        drawn = _layered.svg(Drawing(scheduler, collapse=True, bundle=bundle))
    except ImportError:
        return _note(f"No graph: {error}. Without dot, pip install 'trioflow[graph]' gives a simpler one.")
    return f'<div class="paper scroll">{drawn}</div>'


def _note(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


# ---- failures


def _failed(record: Record) -> list[Span]:
    """Return the jobs that failed by themselves: critical ones first, and otherwise in the order of settling."""
    spans = [record.spans[number] for number in record.failures]
    return sorted(spans, key=lambda span: (not span.critical, record.failures[span.number].number))


def _failures(record: Record, spans: list[Span]) -> str:
    if not spans:
        return '<p class="note">No job failed.</p>'
    shown = spans[:MOST_FAILURES]
    rest = len(spans) - len(shown)
    more = _note(f"{rest} more are in the table.") if rest else ""
    return "\n".join(_failure(span, record.failures[span.number], len(shown) <= 5) for span in shown) + more


def _failure(span: Span, failure: Failure, is_open: bool) -> str:
    run = f" (run {span.run})" if span.run > 1 else ""
    critical = '<span class="badge bad">critical</span> ' * span.critical
    error = failure.exception
    trace = _user_traceback.formatted(error, failure.traceback)
    return (
        f'<details class="failure"{" open" * is_open}><summary>{critical}<b>{_text(span.path + run)}</b> '
        f"<span>{_text(span.exception_text)}</span></summary><pre>{_lines(trace)}</pre></details>"
    )


# ---- table


def _data(record: Record) -> str:
    """Return the data of the table for the script, as JSON that can stand in a page."""
    marked = {link.number for link in record.chain}
    states = Counter(span.state for span in record.spans)
    data = {
        "states": [[state.value, states[state]] for state in JobState if states[state]],
        "rows": [_row(record, span, span.number in marked) for span in record.spans],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _row(record: Record, span: Span, marked: bool) -> list[Any]:
    """Return path, kind, state, start, wait, time, attempts, lane, exception and signs; times as number and text."""
    run = f" (run {span.run})" if span.run > 1 else ""
    start = None if span.started_at is None else span.started_at - record.began
    times = [None if time is None else [round(time, 9), duration(time)] for time in (start, span.waited, span.elapsed)]
    path, kind, exception = map(printable, (span.path + run, span.kind, span.exception_text))
    signs = {"critical path": marked, "critical": span.critical, "forever": span.forever, "timed out": span.timed_out}
    shown = [sign for sign, has in signs.items() if has]
    return [path, kind, span.state.value, *times, len(span.attempts) or None, span.lane, exception, shown]
