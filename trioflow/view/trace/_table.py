"""The spans of a trace as CSV."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator
from typing import Final

from ..._core.api.views import printable
from .._state_styles import recorded_state
from ..text._symbols import escape_formula
from ._record import TraceRecord
from ._spans import Span

CSV_FIELDS: Final = (
    *("number", "parent", "run", "path", "label", "kind", "state", "critical", "forever"),
    *("scheduled", "started", "ready", "finished", "waited", "elapsed", "attempts", "lane", "timed_out"),
    *("on_critical_path", "required", "exception", "started_wall"),
    *("returncode", "user_time", "system_time", "max_rss", "restored", "waited_for"),
)


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
