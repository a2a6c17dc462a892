"""The files of a trace: the record of a run as JSON, beside the trace events that Perfetto shows, and a table as CSV.

The record has only data: dataclasses, tuples, dicts, enumerations and numbers. An exception is written as its type and
message, and read as a placeholder that has the same text. Fields with their default values are left out.

Trace events have Chrome's form, with times in microseconds:
"Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import enum
import functools
import io
import itertools
import json
import math
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from ... import _posix as posix
from ..._core.base import _graph_algorithms, _states
from ..._core.job._labels import printable
from .._state_styles import recorded_state
from ..text import _failure_text, _symbols
from ._spans import Span
from ._trace_record import TraceRecord

FORMAT_VERSION: Final = 4
"""The version of the file format, written to `otherData`. It is incremented on incompatible changes."""
RECORD_KEY: Final = "record"
LIVE_FIELDS: Final = frozenset({"live", "stored_graphs"})
"""The fields of a `TraceRecord` that are not written as they are."""
LARGEST_NUMBER: Final = 1e18
"""The largest number in a file. It also stands for infinity, which JSON does not have."""
LAST_DATE: Final = 250_000_000_000
"""The largest time since 1970 that is shown as a date, in seconds. It is in the year 9892."""
Plain = TypeVar("Plain")
INPUT_HINT: Final = "give a file written by `trioflow run --trace FILE.json`"


class BadTrace(ValueError):
    """An error for a file that cannot be read, is not a trace, is damaged, or has an unknown version."""


def record_json(record: TraceRecord) -> str:
    """Return a record as JSON, including the graphs of its outermost schedulers."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        if field.name not in LIVE_FIELDS:
            plain[field.name] = to_plain(getattr(record, field.name))
    plain["stored_graphs"] = to_plain(record.graphs)
    return json.dumps(plain, ensure_ascii=True, separators=(",", ":"))


def to_plain(value: object) -> Any:
    """Return a record, or the facts for a record, as data that JSON has."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return math.copysign(LARGEST_NUMBER, value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    values: Any = value
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in values.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in values]
    if isinstance(value, BaseException):
        return _failure_text.one_line_text(value, _failure_text.MAX_STORED_LENGTH)
    plain: dict[str, Any] = {}
    for name, default in _defaults(cast(Hashable, type(value))).items():
        item = getattr(value, name)
        if item is not default and item != default:
            plain[name] = to_plain(item)
    return plain


@functools.cache
def _defaults(kind: Any) -> dict[str, Any]:
    """Return the name and the default of each field of a dataclass that is written."""
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.name[0] != "_"
    }


def read_record(path: Path) -> TraceRecord:
    """Read the record of a run from a trace file.

    Raises:
        BadTrace: the file cannot be read as a trace. The message says why.

    """
    import msgspec

    try:
        # msgspec would reject a surrogate, which the name of a file may have.
        trace: Any = json.loads(
            posix.read_named(path),
            parse_constant=_parse_number,
            parse_float=_parse_number,
            parse_int=lambda text: int(_parse_number(text, int)),
        )
    except OSError as error:
        raise BadTrace(
            f"cannot read {str(path)!r}: {error.strerror}; {INPUT_HINT}"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "it is not JSON"
        if type(error) is ValueError:
            reason = str(error)
        raise BadTrace(
            f"{str(path)!r} is not a trace: {reason}; {INPUT_HINT}"
        ) from None
    other_data = _item(trace, "otherData")
    if _item(other_data, "program") != "trioflow":
        raise BadTrace(f"{str(path)!r} is not a trace of trioflow; {INPUT_HINT}")
    version = _item(other_data, "version")
    if version != FORMAT_VERSION:
        raise BadTrace(
            f"{str(path)!r} was written by another version of trioflow: its format is {version!r}, but this one reads "
            f"{FORMAT_VERSION}; read the trace with that version, or record it again"
        )
    try:
        record = read_plain(trace.get(RECORD_KEY), TraceRecord)
        _check(record)
        return record
    except (LookupError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {error}") from None


def _item(data: Any, key: str) -> Any:
    """Return an item of a dict, or None if the data, which are of a stranger, are no dict, or have no such item."""
    if not isinstance(data, dict):
        return None
    return cast("dict[str, Any]", data).get(key)


def read_plain(data: object, kind: type[Plain]) -> Plain:
    """Return facts about runs and jobs that `to_plain` has made data of, in this process or in another.

    Raises:
        msgspec.ValidationError: the data are not of this kind.

    """
    import msgspec

    return msgspec.convert(data, kind, str_keys=True, dec_hook=_read_exception)


def _parse_number(text: str, kind: type[float] = float) -> float:
    number = kind(text)
    # NaN fails both comparisons.
    if not -LARGEST_NUMBER <= number <= LARGEST_NUMBER:
        raise ValueError(f"the number {text} is too large")
    return number


def _read_exception(kind: object, text: object) -> BaseException:
    """Return the exception of a text. If this raises, msgspec says where the text is."""
    if kind is not BaseException or not isinstance(text, str):
        raise ValueError("Expected the text of an exception")
    return _failure_text.placeholder_exception(text)


def _check(record: TraceRecord) -> None:
    """Check all that readers of a record rely on, and that the types of its fields do not ensure.

    - The spans are numbered in order, and each number of a span refers to one.
    - Each span is a member of a single run, which has the same parent. A run comes after the run that its parent is in.
    - No job requires itself, is blocked by itself or stops its own group, not even through others.
    - The graphs have nothing but the parts of drawings.
    - Times can be shown as dates, each failed job has its failure, and output files have absolute paths.

    Raises:
        LookupError: the structure is wrong.
        ValueError: a value is wrong.

    """
    spans = record.spans
    count = len(record.spans)
    numbers = [*range(count)]
    has_families = len(record.families) == count
    if [span.number for span in spans] != numbers or not has_families:
        raise LookupError("the spans are not numbered in order, or have no families")
    if unknown := {*_span_numbers(record)} - {*numbers, None}:
        raise LookupError(f"spans {sorted(map(str, unknown))[:5]} are missing")
    members: set[int] = set()
    for run in record.runs:
        if run.parent is not None and run.parent not in members:
            raise LookupError(
                f"the run of {run.label!r} comes before that of its parent, span {run.parent}"
            )
        for number in run.member_numbers:
            if number in members or spans[number].parent != run.parent:
                raise LookupError(
                    f"span {number} is in two runs, or has another parent than its run"
                )
            members.add(number)
    run_indices = {incident.run_index for incident in record.incidents}
    if len(members) < count or not run_indices.issubset(range(len(record.runs))):
        raise LookupError("the run of a span or an incident is missing")
    requirements: list[list[int]] = []
    for span in spans:
        requirements.append([*span.required])
        if span.blocked_by is not None:
            requirements[-1].append(span.blocked_by)
    for run in record.runs:
        if run.parent is not None and run.culprit_number is not None:
            requirements[run.parent].append(run.culprit_number)
    order = _graph_algorithms.topological_order(numbers, requirements.__getitem__)
    if len(order) < count:
        raise LookupError("jobs require each other in a cycle")
    failed = {
        span.number
        for span in record.counted_spans
        if span.state is _states.JobState.FAILED
    }
    if missing := sorted(failed - record.failures.keys()):
        raise LookupError(f"the failures of spans {missing[:5]} are missing")
    for command in record.commands.values():
        if not all(os.path.isabs(path) for _, path in command.files):
            raise ValueError("the path of a file with output is not absolute")
    if not all(0 <= time <= LAST_DATE for time in _dates(record)):
        raise ValueError("a time is no date between 1970 and 9892")
    for graph in record.stored_graphs:
        for statement in graph.statements:
            statement.check()


def _span_numbers(record: TraceRecord) -> Iterator[int | None]:
    """Yield each number of a span in a record."""
    yield from (*record.failures, *record.commands, *record.printed)
    for span in record.spans:
        yield from (
            *span.required,
            *(wait.released_by for wait in span.waits),
            span.parent,
            span.blocked_by,
        )
    for run in record.runs:
        yield from (*run.member_numbers, run.parent, run.culprit_number)


def _dates(record: TraceRecord) -> Iterator[float]:
    """Yield each time in a record that may be shown as a date, in seconds since 1970."""
    times: list[float | None] = [record.end_time]
    for run in record.runs:
        times += [run.started_at, run.finished_at]
    for span in record.spans:
        times += [span.scheduled_at, span.started_at, span.ready_at, span.finished_at]
        if span.restored_at is not None:
            yield span.restored_at
    yield from (time + record.wall_offset for time in times if time is not None)


# ---- trace events

TraceEvent = dict[str, Any]


def json_text(record: TraceRecord) -> str:
    """Return the trace as JSON, with a line for each event, and the record."""
    builder = _EventBuilder(record)
    events = ",\n".join(
        json.dumps(event, ensure_ascii=True, separators=(",", ":"))
        for event in builder.events()
    )
    other_data: TraceEvent = {
        "program": "trioflow",
        "version": FORMAT_VERSION,
        "began": iso_time(record, record.start_time if record.runs else None),
        "seconds": round(record.seconds, 9),
    }
    head = f'"displayTimeUnit":"ms","otherData":{json.dumps(other_data)},"{RECORD_KEY}":{record_json(record)}'
    return f'{{{head},"traceEvents":[\n{events}\n]}}\n'


class _EventBuilder:
    """Each scheduler becomes a process, and each of its lanes a thread of this process.

    Perfetto draws the processes below each other, in the order of the file. Slices (`X`) of a thread may nest but not
    overlap, and jobs in a lane never overlap.
    """

    def __init__(self, record: TraceRecord) -> None:
        self._record: Final = record
        # The process number of each run. All runs of a scheduler have the same number.
        self._process_names: Final[dict[int, str]] = {}  # by number
        self._process_numbers: Final[list[int]] = []  # of the runs
        numbers: dict[int | str, int] = {}
        for run in record.runs:
            key: int | str = run.scheduler_number
            name = run.label
            if run.parent is not None:
                key = name = record.spans[run.parent].path
            number = numbers.setdefault(key, len(numbers) + 1)
            self._process_names[number] = name
            self._process_numbers.append(number)

    def events(self) -> Iterator[TraceEvent]:
        """Yield all events, the names of processes and threads first."""
        yield from self._metadata_events()
        for span in self._record.spans:
            if span.started_at is not None:
                yield from self._slice_events(span)
        yield from self._incident_events()

    def _metadata_events(self) -> Iterator[TraceEvent]:
        """Yield the metadata events, which set the names and the order of processes and threads."""
        for pid, name in self._process_names.items():
            yield _metadata_event(pid, 0, "process_name", {"name": printable(name)})
            yield _metadata_event(pid, 0, "process_sort_index", {"sort_index": pid})
        is_forever: dict[tuple[int, int], bool] = {}
        for span in self._record.spans:
            if span.lane is not None:
                is_forever[self._thread_key(span)] = span.forever
        for (pid, lane), forever in sorted(is_forever.items()):
            kind = "forever" if forever else "lane"
            yield _metadata_event(pid, lane, "thread_name", {"name": f"{kind} {lane}"})
            yield _metadata_event(pid, lane, "thread_sort_index", {"sort_index": lane})

    def _thread_key(self, span: Span) -> tuple[int, int]:
        run_index = self._record.run_indices[span.number]
        return self._process_numbers[run_index], span.lane or 0

    def _slice_events(self, span: Span) -> Iterator[TraceEvent]:
        """Yield the slice of a job, then the slices of its attempts, and a mark if it became ready as a service.

        A running job counts as ending when the trace ends.

        The slices are in this order, because Perfetto nests the second of two slices with the same times in the first.
        """
        assert span.started_at is not None
        thread = dict(zip(("pid", "tid"), self._thread_key(span), strict=True))
        start = self._to_microseconds(span.started_at)
        end = self._to_microseconds(max(self._record.end_of(span), span.started_at))
        category = "job"
        if span.number in self._record.critical_path:
            category = "job,critical-path"
        yield {
            "ph": "X",
            "name": printable(span.label),
            "cat": category,
            "args": self._slice_args(span),
            "ts": start,
            "dur": _duration(start, end),
            **thread,
        }
        if len(span.attempts) > 1:
            failed = {
                n: (self._to_microseconds(ended), {"error": error})
                for n, ended, error in span.failed_attempts
            }
            boundaries = [*map(self._to_microseconds, span.attempts), end]
            attempts = enumerate(itertools.pairwise(boundaries), span.first_attempt)
            for number, (since, until) in attempts:
                ended, args = failed.get(number, (until, {}))
                yield {
                    "ph": "X",
                    "name": f"attempt {number}",
                    "cat": "attempt",
                    "ts": since,
                    "dur": _duration(since, ended),
                    **thread,
                    "args": args,
                }
        if span.ready_at is not None:
            yield {
                "ph": "i",
                "name": "ready",
                "cat": "service",
                "s": "t",
                "ts": self._to_microseconds(span.ready_at),
                **thread,
            }

    def _slice_args(self, span: Span) -> TraceEvent:
        details: TraceEvent = {
            "path": printable(span.path),
            "kind": span.kind,
            "state": recorded_state(span).value,
            "critical": span.critical,
            "forever": span.forever,
            "attempts": span.last_attempt,
        }
        if span.throttled:
            details["throttled"] = len(span.throttled)
        details["waited_us"] = None
        if span.waited is not None:
            details["waited_us"] = round(span.waited * 1e6, 3)
        details["run"] = span.run
        if span.timed_out:
            details["timed_out"] = True
        if span.exception is not None:
            details["exception"] = printable(span.exception_text)
        return details

    def _incident_events(self) -> Iterator[TraceEvent]:
        for incident in self._record.incidents:
            message = printable(incident.message)
            yield {
                "ph": "i",
                "name": message.partition("\\n")[0],
                "cat": "incident",
                "s": "p",
                "ts": self._to_microseconds(incident.occurred_at),
                "pid": self._process_numbers[incident.run_index],
                "tid": 0,
                "args": {"message": message},
            }

    def _to_microseconds(self, time: float) -> float:
        return round((time - self._record.start_time) * 1e6, 3)


def _metadata_event(pid: int, tid: int, name: str, args: TraceEvent) -> TraceEvent:
    return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": args}


def _duration(start: float, end: float) -> float:
    return round(end - start, 3)


# ---- CSV

CSV_FIELDS: Final = tuple(
    (  # noqa: SIM905
        "number parent run path label kind state critical forever scheduled started ready finished waited took "
        "attempts lane timed_out on_critical_path required exception started_wall returncode user_time system_time "
        "max_rss restored waited_for"
    ).split()
)


def csv_text(record: TraceRecord) -> str:
    """Return the spans as CSV, with the columns `CSV_FIELDS`.

    The row of a restored job is about the run that ran it: times since the start of the present run are empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(CSV_FIELDS)
    writer.writerows(_csv_row(record, span) for span in record.spans)
    return stream.getvalue()


def _text_cell(text: str) -> str:
    return _symbols.escape_formula(printable(text))


def _csv_row(record: TraceRecord, span: Span) -> Iterator[object]:
    """Yield the cells. The writer leaves that of None empty."""
    yield from (span.number, span.parent, span.run)
    state = recorded_state(span).value
    yield from map(_text_cell, (span.path, span.label, span.kind, state))
    yield from (span.critical, span.forever)
    times = [span.scheduled_at, span.started_at, span.ready_at, span.finished_at]
    if span.restored:
        times = [None] * len(times)
    seconds = [None if time is None else time - record.start_time for time in times]
    for each in (*seconds, span.waited, span.took):
        # None stays None.
        yield each and round(each, 9)
    yield from (span.last_attempt, span.lane, span.timed_out)
    yield span.number in record.critical_path
    yield " ".join(map(str, span.required))
    yield _text_cell(span.exception_text)
    waits = span.waits
    if span.restored:
        waits = ()
        yield _restored_start_time(span)
    else:
        yield iso_time(record, span.started_at)
    yield from (span.returncode, span.user_time, span.system_time)
    yield from (span.max_rss, span.restored)
    texts = [f"{wait.words} {round(wait.seconds, 9)}" for wait in waits]
    yield _text_cell("; ".join(texts))


def _restored_start_time(span: Span) -> str:
    """Return the date and time when a restored job started in the run that ran it, or "" if they are unknown."""
    if span.restored_at is None or span.restored_took is None:
        return ""
    try:
        return _iso_text(span.restored_at - span.restored_took)
    except (OverflowError, ValueError, OSError):
        # The journal has been changed.
        return ""


def iso_time(record: TraceRecord, timestamp: float | None) -> str:
    """Convert a time on the backend's clock to a date and time in UTC, in ISO 8601. None becomes an empty string."""
    if timestamp is None:
        return ""
    return _iso_text(timestamp + record.wall_offset)


def _iso_text(seconds: float) -> str:
    date_time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return date_time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
