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
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

from ..text import _exception_text
from ._record import TraceRecord
from ._trace_events import FORMAT_VERSION

RECORD_KEY: Final = "record"
"""The key of the record in a trace file. Perfetto ignores it."""
LIVE_FIELDS: Final = frozenset({"live", "stored_graphs"})
"""The fields of a `TraceRecord` that are not written as they are."""
LARGEST_TIME: Final = 1e300
"""The number that stands for infinity, which JSON does not have."""
INPUT_HINT: Final = "give a file written by `trioflow run --trace FILE.json`"


class BadTrace(ValueError):
    """An error for a file that cannot be read, is not a trace, is damaged, or has an unknown version."""


def record_json(record: TraceRecord) -> str:
    """Return a record as JSON, including the graphs of its outermost schedulers."""
    data = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    plain = {name: _to_plain(value) for name, value in data.items() if name not in LIVE_FIELDS}
    plain["stored_graphs"] = _to_plain(record.graphs)
    return json.dumps(plain, ensure_ascii=True, separators=(",", ":"))


def _to_plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return math.copysign(LARGEST_TIME, value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    values: Any = value
    if isinstance(value, dict):
        return {str(key): _to_plain(item) for key, item in values.items()}
    if isinstance(value, (tuple, list)):
        return [_to_plain(item) for item in values]
    if isinstance(value, BaseException):
        return _exception_text.one_line_text(value, _exception_text.MAX_STORED_LENGTH)
    return {
        name: _to_plain(item)
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
        trace: Any = json.loads(path.read_bytes(), parse_constant=_reject_constant)
    except OSError as error:
        raise BadTrace(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BadTrace(f"{str(path)!r} is not a trace: it is not JSON; {INPUT_HINT}") from None
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
        return _check_numbers(record)
    except (LookupError, msgspec.ValidationError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {error}") from None


def _reject_constant(name: str) -> float:
    raise ValueError(f"JSON has no {name}")


def _read_exception(kind: object, text: object) -> BaseException:
    """Return the exception of a text; msgspec says where it is if this raises."""
    if kind is not BaseException or not isinstance(text, str):
        raise ValueError("Expected the text of an exception")
    return _exception_text.placeholder_exception(text)


def _check_numbers(record: TraceRecord) -> TraceRecord:
    """Check that the numbers of spans and runs in a record refer to spans and runs in it, and return the record.

    Raises:
        LookupError: a number refers to nothing.

    """
    numbers: list[int | None] = [*record.failures, *record.commands]
    for span in record.spans:
        numbers += [*span.required, *(wait.released_by for wait in span.waits), span.parent, span.blocked_by]
    for run in record.runs:
        numbers += [*run.member_numbers, run.parent, run.culprit_number]
    unknown = {number for number in numbers if number is not None} - {*range(len(record.spans))}
    is_ordered = all(span.number == number for number, span in enumerate(record.spans))
    if unknown or not is_ordered or len(record.families) != len(record.spans):
        raise LookupError(f"spans {sorted(unknown)[:5]} are missing")
    if any(not 0 <= incident.run_index < len(record.runs) for incident in record.incidents):
        raise LookupError("the run of an incident is missing")
    return record
