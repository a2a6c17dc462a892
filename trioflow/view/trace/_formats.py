"""The formats in which other programs read a trace: CSV, and Chrome's trace events, which Perfetto reads, too.

Trace events are JSON, with times in microseconds.

The format: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

Each scheduler becomes a process, and each of its lanes a thread of this process. Perfetto draws the processes below
each other, in the order of the file. Slices (`X`) of one thread may nest but not overlap, and jobs in one lane never
overlap.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

from ..._core.job._labels import printable
from .._state_styles import recorded_state
from ..text._symbols import escape_formula
from ._spans import RunSpan, Span
from ._trace_record import TraceRecord

TraceEvent = dict[str, Any]

FORMAT_VERSION: Final = 3
"""The version of the file format, written to `otherData`. It is incremented on incompatible changes."""


def json_text(record: TraceRecord, record_json: str) -> str:
    """Return the trace as JSON, with one event per line, and the record in the form of `_trace_file`."""
    builder = _EventBuilder(record)
    events = ",\n".join(json.dumps(event, ensure_ascii=True, separators=(",", ":")) for event in builder.events())
    other_data: TraceEvent = {
        "program": "trioflow",
        "version": FORMAT_VERSION,
        "began": iso_time(record, record.start_time if record.runs else None),
        "seconds": round(record.end_time - record.start_time, 9),
    }
    head = f'"displayTimeUnit":"ms","otherData":{json.dumps(other_data)},"record":{record_json}'
    return f'{{{head},"traceEvents":[\n{events}\n]}}\n'


class _EventBuilder:
    def __init__(self, record: TraceRecord) -> None:
        self._record: Final = record
        self._process_numbers: Final = self._assign_process_numbers()

    def events(self) -> Iterator[TraceEvent]:
        """Yield all events, the names of processes and threads first."""
        yield from self._metadata_events()
        for span in self._record.spans:
            if span.started_at is not None:
                yield from self._slice_events(span)
        yield from self._incident_events()

    def _assign_process_numbers(self) -> list[int]:
        """Return the process number of each run. All runs of one scheduler have the same number."""
        keys = [run.scheduler_number if run.parent is None else self._process_name(run) for run in self._record.runs]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), 1)}
        return [numbers[key] for key in keys]

    def _process_name(self, run: RunSpan) -> str:
        return run.label if run.parent is None else self._record.spans[run.parent].path

    def _metadata_events(self) -> Iterator[TraceEvent]:
        """Yield the metadata events, which set the names and the order of processes and threads."""
        for pid, name in dict(
            zip(self._process_numbers, map(self._process_name, self._record.runs), strict=True)
        ).items():
            yield _metadata_event(pid, 0, "process_name", {"name": printable(name)})
            yield _metadata_event(pid, 0, "process_sort_index", {"sort_index": pid})
        is_forever_by_thread = {
            self._thread_key(span): span.forever for span in self._record.spans if span.lane is not None
        }
        for (pid, lane), forever in sorted(is_forever_by_thread.items()):
            yield _metadata_event(pid, lane, "thread_name", {"name": f"{'forever' if forever else 'lane'} {lane}"})
            yield _metadata_event(pid, lane, "thread_sort_index", {"sort_index": lane})

    def _thread_fields(self, span: Span) -> TraceEvent:
        pid, tid = self._thread_key(span)
        return {"pid": pid, "tid": tid}

    def _thread_key(self, span: Span) -> tuple[int, int]:
        return self._process_numbers[self._record.run_indices[span.number]], span.lane or 0

    def _slice_events(self, span: Span) -> Iterator[TraceEvent]:
        """Yield the slice of a job, then the slices of its attempts, and a mark if it became ready as a service.

        The slices are in this order, because Perfetto nests the second of two slices with the same times in the first.
        """
        start, end = self._time_bounds(span)
        category = "job,critical-path" if span.number in self._record.critical_path_numbers else "job"
        job_slice = {"ph": "X", "name": printable(span.label), "cat": category, "args": self._slice_args(span)}
        yield {**job_slice, "ts": start, "dur": _duration(start, end), **self._thread_fields(span)}
        if len(span.attempts) > 1:
            errors = {number: {"error": error} for number, _, error in span.failed_attempts}
            boundaries = [*map(self._to_microseconds, span.attempts), end]
            for number, (start_time, end_time) in enumerate(itertools.pairwise(boundaries), 1):
                attempt_slice = {"ph": "X", "name": f"attempt {number}", "cat": "attempt"}
                yield {
                    **attempt_slice,
                    "ts": start_time,
                    "dur": _duration(start_time, end_time),
                    **self._thread_fields(span),
                    "args": errors.get(number, {}),
                }
        if span.ready_at is not None:
            ready_mark = {"ph": "i", "name": "ready", "cat": "service", "s": "t"}
            yield {**ready_mark, "ts": self._to_microseconds(span.ready_at), **self._thread_fields(span)}

    def _slice_args(self, span: Span) -> TraceEvent:
        details: TraceEvent = {"path": printable(span.path), "kind": span.kind, "state": recorded_state(span).value}
        details |= {"critical": span.critical, "forever": span.forever, "attempts": len(span.attempts)}
        if span.throttled:
            details["throttled"] = len(span.throttled)
        details["waited_us"] = None if span.waited is None else round(span.waited * 1e6, 3)
        details["run"] = span.run
        if span.timed_out:
            details["timed_out"] = True
        if span.exception is not None:
            details["exception"] = printable(span.exception_text)
        return details

    def _incident_events(self) -> Iterator[TraceEvent]:
        for incident in self._record.incidents:
            message = printable(incident.message)
            mark: TraceEvent = {"ph": "i", "name": message.partition("\\n")[0], "cat": "incident", "s": "p"}
            mark |= {
                "ts": self._to_microseconds(incident.occurred_at),
                "pid": self._process_numbers[incident.run_index],
                "tid": 0,
            }
            yield {**mark, "args": {"message": message}}

    def _time_bounds(self, span: Span) -> tuple[float, float]:
        """Return the start and end of a job in microseconds. A running job counts as ending when the trace ends."""
        assert span.started_at is not None
        end = max(self._record.end_of(span), span.started_at)
        return self._to_microseconds(span.started_at), self._to_microseconds(end)

    def _to_microseconds(self, time: float) -> float:
        return round((time - self._record.start_time) * 1e6, 3)


def _metadata_event(pid: int, tid: int, name: str, args: TraceEvent) -> TraceEvent:
    return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": args}


def _duration(start: float, end: float) -> float:
    return round(end - start, 3)


# ---- CSV

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
