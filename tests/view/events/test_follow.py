"""A monitor that follows the events of a run shows the same as a monitor of the run itself."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, get_args

import anyio
import pytest

from trioflow import Events, Job, Monitor, Pool, Scheduler, Service, Throttled, current_job
from trioflow.view.events._follow import (
    BadEvents,
    Follower,
    UnsupportedEventVersion,
    read_lines,
)
from trioflow.view.events._format import AnyEvent
from trioflow.view.monitor._picture_renderer import PictureRenderer
from trioflow.view.text._exception_text import placeholder_exception
from trioflow.view.text._symbols import Symbols

from ...bodies import fail, nap
from .lines import run_with

if TYPE_CHECKING:
    from ...conftest import Virtual


def busy_scenario(look: Any = None) -> Scheduler:
    """Return a scenario with all that a monitor shows: services, nesting, failures, attempts, throttling, progress."""
    tries: list[str] = []

    async def serve(*, task_status: Any) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def flaky() -> None:
        tries.append("flaky")
        await anyio.sleep(1)
        if tries.count("flaky") < 2:
            raise OSError("again")

    async def throttled() -> None:
        tries.append("throttled")
        if tries.count("throttled") == 1:
            raise Throttled("api", after=2)
        await anyio.sleep(1)

    async def watch() -> None:
        await anyio.sleep(2.5)
        if look is not None:
            look()

    async def reports() -> None:
        job = current_job()
        job.progress(0.5)
        await anyio.sleep(4)

    service = Service(serve, label="store")
    inner = Scheduler(*(Job(nap, one, label=f"nap {one}") for one in (1, 2, 3)), label="inner", jobs_window=1)
    broken = Job(fail, 1, label="broken", critical=False)
    return Scheduler(
        service, inner, broken,
        Job(nap, 1, label="blocked", required=broken, run_if="succeeded"),
        Job(flaky, retry=2, label="flaky", required=service),
        Job(throttled, label="throttled", needs={"api": 1}),
        Job(reports, label="reports", expected_duration=4),
        Job(watch, label="watch", forever=True),
        Job(nap, 1, label="after all", required=[inner]),
        label="busy", pool=Pool(api=1),
    )  # fmt: skip


def followed(text: str, file: io.StringIO) -> Follower:
    follower = Follower(Monitor(file=file))
    for line in text.encode().split(b"\n"):
        follower.replay_line(line)
    return follower


def without_times(log: str) -> list[str]:
    return [line.partition(" ")[2] for line in log.splitlines()]


def test_a_log_made_from_events_equals_the_log_of_the_run(virtual: Virtual) -> None:
    """A monitor's log made from events equals the log of the run, line by line, with the time that each job took."""
    live, told, events = io.StringIO(), io.StringIO(), io.StringIO()
    virtual(run_with, busy_scenario(), Monitor(file=live), Events(events))
    assert followed(events.getvalue(), told).has_ended
    assert without_times(told.getvalue()) == without_times(live.getvalue())
    assert len(without_times(live.getvalue())) > 15


def test_a_picture_made_from_events_equals_the_picture_of_the_run(virtual: Virtual) -> None:
    """In the middle of a run, a monitor that reads the events draws the same picture as a monitor of the run."""
    live: list[Any] = []
    monitor, file = Monitor(file=io.StringIO()), io.StringIO()
    events = Events(file)

    def look() -> None:
        assert monitor._model is not None
        for line in events._poll_jobs():  # in real time it would have been looked at twice a second
            events._write_line(line)
        live.append(PictureRenderer(monitor._model, Symbols()).draw(100, 30))

    virtual(run_with, busy_scenario(look), monitor, events)
    told = Monitor(file=io.StringIO())
    follower = Follower(told)
    for line in file.getvalue().splitlines():
        event = json.loads(line)
        if event["at"] > 2.5 or (event["path"], event["event"]) == ("watch", "job_finished"):
            break  # when the picture was made, this had not happened
        follower.replay_line(line.encode())
    assert told._model is not None
    follower._latest_event_at = 2.5
    shown = PictureRenderer(told._model, Symbols()).draw(100, 30)
    follower.close()
    assert shown == live[0]
    assert len(shown) > 10


def test_lines_that_are_not_events_are_skipped() -> None:
    """The reader of events skips output printed by jobs, partial lines, and unknown events of a later version."""
    follower = Follower(Monitor(file=io.StringIO()))
    for line in (
        b"hello",
        b"",
        b'{"event": "job_sta',
        b"[1]",
        b'{"event":"new","v":1,"time":1,"at":0,"path":""}',
        b"\xff",
    ):
        follower.replay_line(line)
    assert follower.known_event_count == 0


@pytest.mark.parametrize(
    "unknown",
    [
        '"event":"job_waiting","waiting_for":"the moon","cause":"moon"',
        '"event":"job_finished","state":"vanished"',
        '"event":"moved","to":"the moon"',
    ],
)
def test_an_event_with_an_unknown_word_is_ignored_and_not_missed(unknown: str) -> None:
    """An event with a state, a cause or a name of a later version is ignored, but counted among the lines."""
    common = '"v":1,"time":1.0,"at":0.0'
    lines = f"""\
{{"event":"run_started",{common},"path":"","label":"s","jobs":1}}
{{"event":"job_added",{common},"path":"a","label":"a","kind":"Job"}}
{{"event":"job_scheduled",{common},"path":"a"}}
{{{unknown},{common},"path":"a"}}
{{"event":"run_ended",{common},"path":"","reason":"completed","lines":{3 + ("job_waiting" not in unknown)}}}"""
    follower = followed(lines, io.StringIO())
    assert follower.has_ended
    assert follower.known_event_count == 4
    assert follower.missing_line_count == 0


def test_events_of_an_unsupported_version_raise() -> None:
    """Events of an unsupported version raise an error that names the version found."""
    follower = Follower(Monitor(file=io.StringIO()))
    with pytest.raises(UnsupportedEventVersion, match="version 2"):
        follower.replay_line(b'{"event":"run_started","v":2}')


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"event":"job_ready","v":1,"time":1,"at":0,"path":"\xff"}', "utf-8"),
        (b'{"event":"x","v":' + b"[" * 100_000, "it is nested too deeply"),
    ],
    ids=["no UTF-8", "nested"],
)
def test_a_line_that_cannot_be_read_raises_with_its_number(line: bytes, what: str) -> None:
    """A line that is not UTF-8, or is nested too deeply, raises an error with its number."""
    follower = Follower(Monitor(file=io.StringIO()))
    follower.replay_line(b'{"event":"run_started","v":1,"time":1,"at":0,"path":"","label":"a","jobs":0}')
    with pytest.raises(BadEvents, match=f"line 2 cannot be read: .*{what}"):
        follower.replay_line(line)
    follower.close()


def test_events_after_the_end_of_a_run_are_ignored() -> None:
    """Nothing follows the end of a run in a file but another run: what somebody has added is ignored."""
    events = io.StringIO()
    Scheduler(Job(nap, 0.0, label="a")).run(instruments=[Events(events)])
    lines = events.getvalue().encode().splitlines()
    follower = Follower(Monitor(file=io.StringIO()))
    for line in [*lines, *lines[1:]]:
        follower.replay_line(line)
    assert follower.has_ended


@pytest.mark.parametrize("seconds", ["1e300", "-1e300"])
def test_a_time_that_no_clock_shows_is_replayed(seconds: str) -> None:
    """The times of a foreign file may be any numbers; they are shown as times that a clock has."""
    follower = Follower(Monitor(file=io.StringIO()))
    follower.replay_line(
        b'{"event":"run_started","v":1,"time":%b,"at":0,"path":"","label":"a","jobs":0}' % seconds.encode()
    )
    follower.start_live_clock()
    follower.close()
    assert follower.known_event_count == 1


def test_a_line_that_arrives_in_pieces_is_whole() -> None:
    """A line that arrives in pieces is yielded whole, and so are those that come with its end."""
    read_end, write_end = os.pipe()
    pieces = [b"a" * 1000] * 5 + [b"b\nc\n\nd", b"e\n", b"rest"]
    lines = read_lines(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as writer:
        for piece in pieces:
            writer.write(piece)
    assert list(lines) == [b"a" * 5000 + b"b", b"c", b"", b"de"]
    os.close(read_end)


def test_a_run_with_dropped_events_is_followed_to_its_end(virtual: Virtual) -> None:
    """A monitor follows a run to its end even if every third event is missing, as with a slow reader."""
    events = io.StringIO()
    virtual(run_with, busy_scenario(), Events(events))
    lines = events.getvalue().splitlines()
    kept = [line for number, line in enumerate(lines) if number % 3 or number in (0, len(lines) - 1)]
    told = io.StringIO()
    assert followed("\n".join(kept), told).has_ended


def test_a_run_whose_process_is_gone_is_abandoned() -> None:
    """An unfinished run is abandoned if its process is gone, but not while the process is alive."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, expected in ((gone.pid, True), (os.getpid(), False)):
        follower = Follower(Monitor(file=io.StringIO()))
        event = {"event": "run_started", "v": 1, "time": 1, "at": 0, "path": "", "label": "x", "jobs": 0}
        follower.replay_line(json.dumps({**event, "pid": pid, "host": os.uname().nodename}).encode())
        assert follower.is_abandoned() is expected
        follower.close()


def test_a_killed_run_is_shown_as_not_ended(virtual: Virtual) -> None:
    """If the events of a run break off, the last line states that the run has not ended, although no job has failed."""
    events, told = io.StringIO(), io.StringIO()
    virtual(run_with, Scheduler(Job(nap, 1, label="a"), Job(nap, 2, label="b"), label="all"), Events(events))
    *lines, _, _ = events.getvalue().splitlines()  # without the end of b, and that of the run
    followed("\n".join(lines), told).close()
    assert "all  ✗ has not ended, 1 of 2 jobs succeeded, 1.0 s; 1 succeeded, 1 running" in told.getvalue()


def test_two_runs_in_a_file_are_shown_one_after_the_other() -> None:
    """Two runs that one `Events` object has written to a file are shown one after the other."""
    events, told = io.StringIO(), io.StringIO()
    scheduler, instrument = Scheduler(Job(nap, 0, label="a"), label="twice"), Events(events)
    scheduler.run(instruments=[instrument])
    scheduler.run(instruments=[instrument])
    assert followed(events.getvalue(), told).has_ended
    assert told.getvalue().count("twice: 1 job") == 2


def test_a_placeholder_exception_has_the_type_name_from_the_event() -> None:
    """An event has an exception only as text: the placeholder shows the type name and message found in that text."""
    assert repr(placeholder_exception("OSError: no: way")) == "OSError('no: way')"
    assert repr(placeholder_exception("Flaw")) == "Flaw()"
    assert str(placeholder_exception("not a name: x")) == "not a name: x"


def test_every_event_type_has_a_handler() -> None:
    """A new event type fails this test until the reader of events handles it, or skips it on purpose."""
    names = {event.__struct_config__.tag for event in get_args(AnyEvent)}
    replayed = {name.removeprefix("_replay_") for name in vars(Follower) if name.startswith("_replay_")} - {"line"}
    assert replayed == names - {"incident", "lines_dropped"}


@pytest.mark.parametrize("kept", ["all but the first", "no failure", "every third", "the first and the last"])
def test_a_file_with_missing_lines_shows_the_verdict_of_the_run(virtual: Virtual, kept: str) -> None:
    """A file with missing events still gives the run's verdict, no negative times, and the number of missing lines."""
    file, shown = io.StringIO(), io.StringIO()
    groups = [Scheduler(*(Job(nap, 1 + n, label=f"{g}{n}") for n in range(3)), Job(fail, 2), label=g) for g in "ab"]
    virtual(lambda: Scheduler(*groups, label="run").co_run(instruments=[Events(file)]))
    lines = file.getvalue().encode().splitlines()
    left = {
        "all but the first": lines[1:],
        "no failure": [line for line in lines if b'"failed"' not in line or b"run_ended" in line],
        "every third": [*lines[:-1:3], lines[-1]],
        "the first and the last": [lines[0], lines[-1]],
    }[kept]
    follower = Follower(Monitor(file=shown))
    for line in left:
        follower.replay_line(line)
    follower.close()
    assert "✗ 2 of 8 jobs failed" in shown.getvalue()
    assert " -" not in shown.getvalue()
    assert follower.missing_line_count == len(lines) - len(left)
