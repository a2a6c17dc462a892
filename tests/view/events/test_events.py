"""`Events`: the lines of every kind of run, each checked with the schema, on both backends, in virtual time."""

from __future__ import annotations

import gc
import io
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import jsonschema
import pytest

from trioflow import CommandJob, Events, Job, Pool, Scheduler, Service, Throttled
from trioflow.view.events import _events, _format, _nonblocking_writer

from ...bodies import Flaw, fail, nap, nothing
from .lines import SCHEMA, checked, run_with

if TYPE_CHECKING:
    from ...conftest import Virtual

TIMES = ("v", "time", "at")


def told(virtual: Virtual, scheduler: Scheduler) -> list[dict[str, Any]]:
    file = io.StringIO()
    virtual(run_with, scheduler, Events(file))
    return checked(file.getvalue())


def of(events: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """Return the events of one job, without the fields that every line has."""
    return [{name: one[name] for name in one if name not in (*TIMES, "path")} for one in events if one["path"] == path]


def test_the_schema_in_the_package_is_that_of_the_lines() -> None:
    """After a change to an event, write the schema again: `json.dumps(_format.json_schema(), indent=1)`."""
    assert _format.json_schema() == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_events_list_the_jobs_and_then_their_outcomes(virtual: Virtual) -> None:
    """The first lines list each job with its requirements; then each event has the time since the start."""
    first = Job(nap, 1, label="first", expected_duration=2)
    last = Job(fail, 2, label="last", required=first, critical=True)
    events = told(virtual, Scheduler(first, last, label="two", jobs_window=1))
    assert [(one["event"], one["path"], round(one["at"], 9)) for one in events] == [
        ("run_started", "", 0),
        ("job_added", "first", 0),
        ("job_added", "last", 0),
        ("job_scheduled", "first", 0),
        ("job_started", "first", 0),
        ("job_finished", "first", 1),
        ("job_scheduled", "last", 1),
        ("job_started", "last", 1),
        ("job_finished", "last", 3),
        ("run_ended", "", 3),
    ]
    begin, added, *_, ended, end = events
    assert (begin["label"], begin["jobs"], begin["window"]) == ("two", 2, 1)
    assert abs(begin["time"] - time.time()) < 100
    assert (added["kind"], added["expected"]) == ("Job", 2)
    assert of(events, "last")[0]["requires"] == ["first"]
    assert of(events, "last")[0]["critical"] is True
    assert (ended["state"], ended["exception"]) == ("failed", "OSError: broken")
    assert (end["reason"], end["culprit"]) == ("critical", "last")


def test_nested_runs_have_the_path_of_their_scheduler(virtual: Virtual) -> None:
    """The first lines list nested jobs too, each with its scheduler."""
    inner = Scheduler(Job(nap, label="a"), label="inner", retry=1)
    events = told(virtual, Scheduler(inner, Job(nap, label="b", required=inner)))
    assert [one["event"] for one in events if one["path"] == "inner"] == [
        "job_added", "job_scheduled", "job_started", "run_started", "run_ended", "job_finished",
    ]  # fmt: skip
    assert of(events, "inner/a")[0] == {"event": "job_added", "label": "a", "kind": "Job", "inside": "inner"}
    assert of(events, "inner")[0]["scheduler"] is True


def test_events_have_attempts_grants_and_readiness(virtual: Virtual) -> None:
    """A start has the number of its attempt, a grant has its amounts."""
    tries: list[int] = []

    async def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Flaw

    async def serve(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    service = Service(serve, label="service")
    needy = Job(nap, label="needy", needs={"gpu": 2}, required=service)
    events = told(virtual, Scheduler(service, Job(flaky, retry=2, label="flaky"), needy, pool=Pool(gpu=2)))
    assert [one for one in of(events, "flaky") if one["event"] == "job_attempt"] == [
        {"event": "job_attempt", "attempt": 2},
        {"event": "job_attempt", "attempt": 3},
    ]
    assert of(events, "flaky")[-1] == {"event": "job_finished", "state": "succeeded", "attempts": 3}
    assert {"event": "job_ready"} in of(events, "service")
    assert {"event": "job_started", "granted": {"gpu": 2}} in of(events, "needy")


def test_a_throttled_job_is_scheduled_again_in_the_events(virtual: Virtual) -> None:
    """The new line has the number of times that the job was throttled."""
    tries: list[int] = []

    async def busy() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Throttled("api", after=3)

    events = told(virtual, Scheduler(Job(busy, label="busy", needs={"api": 1}), pool=Pool(api=1)))
    assert [one for one in of(events, "busy") if one["event"] == "job_scheduled"] == [
        {"event": "job_scheduled"},
        {"event": "job_scheduled", "throttled": 1},
    ]


def test_added_jobs_have_events(virtual: Virtual) -> None:
    """An added scheduler lists the jobs in it, even where jobs are dropped when they settle."""
    scheduler = Scheduler(label="grows", keep_jobs=False)

    async def grow() -> None:
        for _ in range(3):
            scheduler.add(Job(nap, label="more"))
        scheduler.add(Scheduler(Job(nap, label="deep"), label="inner"))

    scheduler.add(Job(grow, label="grow"))
    events = told(virtual, scheduler)
    added = [one["path"] for one in events if one["event"] == "job_added"]
    assert added == ["grow", "more", "more#2", "more#3", "inner", "inner/deep"]
    finished = [one["path"] for one in events if one["event"] == "job_finished"]
    assert sorted(finished) == sorted(added)


def test_the_last_event_names_the_culprit_of_a_run_that_drops_jobs(virtual: Virtual) -> None:
    """The culprit's path was once forgotten with those of the dropped jobs, and the last line was missing."""
    events = told(virtual, Scheduler(Job(fail, label="bad", critical=True), keep_jobs=False))
    assert (events[-1]["event"], events[-1]["culprit"]) == ("run_ended", "bad")


def test_nested_schedulers_that_are_given_up_are_not_kept(virtual: Virtual) -> None:
    """A server may add a million of them: their names and paths are forgotten when they settle, so that they can be
    freed.
    """
    inside: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    async def grow() -> None:
        for _ in range(3):
            member = Job(nap, label="deep")
            nested = Scheduler(Scheduler(member), label="inner")
            inside.append(weakref.ref(member))
            scheduler.add(nested)
            await nested.wait_settled()
            del nested, member
        await nap()
        gc.collect()
        alive.extend(one() is not None for one in inside)

    scheduler = Scheduler(Job(grow), keep_jobs=False)
    assert told(virtual, scheduler)[-1]["event"] == "run_ended"
    assert alive == [False, False, False]


def test_incidents_have_events(virtual: Virtual) -> None:
    """A problem that is not the outcome of a job has a line of its own."""

    class Closing(Job[None]):
        async def co_shutdown(self) -> None:
            raise Flaw("will not close")

    events = told(virtual, Scheduler(Closing(nothing, label="odd")))
    (incident,) = [one for one in events if one["event"] == "incident"]
    assert (incident["path"], incident["exception"]) == ("odd", "Flaw: will not close")


def test_no_event_has_redacted_text(virtual: Virtual) -> None:
    """`redact=True` covers labels, paths, and the errors of commands."""
    secret = CommandJob(["false", "hunter2"], redact=True)
    quiet = Job(nap, 1, "hunter2", redact=True)
    file = io.StringIO()
    Scheduler(secret, quiet, Job(nothing, label="after", required=[secret, quiet])).run(instruments=[Events(file)])
    assert checked(file.getvalue())
    assert "hunter2" not in file.getvalue()


def test_names_that_are_not_unicode_are_escaped(virtual: Virtual) -> None:
    """A file name that is not UTF-8, control characters and a very long text each give one line of JSON."""
    events = told(virtual, Scheduler(Job(nothing, label="a\udcffb"), Job(nothing, label="x\n\x1b[31m\x00\u2028")))
    assert {one["path"] for one in events if one["event"] == "job_finished"} >= {"a\\udcffb"}


def test_waits_and_progress_of_jobs_are_polled(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No event reports them: the instrument checks them twice a second and writes what has changed."""
    monkeypatch.setattr(_nonblocking_writer, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(_nonblocking_writer, "WRITE_DELAY", 0.001)
    file = io.StringIO()

    async def work() -> None:
        job.progress(0.25)
        while '"job_waiting"' not in file.getvalue() or '"job_progress"' not in file.getvalue():  # noqa: ASYNC110  # a thread writes it
            await anyio.sleep(0.005)

    job = Job(work, label="works")
    Scheduler(job, Job(nothing, label="waits"), jobs_window=1).run(instruments=[Events(file)], backend=backend)
    events = checked(file.getvalue())
    assert {"event": "job_progress", "fraction": 0.25} in of(events, "works")
    assert {"event": "job_waiting", "waiting_for": "no free slot", "cause": "slot"} in of(events, "waits")


def test_the_next_run_of_the_same_object_is_appended(tmp_path: Path) -> None:
    """Only the first run truncates the file."""
    path = tmp_path / "events"
    path.write_text("old")
    events = Events(path)
    scheduler = Scheduler(Job(nothing))
    assert scheduler.run(instruments=[events])
    assert scheduler.run(instruments=[events])
    assert [one["event"] for one in checked(path.read_text())].count("run_started") == 2


def test_one_object_follows_one_run_at_a_time(virtual: Virtual, caplog: pytest.LogCaptureFixture) -> None:
    """A second concurrent run raises an error that asks for another object; the events of the first continue."""
    file = io.StringIO()
    events = Events(file)
    second = Scheduler(Job(nothing, label="second"), instruments=[events])
    virtual(run_with, Scheduler(Job(second.co_run, label="first")), events)
    assert "give 'Scheduler' an Events() of its own" in caplog.text
    assert "second" not in {one["path"] for one in checked(file.getvalue())}


def test_without_msgspec_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes from the constructor, not from the middle of a run."""
    monkeypatch.setattr(_events.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'trioflow\[events\]'"):
        Events("x")


def test_what_is_no_file_is_refused() -> None:
    """The error lists the accepted types."""
    with pytest.raises(TypeError, match="give a path, or a file"):
        Events(3)  # type: ignore[arg-type]


def test_the_thread_ends_with_the_run(tmp_path: Path) -> None:
    """No thread is left behind."""
    Scheduler(Job(nothing)).run(instruments=[Events(tmp_path / "events")])
    assert "trioflow events" not in {one.name for one in threading.enumerate()}
