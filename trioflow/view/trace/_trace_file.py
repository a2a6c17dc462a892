"""A trace file: the record of a run as JSON, beside the events that Perfetto shows.

The record has only data: dataclasses, tuples, dicts, enumerations and numbers. An exception is written as its type and
message, and read as a placeholder that has the same text. Fields with their default values are left out.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import os
import typing
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final

from ... import _posix as posix
from ..._core.base._graph_algorithms import topological_order
from ..._core.base._states import JobState
from ..text import _failure_text
from ._formats import FORMAT_VERSION
from ._spans import Span
from ._trace_record import TraceRecord

RECORD_KEY: Final = "record"
"""The key of the record in a trace file. Perfetto ignores it."""
LIVE_FIELDS: Final = frozenset({"live", "stored_graphs"})
"""The fields of a `TraceRecord` that are not written as they are."""
LARGEST_NUMBER: Final = 1e18
"""The largest number in a file. It also stands for infinity, which JSON does not have."""
LAST_DATE: Final = 250_000_000_000
"""The largest time since 1970 that is shown as a date, in seconds; it is in the year 9892."""
Plain = typing.TypeVar("Plain")
INPUT_HINT: Final = "give a file written by `trioflow run --trace FILE.json`"


class BadTrace(ValueError):
    """An error for a file that cannot be read, is not a trace, is damaged, or has an unknown version."""


def record_json(record: TraceRecord) -> str:
    """Return a record as JSON, including the graphs of its outermost schedulers."""
    data = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    plain = {name: to_plain(value) for name, value in data.items() if name not in LIVE_FIELDS}
    plain["stored_graphs"] = to_plain(record.graphs)
    return json.dumps(plain, ensure_ascii=True, separators=(",", ":"))


def to_plain(value: Any) -> Any:
    """Return a record, or facts of which one is built, as data that JSON has."""
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
    return {
        name: to_plain(item)
        for name, default in _defaults(typing.cast(Hashable, type(value))).items()
        if (item := getattr(value, name)) is not default and item != default
    }


@functools.cache
def _defaults(kind: Any) -> dict[str, Any]:
    """Return the name and the default of each field of a dataclass that is written."""
    return {field.name: field.default for field in dataclasses.fields(kind) if field.name[0] != "_"}


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
        raise BadTrace(f"cannot read {str(path)!r}: {error.strerror}; {INPUT_HINT}") from None
    except (ValueError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it is not JSON"
        raise BadTrace(f"{str(path)!r} is not a trace: {reason}; {INPUT_HINT}") from None
    candidate: object = trace
    other_data: Any = trace.get("otherData") if isinstance(candidate, dict) else None
    candidate = other_data
    if not isinstance(candidate, dict) or other_data.get("program") != "trioflow":
        raise BadTrace(f"{str(path)!r} is not a trace of trioflow; {INPUT_HINT}")
    if (version := other_data.get("version")) != FORMAT_VERSION:
        raise BadTrace(
            f"{str(path)!r} was written by another version of trioflow: its format is {version!r}, but this one reads "
            f"{FORMAT_VERSION}; read the trace with that version, or record it again"
        )
    try:
        record = msgspec.convert(trace.get(RECORD_KEY), TraceRecord, str_keys=True, dec_hook=_read_exception)
        _check(record)
        return record
    except (LookupError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {error}") from None


def read_plain(data: object, kind: type[Plain]) -> Plain:
    """Return facts about runs and jobs that `to_plain` has made data of, in this process or in another.

    Raises:
        msgspec.ValidationError: the data are not of this kind.

    """
    import msgspec

    return msgspec.convert(data, kind, str_keys=True, dec_hook=_read_exception)


def _parse_number(text: str, kind: type[float] = float) -> float:
    number = kind(text)
    if not -LARGEST_NUMBER <= number <= LARGEST_NUMBER:  # also if it is NaN
        raise ValueError(f"the number {text} is too large")
    return number


def _read_exception(kind: object, text: object) -> BaseException:
    """Return the exception of a text; msgspec says where it is if this raises."""
    if kind is not BaseException or not isinstance(text, str):
        raise ValueError("Expected the text of an exception")
    return _failure_text.placeholder_exception(text)


def _check(record: TraceRecord) -> None:
    """Check all that readers of a record rely on, and that the types of its fields do not ensure.

    - The spans are numbered in order, and each number of a span refers to one.
    - Each span is a member of one run, which has the same parent. A run comes after the one that its parent is in.
    - No job requires itself or is blocked by itself, not even through others.
    - The graphs say nothing but what drawings say.
    - Times can be shown as dates, each failed job has its failure, and output files have absolute paths.

    Raises:
        LookupError: the structure is wrong.
        ValueError: a value is wrong.

    """
    spans, count = record.spans, len(record.spans)
    if [span.number for span in spans] != [*range(count)] or len(record.families) != count:
        raise LookupError("the spans are not numbered in order, or have no families")
    if unknown := {*_span_numbers(record), None} - {*range(count), None}:
        raise LookupError(f"spans {sorted(map(str, unknown))[:5]} are missing")
    members: set[int] = set()
    for run in record.runs:
        if run.parent is not None and run.parent not in members:
            raise LookupError(f"the run of {run.label!r} comes before that of its parent, span {run.parent}")
        for number in run.member_numbers:
            if number in members or spans[number].parent != run.parent:
                raise LookupError(f"span {number} is in two runs, or has another parent than its run")
            members.add(number)
    if len(members) < count or any(not 0 <= incident.run_index < len(record.runs) for incident in record.incidents):
        raise LookupError("the run of a span or an incident is missing")
    requirements = [(*span.required, *(() if span.blocked_by is None else (span.blocked_by,))) for span in spans]
    if len(topological_order(range(count), requirements.__getitem__)) < count:
        raise LookupError("jobs require each other in a cycle")
    if missing := [span.number for span in record.counted_spans if _lacks_failure(record, span)]:
        raise LookupError(f"the failures of spans {missing[:5]} are missing")
    if not all(os.path.isabs(path) for command in record.commands.values() for _, path in command.files):
        raise ValueError("the path of a file with output is not absolute")
    if not all(0 <= time <= LAST_DATE for time in _dates(record)):
        raise ValueError("a time is no date between 1970 and 9892")
    for statement in (statement for graph in record.stored_graphs for statement in graph.statements):
        statement.check()


def _span_numbers(record: TraceRecord) -> Iterator[int | None]:
    """Yield each number of a span in a record."""
    yield from (*record.failures, *record.commands)
    for span in record.spans:
        yield from (*span.required, *(wait.released_by for wait in span.waits), span.parent, span.blocked_by)
    for run in record.runs:
        yield from (*run.member_numbers, run.parent, run.culprit_number)


def _dates(record: TraceRecord) -> Iterator[float]:
    """Yield each time in a record that may be shown as a date, in seconds since 1970."""
    yield record.end_time + record.wall_offset
    for run in record.runs:
        yield from (time + record.wall_offset for time in (run.started_at, run.finished_at) if time is not None)
    for span in record.spans:
        times = (span.scheduled_at, span.started_at, span.ready_at, span.finished_at)
        yield from (time + record.wall_offset for time in times if time is not None)
        yield from () if span.restored_at is None else (span.restored_at,)


def _lacks_failure(record: TraceRecord, span: Span) -> bool:
    return span.state is JobState.FAILED and span.number not in record.failures
