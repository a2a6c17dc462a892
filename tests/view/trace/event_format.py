"""A validator of the published trace event format, and of the further requirements of Perfetto's importer.

"Trace Event Format" (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU) defines the phases, and
the fields of each with their types. Perfetto's importer (src/trace_processor/importers/json) sorts events by time,
keeping the order of those at the same time, and drops slices that overlap without nesting."""

import json
import math
from collections import defaultdict
from typing import Any

Event = dict[str, Any]

PROCESS_FACTS = {"process_name": ("name", str), "process_sort_index": ("sort_index", int)}
THREAD_FACTS = {"thread_name": ("name", str), "thread_sort_index": ("sort_index", int)}
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "ts": (int, float), "dur": (int, float), "pid": int, "tid": int},
    "i": {"name": str, "cat": str, "ts": (int, float), "pid": int, "tid": int, "s": str},
}
OPTIONAL = {"args"}
NANOSECOND = 0.001


def events(text: str) -> list[Event]:
    """Return the events of a file, checked one by one and together."""
    document = json.loads(text, parse_constant=_reject_constant)
    assert set(document) <= {"traceEvents", "displayTimeUnit", "otherData", "record"}
    assert document["displayTimeUnit"] in ("ms", "ns")
    found: list[Event] = document["traceEvents"]
    for event in found:
        check_event(event)
    check_names(found)
    check_nesting(found)
    return found


def _reject_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def check_event(event: Event) -> None:
    """Check that an event has exactly the fields of its phase, of the right types, and finite times of
    at least zero."""
    fields = FIELDS[event["ph"]]
    assert set(fields) <= set(event), event
    assert set(event) <= {"ph", *fields, *OPTIONAL}, event
    for name, kind in fields.items():
        assert isinstance(event[name], kind), event
        assert not isinstance(event[name], bool), event
    for name in ("ts", "dur"):
        assert math.isfinite(event.get(name, 0)), event
        assert event.get(name, 0) >= 0, event
    if event["ph"] == "i":
        assert event["s"] in ("g", "p", "t"), event
    if event["ph"] == "M":
        argument, kind = (PROCESS_FACTS | THREAD_FACTS)[event["name"]]
        assert set(event["args"]) == {argument}, event
        assert isinstance(event["args"][argument], kind), event


def check_names(found: list[Event]) -> None:
    """Check that each process and each thread with a slice has one name and one place."""
    facts = [(event["pid"], event["tid"], event["name"]) for event in found if event["ph"] == "M"]
    assert len(facts) == len(set(facts))
    for event in found:
        if event["ph"] == "X":
            assert {(event["pid"], 0, name) for name in PROCESS_FACTS} <= set(facts), event
            assert {(event["pid"], event["tid"], name) for name in THREAD_FACTS} <= set(facts), event


def threads(found: list[Event]) -> dict[tuple[int, int], list[Event]]:
    """Return the events of each thread, in the order of time, then of the file."""
    sorted_out: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in sorted((event for event in found if event["ph"] == "X"), key=lambda event: event["ts"]):
        sorted_out[event["pid"], event["tid"]].append(event)
    return sorted_out


def check_nesting(found: list[Event]) -> None:
    """Check that the slices of a thread are apart or nested."""
    for happened in threads(found).values():
        open_until: list[float] = []
        for event in happened:
            while open_until and open_until[-1] <= event["ts"] + NANOSECOND / 2:
                open_until.pop()
            end = event["ts"] + event["dur"]
            assert not open_until or end <= open_until[-1] + NANOSECOND / 2, event
            open_until.append(end)
