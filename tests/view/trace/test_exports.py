"""The trace as trace events and as CSV: valid by the published format, and complete."""

import csv
import functools
import io
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trioflow import Job, Scheduler, Service, Trace
from trioflow.view import save
from ...bodies import fail, nap, nothing
from ...conftest import Virtual
from . import event_format
from .scenarios import NASTY, Closing, everything, traced


@pytest.fixture
def exported(virtual: Virtual, tmp_path: Path) -> list[event_format.Event]:
    return export(virtual, everything(), tmp_path / "trace.json")


def export(virtual: Virtual, scheduler: Scheduler, path: Path, **options: Any) -> list[event_format.Event]:
    trace = Trace()
    virtual(functools.partial(scheduler.co_run, instruments=[trace], **options))
    save(trace, path)
    return event_format.events(path.read_text(encoding="utf-8"))


def select_events(events: list[event_format.Event], phase: str, name: str | None = None) -> list[event_format.Event]:
    return [event for event in events if event["ph"] == phase and name in (None, event["name"])]


def test_all_kinds_of_trace_events_are_valid(exported: list[event_format.Event]) -> None:
    assert set(Counter(event["ph"] for event in exported)) == set("MXi")


def test_each_started_job_has_a_slice(virtual: Virtual, tmp_path: Path) -> None:
    a = Job(nap, 2, label="a")
    events = export(virtual, Scheduler(a, Job(fail, 1, label="b", required=a), label="s"), tmp_path / "t.json")
    one, other = select_events(events, "X")
    assert (one["name"], one["ts"], one["dur"]) == ("a", 0, 2e6)
    assert (other["name"], other["ts"], other["dur"]) == ("b", 2e6, 1e6)
    assert other["args"]["state"] == "failed"
    assert other["args"]["exception"] == "OSError: broken"
    assert other["cat"] == "job,critical-path"


def test_schedulers_are_processes(virtual: Virtual, tmp_path: Path) -> None:
    """In the JSON export, each scheduler is a process, which all of its attempts share, named by its path or label."""
    inner = Scheduler(Job(fail, label="x", critical=True), Job(nap, 5, label="y"), label="inner", retry=2)
    events = export(virtual, Scheduler(inner, label="outer"), tmp_path / "t.json")
    names = {event["pid"]: event["args"]["name"] for event in select_events(events, "M", "process_name")}
    assert list(names.values()) == ["outer", "inner"]
    assert [names[event["pid"]] for event in select_events(events, "X", "x")] == ["inner"] * 3
    further_attempts = select_events(events, "X", "attempt 2") + select_events(events, "X", "attempt 3")
    assert [event["ts"] for event in further_attempts] == [1e6, 2e6]


def test_a_service_has_a_mark_where_it_becomes_ready(virtual: Virtual, tmp_path: Path) -> None:
    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        await anyio.sleep(2)
        task_status.started()
        await anyio.sleep_forever()

    service = Service(serve, label="service")
    events = export(virtual, Scheduler(service, Job(nap, 3, label="c", required=service)), tmp_path / "t.json")
    assert [event["ts"] for event in select_events(events, "i", "ready")] == [2e6]
    lanes = [event["args"]["name"] for event in select_events(events, "M", "thread_name")]
    assert lanes == ["lane 1", "forever 2"]


def test_incidents_have_marks(virtual: Virtual, tmp_path: Path) -> None:
    (mark,) = select_events(export(virtual, Scheduler(Closing(label="bad")), tmp_path / "t.json"), "i")
    assert mark["name"] == "co_shutdown of 'bad' raised OSError: no route"


def test_the_export_of_an_unfinished_run_is_valid(virtual: Virtual, tmp_path: Path) -> None:
    """The JSON export of an unfinished run is valid; unfinished slices last until the time of the export."""
    trace, seen = Trace(), list[event_format.Event]()

    async def look() -> None:
        await anyio.sleep(2)
        save(trace, tmp_path / "t.json")
        seen.extend(event_format.events((tmp_path / "t.json").read_text(encoding="utf-8")))

    virtual(Scheduler(Job(look, label="look"), Job(nap, 9, label="long"), instruments=[trace]).co_run)
    assert [(event["name"], event["dur"]) for event in select_events(seen, "X")] == [("look", 2e6), ("long", 2e6)]


def test_the_export_of_a_trace_without_a_run_is_valid(tmp_path: Path) -> None:
    save(Trace(), tmp_path / "t.json")
    assert event_format.events((tmp_path / "t.json").read_text(encoding="utf-8")) == []


def test_the_export_of_a_real_time_run_is_valid(backend: str, tmp_path: Path) -> None:
    """In the JSON export of a run in real time, rounded times do not make slices overlap in their lanes."""
    trace = Trace()
    jobs: list[Job[Any]] = []
    for number in range(400):
        jobs.append(Job(nothing, label=str(number), required=jobs[number // 3 : number // 3 + 1] if number else []))
    Scheduler(*jobs, instruments=[trace], jobs_window=3).run(backend=backend)
    save(trace, tmp_path / "t.json")
    events = event_format.events((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert len(select_events(events, "X")) == 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.text(), min_size=1, max_size=5))
def test_the_export_is_valid_for_any_label(tmp_path: Path, virtual: Virtual, labels: list[str]) -> None:
    """The JSON export is valid even if labels have quotes, control characters or lone surrogates."""
    events = export(virtual, Scheduler(*(Job(nap, label=label) for label in labels)), tmp_path / "t.json")
    assert len(select_events(events, "X")) == len(labels)


# --- the trace as CSV
def rows(trace: Trace, path: Path) -> list[dict[str, str]]:
    save(trace, path)
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_jobs_of_a_second_run_have_its_number(virtual: Virtual, tmp_path: Path) -> None:
    """In the CSV file, a job of a retried scheduler has the number of the run, which tells runs apart."""
    inner = Scheduler(Job(fail, label="x", critical=True), label="n", retry=1)
    found = rows(traced(virtual, Scheduler(inner)), tmp_path / "t.csv")
    assert [row["run"] for row in found if row["path"] == "n/x"] == ["1", "2"]


def test_csv_has_the_times_states_and_exceptions_of_all_jobs(virtual: Virtual, tmp_path: Path) -> None:
    """The CSV file has times as seconds since the beginning of the run; missing values are empty."""
    a = Job(nap, 2, label="a")
    b = Job(fail, 1, label="b", required=a, critical=True)
    c = Job(nap, 1, label="c", required=b)
    one, other, never = rows(traced(virtual, Scheduler(a, b, c)), tmp_path / "t.csv")
    assert (one["scheduled"], one["started"], one["finished"], one["took"]) == ("0.0", "0.0", "2.0", "2.0")
    assert (other["started"], other["required"], other["critical"]) == ("2.0", one["number"], "True")
    assert (other["exception"], other["state"]) == ("OSError: broken", "failed")
    assert (other["on_critical_path"], never["on_critical_path"]) == ("True", "False")
    assert (never["state"], never["started"], never["lane"], never["started_wall"]) == ("idle", "", "", "")
    assert one["started_wall"].endswith("Z")


def test_csv_keeps_any_label_in_its_cell(virtual: Virtual, tmp_path: Path) -> None:
    """In the CSV file, a label with commas, quotes or line ends stays in its cell."""
    labels = [*NASTY, "a,b", 'say "x"', "a\nb"]
    found = rows(traced(virtual, Scheduler(*(Job(nap, label=label) for label in labels))), tmp_path / "t.csv")
    assert len(found) == len(labels)
    assert [row["label"] for row in found][-3:] == ["a,b", 'say "x"', "a\\nb"]


def test_csv_has_no_cell_that_a_spreadsheet_computes(virtual: Virtual, tmp_path: Path) -> None:
    computed = ["=1+1", '=HYPERLINK("x")', "+1+1", "-1+1", "-a", "@SUM(1)", "=-1", "-"]
    kept = ["-1", "+2.5", "-1e-3", "a=1", "1-1", ".5"]
    found = rows(traced(virtual, Scheduler(*(Job(nap, label=label) for label in computed + kept))), tmp_path / "t.csv")
    assert [row["label"] for row in found] == [*(f"'{label}" for label in computed), *kept]
    assert [row["path"][:2] for row in found[: len(computed)]] == [f"'{label[0]}" for label in computed]
