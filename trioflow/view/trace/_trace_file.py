"""A trace file: the record of a run as JSON, beside the events that Perfetto shows.

The record has only data: dataclasses, tuples, dicts, enumerations and numbers. An exception is written as its type and
message, and read as a placeholder that has the same text. Fields with their default values are left out.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import functools
import json
import math
import types
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
    try:
        trace: Any = json.loads(path.read_bytes())
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
        return _check_numbers(_from_plain(TraceRecord, trace[RECORD_KEY]))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadTrace(f"{str(path)!r} is a damaged trace: {type(error).__name__}: {error}") from None


def _from_plain(kind: Any, value: Any) -> Any:
    """Return the value of a type that `_to_plain` has converted to `value`.

    Raises:
        LookupError, TypeError, ValueError: the value is not of this type.

    """
    arguments = typing.get_args(kind)
    candidate: object = value
    match typing.get_origin(kind) or kind:
        case types.UnionType:
            return None if value is None else _from_plain(arguments[0], value)
        case builtins.tuple if arguments[1:] == (...,):
            return tuple(_from_plain(arguments[0], item) for item in value)
        case builtins.tuple:
            return tuple(_from_plain(kind, item) for kind, item in zip(arguments, value, strict=True))
        case builtins.list:
            return [_from_plain(arguments[0], item) for item in value]
        case builtins.dict:
            return {arguments[0](key): _from_plain(arguments[1], item) for key, item in value.items()}
        case builtins.BaseException:
            return _exception_text.placeholder_exception(_from_plain(str, value))
        case builtins.float if isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
        case builtins.int | builtins.bool | builtins.str if type(value) is kind:
            return value
        case enum_type if isinstance(enum_type, enum.EnumType):
            return enum_type(value)
        case _ if dataclasses.is_dataclass(kind) and isinstance(candidate, dict):
            hints = _type_hints(typing.cast(Hashable, kind))
            make_record: Any = kind
            fields = typing.cast("dict[str, Any]", value)
            return make_record(**{name: _from_plain(hints[name], item) for name, item in fields.items()})
        case _:
            pass
    raise TypeError(f"{value!r} is not of the type {kind}")


@functools.cache
def _type_hints(kind: Hashable) -> dict[str, Any]:
    """Return the types of the fields of a dataclass. Public ones have another `__module__` than that of their types."""
    record_type: Any = kind
    return typing.get_type_hints(record_type, record_type.__init__.__globals__)


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
