"""The spans of `Trace` for every kind of run; trace events and CSV."""

import csv
import functools
import gc
import io
import json
import math
import os
import time
import weakref
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trioflow import (
    Job,
    JobState,
    JobTimeout,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    Trace,
)
from trioflow.abc import WaitCause
from trioflow.view import Span, save
from trioflow.view.look import _answers
from trioflow.view.text import _verdict
from trioflow.view.trace import _time_spent
from trioflow.view.trace._event_log import record_of_last_run
from trioflow.view.trace._trace_file import read_record
from trioflow.view.trace._trace_record import TraceRecord
from ...bodies import Flaw, fail, flaky, later, nap, nothing, raising, serve
from ...cli.command_line import trioflow as command
from ...conftest import Virtual
from ..steps import executed_lines
from .scenarios import NASTY, Closing, everything, traced

Event = dict[str, Any]

PROCESS_FACTS = {
    "process_name": ("name", str),
    "process_sort_index": ("sort_index", int),
}
THREAD_FACTS = {"thread_name": ("name", str), "thread_sort_index": ("sort_index", int)}
FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {
        "name": str,
        "cat": str,
        "ts": (int, float),
        "dur": (int, float),
        "pid": int,
        "tid": int,
    },
    "i": {
        "name": str,
        "cat": str,
        "ts": (int, float),
        "pid": int,
        "tid": int,
        "s": str,
    },
}
OPTIONAL = {"args"}
NANOSECOND = 0.001


def events(text: str) -> list[Event]:
    """Return the events of a file, checked one by one and together.

    "Trace Event Format" (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU) defines the phases,
    and the fields of each with their types. Perfetto's importer (src/trace_processor/importers/json) sorts events by
    time, keeping the order of those at the same time, and drops slices that overlap without nesting."""
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
    facts = [
        (event["pid"], event["tid"], event["name"])
        for event in found
        if event["ph"] == "M"
    ]
    assert len(facts) == len(set(facts))
    for event in found:
        if event["ph"] == "X":
            assert {(event["pid"], 0, name) for name in PROCESS_FACTS} <= set(facts), (
                event
            )
            assert {(event["pid"], event["tid"], name) for name in THREAD_FACTS} <= set(
                facts
            ), event


def threads(found: list[Event]) -> dict[tuple[int, int], list[Event]]:
    """Return the events of each thread, in the order of time, then of the file."""
    sorted_out: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in sorted(
        (event for event in found if event["ph"] == "X"), key=lambda event: event["ts"]
    ):
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


def by_path(trace: Trace) -> dict[str, Span]:
    return {
        f"{span.path}@{span.run}" if span.run > 1 else span.path: span
        for span in trace.spans
    }


def times(span: Span) -> tuple[float | None, ...]:
    return span.scheduled_at, span.started_at, span.finished_at


def test_dropped_jobs_have_paths_in_the_trace(virtual: Virtual) -> None:
    async def grow() -> None:
        for label in ("a", "a"):
            scheduler.add(Job(nap, 1, label=label))
        scheduler.add(
            Scheduler(Job(nap, 1, label="b"), Job(nap, 2, label="b"), label="inner")
        )

    scheduler = Scheduler(Job(grow, label="grow"), keep_jobs=False)
    paths = {span.path for span in traced(virtual, scheduler).spans}
    assert paths == {"grow", "a", "a#2", "inner", "inner/b", "inner/b#2"}
    assert len(scheduler) == 1


# --- one run
def test_spans_have_times_and_lanes(virtual: Virtual) -> None:
    """A span has the times when its job became ready, started and finished; it takes the lowest free lane."""
    a, b = Job(nap, 1, label="a"), Job(nap, 2, label="b")
    c, d = Job(nap, 1, label="c", required=a), Job(nap, 3, label="d", required=[a, b])
    spans = by_path(traced(virtual, Scheduler(a, b, c, d)))
    assert {path: times(span) for path, span in spans.items()} == {
        "a": (0, 0, 1), "b": (0, 0, 2), "c": (1, 1, 2), "d": (2, 2, 5),
    }  # fmt: skip
    assert {path: span.lane for path, span in spans.items()} == {
        "a": 1,
        "b": 2,
        "c": 1,
        "d": 1,
    }
    assert spans["d"].required == (spans["a"].number, spans["b"].number)
    assert (spans["d"].elapsed, spans["d"].waited, spans["d"].attempts) == (3, 0, (2,))
    assert {span.parent for span in spans.values()} == {None}


def test_spans_are_sorted_by_their_starts(virtual: Virtual) -> None:
    """Spans are sorted by their starts; jobs that start together keep the order added, and unstarted ones come last."""
    late = Job(nap, 5, label="late", required=(first := Job(nap, label="first")))
    never = Job(
        nap, label="never", required=(bad := Job(fail, 2, label="bad", critical=True))
    )
    trace = traced(
        virtual, Scheduler(late, never, first, bad, Job(nap, 5, label="long"))
    )
    assert [span.path for span in trace.spans] == [
        "first",
        "bad",
        "long",
        "late",
        "never",
    ]
    assert [span.number for span in trace.spans] == [0, 1, 2, 3, 4]


def test_waited_is_the_time_from_the_last_requirement_to_the_start(
    virtual: Virtual,
) -> None:
    jobs = [Job(nap, 2, label=label) for label in "abc"]
    spans = by_path(traced(virtual, Scheduler(*jobs, jobs_window=1)))
    assert [spans[label].waited for label in "abc"] == [0, 2, 4]
    assert {span.lane for span in spans.values()} == {1}


def test_a_limiter_with_infinite_tokens_is_not_a_window(virtual: Virtual) -> None:
    """A limiter with infinitely many tokens is not a window, since it has no number of slots."""

    trace = Trace()

    async def main() -> None:
        await Scheduler(
            Job(nap), jobs_window=anyio.CapacityLimiter(math.inf), instruments=[trace]
        ).co_run()

    virtual(main)
    assert [run.window_size for run in trace._get_record().runs] == [None]


@pytest.mark.parametrize("window", [1, 2, 5, None])
def test_ordinary_jobs_have_no_more_lanes_than_slots(
    virtual: Virtual, window: int | None
) -> None:
    """Ordinary jobs take at most as many lanes as ran at once; the lanes of forever jobs come after them."""
    jobs = [Job(nap, 1 + number * 7 % 5, label=str(number)) for number in range(20)]
    forever = Job(anyio.sleep_forever, label="forever", forever=True)
    spans = by_path(traced(virtual, Scheduler(forever, *jobs), jobs_window=window))
    ordinary = [span.lane or 0 for span in spans.values() if not span.forever]
    assert max(ordinary) == (window or 20)
    assert spans["forever"].lane == max(ordinary) + 1


# --- outcomes of jobs
def test_spans_have_the_details_of_each_final_state(virtual: Virtual) -> None:
    bad = Job(fail, label="bad")
    blocked = Job(nap, 1, bad, label="blocked")
    skipped = Job(
        nap, run_if="failed", label="skipped", required=(fine := Job(nap, label="fine"))
    )
    late = Job(nap, 9, label="late", timeout=2)
    spans = by_path(traced(virtual, Scheduler(bad, blocked, fine, skipped, late)))
    assert {path: span.state.name for path, span in spans.items()} == {
        "bad": "FAILED", "fine": "SUCCEEDED", "late": "FAILED", "blocked": "BLOCKED", "skipped": "SKIPPED",
    }  # fmt: skip
    assert spans["bad"].exception_text == "OSError: broken"
    assert spans["late"].timed_out
    assert times(spans["blocked"]) == times(spans["skipped"]) == (None, None, 1)
    assert spans["blocked"].exception is blocked.raised_exception()
    assert (
        spans["blocked"].lane,
        spans["blocked"].attempts,
        spans["blocked"].elapsed,
    ) == (None, (), None)


def test_a_critical_failure_leaves_cancelled_and_idle_spans(virtual: Virtual) -> None:
    bad = Job(fail, 2, critical=True, label="bad")
    cut, waits = Job(nap, 9, label="cut"), Job(nap, label="waits")
    trace = traced(
        virtual,
        Scheduler(bad, cut, waits, Job(nap, label="idle", required=cut), jobs_window=2),
    )
    spans = by_path(trace)
    assert (spans["cut"].state, times(spans["cut"])) == (JobState.CANCELLED, (0, 0, 2))
    assert (spans["waits"].state, times(spans["waits"])) == (
        JobState.CANCELLED,
        (0, None, 2),
    )
    assert (spans["idle"].state, times(spans["idle"])) == (
        JobState.IDLE,
        (None, None, None),
    )
    assert spans["bad"].critical
    assert not spans["cut"].critical


def test_the_trace_of_an_interrupted_run_is_complete(virtual: Virtual) -> None:
    trace = Trace()
    bad = Job(fail, 1, SystemExit(3), label="bad")
    with pytest.raises(SystemExit):
        virtual(Scheduler(bad, Job(nap, 9, label="cut"), instruments=[trace]).co_run)
    spans = by_path(trace)
    assert isinstance(spans["bad"].exception, SystemExit)
    assert times(spans["cut"]) == (0, 0, 1)
    assert [run.stop_reason for run in trace._get_record().runs] == [
        StopReason.INTERRUPTED
    ]


def test_attempts_have_their_own_starts(virtual: Virtual) -> None:
    spans = by_path(traced(virtual, Scheduler(Job(fail, 2, retry=2, label="a"))))
    assert spans["a"].attempts == (0, 2, 4)
    assert times(spans["a"]) == (0, 0, 6)


def test_a_span_shows_the_pauses_between_attempts(virtual: Virtual) -> None:
    job = Job(
        nap,
        5,
        timeout=2,
        retry=Retry(2, first=3, jitter=False, on=JobTimeout),
        label="a",
    )
    (span,) = traced(virtual, Scheduler(job)).spans
    assert (span.attempts, span.timed_out, times(span)) == (
        (0, 5, 13),
        True,
        (0, 0, 15),
    )
    assert [(wait.cause, wait.since, wait.until) for wait in span.waits] == [
        ("retry", 2, 5),
        ("retry", 7, 13),
    ]


def test_the_span_of_a_service_has_the_time_of_readiness(virtual: Virtual) -> None:
    """The span of a service has the time when the service became ready, at which its successors are scheduled."""

    service = Service(serve, 2, label="service")
    spans = by_path(
        traced(virtual, Scheduler(service, Job(nap, 3, service, label="client")))
    )
    assert spans["service"].ready_at == 2
    assert times(spans["client"]) == (2, 2, 5)
    assert (spans["service"].state, spans["service"].finished_at) == (
        JobState.SUCCEEDED,
        5,
    )


def test_clean_up_jobs_are_in_the_trace(virtual: Virtual) -> None:
    bad = Job(fail, critical=True, label="bad")
    spans = by_path(
        traced(
            virtual,
            Scheduler(bad, Job(nap, 3, run_if="failed", required=bad, label="clean")),
        )
    )
    assert times(spans["clean"]) == (1, 1, 4)
    assert spans["clean"].lane == 1


# --- nested schedulers
def test_nested_jobs_have_paths_parents_and_lanes(virtual: Virtual) -> None:
    deep = Scheduler(Job(nap, label="c"), label="deep")
    inner = Scheduler(Job(nap, label="b"), deep, label="inner")
    spans = by_path(
        traced(virtual, Scheduler(Job(nap, label="a"), inner, label="outer"))
    )
    assert list(spans) == ["a", "inner", "inner/b", "inner/deep", "inner/deep/c"]
    assert spans["inner/deep/c"].parent == spans["inner/deep"].number
    assert spans["inner/deep"].parent == spans["inner"].number
    assert [span.lane for span in spans.values()] == [1, 2, 1, 2, 1]


def test_jobs_of_a_retried_scheduler_have_a_span_for_each_run(virtual: Virtual) -> None:
    job = Job(flaky(), label="job", critical=True)
    inner = Scheduler(
        job, Job(nap, label="after", required=job), label="inner", retry=1
    )
    spans = by_path(traced(virtual, Scheduler(inner)))
    assert spans["inner"].attempts == (0, 1)
    assert (spans["inner/job"].state.name, times(spans["inner/job"])) == (
        "FAILED",
        (0, 0, 1),
    )
    assert (spans["inner/job@2"].state.name, times(spans["inner/job@2"])) == (
        "SUCCEEDED",
        (1, 1, 2),
    )
    assert spans["inner/after"].state is JobState.IDLE
    assert times(spans["inner/after@2"]) == (2, 2, 3)


def test_jobs_of_a_scheduler_that_never_ran_have_idle_spans(virtual: Virtual) -> None:
    deep = Scheduler(Job(nap, label="c"), label="deep")
    inner = Scheduler(
        deep,
        label="inner",
        run_if="succeeded",
        required=(bad := Job(fail, label="bad")),
    )
    spans = by_path(traced(virtual, Scheduler(bad, inner)))
    assert spans["inner"].state is JobState.BLOCKED
    assert (spans["inner/deep/c"].state, spans["inner/deep/c"].run) == (
        JobState.IDLE,
        0,
    )


def test_the_trace_of_a_nested_scheduler_has_that_scheduler_alone(
    virtual: Virtual,
) -> None:
    trace = Trace()
    inner = Scheduler(Job(nap, label="a"), label="inner", instruments=[trace])
    virtual(Scheduler(inner, Job(nap, label="b")).co_run)
    assert [span.path for span in trace.spans] == ["inner/a"]


# --- added jobs, several runs, reading during a run
def test_jobs_added_during_a_run_are_in_the_trace(virtual: Virtual) -> None:
    scheduler = Scheduler(jobs_window=2)

    async def grow() -> None:
        await anyio.sleep(2)
        scheduler.update([Job(nap, label="x"), Job(nap, label="y")])
        await anyio.sleep(1)

    scheduler.add(Job(grow, label="grow"))
    trace = traced(virtual, scheduler)
    spans = by_path(trace)
    assert times(spans["x"]) == (2, 2, 3)
    assert times(spans["y"]) == (2, 3, 4)
    virtual(scheduler.co_run)  # without the trace
    assert set(by_path(trace)) == {"grow", "x", "y"}


def test_a_trace_shows_the_last_run(virtual: Virtual) -> None:
    trace, naps = Trace(), iter([1, 5])
    scheduler = Scheduler(
        Job(lambda: anyio.sleep(next(naps)), label="a"), instruments=[trace]
    )
    virtual(scheduler.co_run)
    assert [span.elapsed for span in trace.spans] == [1]
    virtual(scheduler.co_run)
    assert [span.elapsed for span in trace.spans] == [5]


def test_a_trace_without_a_run_is_empty() -> None:
    trace = Trace()
    assert (trace.spans, trace.critical_path, trace.wall_offset) == ((), (), 0)
    Scheduler(instruments=[trace]).run()
    assert trace.spans == ()
    assert repr(trace) == "<Trace of 0 jobs>"


def test_wall_offset_converts_backend_times_to_the_time_of_day(backend: str) -> None:
    trace, job = Trace(), Job(nothing)
    before = time.time()
    Scheduler(job, instruments=[trace]).run(backend=backend)
    after = time.time()
    assert job.started_at is not None
    # The trace reads two clocks, one after the other; on a busy machine, any part of the run may lie between.
    tolerance = after - before + 1e-3
    assert before - tolerance <= job.started_at + trace.wall_offset <= after + tolerance


def test_a_trace_does_not_keep_results_alive(virtual: Virtual) -> None:
    made: list[weakref.ref[Flaw]] = []

    async def make() -> Flaw:
        value = Flaw()
        made.append(weakref.ref(value))
        return value

    async def use(_: Flaw) -> None: ...

    trace = traced(virtual, Scheduler(Job(use, Job(make, keep_result=False))))
    gc.collect()
    assert made[0]() is None
    assert len(trace.spans) == 2


def test_spans_of_jobs_with_equal_labels_have_different_paths(virtual: Virtual) -> None:
    """Spans have the paths of their jobs, which differ even if labels are equal, or look like numbered ones."""
    labels = ["a", "a", "a#2", "a#2", "a", "b/", "b\\/", "b/"]
    jobs = [Job(nap, label=label) for label in labels]
    scheduler = Scheduler(*jobs)
    spans = traced(virtual, scheduler).spans
    assert [span.path for span in spans] == [job.path for job in jobs]


def test_paths_of_equal_labels_take_linear_time() -> None:
    steps: list[int] = []
    for number in (10, 50, 200):  # the first one fills caches
        trace = Trace()
        Scheduler(
            *(Job(nothing, label="same") for _ in range(number)), instruments=[trace]
        ).run()
        steps.append(executed_lines(functools.partial(getattr, trace, "spans")))
        assert len({span.path for span in trace.spans}) == number
    assert steps[2] < 6 * steps[1]


# --- trace events and CSV: valid by the published format, and complete
@pytest.fixture
def exported(virtual: Virtual, tmp_path: Path) -> list[Event]:
    return export(virtual, everything(), tmp_path / "trace.json")


def export(virtual: Virtual, scheduler: Scheduler, path: Path) -> list[Event]:
    return saved_events(traced(virtual, scheduler), path)


def saved_events(trace: Trace, path: Path) -> list[Event]:
    save(trace, path)
    return events(path.read_text(encoding="utf-8"))


def select_events(
    events: list[Event], phase: str, name: str | None = None
) -> list[Event]:
    return [
        event
        for event in events
        if event["ph"] == phase and name in (None, event["name"])
    ]


def test_all_kinds_of_trace_events_are_valid(exported: list[Event]) -> None:
    assert set(Counter(event["ph"] for event in exported)) == set("MXi")


def test_each_started_job_has_a_slice(virtual: Virtual, tmp_path: Path) -> None:
    a = Job(nap, 2, label="a")
    events = export(
        virtual,
        Scheduler(a, Job(fail, 1, label="b", required=a), label="s"),
        tmp_path / "t.json",
    )
    one, other = select_events(events, "X")
    assert (one["name"], one["ts"], one["dur"]) == ("a", 0, 2e6)
    assert (other["name"], other["ts"], other["dur"]) == ("b", 2e6, 1e6)
    assert other["args"]["state"] == "failed"
    assert other["args"]["exception"] == "OSError: broken"
    assert other["cat"] == "job,critical-path"


def test_schedulers_are_processes(virtual: Virtual, tmp_path: Path) -> None:
    """In the JSON export, each scheduler is a process, which all of its attempts share, named by its path or label."""
    inner = Scheduler(
        Job(fail, label="x", critical=True),
        Job(nap, 5, label="y"),
        label="inner",
        retry=2,
    )
    events = export(virtual, Scheduler(inner, label="outer"), tmp_path / "t.json")
    names = {
        event["pid"]: event["args"]["name"]
        for event in select_events(events, "M", "process_name")
    }
    assert list(names.values()) == ["outer", "inner"]
    assert [names[event["pid"]] for event in select_events(events, "X", "x")] == [
        "inner"
    ] * 3
    further_attempts = select_events(events, "X", "attempt 2") + select_events(
        events, "X", "attempt 3"
    )
    assert [event["ts"] for event in further_attempts] == [1e6, 2e6]


def test_a_service_has_a_mark_where_it_becomes_ready(
    virtual: Virtual, tmp_path: Path
) -> None:
    service = Service(serve, 2, label="service")
    events = export(
        virtual,
        Scheduler(service, Job(nap, 3, label="c", required=service)),
        tmp_path / "t.json",
    )
    assert [event["ts"] for event in select_events(events, "i", "ready")] == [2e6]
    lanes = [
        event["args"]["name"] for event in select_events(events, "M", "thread_name")
    ]
    assert lanes == ["lane 1", "forever 2"]


def test_incidents_have_marks(virtual: Virtual, tmp_path: Path) -> None:
    (mark,) = select_events(
        export(virtual, Scheduler(Closing(label="bad")), tmp_path / "t.json"), "i"
    )
    assert mark["name"] == "co_shutdown of 'bad' raised OSError: no route"


def test_the_export_of_an_unfinished_run_is_valid(
    virtual: Virtual, tmp_path: Path
) -> None:
    trace = Trace()
    look = Job(later, 2, lambda: saved_events(trace, tmp_path / "t.json"), label="look")
    virtual(Scheduler(look, Job(nap, 9, label="long"), instruments=[trace]).co_run)
    slices = select_events(look.result(), "X")
    assert [(event["name"], event["dur"]) for event in slices] == [
        ("look", 2e6),
        ("long", 2e6),
    ]


def test_the_export_of_a_trace_without_a_run_is_valid(tmp_path: Path) -> None:
    assert saved_events(Trace(), tmp_path / "t.json") == []


def test_the_export_of_a_real_time_run_is_valid(backend: str, tmp_path: Path) -> None:
    """In the JSON export of a run in real time, rounded times do not make slices overlap in their lanes."""
    trace = Trace()
    jobs: list[Job[Any]] = []
    for number in range(400):
        jobs.append(
            Job(
                nothing,
                label=str(number),
                required=jobs[number // 3 : number // 3 + 1] if number else [],
            )
        )
    Scheduler(*jobs, instruments=[trace], jobs_window=3).run(backend=backend)
    assert len(select_events(saved_events(trace, tmp_path / "t.json"), "X")) == 400


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.text(), min_size=1, max_size=5))
def test_the_export_is_valid_for_any_label(
    tmp_path: Path, virtual: Virtual, labels: list[str]
) -> None:
    """The JSON export is valid even if labels have quotes, control characters or lone surrogates."""
    events = export(
        virtual,
        Scheduler(*(Job(nap, label=label) for label in labels)),
        tmp_path / "t.json",
    )
    assert len(select_events(events, "X")) == len(labels)


# --- the trace as CSV
def rows(trace: Trace, path: Path) -> list[dict[str, str]]:
    save(trace, path)
    return list(
        csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    )


def test_jobs_of_a_second_run_have_its_number(virtual: Virtual, tmp_path: Path) -> None:
    """In the CSV file, a job of a retried scheduler has the number of the run, which tells runs apart."""
    inner = Scheduler(Job(fail, label="x", critical=True), label="n", retry=1)
    found = rows(traced(virtual, Scheduler(inner)), tmp_path / "t.csv")
    assert [row["run"] for row in found if row["path"] == "n/x"] == ["1", "2"]


def test_csv_has_the_times_states_and_exceptions_of_all_jobs(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The CSV file has times as seconds since the beginning of the run; missing values are empty."""
    a = Job(nap, 2, label="a")
    b = Job(fail, 1, label="b", required=a, critical=True)
    c = Job(nap, 1, label="c", required=b)
    one, other, never = rows(traced(virtual, Scheduler(a, b, c)), tmp_path / "t.csv")
    assert (one["scheduled"], one["started"], one["finished"], one["took"]) == (
        "0.0",
        "0.0",
        "2.0",
        "2.0",
    )
    assert (other["started"], other["required"], other["critical"]) == (
        "2.0",
        one["number"],
        "True",
    )
    assert (other["exception"], other["state"]) == ("OSError: broken", "failed")
    assert (other["on_critical_path"], never["on_critical_path"]) == ("True", "False")
    assert (never["state"], never["started"], never["lane"], never["started_wall"]) == (
        "idle",
        "",
        "",
        "",
    )
    assert one["started_wall"].endswith("Z")


def test_csv_keeps_any_label_in_its_cell(virtual: Virtual, tmp_path: Path) -> None:
    """In the CSV file, a label with commas, quotes or line ends stays in its cell."""
    labels = [*NASTY, "a,b", 'say "x"', "a\nb"]
    found = rows(
        traced(virtual, Scheduler(*(Job(nap, label=label) for label in labels))),
        tmp_path / "t.csv",
    )
    assert len(found) == len(labels)
    assert [row["label"] for row in found][-3:] == ["a,b", 'say "x"', "a\\nb"]


def test_csv_has_no_cell_that_a_spreadsheet_computes(
    virtual: Virtual, tmp_path: Path
) -> None:
    computed = ["=1+1", '=HYPERLINK("x")', "+1+1", "-1+1", "-a", "@SUM(1)", "=-1", "-"]
    kept = ["-1", "+2.5", "-1e-3", "a=1", "1-1", ".5"]
    found = rows(
        traced(
            virtual, Scheduler(*(Job(nap, label=label) for label in computed + kept))
        ),
        tmp_path / "t.csv",
    )
    assert [row["label"] for row in found] == [
        *(f"'{label}" for label in computed),
        *kept,
    ]
    assert [row["path"][:2] for row in found[: len(computed)]] == [
        f"'{label[0]}" for label in computed
    ]


# --- The record of a run that was paused, or whose number of slots has changed: waits, critical path, window, report
@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize("is_nested", [False, True])
def test_pause_is_what_jobs_have_waited_for(
    virtual: Any, tmp_path: Path, window: int | None, is_nested: bool
) -> None:
    """A job that became ready in a pause has waited for its end, at any depth, and so the critical path says it."""

    async def pause() -> None:
        scheduler.pause()
        await anyio.sleep(4)
        during.extend(
            wait.cause
            for span in trace.spans
            if span.label == "after"
            for wait in span.waits
        )
        scheduler.resume()

    during: list[WaitCause] = []
    first, after = Job(nap, 1, label="first"), Job(nap, 1, label="after")
    after.requires(first)
    jobs: Any = (
        Scheduler(first, after, label="group", jobs_window=window)
        if is_nested
        else (first, after)
    )
    scheduler = Scheduler(jobs, jobs_window=None if is_nested or window is None else 2)
    scheduler.add(Job(pause))
    trace = Trace()
    virtual(partial(scheduler.co_run, instruments=[trace]))
    assert during[-1] is WaitCause.PAUSE
    span = next(span for span in trace.spans if span.label == "after")
    assert [(wait.cause, wait.seconds) for wait in span.waits][-1] == (
        WaitCause.PAUSE,
        3,
    )
    save(trace, tmp_path / "trace.json")
    record: TraceRecord = read_record(tmp_path / "trace.json")
    assert {run.pauses for run in record.runs} == {
        ((record.start_time, record.start_time + 4),)
    }
    [wait] = [part for part in _time_spent.critical_path_parts(record) if part.is_wait]
    assert (wait.name, wait.seconds) == ("a resume", 3)


def tries_again() -> Job[None]:
    """Return a job that tries again, after 20 seconds, what has failed in its scheduler."""
    return Job(
        later, 20, lambda: trioflow.current_scheduler().try_again(), forever=True
    )


def test_a_job_took_all_its_attempts_also_those_that_it_keeps_no_more(
    virtual: Any,
) -> None:
    job = Job(
        flaky(100),
        label="work",
        retry=Retry(100, first=2, factor=1, jitter=False),
        log=False,
    )
    (span,) = traced(virtual, Scheduler(job)).spans
    assert (span.took, job.took) == (101, 101)


def test_what_was_held_has_waited_for_another_try(virtual: Any) -> None:
    """The time in which a failed job lay until somebody tried it again is neither work nor a backoff."""
    job = Job(flaky(2), label="work", retry=Retry(1, first=2, jitter=False))
    scheduler = Scheduler(job, tries_again(), hold=True, log=False)
    trace = traced(virtual, scheduler)
    span = next(span for span in trace.spans if span.label == "work")
    assert [(wait.cause, wait.seconds) for wait in span.waits] == [
        (WaitCause.RETRY, 2),
        (WaitCause.HELD, 16),
    ]
    assert span.took == 3
    assert trace.time_spent().waits["another try"] == 16
    # A run of 21 s whose only job took 3 s was said to be slow, and nothing said why.
    record = trace._get_record()
    verdicts = [
        _verdict.run_verdict(scheduler, scheduler.stop_reason, has_duration=True)
    ]
    verdicts.append(record.verdict(record.root_run, scheduler.stop_reason))
    assert {verdict.sentence for verdict in verdicts} == {
        "1 job succeeded, 21.0 s, paused or held for 16.0 s of it"
    }


def test_what_runs_again_with_its_requirement_has_waited_for_that_and_not_for_a_slot(
    virtual: Any,
) -> None:
    """Nor has what left the line, as its requirement was tried again: it had been scheduled, with no slot free."""
    collect = Job(nap, 1, label="collect")
    used, waits = (
        Job(nap, 1, label="used", priority=1, required=collect),
        Job(nap, 1, label="waits", required=collect),
    )
    holder, mend = (
        Job(nap, 5, label="holder"),
        Job(later, 3, collect.try_again, forever=True),
    )
    trace = traced(
        virtual, Scheduler(collect, holder, used, waits, mend, jobs_window=1)
    )
    found = {
        span.label: [(wait.cause.name, wait.since, wait.until) for wait in span.waits]
        for span in trace.spans
    }
    assert found["used"] == [("JOBS", 0, 1), ("HELD", 2, 3), ("JOBS", 3, 8)]
    assert found["waits"] == [("JOBS", 0, 8), ("SLOT", 8, 9)]


def test_what_was_blocked_had_no_slot_before_it_started(
    virtual: Any, tmp_path: Path
) -> None:
    """Two jobs in a row never fill two slots, though the second was blocked first; and a hold is no attempt."""
    job = Job(flaky(), label="work")
    scheduler = Scheduler(
        job,
        Job(nap, 3, label="last", required=job),
        tries_again(),
        hold=True,
        log=False,
    )
    trace = traced(virtual, scheduler)
    use = _time_spent.compute_slot_use(trace._get_record())
    assert (use.slot_count, use.work_seconds) == (1, 5)
    assert [[bar.end - bar.start for bar in bars] for bars in use.bars_by_slot] == [
        [1, 1, 3]
    ]
    save(trace, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["dur"] for event in events if event.get("cat") == "attempt"] == [
        1e6,
        1e6,
    ]


@pytest.mark.parametrize(
    ("is_paused", "words"), [(True, "a resume"), (False, "the next start")]
)
def test_a_run_in_progress_does_not_wait_for_its_end(
    virtual: Any, is_paused: bool, words: str
) -> None:
    """After its last job, a run that has not ended waits for a resume if it is paused, and otherwise for a job."""

    async def look() -> None:
        if is_paused:
            scheduler.pause()
        await anyio.sleep(4)
        parts.extend(
            part.name
            for part in _time_spent.critical_path_parts(trace._get_record())
            if part.is_wait
        )
        scheduler.resume()

    parts: list[str] = []
    jobs = [
        Job(nap, 1, label=label, needs={"api": {"calls": 1}})
        for label in ("first", "late")
    ]
    trace, scheduler = (
        Trace(),
        Scheduler(*jobs, Job(look, forever=True), pool=Pool(api=Rate(calls=1, per=20))),
    )
    virtual(partial(scheduler.co_run, instruments=[trace]))
    assert parts == [words]


def test_the_numbers_of_slots_of_a_run_are_recorded(
    virtual: Any, tmp_path: Path
) -> None:
    jobs = [Job(nap, 10, label=f"job {number}") for number in range(3)]
    scheduler = Scheduler(
        Job(later, 5, lambda: setattr(scheduler, "jobs_window", 4)),
        *jobs,
        jobs_window=2,
    )
    trace = traced(virtual, scheduler)
    save(trace, tmp_path / "trace.json")
    [run] = read_record(tmp_path / "trace.json").runs
    assert run.started_at is not None
    assert (run.window_size, run.window_sizes) == (
        4,
        ((run.started_at, 2), (run.started_at + 5, 4)),
    )
    waits = [(wait.cause, wait.seconds) for span in trace.spans for wait in span.waits]
    assert waits == [(WaitCause.SLOT, 5)] * 2
    save(trace, tmp_path / "trace.html")
    assert "2 to 4, 4 at the end" in (tmp_path / "trace.html").read_text(
        encoding="utf-8"
    )


def test_steering_from_outside_did_not_go_wrong(backend: Any, tmp_path: Path) -> None:
    with _answers.answering():
        words = "pause", "resume"
        steering = ThreadJob(
            lambda: [command("steer", os.getpid(), word) for word in words]
        )
        trace = Trace()
        assert Scheduler(steering, Job(nothing), label="night").run(
            backend=backend, instruments=[trace]
        )
    save(trace, tmp_path / "trace.html")
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert "No job failed." in page
    assert "paused by trioflow steer, pid" in page.partition("Where and how it ran")[2]


def test_a_label_that_reads_as_steering_hides_no_incident(
    backend: Any, tmp_path: Path, capsys: Any
) -> None:
    """Whether an incident is a word from outside is not read from its text, in which a label may stand."""
    trace, job = Trace(), Job(nothing, label="load by trioflow steer, pid 1")
    scheduler = Scheduler(
        job, label="night", on_job_settled=raising(ValueError("the hook is broken"))
    )
    assert not scheduler.run(backend=backend, instruments=[trace])
    save(trace, tmp_path / "trace.html")
    assert "Incidents: 1" in (tmp_path / "trace.html").read_text(encoding="utf-8")
    scheduler.debrief()
    assert "steered:" not in str(capsys.readouterr())


def test_without_a_trace_a_pause_and_a_window_are_known_too(virtual: Any) -> None:
    async def steer() -> None:
        scheduler.jobs_window = 3
        await anyio.sleep(0.5)
        scheduler.pause()
        await anyio.sleep(4)
        scheduler.resume()

    jobs = [Job(nap, 1, label=f"job {number}") for number in range(5)]
    group = Scheduler(*jobs, label="group", jobs_window=1)
    trace, scheduler = (
        Trace(),
        Scheduler(
            group, Job(nap, 1, required=group, label="after"), Job(steer), jobs_window=2
        ),
    )
    virtual(partial(scheduler.co_run, instruments=[trace]))
    records = trace._get_record(), record_of_last_run(scheduler)
    paused, without_trace = (
        {run.label: run.pauses for run in record.runs} for record in records
    )
    assert without_trace == paused
    assert len(paused["group"]) == 1
    windows, without_trace_windows = (
        {run.label: run.window_sizes for run in record.runs} for record in records
    )
    assert without_trace_windows == windows
    parts, without_trace_parts = map(_time_spent.critical_path_parts, records)
    assert without_trace_parts == parts
