"""A trace in the trace event format of Chrome, which Perfetto reads too: JSON, times in microseconds.

The format: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

Each scheduler is a process and each of its lanes a thread: Perfetto draws processes below each other, in the order of
the file. Slices (`X`) of one thread may nest but not overlap; lanes make sure of that. The two ends of an arrow (`s`,
`f`) belong to the slices that are open at their times, so an arrow leaves just before the end of its slice.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

from ..._core.api.views import printable
from ._resource_use import running
from ._span_builder import TraceRecord
from ._spans import RunSpan, Span, Wait
from ._table import wall

Event = dict[str, Any]

VERSION: Final = 1
"""The version in `otherData`, incremented on incompatible changes."""

JUST_BEFORE: Final = 0.001
"""Microseconds: a nanosecond is the unit in which Perfetto counts."""


def text(record: TraceRecord) -> str:
    """Return the whole file, one event per line."""
    written = _TraceEvents(record)
    events = ",\n".join(json.dumps(event, ensure_ascii=True, separators=(",", ":")) for event in written.all())
    about: Event = {
        "program": "trioflow",
        "version": VERSION,
        "began": wall(record, record.began if record.runs else None),
        "seconds": round(record.now - record.began, 9),
        "roots": written.roots,
        "notStarted": {printable(span.path): span.state.value for span in record.spans if span.started_at is None},
    }
    return f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":[\n{events}\n]}}\n'


class _TraceEvents:
    """The events of one record."""

    def __init__(self, record: TraceRecord) -> None:
        self._record: Final = record
        self._processes: Final = self._find_processes()

    @property
    def roots(self) -> list[int]:
        """The processes of the schedulers that are in no other."""
        pairs = zip(self._record.runs, self._processes, strict=True)
        return sorted({pid for run, pid in pairs if run.parent is None})

    def all(self) -> Iterator[Event]:
        """Yield the names, then the events."""
        yield from self._names()
        for run, pid in zip(self._record.runs, self._processes, strict=True):
            yield from self._counter(run, pid)
        for span in self._record.spans:
            if span.started_at is not None:
                yield from self._slices(span)
        for span in self._record.spans:
            yield from self._arrows(span)
        yield from self._incidents()

    def _find_processes(self) -> list[int]:
        """Return the process of each run: the same for all runs of one scheduler."""
        keys = [id(run.scheduler) if run.parent is None else self._name(run) for run in self._record.runs]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys), 1)}
        return [numbers[key] for key in keys]

    def _name(self, run: RunSpan) -> str:
        return run.label if run.parent is None else self._record.spans[run.parent].path

    def _names(self) -> Iterator[Event]:
        """Yield the names of processes and threads, and their order."""
        for pid, name in dict(zip(self._processes, map(self._name, self._record.runs), strict=True)).items():
            yield _about(pid, 0, "process_name", {"name": printable(name)})
            yield _about(pid, 0, "process_sort_index", {"sort_index": pid})
        threads = {self._place(span): span.forever for span in self._record.spans if span.lane is not None}
        for (pid, lane), forever in sorted(threads.items()):
            yield _about(pid, lane, "thread_name", {"name": f"{'forever' if forever else 'lane'} {lane}"})
            yield _about(pid, lane, "thread_sort_index", {"sort_index": lane})

    def _where(self, span: Span) -> Event:
        pid, tid = self._place(span)
        return {"pid": pid, "tid": tid}

    def _place(self, span: Span) -> tuple[int, int]:
        """Return process and thread."""
        return self._processes[self._record.run_of[span.number]], span.lane or 0

    def _slices(self, span: Span) -> Iterator[Event]:
        """Yield the slice of a job, then those inside it: Perfetto takes the first of two as the enclosing one."""
        start, end = self._bounds(span)
        category = "job,critical-path" if span.number in self._record.on_path else "job"
        job = {"ph": "X", "name": printable(span.label), "cat": category, "args": self._details(span)}
        yield {**job, "ts": start, "dur": _between(start, end), **self._where(span)}
        if len(span.attempts) > 1:
            times = [*map(self._microseconds, span.attempts), end]
            for number, (at, until) in enumerate(itertools.pairwise(times), 1):
                attempt = {"ph": "X", "name": f"attempt {number}", "cat": "attempt"}
                yield {**attempt, "ts": at, "dur": _between(at, until), **self._where(span)}
        if span.ready_at is not None:
            ready = {"ph": "i", "name": "ready", "cat": "service", "s": "t"}
            yield {**ready, "ts": self._microseconds(span.ready_at), **self._where(span)}

    def _details(self, span: Span) -> Event:
        """Return the details that Perfetto shows when a slice is clicked."""
        details: Event = {"path": printable(span.path), "kind": span.kind, "state": span.state.value}
        details |= {"critical": span.critical, "forever": span.forever, "attempts": len(span.attempts)}
        if span.throttled:
            details["throttled"] = len(span.throttled)
        details["waited_us"] = None if span.waited is None else round(span.waited * 1e6, 3)
        if span.waits:
            details["waits"] = [self._wait(wait) for wait in span.waits]
        details["run"] = span.run
        if span.timed_out:
            details["timed_out"] = True
        if span.exception is not None:
            details["exception"] = printable(span.exception_text)
        return details

    def _wait(self, wait: Wait) -> Event:
        found: Event = {"cause": wait.cause, "name": printable(wait.name)}
        found |= {"ts": self._microseconds(wait.since), "dur": round(wait.seconds * 1e6, 3)}
        if wait.released_by is not None:
            found["released_by"] = printable(self._record.spans[wait.released_by].path)
        return found

    def _arrows(self, span: Span) -> Iterator[Event]:
        """Yield an arrow from each requirement that ran; a slice that took no time cannot have one."""
        if not _lasted(span):
            return
        for before in filter(_lasted, (self._record.spans[number] for number in span.required)):
            start, end = self._bounds(before)
            leaves = self._microseconds(before.ready_at) if before.ready_at is not None else end
            leaves = max(start, round(leaves - JUST_BEFORE, 3))
            identity = before.number * len(self._record.spans) + span.number + 1
            arrow: Event = {"id": identity, "name": "requires", "cat": "flow"}
            yield {"ph": "s", **arrow, "ts": leaves, **self._where(before)}
            yield {"ph": "f", **arrow, "ts": self._bounds(span)[0], **self._where(span), "bp": "e"}

    def _counter(self, run: RunSpan, pid: int) -> Iterator[Event]:
        """Yield the number of running jobs of a run, each time it changed."""
        members = (self._record.spans[number] for number in run.members)
        counts = running(self._bounds(span) for span in members if span.started_at is not None)
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
        """Return start and end in microseconds; a running job ends now."""
        assert span.started_at is not None
        end = self._record.now if span.finished_at is None else span.finished_at
        return self._microseconds(span.started_at), self._microseconds(max(end, span.started_at))

    def _microseconds(self, at: float) -> float:
        return round((at - self._record.began) * 1e6, 3)


def _lasted(span: Span) -> bool:
    return span.started_at is not None and span.finished_at != span.started_at


def _about(pid: int, tid: int, name: str, args: Event) -> Event:
    return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": args}


def _between(start: float, end: float) -> float:
    return round(end - start, 3)
