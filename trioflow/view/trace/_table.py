"""The spans of a trace as a table in plain text and as CSV."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator
from typing import Final

from ..._core.api.views import duration_text, fit, printable
from .._state_styles import recorded_state
from ..text import _symbols
from ..text._symbols import align_columns, escape_formula
from ._record import TraceRecord
from ._spans import Span

HEADINGS: Final = ("path", "state", "start", "wait", "time", "attempts", "lane", "exception")
LEFT_ALIGNED_COLUMNS: Final = {HEADINGS.index(name) for name in ("path", "state", "exception")}
MAX_PATH_WIDTH: Final = 60
"""The maximum width of a path, in columns of a terminal. A longer path loses its beginning, because adjacent lines
mostly share it."""

CSV_FIELDS: Final = (
    *("number", "parent", "run", "path", "label", "kind", "state", "critical", "forever"),
    *("scheduled", "started", "ready", "finished", "waited", "elapsed", "attempts", "lane", "timed_out"),
    *("on_critical_path", "required", "exception", "started_wall"),
    *("returncode", "user_time", "system_time", "max_rss", "restored", "waited_for"),
)


def table_text(record: TraceRecord) -> str:
    """Return the spans as a table with aligned columns, and with `*` before jobs on the critical path."""
    rows = [HEADINGS, *(_table_row(record, span) for span in record.spans)]
    markers = [" ", *("*" if span.number in record.critical_path_numbers else " " for span in record.spans)]
    return "\n".join(
        f"{marker} {line}" for marker, line in zip(markers, align_columns(rows, LEFT_ALIGNED_COLUMNS), strict=True)
    )


def _table_row(record: TraceRecord, span: Span) -> tuple[str, ...]:
    return (
        fit(printable(span.name), MAX_PATH_WIDTH, "end", _symbols.display_width),
        "restored" if span.restored else recorded_state(span).value,
        "" if span.started_at is None else duration_text(span.started_at - record.start_time),
        _optional_duration_text(span.waited),
        _optional_duration_text(span.took),
        str(len(span.attempts) or ""),
        str(span.lane or ""),
        printable(span.exception_text),
    )


def _optional_duration_text(seconds: float | None) -> str:
    return "" if seconds is None else duration_text(seconds)


def csv_text(record: TraceRecord) -> str:
    """Return the spans as CSV, with the columns `CSV_FIELDS`.

    The row of a restored job is about the run that ran it: what is measured from the start of this run is empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(CSV_FIELDS)
    writer.writerows(_csv_row(record, span) for span in record.spans)
    return stream.getvalue()


def _text_cell(text: str) -> str:
    return escape_formula(printable(text))


def _csv_row(record: TraceRecord, span: Span) -> Iterator[str]:
    yield from map(_value_text, (span.number, span.parent, span.run))
    yield from map(_text_cell, (span.path, span.label, span.kind, recorded_state(span).value))
    yield from map(_value_text, (span.critical, span.forever))
    for time in (span.scheduled_at, span.started_at, span.ready_at, span.finished_at):
        yield _value_text(None if time is None or span.restored else round(time - record.start_time, 9))
    for seconds in (span.waited, span.took):
        yield _value_text(None if seconds is None else round(seconds, 9))
    yield from map(
        _value_text, (len(span.attempts), span.lane, span.timed_out, span.number in record.critical_path_numbers)
    )
    yield " ".join(map(str, span.required))
    yield _text_cell(span.exception_text)
    yield _restored_start_time(span) if span.restored else iso_time(record, span.started_at)
    yield from map(_value_text, (span.returncode, span.user_time, span.system_time, span.max_rss, span.restored))
    waits = () if span.restored else span.waits
    yield _text_cell("; ".join(f"{wait.words} {round(wait.seconds, 9)}" for wait in waits))


def _restored_start_time(span: Span) -> str:
    """Return the date and time at which a restored job started in the run that ran it; "" if they are unknown."""
    if span.restored_at is None or span.restored_elapsed is None:
        return ""
    try:
        return _iso_text(span.restored_at - span.restored_elapsed)
    except (OverflowError, ValueError, OSError):  # the journal has been changed
        return ""


def _value_text(value: object) -> str:
    return "" if value is None else str(value)


def iso_time(record: TraceRecord, timestamp: float | None) -> str:
    """Convert a time on the backend's clock to a date and time in UTC, in ISO 8601. None becomes an empty string."""
    if timestamp is None:
        return ""
    return _iso_text(timestamp + record.wall_offset)


def _iso_text(seconds: float) -> str:
    date_time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return date_time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
