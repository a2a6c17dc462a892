"""The spans of a trace as a table in plain text, and as CSV."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator
from typing import Final

from ..._core.api.views import duration_text, printable
from ..text import _symbols
from ..text._symbols import align_columns
from ._span_builder import TraceRecord
from ._spans import Span

HEADINGS: Final = ("path", "state", "start", "wait", "time", "attempts", "lane", "exception")
LEFT_ALIGNED: Final = {HEADINGS.index(name) for name in ("path", "state", "exception")}
MAX_PATH_WIDTH: Final = 60
"""Width above which a path is clipped at its beginning, which adjacent lines mostly share."""

FIELDS: Final = (
    *("number", "parent", "run", "path", "label", "kind", "state", "critical", "forever"),
    *("scheduled", "started", "ready", "finished", "waited", "elapsed", "attempts", "lane", "timed_out"),
    *("on_critical_path", "required", "exception", "started_wall"),
    *("returncode", "user_time", "system_time", "max_rss", "restored", "waited_for"),
)


def table_text(record: TraceRecord) -> str:
    """Return the spans as an aligned table, with `*` before jobs on the critical path."""
    rows = [HEADINGS, *(_row(record, span) for span in record.spans)]
    marks = [" ", *("*" if span.number in record.on_path else " " for span in record.spans)]
    return "\n".join(f"{mark} {line}" for mark, line in zip(marks, align_columns(rows, LEFT_ALIGNED), strict=True))


def _row(record: TraceRecord, span: Span) -> tuple[str, ...]:
    return (
        _clip_path(printable(span.path) + _run_suffix(span)),
        "restored" if span.restored else span.state.value,
        "" if span.started_at is None else duration_text(span.started_at - record.began),
        _duration(span.waited),
        _duration(span.elapsed),
        str(len(span.attempts) or ""),
        str(span.lane or ""),
        printable(span.exception_text),
    )


def _run_suffix(span: Span) -> str:
    return f" (run {span.run})" if span.run > 1 else ""


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration_text(seconds)


def _clip_path(path: str) -> str:
    if _symbols.width(path) <= MAX_PATH_WIDTH:
        return path
    while _symbols.width(path) >= MAX_PATH_WIDTH:
        path = path[max(1, (_symbols.width(path) - MAX_PATH_WIDTH) // 2) :]
    return "…" + path


def csv_text(record: TraceRecord) -> str:
    """Return the spans as CSV, with the columns of `FIELDS`."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(FIELDS)
    writer.writerows(_fields(record, span) for span in record.spans)
    return stream.getvalue()


def _fields(record: TraceRecord, span: Span) -> Iterator[str]:
    yield from map(_csv_value, (span.number, span.parent, span.run))
    yield from map(printable, (span.path, span.label, span.kind, span.state.value))
    yield from map(_csv_value, (span.critical, span.forever))
    for at in (span.scheduled_at, span.started_at, span.ready_at, span.finished_at):
        yield _csv_value(None if at is None else round(at - record.began, 9))
    for seconds in (span.waited, span.elapsed):
        yield _csv_value(None if seconds is None else round(seconds, 9))
    yield from map(_csv_value, (len(span.attempts), span.lane, span.timed_out, span.number in record.on_path))
    yield " ".join(map(str, span.required))
    yield printable(span.exception_text)
    yield iso_time(record, span.started_at)
    yield from map(_csv_value, (span.returncode, span.user_time, span.system_time, span.max_rss, span.restored))
    yield printable("; ".join(f"{wait.words} {round(wait.seconds, 9)}" for wait in span.waits))


def _csv_value(value: object) -> str:
    return "" if value is None else str(value)


def iso_time(record: TraceRecord, at: float | None) -> str:
    """Convert a time on the backend's clock to the time of day in UTC, in ISO 8601; None becomes an empty string."""
    if at is None:
        return ""
    moment = datetime.datetime.fromtimestamp(at + record.wall_offset, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
