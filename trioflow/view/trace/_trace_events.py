"""A trace in Chrome's trace event format, JSON with times in microseconds, which Perfetto reads as well.

The format: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

Each scheduler is a process, and each of its lanes a thread: Perfetto draws processes below each other, in the order of
the file. Slices (`X`) of one thread may nest, but not overlap, and jobs in one lane do not. The two ends of an arrow
(`s`, `f`) belong to the slices that are open at their times, so an arrow leaves just before the end of its slice.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

from ..._core.api.views import printable
from ._resource_use import count_overlaps
from ._span_builder import TraceRecord
from ._spans import RunSpan, Span, Wait
from ._table import iso_time

Event = dict[str, Any]

VERSION: Final = 1
"""The version in `otherData`, incremented on incompatible changes."""

ONE_NANOSECOND: Final = 0.001
"""One nanosecond, in microseconds: the unit of Perfetto's clock."""


def json_text(record: TraceRecord) -> str:
    """Return the trace as JSON, with one event per line."""
    builder = _TraceEvents(record)
    events = ",\n".join(json.dumps(event, ensure_ascii=True, separators=(",", ":")) for event in builder.events())
    other_data: Event = {
        "program": "trioflow",
        "version": VERSION,
        "began": iso_time(record, record.began if record.runs else None),
        "seconds": round(record.now - record.began, 9),
        "roots": builder.roots,
        "notStarted": {printable(span.path): span.state.value for span in record.spans if span.started_at is None},
    }
    return f'{{"displayTimeUnit":"ms","otherData":{json.dumps(other_data)},"traceEvents":[\n{events}\n]}}\n'


class _TraceEvents:
    """The events of one record."""

    def __init__(self, record: TraceRecord) -> None:
        self._record: Final = record
        self._processes: Final = self._assign_processes()

    @property
    def roots(self) -> list[int]:
        """The process numbers of the outermost schedulers."""
        pairs = zip(self._record.runs, self._processes, strict=True)
        return sorted({pid for run, pid in pairs if run.parent is None})

    def events(self) -> Iterator[Event]:
        """Yield all events, the names of processes and threads first."""
        yield from self._names()
        for run, pid in zip(self._record.runs, self._processes, strict=True):
            yield from self._counters(run, pid)
        for span in self._record.spans:
            if span.started_at is not None:
                yield from self._slices(span)
        for span in self._record.spans:
            yield from self._arrows(span)
        yield from self._incidents()

    def _assign_processes(self) -> list[int]:
        """Return the process number of each run; all runs of one scheduler have the same."""
        keys = [id(run.scheduler) if run.parent is None else self._name(run) for run in self._record.runs]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), 1)}
        return [numbers[key] for key in keys]

    def _name(self, run: RunSpan) -> str:
        return run.label if run.parent is None else self._record.spans[run.parent].path

    def _names(self) -> Iterator[Event]:
        """Yield the names of processes and threads, and their order."""
        for pid, name in dict(zip(self._processes, map(self._name, self._record.runs), strict=True)).items():
            yield _metadata(pid, 0, "process_name", {"name": printable(name)})
            yield _metadata(pid, 0, "process_sort_index", {"sort_index": pid})
        threads = {self._thread(span): span.forever for span in self._record.spans if span.lane is not None}
        for (pid, lane), forever in sorted(threads.items()):
            yield _metadata(pid, lane, "thread_name", {"name": f"{'forever' if forever else 'lane'} {lane}"})
            yield _metadata(pid, lane, "thread_sort_index", {"sort_index": lane})

    def _thread_fields(self, span: Span) -> Event:
        pid, tid = self._thread(span)
        return {"pid": pid, "tid": tid}

    def _thread(self, span: Span) -> tuple[int, int]:
        """Return the numbers of a job's process and thread."""
        return self._processes[self._record.run_indices[span.number]], span.lane or 0

    def _slices(self, span: Span) -> Iterator[Event]:
        """Yield the slice of a job, then those of its attempts: of two equal slices, the first encloses the second."""
        start, end = self._bounds(span)
        category = "job,critical-path" if span.number in self._record.on_path else "job"
        job = {"ph": "X", "name": printable(span.label), "cat": category, "args": self._details(span)}
        yield {**job, "ts": start, "dur": _duration(start, end), **self._thread_fields(span)}
        if len(span.attempts) > 1:
            times = [*map(self._microseconds, span.attempts), end]
            for number, (at, until) in enumerate(itertools.pairwise(times), 1):
                attempt = {"ph": "X", "name": f"attempt {number}", "cat": "attempt"}
                yield {**attempt, "ts": at, "dur": _duration(at, until), **self._thread_fields(span)}
        if span.ready_at is not None:
            ready = {"ph": "i", "name": "ready", "cat": "service", "s": "t"}
            yield {**ready, "ts": self._microseconds(span.ready_at), **self._thread_fields(span)}

    def _details(self, span: Span) -> Event:
        """Return the arguments of a job's slice, which Perfetto shows when the slice is selected."""
        details: Event = {"path": printable(span.path), "kind": span.kind, "state": span.state.value}
        details |= {"critical": span.critical, "forever": span.forever, "attempts": len(span.attempts)}
        if span.throttled:
            details["throttled"] = len(span.throttled)
        details["waited_us"] = None if span.waited is None else round(span.waited * 1e6, 3)
        if span.waits:
            details["waits"] = [self._wait_details(wait) for wait in span.waits]
        details["run"] = span.run
        if span.timed_out:
            details["timed_out"] = True
        if span.exception is not None:
            details["exception"] = printable(span.exception_text)
        return details

    def _wait_details(self, wait: Wait) -> Event:
        details: Event = {"cause": wait.cause, "name": printable(wait.name)}
        details |= {"ts": self._microseconds(wait.since), "dur": round(wait.seconds * 1e6, 3)}
        if wait.released_by is not None:
            details["released_by"] = printable(self._record.spans[wait.released_by].path)
        return details

    def _arrows(self, span: Span) -> Iterator[Event]:
        """Yield an arrow from each requirement; slices without duration cannot have arrows."""
        if not _took_time(span):
            return
        for before in filter(_took_time, (self._record.spans[number] for number in span.required)):
            start, end = self._bounds(before)
            leaves = self._microseconds(before.ready_at) if before.ready_at is not None else end
            leaves = max(start, round(leaves - ONE_NANOSECOND, 3))
            identity = before.number * len(self._record.spans) + span.number + 1
            arrow: Event = {"id": identity, "name": "requires", "cat": "flow"}
            yield {"ph": "s", **arrow, "ts": leaves, **self._thread_fields(before)}
            yield {"ph": "f", **arrow, "ts": self._bounds(span)[0], **self._thread_fields(span), "bp": "e"}

    def _counters(self, run: RunSpan, pid: int) -> Iterator[Event]:
        """Yield each change of the number of running jobs in a run, and of the size of its window."""
        members = (self._record.spans[number] for number in run.members)
        counts = count_overlaps(self._bounds(span) for span in members if span.started_at is not None)
        for at, jobs in zip(*counts, strict=True):
            yield {"ph": "C", "name": "running jobs", "ts": at, "pid": pid, "args": {"jobs": jobs}}
        for since, size in run.window_sizes:
            at = self._microseconds(since)
            yield {"ph": "C", "name": "window", "ts": at, "pid": pid, "args": {"slots": size}}

    def _incidents(self) -> Iterator[Event]:
        for incident in self._record.incidents:
            message = printable(incident.message)
            mark: Event = {"ph": "i", "name": message.partition("\\n")[0], "cat": "incident", "s": "p"}
            mark |= {"ts": self._microseconds(incident.at), "pid": self._processes[incident.run], "tid": 0}
            yield {**mark, "args": {"message": message}}

    def _bounds(self, span: Span) -> tuple[float, float]:
        """Return the start and end of a job in microseconds; a running job ends at the time of the record."""
        assert span.started_at is not None
        end = self._record.now if span.finished_at is None else span.finished_at
        return self._microseconds(span.started_at), self._microseconds(max(end, span.started_at))

    def _microseconds(self, at: float) -> float:
        return round((at - self._record.began) * 1e6, 3)


def _took_time(span: Span) -> bool:
    return span.started_at is not None and span.finished_at != span.started_at


def _metadata(pid: int, tid: int, name: str, args: Event) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": args}


def _duration(start: float, end: float) -> float:
    return round(end - start, 3)
