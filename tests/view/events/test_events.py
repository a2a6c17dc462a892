"""`Events`: the lines of every kind of run, each checked with the schema, on both backends, in virtual time."""

import functools
import gc
import io
import json
import math
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandJob,
    Events,
    Job,
    Pool,
    Retry,
    Scheduler,
    Service,
    Throttled,
    current_job,
)
from trioflow.view.events import _format, _nonblocking_writer
from ...bodies import Closing, Flaw, fail, flaky, later, nap, nothing, refuse, serve
from ...conftest import Virtual
from ...midway import ask_midway
from .lines import SCHEMA, checked, json_schema, run_with, validator

TIMES = ("v", "time", "at")


def run_and_record(virtual: Virtual, scheduler: Scheduler) -> list[dict[str, Any]]:
    file = io.StringIO()
    virtual(run_with, scheduler, Events(file))
    return checked(file.getvalue())


def events_of_job(events: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    return [
        {name: one[name] for name in one if name not in (*TIMES, "path")}
        for one in events
        if one["path"] == path
    ]


def test_the_schema_file_in_the_package_matches_the_event_types() -> None:
    """After a change to an event type, write the schema file again: `json.dumps(json_schema(), indent=1)`."""
    assert json_schema() == SCHEMA
    validator().check_schema(SCHEMA)


def test_events_list_the_jobs_and_then_their_outcomes(virtual: Virtual) -> None:
    """The first events list the jobs with their requirements; later ones have the time since the start of the run."""
    first = Job(nap, 1, label="first", expected_duration=2)
    last = Job(fail, 2, label="last", required=first, critical=True)
    events = run_and_record(virtual, Scheduler(first, last, label="two", jobs_window=1))
    assert [(one["event"], one["path"], round(one["at"], 9)) for one in events] == [
        ("run_started", "", 0), ("job_added", "first", 0), ("job_added", "last", 0), ("job_scheduled", "first", 0),
        ("job_started", "first", 0), ("job_settled", "first", 1), ("job_scheduled", "last", 1),
        ("job_started", "last", 1), ("job_settled", "last", 3), ("run_ended", "", 3),
    ]  # fmt: skip
    begin, added, *_, ended, end = events
    assert (begin["label"], begin["jobs"], begin["window"]) == ("two", 2, 1)
    assert abs(begin["time"] - time.time()) < 100
    assert (added["kind"], added["expected_duration"]) == ("Job", 2)
    assert events_of_job(events, "last")[0]["required"] == ["first"]
    assert events_of_job(events, "last")[0]["critical"] is True
    assert (ended["state"], ended["exception"]) == ("failed", "OSError: broken")
    assert (end["stop_reason"], end["culprit"]) == ("critical", "last")


def test_nested_runs_have_the_path_of_their_scheduler(virtual: Virtual) -> None:
    inner = Scheduler(Job(nap, label="a"), label="inner", retry=1)
    events = run_and_record(
        virtual, Scheduler(inner, Job(nap, label="b", required=inner))
    )
    assert [one["event"] for one in events if one["path"] == "inner"] == [
        "job_added", "job_scheduled", "job_started", "run_started", "run_ended", "job_settled",
    ]  # fmt: skip
    assert events_of_job(events, "inner/a")[0] == {
        "event": "job_added",
        "label": "a",
        "kind": "Job",
        "inside": "inner",
    }
    assert events_of_job(events, "inner")[0]["is_scheduler"] is True


def test_events_have_attempts_grants_and_readiness(virtual: Virtual) -> None:
    service, tries = (
        Service(serve, label="service"),
        Job(flaky(2, 0, Flaw), retry=2, label="flaky"),
    )
    needy = Job(nap, label="needy", needs={"gpu": 2}, required=service)
    events = run_and_record(virtual, Scheduler(service, tries, needy, pool=Pool(gpu=2)))
    assert [
        one for one in events_of_job(events, "flaky") if one["event"] == "job_retried"
    ] == [
        {"event": "job_retried", "attempt": 2, "failed_at": 0.0, "exception": "Flaw"},
        {"event": "job_retried", "attempt": 3, "failed_at": 0.0, "exception": "Flaw"},
    ]
    assert events_of_job(events, "flaky")[-1] == {
        "event": "job_settled",
        "state": "succeeded",
        "attempts": 3,
    }
    assert {"event": "service_ready"} in events_of_job(events, "service")
    assert {"event": "job_started", "granted": {"gpu": 2}} in events_of_job(
        events, "needy"
    )


def test_a_throttled_job_is_scheduled_again_in_the_events(virtual: Virtual) -> None:
    busy = Job(
        flaky(error=functools.partial(Throttled, "api", after=3)),
        label="busy",
        needs={"api": 1},
    )
    events = run_and_record(virtual, Scheduler(busy, pool=Pool(api=1)))
    assert [
        one for one in events_of_job(events, "busy") if one["event"] == "job_scheduled"
    ] == [
        {"event": "job_scheduled"},
        {"event": "job_scheduled", "throttled": 1},
    ]


def test_jobs_added_during_a_run_have_events(virtual: Virtual) -> None:
    scheduler = Scheduler(label="grows", keep_jobs=False)

    async def grow() -> None:
        for _ in range(3):
            scheduler.add(Job(nap, label="more"))
        scheduler.add(Scheduler(Job(nap, label="deep"), label="inner"))

    scheduler.add(Job(grow, label="grow"))
    events = run_and_record(virtual, scheduler)
    added = [one["path"] for one in events if one["event"] == "job_added"]
    assert added == ["grow", "more", "more#2", "more#3", "inner", "inner/deep"]
    finished = [one["path"] for one in events if one["event"] == "job_settled"]
    assert sorted(finished) == sorted(added)


def test_the_last_event_names_the_culprit_of_a_run_that_drops_jobs(
    virtual: Virtual,
) -> None:
    """The path of a dropped culprit was once forgotten, so that the last event of the run was missing."""
    events = run_and_record(
        virtual, Scheduler(Job(fail, label="bad", critical=True), keep_jobs=False)
    )
    assert (events[-1]["event"], events[-1]["culprit"]) == ("run_ended", "bad")


def test_a_failed_job_that_is_kept_has_one_path(virtual: Virtual) -> None:
    """A scheduler that drops its jobs keeps the first failures. Such a job once got another path when tried again."""

    async def grow() -> None:
        for _ in range(3):
            await scheduler.add(Job(nap, label="same")).wait_settled()
        scheduler.add(Job(flaky(seconds=0), label="same"))
        await nap()
        scheduler.try_again()

    scheduler = Scheduler(Job(grow, label="grow"), keep_jobs=False)
    events = run_and_record(virtual, scheduler)
    names = [event["event"] for event in events if event["path"] == "same#4"]
    assert (names.count("job_reopened"), names.count("job_settled")) == (1, 2)
    assert {event["path"] for event in events} == {
        "",
        "grow",
        "same",
        "same#2",
        "same#3",
        "same#4",
    }


def test_dropped_nested_schedulers_are_freed_when_the_next_job_settles(
    virtual: Virtual,
) -> None:
    """A server may add a million nested schedulers: `Events` must not keep those that have settled."""
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
        await scheduler.add(Job(nap)).wait_settled()
        gc.collect()
        alive.extend(one() is not None for one in inside)

    scheduler = Scheduler(Job(grow), keep_jobs=False)
    assert run_and_record(virtual, scheduler)[-1]["event"] == "run_ended"
    assert alive == [False, False, False]


def test_incidents_have_events(virtual: Virtual) -> None:
    """A problem that is not the outcome of a job, such as a failed shutdown, has an event of its own."""
    events = run_and_record(virtual, Scheduler(Closing(refuse, label="odd")))
    (incident,) = [one for one in events if one["event"] == "incident"]
    assert (incident["path"], incident["exception"]) == ("odd", "OSError: broken")


def test_no_event_has_redacted_text(virtual: Virtual) -> None:
    """The arguments of a job with `redact=True` are in no event, neither in labels and paths nor in errors."""
    secret = CommandJob(["false", "hunter2"], redact=True)
    quiet = Job(nap, 1, "hunter2", redact=True)
    file = io.StringIO()
    Scheduler(secret, quiet, Job(nothing, label="after", required=[secret, quiet])).run(
        instruments=[Events(file)]
    )
    assert checked(file.getvalue())
    assert "hunter2" not in file.getvalue()


def test_labels_that_are_not_unicode_are_escaped(virtual: Virtual) -> None:
    """A label from a file name that is not UTF-8 gives one line of JSON, and so does one with control characters."""
    events = run_and_record(
        virtual,
        Scheduler(
            Job(nothing, label="a\udcffb"), Job(nothing, label="x\n\x1b[31m\x00\u2028")
        ),
    )
    assert {one["path"] for one in events if one["event"] == "job_settled"} >= {
        "a\\udcffb"
    }


def test_waits_and_progress_of_jobs_are_polled(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine does not report waits and progress: `Events` polls them twice a second, and writes any change."""
    monkeypatch.setattr(_nonblocking_writer, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(_nonblocking_writer, "WRITE_DELAY", 0.001)
    file = io.StringIO()

    async def work() -> None:
        job.progress(0.25)
        events = ('"job_waiting"', '"job_progress"')
        while not all(event in file.getvalue() for event in events):  # noqa: ASYNC110 - a thread writes
            await anyio.sleep(0.005)

    job = Job(work, label="works")
    Scheduler(job, Job(nothing, label="waits"), jobs_window=1).run(
        instruments=[Events(file)], backend=backend
    )
    events = checked(file.getvalue())
    assert {"event": "job_progress", "fraction": 0.25} in events_of_job(events, "works")
    assert {
        "event": "job_waiting",
        "waiting_for": "no free slot",
        "cause": "slot",
    } in events_of_job(events, "waits")


def test_a_job_in_its_backoff_makes_no_progress(virtual: Virtual) -> None:
    events = Events(io.StringIO())

    async def fails_once() -> None:
        current_job().progress(0.5)
        assert [*events._poll_jobs()]
        if current_job().attempts == 1:
            raise OSError

    poll = Job(later, 5, lambda: [json.loads(line) for _, line in events._poll_jobs()])
    tries = Job(fails_once, retry=Retry(1, first=9, jitter=False), label="tries")
    assert virtual(Scheduler(tries, poll, instruments=[events]).co_run)
    assert [event["event"] for event in poll.result() if event["path"] == "tries"] in (
        [],
        ["job_waiting"],
    )


def test_each_other_wait_of_a_job_is_polled_once(virtual: Virtual) -> None:
    polled, events = list[bytes](), Events(io.StringIO())

    async def poll() -> None:
        await anyio.sleep(1)
        for change in (
            nothing_changes,
            scheduler.pause,
            nothing_changes,
            scheduler.resume,
        ):
            change()
            polled.extend(line for _, line in events._poll_jobs())

    def nothing_changes() -> None: ...

    scheduler = Scheduler(
        Job(poll, label="polls"), Job(nothing, label="waits"), jobs_window=1
    )
    assert virtual(functools.partial(scheduler.co_run, instruments=[events]))
    told = [
        each.get("cause") for each in map(json.loads, polled) if each["path"] == "waits"
    ]
    assert told == ["slot", "pause", "slot"]


def test_the_second_run_of_an_events_object_is_appended_to_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events"
    path.write_text("old")
    events = Events(path)
    scheduler = Scheduler(Job(nothing))
    assert scheduler.run(instruments=[events])
    assert scheduler.run(instruments=[events])
    found = checked(path.read_text())
    assert [one["event"] for one in found].count("run_started") == 2
    assert [one["lines"] for one in found if one["event"] == "run_ended"] == 2 * [
        len(found) // 2 - 1
    ]


def test_an_events_object_ignores_a_second_concurrent_run(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.StringIO()
    events = Events(file)
    second = Scheduler(Job(nothing, label="second"), instruments=[events])
    virtual(run_with, Scheduler(Job(second.co_run, label="first")), events)
    assert "give 'Scheduler' its own Events()" in caplog.text
    assert "second" not in {one["path"] for one in checked(file.getvalue())}


def test_events_without_msgspec_raises_with_an_install_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'trioflow\[events\]'"):
        Events("x")


def test_events_of_an_object_that_is_not_a_file_raises() -> None:
    with pytest.raises(TypeError, match="give a path, or a file"):
        Events(3)  # type: ignore[arg-type]


def test_the_writer_thread_ends_with_the_run(tmp_path: Path) -> None:
    Scheduler(Job(nothing)).run(instruments=[Events(tmp_path / "events")])
    assert "trioflow events" not in {one.name for one in threading.enumerate()}


@pytest.mark.parametrize(
    "character",
    ["\x7f", "\x1b", "\x00", "\x9b", "\u2028", "\u202e", "\udcff", "é", "𝄞"],
)
def test_no_line_has_a_character_that_a_terminal_obeys(character: str) -> None:
    line = _format.encode(_format.JobAdded(3, 0.0, 0.0, "a", f"<{character}>", "Job"))
    text = line.decode()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    shown = json.loads(text)["label"]
    assert shown in (f"<{character}>", f"<{character!a}>".replace("'", ""))


def test_nothing_of_a_wait_is_told_after_its_end(virtual: Virtual) -> None:
    """The line of a thread that asks why a job waits came after that of its end: then it seemed to wait for ever."""
    told = list[str]()

    async def poll() -> None:
        number = 0
        has_ended = True
        while has_ended:
            job = scheduler.add(Job(nap, label=f"waits {number}"))
            await anyio.sleep(1)
            writer = events._writer
            assert writer is not None
            writer._last_poll = -math.inf

            def end(job: Job[Any] = job, lock: Any = writer._lock) -> None:
                if not lock.locked():
                    job.cancel()

            _, has_ended = ask_midway(
                number, writer._write_and_poll, end, "/view/events"
            )
            job.cancel()
            number += 1

    lines = io.StringIO()
    events = Events(lines)
    scheduler = Scheduler(Job(poll, label="polls"), jobs_window=1)
    assert virtual(functools.partial(scheduler.co_run, instruments=[events]))
    ended = set[str]()
    for event in map(json.loads, lines.getvalue().splitlines()):
        if event["event"] == "job_settled":
            ended.add(event["path"])
        if event["event"] == "job_waiting":
            told.append(event["path"])
            assert event["path"] not in ended
    assert told
